package gvisor

import (
	"bytes"
	"encoding/gob"
	"fmt"
	_ "unsafe" // for go:linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/runsc/boot/filter"
)

// precompiledPrograms is gVisor's table of seccomp programs. Its own build
// fills it; the Go module leaves it empty, and each sentry would compile its
// filter at start, for 15 ms.
//
//go:linkname precompiledPrograms gvisor.dev/gvisor/runsc/boot/filter.precompiledPrograms
var precompiledPrograms map[string]precompiledseccomp.Program

// registerSeccomp puts our programs into the table. A sentry whose
// configuration is not among them compiles its filter: slower, never weaker.
func registerSeccomp() error {
	if len(seccompPrograms) == 0 {
		return nil
	}
	var programs []precompiledseccomp.Program
	if err := gob.NewDecoder(bytes.NewReader(seccompPrograms)).Decode(&programs); err != nil {
		return fmt.Errorf("embedded seccomp programs: %w", err)
	}
	filter.ListPrecompiled() // makes the table
	for _, p := range programs {
		precompiledPrograms[p.Name] = p
	}
	return nil
}
