package gvisor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// starterArg0 marks a process that starts a machine and waits to be killed.
const starterArg0 = "gvisor-test-starter"

// starterMain starts the machine of the spec in its arguments and prints the
// processes of it.
func starterMain() {
	var s engine.Spec
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		panic(err)
	}
	m, err := gvisor.New(gvisor.Options{CacheDir: os.Args[2]}).Start(context.Background(), s)
	if err != nil {
		panic(err)
	}
	st, err := m.(engine.Statser).Stats(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(append([]int{st.PID}, hostos.Descendants(st.PID)...))
	select {}
}

func TestMachineDiesWithItsStarter(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{starterArg0, string(b), t.TempDir()}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pids := strings.Fields(strings.Trim(line, "[]\n"))
	if err != nil || len(pids) < 2 {
		t.Fatalf("starter said %q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	killed := time.Now()
	for _, pid := range pids {
		for alive(pid) {
			if time.Since(killed) > 5*time.Second {
				t.Fatalf("process %s of the machine lives on, 5 s after its starter was killed", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	t.Logf("gone after %v", time.Since(killed))
	if err := hostos.RemoveCgroups(s.ID); err != nil {
		t.Error(err)
	}
}

// alive tells whether a process exists and is no zombie.
func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z")
}
