package gvisor

import "testing"

func TestMountedRoot(t *testing.T) {
	for _, tt := range []struct {
		mounts string
		want   bool
	}{
		{"1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /proc rw - proc proc rw\n", true},
		{"2 1 0:2 / /proc rw - proc proc rw\n", false}, // in a chroot to a plain directory
		{"", false},
	} {
		if got := mountedRoot(tt.mounts); got != tt.want {
			t.Errorf("%q: got %v, want %v", tt.mounts, got, tt.want)
		}
	}
}
