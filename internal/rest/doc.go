// Package rest has the shapes of the REST dialect, as the server and the Go
// client put them on the wire. They are BoxLite's; what goes beyond is marked.
// api/openapi.yaml describes the same, and a test of the server compares them.
package rest
