package rest

import (
	"io/fs"
	"time"
	"unicode/utf8"
)

// File is what is known of a file in a box.
type File struct {
	Name string `json:"name"`
	// RawName is the name in base64 where it is no UTF-8.
	RawName []byte    `json:"raw_name,omitempty"`
	Type    string    `json:"type"`
	Mode    int       `json:"mode"` // permissions, setuid, setgid and sticky, as chmod takes them
	Size    int64     `json:"size"`
	ModTime time.Time `json:"modified_at"`
}

// Files is a page of a directory.
type Files struct {
	Entries       []File `json:"entries"`
	NextPageToken string `json:"next_page_token,omitempty"`
}

// Link is where a symbolic link leads.
type Link struct {
	Target    string `json:"target"`
	RawTarget []byte `json:"raw_target,omitempty"` // where it is no UTF-8
}

// fileTypes names the types of files.
var fileTypes = []struct {
	mode fs.FileMode
	name string
}{
	{0, "file"},
	{fs.ModeDir, "directory"},
	{fs.ModeSymlink, "symlink"},
	{fs.ModeNamedPipe, "fifo"},
	{fs.ModeSocket, "socket"},
	{fs.ModeDevice, "block_device"},
	{fs.ModeDevice | fs.ModeCharDevice, "char_device"},
	{fs.ModeIrregular, "other"},
}

// modeBits are the bits besides permissions.
var modeBits = []struct {
	mode fs.FileMode
	bit  int
}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}}

// FileOf describes a file.
func FileOf(st fs.FileInfo) File {
	f := File{
		Name: st.Name(), RawName: Raw(st.Name()), Type: "other", Mode: int(st.Mode().Perm()),
		Size: st.Size(), ModTime: st.ModTime().UTC(),
	}
	for _, t := range fileTypes {
		if st.Mode().Type() == t.mode {
			f.Type = t.name
		}
	}
	for _, b := range modeBits {
		if st.Mode()&b.mode != 0 {
			f.Mode |= b.bit
		}
	}
	return f
}

// Raw is a name that JSON cannot have as it is, or nil.
func Raw(name string) []byte {
	if utf8.ValidString(name) {
		return nil
	}
	return []byte(name)
}

// Info is the file as io/fs has it.
func (f File) Info() fs.FileInfo {
	mode := fs.FileMode(f.Mode) & fs.ModePerm
	for _, t := range fileTypes {
		if f.Type == t.name {
			mode |= t.mode
		}
	}
	for _, b := range modeBits {
		if f.Mode&b.bit != 0 {
			mode |= b.mode
		}
	}
	if f.RawName != nil {
		f.Name = string(f.RawName)
	}
	return fileInfo{f, mode}
}

type fileInfo struct {
	f    File
	mode fs.FileMode
}

func (i fileInfo) Name() string       { return i.f.Name }
func (i fileInfo) Size() int64        { return i.f.Size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return i.f.ModTime }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
