package escape

import (
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// attempts are ways out of the limit of processes. Each prints ESCAPED if it
// works. $$ is the shell's own process.
var attempts = map[string]string{
	"through the mounted file system": `
		for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/agent/cgroup.procs; do
			echo $$ > $f && echo ESCAPED; done
		for f in /sys/fs/cgroup/box/*/pids.max; do echo max > $f && echo ESCAPED; done`,
	"by mounting it writable": `
		mount -o remount,rw /sys/fs/cgroup && echo ESCAPED
		mount -o remount,bind,rw /sys/fs/cgroup && echo ESCAPED
		mount -t cgroup2 none /mnt && echo ESCAPED`,
	"by uncovering it": `umount /sys/fs/cgroup && echo ESCAPED; umount -l /sys && echo ESCAPED`,
	"from a user namespace": `unshare -Urm sh -c '
		mount -t cgroup2 none /mnt || exit 0
		for f in $(find /mnt -name cgroup.procs); do echo $$ > $f && echo ESCAPED; done
		for f in $(find /mnt -name pids.max); do echo max > $f && echo ESCAPED; done
		mkdir /mnt/sub && echo ESCAPED
		mount -o remount,bind,rw /sys/fs/cgroup && echo ESCAPED
		umount /sys/fs/cgroup && echo ESCAPED'`,
	"from a cgroup namespace": `unshare -UrmC sh -c '
		mount -t cgroup2 none /mnt || exit 0
		echo max > /mnt/pids.max && echo ESCAPED
		mkdir /mnt/sub && echo $$ > /mnt/sub/cgroup.procs && echo ESCAPED'`,
	"through the agent": `
		ls /proc/1/root/ && echo ESCAPED
		for f in /proc/1/fd/*; do (echo max > $f/pids.max) && echo ESCAPED; done
		nsenter -t 1 -m -C true && echo ESCAPED`,
}

// TestLimitOfProcessesHoldsForRoot tries each way, and then whether the limit
// still holds.
func TestLimitOfProcessesHoldsForRoot(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Dev)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Dev})
	const forks = `n=0; while [ $n -lt 40 ]; do sleep 100 & n=$((n+1)); done; wait`
	for name, script := range attempts {
		t.Run(name, func(t *testing.T) {
			c := b.Command(t.Context(), "sh", "-c", script+"\n"+forks)
			c.Security = &boxlite.SecurityOptions{MaxProcesses: 20}
			c.Timeout = 20 * time.Second
			out, err := c.CombinedOutput()
			if strings.Contains(string(out), "ESCAPED") {
				t.Errorf("got out:\n%s", out)
			}
			// A shell that cannot fork says so and gives up.
			if !strings.Contains(string(out), "fork") {
				t.Errorf("40 processes under a limit of 20: got %v, want a failed fork:\n%s", err, out)
			}
		})
	}
}

// TestKillReachesEverything starts what tries to survive its command.
func TestKillReachesEverything(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Dev)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Dev})
	for name, script := range map[string]string{
		"session":        `setsid sleep 4242 & sleep 4242`,
		"double fork":    `(setsid sh -c 'sleep 4242 & sleep 4242' &) ; sleep 4242`,
		"user namespace": `unshare -Urpmf --mount-proc sh -c 'sleep 4242 & sleep 4242' & sleep 4242`,
		"ignores":        `trap "" TERM INT HUP; (trap "" TERM; sleep 4242) & while :; do sleep 4242; done`,
	} {
		t.Run(name, func(t *testing.T) {
			c := b.Command(t.Context(), "sh", "-c", script)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			boxtest.Eventually(t, 20*time.Second, "two processes run", func() bool { return sleepers(t, b) >= 2 })
			if err := c.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait()
			boxtest.Eventually(t, 10*time.Second, "all are gone", func() bool { return sleepers(t, b) == 0 })
		})
	}
}

func sleepers(t *testing.T, b *boxlite.Box) int {
	t.Helper()
	out := boxtest.Sh(t, b, `for p in /proc/[0-9]*; do tr '\0' ' ' < $p/cmdline; echo; done 2>/dev/null`)
	return strings.Count(out, "sleep 4242 \n")
}
