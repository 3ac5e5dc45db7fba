// Package gvisor is the engine that runs boxes on gVisor.
package gvisor

import (
	_ "github.com/google/subcommands"
	_ "github.com/opencontainers/runtime-spec/specs-go"
	_ "golang.org/x/sys/unix"
	_ "gvisor.dev/gvisor/pkg/control/client"
	_ "gvisor.dev/gvisor/pkg/control/server"
	_ "gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	_ "gvisor.dev/gvisor/pkg/sentry/control"
	_ "gvisor.dev/gvisor/pkg/urpc"
	_ "gvisor.dev/gvisor/runsc/boot"
	_ "gvisor.dev/gvisor/runsc/boot/filter"
	_ "gvisor.dev/gvisor/runsc/boot/filter/config"
	_ "gvisor.dev/gvisor/runsc/cli"
	_ "gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	_ "gvisor.dev/gvisor/runsc/cmd/util"
	_ "gvisor.dev/gvisor/runsc/config"
	_ "gvisor.dev/gvisor/runsc/flag"
)
