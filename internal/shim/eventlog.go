package shim

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/boxlite-go/boxlite/egress"
)

// maxEvents is the size at which the log of a network is moved aside. Two files
// are kept: at least the last 5000 events or so.
const maxEvents = 1 << 20

// eventLog writes events to a file that outlives the run. It is safe for
// concurrent use.
type eventLog struct {
	mu  sync.Mutex
	log *logFile
	buf bytes.Buffer
}

func newEventLog(path string) (*eventLog, error) {
	log, err := appendLogFile(path, maxEvents)
	return &eventLog{log: log}, err
}

// record writes one event. It never waits for a disk: the kernel writes later,
// and an event that a crash of the host takes is gone.
func (l *eventLog) record(e egress.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
	if err := json.NewEncoder(&l.buf).Encode(e); err == nil {
		_, _ = l.log.Write(l.buf.Bytes())
	}
}

// Close closes the file. What is recorded later is lost.
func (l *eventLog) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Close()
}
