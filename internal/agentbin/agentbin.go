// Package agentbin carries the guest agent inside the host binary.
package agentbin

import (
	"embed"
	"fmt"
	"runtime"
)

// files holds agent-linux-GOARCH, which "make agent" builds and git ignores.
// The pattern matches this file too, so that the package compiles without it.
//
//go:embed agent*
var files embed.FS

// Binary is the agent for this architecture, a static executable. The error
// says what to run when it was not built in.
func Binary() ([]byte, error) {
	b, err := files.ReadFile("agent-linux-" + runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf(`the guest agent for %s is not built in; run "make agent" and build again`, runtime.GOARCH)
	}
	return b, nil
}
