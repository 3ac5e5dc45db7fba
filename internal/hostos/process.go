package hostos

import (
	"os"
	"strings"
	"sync"
)

// BootID names the current run of the host's kernel.
var BootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
})
