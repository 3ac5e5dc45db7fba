// Package hostos holds what boxlite asks of the host's kernel: locks, durable
// files, process facts, cgroups.
package hostos
