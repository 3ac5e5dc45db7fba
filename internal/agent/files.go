package agent

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// files serves the operations on files.
func (s *stream) files(r *guest.Request) error {
	path := s.agent.path(string(r.Path))
	switch r.Op {
	case guest.OpStat:
		return s.stat(path, r.Follow)
	case guest.OpReadDir:
		return s.readDir(path)
	case guest.OpReadlink:
		return s.readlink(path)
	case guest.OpReadFile:
		return s.readFile(path)
	case guest.OpWriteFile:
		return s.writeFile(path, r.Perm)
	case guest.OpMkdir:
		return s.done(s.agent.mkdir(path, r.Perm, r.All))
	case guest.OpRemove:
		return s.done(s.agent.remove(path, r.All))
	case guest.OpRename:
		return s.done(os.Rename(path, s.agent.path(string(r.To))))
	case guest.OpCopyIn:
		return s.copyIn(r.In)
	case guest.OpCopyOut:
		return s.copyOut(r.Out)
	}
	return fail(guest.KindInvalid, "unknown operation %q", r.Op)
}

func (s *stream) done(err error) error {
	if err != nil {
		return err
	}
	return s.reply(struct{}{})
}

func (s *stream) stat(path string, follow bool) error {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	fi, err := stat(path)
	if err != nil {
		return err
	}
	st, err := s.agent.fileStat(path, fi)
	if err != nil {
		return err
	}
	return s.reply(st)
}

// fileStat is fi as the host gets it. path is where the file is.
func (a *Agent) fileStat(path string, fi fs.FileInfo) (guest.FileStat, error) {
	st := guest.FileStat{
		Name: []byte(filepath.Base(path)), Size: fi.Size(), Mode: fi.Mode(),
		Sec: fi.ModTime().Unix(), Nsec: int64(fi.ModTime().Nanosecond()),
	}
	if path == a.path("/") {
		st.Name = []byte("/")
	}
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		st.UID, st.GID = sys.Uid, sys.Gid
	}
	if fi.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(path)
		if err != nil {
			return st, err
		}
		st.Target = []byte(target)
	}
	return st, nil
}

func (s *stream) readlink(path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	return s.reply([]byte(target))
}

// dirBatch is how many entries are read from a directory at once, so that a
// huge one costs no memory.
const dirBatch = 512

func (s *stream) readDir(path string) error {
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	l := lister[guest.FileStat]{s: s}
	for {
		entries, err := d.ReadDir(dirBatch)
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil {
				continue // removed meanwhile
			}
			st, err := s.agent.fileStat(filepath.Join(path, e.Name()), fi)
			if err != nil {
				continue
			}
			if err := l.add(st); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return l.end()
		}
		if err != nil {
			return err
		}
	}
}

// openRegular opens a regular file and nothing else: to open a FIFO or a device
// could wait for ever.
func openRegular(path string, flag int, perm fs.FileMode) (*os.File, fs.FileInfo, error) {
	fd, err := unix.Open(path, flag|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, uint32(perm.Perm()))
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err := syscall.SetNonblock(fd, false); err != nil { // so that the poller stays out of it
		syscall.Close(fd)
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: unix.EISDIR}
	}
	if err == nil && !fi.Mode().IsRegular() {
		err = fail(guest.KindInvalid, "%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

func (s *stream) readFile(path string) error {
	f, fi, err := openRegular(path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := s.agent.fileStat(path, fi)
	if err != nil {
		return err
	}
	if err := s.reply(st); err != nil {
		return err
	}
	w := wire.NewDataWriter(s.wire)
	if _, err := w.ReadFrom(f); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return hostError(err)
	}
	return s.end(guest.Trailer{})
}

func (s *stream) end(t guest.Trailer) error { return hostError(s.wire.WriteJSON(wire.End, t)) }

func (s *stream) writeFile(path string, perm fs.FileMode) error {
	if err := s.agent.makeDirs(filepath.Dir(path), 0o755, &account{}); err != nil {
		return err
	}
	f, _, err := openRegular(path, unix.O_WRONLY|unix.O_CREAT, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(0); err != nil {
		return err
	}
	r := wire.NewDataReader(s.wire)
	if _, err := (&copier{}).copy(f, r); err != nil {
		return err
	}
	if err := s.finished(r); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return s.reply(guest.Trailer{})
}

// finished checks that the host sent all it had.
func (s *stream) finished(r *wire.DataReader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return hostError(err)
	}
	if r.Last() != wire.End {
		return fail(guest.KindInvalid, "frame of type %d in a stream of data", r.Last())
	}
	return nil
}

func (a *Agent) mkdir(path string, perm fs.FileMode, all bool) error {
	if all {
		return a.makeDirs(path, perm.Perm(), &account{})
	}
	if err := os.Mkdir(path, perm.Perm()); err != nil {
		return err
	}
	return os.Chmod(path, perm&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
}

func (a *Agent) remove(path string, all bool) error {
	if path == a.path("/") {
		return fail(guest.KindInvalid, "cannot remove /")
	}
	if all {
		return os.RemoveAll(path)
	}
	return os.Remove(path)
}
