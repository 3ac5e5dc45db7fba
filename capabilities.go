package boxlite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// Capabilities changes what root in a box may do beyond other users. Names are
// those of capabilities(7), with or without "CAP_", in any case. A box begins
// with those that Docker gives:
//
//	AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE
//	NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT
//
// What is dropped is gone for all commands, whoever they run as, set-user-id
// programs included, and a box that lacks any of them has no user namespaces,
// in which a process would have them again. What boxlite itself does in the
// box, such as copies, is not bounded by it. On gVisor any user may listen on
// ports below 1024, whoever has NET_BIND_SERVICE.
type Capabilities struct {
	// Add names what is kept where Drop says "ALL". A box cannot have others
	// than those above: Create fails with [ErrUnsupported].
	Add []string `json:"add,omitempty"`

	// Drop names what commands do not have, or "ALL".
	Drop []string `json:"drop,omitempty"`
}

const (
	allCapabilities = "ALL"
	capPrefix       = "CAP_"
)

// knownCapabilities are those of Linux 5.9 and later that boxes never have.
var knownCapabilities = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	"CAP_DAC_READ_SEARCH", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN",
	"CAP_MAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO",
	"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
}

// normal checks the names and writes them in one way, each once.
func (c Capabilities) normal() (Capabilities, error) {
	var err error
	if c.Add, err = normalNames(c.Add); err != nil {
		return c, err
	}
	if c.Drop, err = normalNames(c.Drop); err != nil {
		return c, err
	}
	for _, name := range c.Add {
		switch {
		case !slices.Contains(engine.CommandCapabilities, name):
			return c, fmt.Errorf("%w: capability %s cannot be added: with it root in a box could leave its cgroup, and so its limits, or the box's network; "+
				"do without it, or use it in a user namespace (unshare -r), where any process of a box that drops none has it", ErrUnsupported, name)
		case slices.Contains(c.Drop, name):
			return c, fmt.Errorf("%w: capability %s is both added and dropped: give one", ErrInvalid, name)
		}
	}
	return c, nil
}

func normalNames(names []string) ([]string, error) {
	var all []string
	for _, given := range names {
		name := strings.ToUpper(given)
		if name != allCapabilities {
			name = capPrefix + strings.TrimPrefix(name, capPrefix)
		}
		if name != allCapabilities && !slices.Contains(engine.CommandCapabilities, name) && !slices.Contains(knownCapabilities, name) {
			return nil, fmt.Errorf("%w: unknown capability %q: give a name of capabilities(7), such as NET_RAW, or ALL", ErrInvalid, given)
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// dropped is what commands lack of what they would have.
func (c Capabilities) dropped() []string {
	var all []string
	for _, name := range engine.CommandCapabilities {
		if !slices.Contains(c.Add, name) && (slices.Contains(c.Drop, allCapabilities) || slices.Contains(c.Drop, name)) {
			all = append(all, name)
		}
	}
	return all
}
