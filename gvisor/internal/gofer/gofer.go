// Package gofer serves directories and files of the host to a sentry, from a
// process of its own that sees nothing else.
//
// Rules of what it serves, whatever the other side asks:
//   - A symbolic link is never followed here. Each name is looked up, alone,
//     in a directory held open; ".." is no name. So nothing that is renamed or
//     replaced meanwhile leads out of what was mounted.
//   - Only directories and regular files are opened. Sockets, devices and
//     FIFOs are shown, and neither opened nor made. The same goes for files of
//     the kernel's own file systems, such as proc, below what was mounted.
//   - Everything seems to belong to root, and what is made belongs to whom the
//     process runs as. A change of owner succeeds and changes nothing: an
//     archive can be unpacked, and a box cannot give files away.
//   - No file gets a set-user-id or set-group-id bit, and only extended
//     attributes of users ("user.") exist.
//   - What is read-only lies on a mount that is read-only.
package gofer

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/unet"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// Config says what to serve. It is handed over in a file, so that no path of
// the user's is seen in a list of processes.
type Config struct {
	Volumes []Volume
}

// Volume is one directory or file.
type Volume struct {
	// Host is its path, without symbolic links.
	Host string
	// Path is a descriptor of it, opened by whoever checked the path. It is
	// an error if Host has come to mean something else.
	Path int
	// Socket is a descriptor of the connection to serve it on.
	Socket   int
	ReadOnly bool
}

// settled is when the box has surely mounted its volumes and its first
// commands are over.
const settled = 3 * time.Second

// Serve reads a Config from the descriptor given, jails the process, and
// serves until all connections have ended.
func Serve(config int) error {
	// Like a shim it mostly waits, and its memory counts for the box.
	debug.SetGCPercent(50)
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	c, err := readConfig(config)
	if err != nil {
		return err
	}
	text := hostos.OwnText()
	j, err := enter(c.Volumes)
	if err != nil {
		return err
	}
	server := lisafs.NewServer()
	for i, v := range c.Volumes {
		sock, err := unet.NewSocket(v.Socket)
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.Host, err)
		}
		conn, err := server.CreateConnection(sock, mountPath(i), lisafs.ConnectionOpts{
			Readonly:          v.ReadOnly,
			WalkStatSupported: true,
			SetAttrOnDeleted:  true,
			AllocateOnDeleted: true,
			OpenOnDeleted:     true,
		}, j)
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.Host, err)
		}
		server.StartConnection(conn)
	}
	// The filter comes last: what is above may need what it forbids.
	if err := filter(); err != nil {
		return err
	}
	trim := time.AfterFunc(settled, func() {
		debug.FreeOSMemory()
		text.Trim()
	})
	defer trim.Stop()
	server.Wait()
	return nil
}

func readConfig(fd int) (Config, error) {
	f := os.NewFile(uintptr(fd), "config")
	defer f.Close()
	var c Config
	if err := json.NewDecoder(f).Decode(&c); err != nil {
		return c, fmt.Errorf("list of volumes: %w", err)
	}
	return c, nil
}
