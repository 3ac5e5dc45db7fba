// Package agentbin carries the guest agent inside the host binary.
package agentbin

import (
	"crypto/sha256"
	"debug/elf"
	"embed"
	"fmt"
	"io"
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
		return nil, missing()
	}
	return b, nil
}

// ID is a name for the content of the agent: another one has another. It
// reads only some pages of the 3 MB, since each start of a box asks.
func ID() (string, error) {
	f, err := files.Open("agent-linux-" + runtime.GOARCH)
	if err != nil {
		return "", missing()
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	return idOf(f.(io.ReaderAt), st.Size())
}

func missing() error {
	return fmt.Errorf(`the guest agent for %s is not built in; run "make agent" and build again`, runtime.GOARCH)
}

// idOf hashes the build id that the linker of Go made of the content, or the
// content where somebody has told it not to.
func idOf(bin io.ReaderAt, size int64) (string, error) {
	of := io.NewSectionReader(bin, 0, size)
	if f, err := elf.NewFile(bin); err == nil {
		if note := f.Section(".note.go.buildid"); note != nil {
			of = io.NewSectionReader(note, 0, int64(note.Size))
		}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, of); err != nil {
		return "", fmt.Errorf("guest agent: %w", err)
	}
	return fmt.Sprintf("%.16x", sum.Sum(nil)), nil
}
