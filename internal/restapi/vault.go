package restapi

import (
	"sync"

	"github.com/boxlite-go/boxlite"
)

// vault keeps the values of secrets that clients gave, for the starts to come.
// They are in memory alone: after a restart of the server clients give them
// again.
type vault struct {
	mu     sync.Mutex
	values map[string]map[string]string // by box and name
}

func newVault() *vault { return &vault{values: map[string]map[string]string{}} }

func (v *vault) put(box, name, value string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.values[box] == nil {
		v.values[box] = map[string]string{}
	}
	v.values[box][name] = value
}

func (v *vault) forget(box string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.values, box)
}

// open gives a handle the values of its box.
func (v *vault) open(b *boxlite.Box) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, value := range v.values[b.ID()] {
		if err := b.SetSecret(name, value); err != nil {
			return err
		}
	}
	return nil
}
