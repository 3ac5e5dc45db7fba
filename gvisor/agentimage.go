package gvisor

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/boxlite-go/boxlite/internal/agentbin"
	"github.com/boxlite-go/boxlite/internal/erofs"
)

// agentImage finds or makes the file with the guest agent, once. The zero
// value is ready. It is safe for concurrent use.
type agentImage struct {
	mu   sync.Mutex
	path string
}

// open opens the image for one machine.
func (a *agentImage) open(o Options) (*os.File, error) {
	if o.AgentImage != "" {
		return os.Open(o.AgentImage)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.path != "" {
		f, err := os.Open(a.path)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		// Somebody has cleaned the cache: make it again.
	}
	path, err := makeAgentImage(o.CacheDir)
	if err != nil {
		return nil, fmt.Errorf("agent image: %w", err)
	}
	a.path = path
	return os.Open(path)
}

// makeAgentImage returns the path of the image of the embedded agent in dir.
func makeAgentImage(dir string) (string, error) {
	id, err := agentbin.ID()
	if err != nil {
		return "", err
	}
	dir, err = privateDir(dir)
	if err != nil {
		return "", err
	}
	// The name changes with the content, and with how we lay it out ("1").
	path := filepath.Join(dir, "agent-1-"+id+".erofs")
	if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() {
		return path, nil // complete: it got its name last
	}
	bin, err := agentbin.Binary()
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "agent-*.tmp")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // gone after the rename
	defer f.Close()
	if err := writeAgentImage(f, bin); err != nil {
		return "", err
	}
	if err := errors.Join(f.Chmod(0o400), f.Sync(), f.Close()); err != nil {
		return "", err
	}
	return path, os.Rename(f.Name(), path)
}

func writeAgentImage(f *os.File, bin []byte) error {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.Base(agentPath), Mode: 0o555, Size: int64(len(bin))}
	if err := tw.WriteHeader(hdr); err != nil {
		return err
	}
	if _, err := tw.Write(bin); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	w := erofs.NewWriter(f, erofs.Options{})
	if err := w.AddLayer(&layer); err != nil {
		return err
	}
	_, err := w.Close()
	return err
}

// privateDir makes dir, or picks one when it is empty, and refuses one that
// others could write to: what is in it becomes PID 1 of every machine.
func privateDir(dir string) (string, error) {
	if dir == "" {
		dir = defaultCacheDir()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Geteuid() || fi.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s may be written by others than user %d; remove it or run chmod 700 on it", dir, os.Geteuid())
	}
	return dir, nil
}

func defaultCacheDir() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "boxlite", "engine")
	}
	return filepath.Join(os.TempDir(), "boxlite-"+strconv.Itoa(os.Geteuid()), "engine")
}
