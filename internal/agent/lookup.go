package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// defaultPath is Docker's, so that images behave the same.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// find is the file that args[0] names: with a slash relative to dir, else the
// first executable in PATH of env. The error is a *guest.Error.
func (a *Agent) find(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		path := a.commandPath(name, dir)
		return path, notExecutable(name, path)
	}
	var refused error
	for _, d := range filepath.SplitList(getenv(env, "PATH")) {
		if d == "" {
			d = "."
		}
		path := a.commandPath(filepath.Join(d, name), dir)
		err := notExecutable(name, path)
		if err == nil {
			return path, nil
		}
		if refused == nil && remote(err).Kind == guest.KindNotExecutable {
			refused = err
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", fail(guest.KindNotFound, "%s: command not found in PATH of the box", name)
}

func (a *Agent) commandPath(name, dir string) string {
	if !filepath.IsAbs(name) {
		return filepath.Join(dir, name)
	}
	if a.root != "" { // a command of the box's own first, then the host's
		if own := a.path(name); notExecutable(name, own) == nil {
			return own
		}
	}
	return name
}

func notExecutable(name, path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil && kindOf(err) == guest.KindPermission:
		return fail(guest.KindNotExecutable, "%s: %v", name, syscall.EACCES)
	case err != nil:
		return fail(guest.KindNotFound, "%s: no such file in the box", name)
	case fi.IsDir():
		return fail(guest.KindNotExecutable, "%s: is a directory", name)
	case fi.Mode()&0o111 == 0:
		return fail(guest.KindNotExecutable, "%s: permission denied: not executable", name)
	}
	return nil
}

// execError says why the kernel would not run path.
func execError(name, path string, err error) error {
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		return fail(guest.KindNotFound, "%s: its interpreter or loader is not in the box", name)
	case syscall.EACCES, syscall.EPERM, syscall.ENOEXEC, syscall.ETXTBSY, syscall.EISDIR, syscall.ELIBBAD:
		return fail(guest.KindNotExecutable, "%s: %v", name, err)
	case syscall.E2BIG:
		return fail(guest.KindInvalid, "%s: %v", name, err)
	case syscall.EAGAIN, syscall.ENOMEM:
		return fail(guest.KindBusy, "%s: %v: the box is at its limit of processes or memory", name, err)
	}
	return fail(guest.KindFailed, "run %s: %v", path, err)
}

// environ is env with what the command needs and was not given. The last of
// two settings of one name wins, as in os/exec.
func (a *Agent) environ(c *guest.Command, who *account) []string {
	env := make([]string, 0, len(c.Env)+4)
	at := make(map[string]int, len(c.Env))
	for _, e := range c.Env {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := at[name]; ok {
			env[i] = e
			continue
		}
		at[name] = len(env)
		env = append(env, e)
	}
	missing := func(name, value string) {
		if _, ok := at[name]; !ok && value != "" {
			env = append(env, name+"="+value)
		}
	}
	missing("PATH", defaultPath)
	missing("HOME", a.home(who))
	missing("USER", who.name)
	if c.TTY != nil {
		missing("TERM", "xterm-256color")
	}
	return env
}

func (a *Agent) home(who *account) string {
	if who.home == "" {
		return "/"
	}
	return a.path(who.home)
}

func getenv(env []string, name string) string {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
