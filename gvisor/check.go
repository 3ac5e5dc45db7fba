package gvisor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// checkTimeout bounds Check when its ctx has no deadline. A boot takes 0.1 s; a host that needs a hundred
// times that is of no use.
const checkTimeout = 10 * time.Second

// Check implements engine.Engine: it boots a box whose image is the agent's
// own and runs a command in it.
func (e *Engine) Check(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, checkTimeout)
		defer cancel()
	}
	err := e.check(ctx)
	var unsupported *engine.Unsupported
	if err == nil || errors.As(err, &unsupported) {
		return err
	}
	return &engine.Unsupported{
		Engine: Name,
		Reason: "a test box does not run",
		Fix:    `report the message with the output of "uname -a"`,
		Err:    err,
	}
}

func (e *Engine) check(ctx context.Context) (err error) {
	agent, err := e.agent.open(e.opts)
	if err != nil {
		return err
	}
	defer agent.Close()
	dir, err := os.MkdirTemp("", "boxlite-check-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := checkBox(dir, agent.Name())
	if err != nil {
		return err
	}
	m, err := e.Start(ctx, s)
	if err != nil {
		return err
	}
	defer func() {
		now, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // nothing in it is worth an orderly stop
		err = errors.Join(err, m.Stop(now))
	}()
	p, err := guest.NewClient(m.Dial).Start(ctx, guest.Command{Args: []string{agentPath, "-version"}})
	if err != nil {
		return err
	}
	defer p.Close()
	// Copy takes no context; the machine's end ends it.
	unwatch := context.AfterFunc(ctx, func() { p.Close() })
	defer unwatch()
	exit, err := p.Copy(io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("command in a test box: exit code %d", exit.Code)
	}
	return err
}

// checkBox is the least of boxes, below dir.
func checkBox(dir, image string) (engine.Spec, error) {
	id := make([]byte, 8)
	rand.Read(id) // never fails
	s := engine.Spec{
		ID:       "check" + hex.EncodeToString(id),
		Hostname: "check",
		Dir:      dir + "/run",
		Disk:     dir + "/disk",
		Rootfs:   image,
		DiskSize: 1 << 20,
		CPUs:     1,
		Memory:   128 << 20,
	}
	return s, errors.Join(os.Mkdir(s.Dir, 0o700), os.Mkdir(s.Disk, 0o700))
}
