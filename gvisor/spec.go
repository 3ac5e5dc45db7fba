package gvisor

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gvisor.dev/gvisor/runsc/specutils"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// Where the agent lives in the box: a read-only file system of its own, so
// that a full or broken root does not take it along.
const (
	agentDir  = "/.boxlite"
	agentPath = agentDir + "/agent"
)

// ociSpec describes the machine to the sentry. It names nothing of the host.
func ociSpec(s engine.Spec) *specs.Spec {
	// Capabilities within the sentry: an exec by root gives what is inheritable
	// or in the bounding set. So the agent has them all, empties its inheritable
	// set, and what it starts has those in the bounding set.
	caps := specutils.AllCapabilities()
	caps.Inheritable, caps.Ambient, caps.Bounding = caps.Permitted, nil, commandCapabilities(s)
	return &specs.Spec{
		Version:  "1.0.0",
		Hostname: s.Hostname,
		Root:     &specs.Root{Path: "/"},
		Process: &specs.Process{
			Args:         agentArgs(s),
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cwd:          "/",
			Capabilities: caps,
			Rlimits:      rlimits(),
		},
		Mounts: mounts(s),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.CgroupNamespace},
			},
		},
		Annotations: map[string]string{
			"dev.gvisor.spec.rootfs.source":  "/", // a name only: the image is passed as a descriptor
			"dev.gvisor.spec.rootfs.type":    "erofs",
			"dev.gvisor.spec.rootfs.overlay": "memory",
		},
	}
}

// agentArgs is how the agent is started.
func agentArgs(s engine.Spec) []string {
	args := []string{agentPath}
	if len(s.DropCapabilities) > 0 {
		args = append(args, "-no-user-namespaces")
	}
	if s.NIC == nil {
		return args
	}
	for _, r := range s.NIC.Resolvers {
		args = append(args, "-resolver="+r.String())
	}
	return args
}

// commandCapabilities are what commands of root have.
func commandCapabilities(s engine.Spec) []string {
	return slices.DeleteFunc(slices.Clone(engine.CommandCapabilities), func(name string) bool {
		return slices.Contains(s.DropCapabilities, name)
	})
}

// mounts lists what lies on top of the root. The sentry mounts them in the
// order of the lengths of their paths.
func mounts(s engine.Spec) []specs.Mount {
	own := ownMounts(s)
	// Ours come last: a box may have put a symbolic link where a volume goes
	// the next time, and must not so cover what it is held by.
	longest := 0
	for _, v := range s.Volumes {
		longest = max(longest, len(v.Guest))
	}
	for i := range own {
		own[i].Destination = strings.Repeat("/", longest) + own[i].Destination
	}
	return append(own, volumeMounts(s.Volumes)...)
}

func ownMounts(s engine.Spec) []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts"},
		{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"mode=1777", fmt.Sprintf("size=%d", s.Memory/2)},
		},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"rw"}},
		{Destination: agentDir, Type: "erofs", Source: agentDir, Options: []string{"ro"}},
		// The sentry covers an empty /tmp with a tmpfs, which would vanish at
		// each stop and count as memory, unless the spec mounts something
		// there; a mount of a type it does not know, it skips.
		{Destination: "/tmp", Type: "boxlite-keep", Source: "none"},
	}
}

// rlimits are those Docker gives, so that programs meet what they know. Those
// not listed would be the host's for two of them, and are the sentry's
// defaults for the rest.
func rlimits() []specs.POSIXRlimit {
	const unlimited = ^uint64(0)
	return []specs.POSIXRlimit{
		{Type: "RLIMIT_NOFILE", Soft: 1 << 20, Hard: 1 << 20},
		{Type: "RLIMIT_FSIZE", Soft: unlimited, Hard: unlimited},
		{Type: "RLIMIT_CORE", Soft: 0, Hard: 0},
	}
}
