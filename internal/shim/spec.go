// Package shim owns one running box: its machine, its socket, its lifetime,
// its exit code and its log. It runs in a process of its own, started by
// [Spawn], and is reached by any process of the user through [Client].
package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

// Arg0 is the name under which the helper process is started.
const Arg0 = "boxlite-shim"

// MainID is the id of the execution that is a box's main command.
const MainID = "main"

// Names in the directory of a box.
const (
	lockName    = "lock"
	socketName  = "box.sock"
	runName     = "run.json"
	machineName = "machine"
	diskName    = "disk"
	logName     = "main.log"
)

// Spec is all a shim must know. It travels over a pipe, so that nothing of it
// is seen in a list of processes.
type Spec struct {
	Dir      string         `json:"dir"`               // of the box; prepared by [Prepare]
	Database string         `json:"database"`          // the store of the home, to delete the box from if AutoRemove
	Engine   string         `json:"engine"`            // by name; empty: the helper's first
	Machine  engine.Spec    `json:"machine"`           // Dir and Disk are filled in by the shim
	Network  *Network       `json:"network,omitempty"` // nil: the box has the loopback device alone
	Main     *guest.Command `json:"main"`              // run by the shim; its end ends the box; nil: none
	Attached bool           `json:"attached"`          // the box ends when the starter's end of a pipe closes
	// AutoRemove deletes the box when it ends.
	AutoRemove bool `json:"auto_remove"`
	// SaveInterval is the time between two saves of the writable layer while
	// the box runs; none when it is not positive.
	SaveInterval time.Duration `json:"save_interval"`
	Health       *HealthCheck  `json:"health,omitempty"` // nil: nobody asks
	// Check asks only for a check of the engine; no box is started.
	Check bool `json:"check"`
}

// State is what a box is doing.
type State string

// States a shim writes down.
const (
	Starting State = "starting"
	Running  State = "running"
	Stopping State = "stopping"
	Stopped  State = "stopped"
	Failed   State = "failed"
)

// Run is the file a shim keeps about its box. It is true only together with
// the lock: [Read] puts both together.
type Run struct {
	State    State           `json:"state"`
	PID      int             `json:"pid"` // of the shim
	Machine  int             `json:"machine"`
	Engine   string          `json:"engine"`
	Reduced  bool            `json:"reduced,omitempty"`
	Attached bool            `json:"attached,omitempty"`
	Volumes  []engine.Volume `json:"volumes,omitempty"`
	BootID   string          `json:"boot_id"` // of the host
	Started  time.Time       `json:"started"`
	Finished time.Time       `json:"finished"`
	Saved    time.Time       `json:"saved"` // when the writable layer was last as it is saved
	// SaveError is why it could not be saved the last time it should have been.
	SaveError string `json:"save_error,omitempty"`
	// Unsaved says that something has run in the box since it was last saved.
	// Only a shim that is asked knows.
	Unsaved bool        `json:"unsaved,omitempty"`
	Exit    *guest.Exit `json:"exit,omitempty"` // of the main command
	// Health is written down when its state changes. Only a shim that is asked
	// knows when the last check was.
	Health Health `json:"health,omitzero"`
	Reason string `json:"reason,omitempty"`
	OOM    bool   `json:"oom,omitempty"`
	Ports  []Port `json:"ports,omitempty"` // published while it runs, those that the host chose too
}

// Active tells whether a process stands behind the state.
func (r Run) Active() bool {
	return r.State == Starting || r.State == Running || r.State == Stopping
}

// Prepare makes the directory of a new box and locks it, so that nobody takes
// it for a leftover before its row is in the store. The caller unlocks.
func Prepare(dir string) (*hostos.Lock, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for _, sub := range []string{machineName, diskName, "logs"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	// It appears under its name already locked: nobody can be faster.
	path := filepath.Join(dir, lockName)
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		return nil, err
	}
	lock, err := hostos.TryLock(path + ".new")
	if err != nil {
		return nil, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		lock.Unlock()
		return nil, err
	}
	return lock, nil
}

// Lock takes the box in dir, or returns [hostos.ErrLocked] while a shim or
// another process has it.
func Lock(dir string) (*hostos.Lock, error) {
	return hostos.TryLock(filepath.Join(dir, lockName))
}

// LogPath is the file with the output of the main command of the box in dir.
// The part before the last rotation is in the same name with ".1".
func LogPath(dir string) string { return filepath.Join(dir, "logs", logName) }

// DiskDir is where the engine keeps the writable layer of the box in dir.
func DiskDir(dir string) string { return filepath.Join(dir, diskName) }

// Read says what the box in dir is doing. A box that was never started gives
// the zero Run. A box whose shim is gone is failed, with the reason.
func Read(dir string) (Run, error) {
	locked, err := hostos.Locked(filepath.Join(dir, lockName))
	if err != nil {
		return Run{}, err
	}
	r, err := readRun(dir)
	if err != nil || locked || !r.Active() {
		return r, err
	}
	// The shim may have ended in the proper way between the two looks.
	if r, err = readRun(dir); err != nil || !r.Active() {
		return r, err
	}
	return orphan(r), nil
}

// orphan is what becomes of a box whose shim is gone without a word.
func orphan(r Run) Run {
	r.Reason = "its shim ended without a word: it was killed or crashed"
	if r.State == Starting {
		r.Reason = "its start was interrupted"
	}
	r.State = Failed
	if r.BootID != hostos.BootID() {
		r.State, r.Reason = Stopped, "the host was restarted"
	}
	return r
}

func readRun(dir string) (Run, error) {
	var r Run
	b, err := os.ReadFile(filepath.Join(dir, runName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Join(dir, runName), err)
	}
	return r, nil
}

// Recover clears what a dead shim left in dir and writes the box's true state.
// The caller holds the lock.
func Recover(dir, id string) error {
	r, err := readRun(dir)
	if err != nil {
		r = Run{State: Failed, Reason: err.Error()}
	}
	if r.State == "" {
		return nil
	}
	if r.Active() {
		r = orphan(r)
	}
	if err := sweep(dir, id); err != nil {
		return err
	}
	return writeRun(dir, r)
}

// sweep removes what belongs to one run of a box only.
func sweep(dir, id string) error {
	err := os.Remove(filepath.Join(dir, socketName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	machine := filepath.Join(dir, machineName)
	return errors.Join(err, hostos.RemoveCgroups(id), os.RemoveAll(machine), os.MkdirAll(machine, 0o700))
}

func writeRun(dir string, r Run) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return hostos.ReplaceFile(filepath.Join(dir, runName), b, 0o600)
}
