package restapi

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// tree is the file that a request names: its box, started if needed, and its
// name as io/fs has it.
func (s *Server) tree(r *http.Request) (b *boxlite.Box, name string, err error) {
	p, err := filePath(r)
	if err != nil {
		return nil, "", err
	}
	if b, err = s.box(r); err != nil {
		return nil, "", err
	}
	if name = strings.TrimPrefix(path.Clean("/"+p), "/"); name == "" {
		name = "."
	}
	return b, name, s.ready(r.Context(), b)
}

// rooted calls the path in an error as the client does: io/fs has no slash at its
// beginning.
func rooted(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: e.Op, Path: path.Clean("/" + e.Path), Err: e.Err}
	}
	return err
}

// statFile describes a file, and of a symbolic link what it leads to if that is
// asked for.
func (s *Server) statFile(w http.ResponseWriter, r *http.Request) error {
	follow, err := boolQuery(r, "follow", true)
	if err != nil {
		return err
	}
	b, name, err := s.tree(r)
	if err != nil {
		return err
	}
	look := fs.Stat
	if !follow {
		look = fs.Lstat
	}
	st, err := look(b.FS(r.Context()), name)
	if err != nil {
		return rooted(err)
	}
	httpapi.WriteJSON(w, http.StatusOK, rest.FileOf(st))
	return nil
}

// Bounds of a page of a directory. The largest is some megabytes.
const (
	defaultEntries = 1000
	maxEntries     = 10000
)

// listFiles lists a directory by name. The token of a page is the name that the
// one before ended with, so entries that come and go meanwhile do no harm.
func (s *Server) listFiles(w http.ResponseWriter, r *http.Request) error {
	size := defaultEntries
	if v := r.URL.Query().Get("pageSize"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxEntries {
			return httpapi.InvalidArgument.Errorf("pageSize %.40q: give 1 to %d", v, maxEntries)
		}
		size = n
	}
	after, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("pageToken"))
	if err != nil {
		return httpapi.InvalidArgument.Errorf("pageToken: is none of ours")
	}
	b, name, err := s.tree(r)
	if err != nil {
		return err
	}
	list, err := fs.ReadDir(b.FS(r.Context()), name)
	if err != nil {
		return rooted(err)
	}
	reply := rest.Files{Entries: []rest.File{}}
	for _, e := range list {
		if e.Name() <= string(after) {
			continue
		}
		if n := len(reply.Entries); n == size {
			last := reply.Entries[n-1].Info().Name()
			reply.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(last))
			break
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		reply.Entries = append(reply.Entries, rest.FileOf(st))
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

func (s *Server) readLink(w http.ResponseWriter, r *http.Request) error {
	b, name, err := s.tree(r)
	if err != nil {
		return err
	}
	to, err := fs.ReadLink(b.FS(r.Context()), name)
	if err != nil {
		return rooted(err)
	}
	httpapi.WriteJSON(w, http.StatusOK, rest.Link{Target: to, RawTarget: rest.Raw(to)})
	return nil
}

// readFile sends what a file has until it ends, also one that does not know its
// size, as those of /proc.
func (s *Server) readFile(w http.ResponseWriter, r *http.Request) error {
	b, name, err := s.tree(r)
	if err != nil {
		return err
	}
	f, err := b.FS(r.Context()).Open(name)
	if err != nil {
		return rooted(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return rooted(err)
	}
	if st.IsDir() {
		return httpapi.InvalidArgument.Errorf("path %q: is a directory", path.Clean("/"+name))
	}
	w.Header().Set("Content-Type", typeRaw)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return nil
	}
	if err := copyOut(w, f, false); err != nil {
		panic(http.ErrAbortHandler) // the answer is not whole: cut it
	}
	return nil
}

// writeFile writes one file where it is, as a program in the box would: mode
// and owner of one that is there stay, and symbolic links are followed.
func (s *Server) writeFile(w http.ResponseWriter, r *http.Request) error {
	mode, err := fileMode(r)
	if err != nil {
		return err
	}
	b, name, err := s.tree(r)
	if err != nil {
		return err
	}
	if err := b.WriteFileFrom(r.Context(), "/"+name, s.upload(w, r), mode); err != nil {
		return uploadError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
