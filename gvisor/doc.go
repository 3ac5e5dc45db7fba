// Package gvisor is the engine that runs boxes on gVisor: a Linux kernel in
// user space (the sentry), in one host process without privileges.
//
// The package starts the sentry itself instead of using runsc: it starts its
// own executable again with the images opened as files, in user, mount, pid,
// network, ipc and uts namespaces of its own, and drives it over a socket.
// There is no gofer process, no bundle directory and no host mount, and it
// works the same for root and for any other user. docs/adr/0005 says why.
//
// Programs that embed the engine must call [Engine.RunHelper] first in main.
package gvisor

//go:generate go run ./internal/genseccomp
