package main

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLoginAsksForTheKey: on a terminal the key is asked for and does not show,
// and an interrupt leaves the terminal as it was.
func TestLoginAsksForTheKey(t *testing.T) {
	env := home(t, "fake"+viaServer)
	const key = "a-hidden-key-0123456789"
	c := newConsole(t, env, "auth", "login")
	c.see(t, "API key for unix://")
	c.typed(t, key+"\r")
	c.see(t, "Logged in to unix://")
	if got := code(t, c.cmd); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
	c.mu.Lock()
	said := c.b.String()
	c.mu.Unlock()
	if strings.Contains(said, key) {
		t.Errorf("the key shows: %q", said)
	}
	c = newConsole(t, env, "auth", "login")
	c.see(t, "API key for unix://")
	c.typed(t, "\x03")
	if got := code(t, c.cmd); got != 130 {
		t.Errorf("interrupted: got exit code %d, want 130", got)
	}
	state, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		t.Errorf("after it: got %+v, %v, want a terminal that shows what is typed", state, err)
	}
}
