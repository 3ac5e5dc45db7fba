package boxlite_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
)

// TestCapabilitiesAreKeptWithTheBox reads back what boxes were created with.
func TestCapabilitiesAreKeptWithTheBox(t *testing.T) {
	rt := newRuntime(t)
	type names = []string
	for _, tt := range []struct{ add, drop, wantAdd, wantDrop names }{
		{nil, nil, nil, nil},
		{nil, names{"NET_RAW"}, nil, names{"CAP_NET_RAW"}},
		{nil, names{"cap_net_raw", "Chown", "NET_RAW"}, nil, names{"CAP_CHOWN", "CAP_NET_RAW"}},
		{nil, names{"SYS_ADMIN"}, nil, names{"CAP_SYS_ADMIN"}}, // that it lacks anyway
		{names{"chown"}, names{"all"}, names{"CAP_CHOWN"}, names{"ALL"}},
		{names{"CHOWN", "CAP_CHOWN"}, nil, names{"CAP_CHOWN"}, nil}, // that it has anyway
	} {
		b := newBox(t, rt, boxlite.BoxOptions{Capabilities: boxlite.Capabilities{Add: tt.add, Drop: tt.drop}})
		info, err := b.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Options.Capabilities; !slices.Equal(got.Add, tt.wantAdd) || !slices.Equal(got.Drop, tt.wantDrop) {
			t.Errorf("add %q, drop %q: got %+v, want %q and %q", tt.add, tt.drop, got, tt.wantAdd, tt.wantDrop)
		}
	}
}

func TestCapabilitiesThatAreRefused(t *testing.T) {
	rt := newRuntime(t)
	for _, tt := range []struct {
		c    boxlite.Capabilities
		want error
		says string
	}{
		{boxlite.Capabilities{Drop: []string{"CHOWN", "CHMOD"}}, boxlite.ErrInvalid, `unknown capability "CHMOD"`},
		{boxlite.Capabilities{Add: []string{""}}, boxlite.ErrInvalid, `unknown capability ""`},
		{boxlite.Capabilities{Drop: []string{"CAP_ALL"}}, boxlite.ErrInvalid, `unknown capability "CAP_ALL"`},
		{boxlite.Capabilities{Add: []string{"CHOWN"}, Drop: []string{"cap_chown"}}, boxlite.ErrInvalid, "CAP_CHOWN is both"},
		{boxlite.Capabilities{Add: []string{"sys_admin"}}, boxlite.ErrUnsupported, "CAP_SYS_ADMIN cannot be added"},
		{boxlite.Capabilities{Add: []string{"ALL"}}, boxlite.ErrUnsupported, "ALL cannot be added"},
	} {
		if _, err := rt.Create(t.Context(), boxlite.BoxOptions{Capabilities: tt.c}); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: got %v, want %v that says %q", tt.c, err, tt.want, tt.says)
		}
	}
}
