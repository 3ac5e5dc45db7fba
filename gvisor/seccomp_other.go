//go:build !amd64

package gvisor

// seccompPrograms is empty where nobody has run go generate yet: the sentry
// compiles its filter at each start.
var seccompPrograms []byte
