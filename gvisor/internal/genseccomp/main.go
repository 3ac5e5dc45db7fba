// Command genseccomp compiles the seccomp programs of the sentry for the one
// configuration that package gvisor uses, so that no machine has to compile
// them at its start (it takes 15 ms). Run it by go generate, on each
// architecture, after each change of the gVisor version.
package main

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"os"
	"runtime"
	_ "unsafe" // for go:linkname

	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	_ "gvisor.dev/gvisor/pkg/sentry/platform/systrap" // registers itself
	"gvisor.dev/gvisor/runsc/boot/filter/config"
)

// rules is what config.PrecompiledPrograms uses. That function compiles all
// 576 configurations, which takes minutes; we need the handful of ours.
//
//go:linkname rules gvisor.dev/gvisor/runsc/boot/filter/config.rules
func rules(opt config.Options, vars precompiledseccomp.Values) (seccomp.SyscallRules, seccomp.SyscallRules)

func main() {
	if err := generate("seccomp_" + runtime.GOARCH + ".gob"); err != nil {
		fmt.Fprintln(os.Stderr, "genseccomp:", err)
		os.Exit(1)
	}
}

func generate(path string) error {
	systrap, err := platform.Lookup("systrap")
	if err != nil {
		return err
	}
	var programs []precompiledseccomp.Program
	for _, info := range systrap.PrecompiledSeccompInfo() {
		p, err := compile(config.Options{Platform: info})
		if err != nil {
			return err
		}
		programs = append(programs, p)
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(programs); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func compile(opt config.Options) (precompiledseccomp.Program, error) {
	var names []string
	for name := range opt.Vars() {
		names = append(names, name)
	}
	return precompiledseccomp.Precompile(opt.ConfigKey(), names, func(vars precompiledseccomp.Values) *seccomp.Program {
		allow, deny := rules(opt, vars)
		return &seccomp.Program{
			RuleSets: []seccomp.RuleSet{
				{Rules: deny.Copy()},
				{Rules: allow.Copy(), Action: seccomp.Allow},
			},
			Options: config.SeccompOptions(opt),
		}
	})
}
