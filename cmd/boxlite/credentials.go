package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/pelletier/go-toml/v2"
)

// Names of profiles that mean something.
const (
	defaultProfile = "default" // used when none is named
	localProfile   = "local"   // no server
)

// profileRE is what a profile may be called.
var profileRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$`)

// credentials is the file that auth login writes.
type credentials struct {
	path     string
	Profiles map[string]profile `toml:"profiles"`
}

// profile is one server and the key for it.
type profile struct {
	URL        string `toml:"url"`
	Key        string `toml:"api_key,omitempty"`
	PathPrefix string `toml:"path_prefix,omitempty"`
	CAFile     string `toml:"ca_file,omitempty"`
	PlainHTTP  bool   `toml:"plain_http,omitempty"`
}

// maxCredentials bounds the file, in bytes.
const maxCredentials = 1 << 20

// credentialsName is the file in the home.
const credentialsName = "credentials.toml"

// credentialsHome is the home that the file is in.
func (a *app) credentialsHome() (string, error) {
	cfg, err := a.runtimeConfig()
	if err != nil || cfg.Home != "" {
		return cfg.Home, err
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w; give --home", err)
	}
	return filepath.Join(user, ".boxlite"), nil
}

// credentials reads the file in the home. One that is not there is empty; one
// that others can read is refused.
func (a *app) credentials() (*credentials, error) {
	home, err := a.credentialsHome()
	if err != nil {
		return nil, err
	}
	c := &credentials{path: filepath.Join(home, credentialsName), Profiles: map[string]profile{}}
	f, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm()&0o077 != 0 {
		return nil, errors.Join(err, fmt.Errorf("credentials: others can read %s, so its keys may be known; run \"chmod 600 %s\", and log in with new ones", c.path, c.path))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCredentials))
	if err != nil {
		return nil, err
	}
	dec := toml.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return nil, c.malformed(err)
	}
	return c, nil
}

// malformed says where the file is wrong, and nothing of what is there.
func (c *credentials) malformed(err error) error {
	line := 0
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ = e.Position()
	} else if e, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(e.Errors) > 0 {
		line, _ = e.Errors[0].Position()
	}
	return fmt.Errorf("credentials: %s line %d: want [profiles.NAME] with url, api_key, path_prefix, ca_file and plain_http, as auth login writes them", c.path, line)
}

// changeCredentials changes the file as it is then: other processes change it too.
func (a *app) changeCredentials(change func(map[string]profile) error) error {
	home, err := a.credentialsHome()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	guard := filepath.Join(home, credentialsName+".lock")
	f, err := os.OpenFile(guard, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	lock, err := hostos.WaitLock(guard)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	c, err := a.credentials()
	if err != nil {
		return err
	}
	if err := change(c.Profiles); err != nil {
		return err
	}
	return c.save()
}

// save puts a whole new file in the place of the old one, wherever a symbolic link
// has that. What a writer that was killed has left goes: there may be keys in it.
//
// Preconditions: the lock is held.
func (c *credentials) save() error {
	path := c.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "."+filepath.Base(path)+".") {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	text, e := toml.Marshal(c)
	if err = errors.Join(err, e); err != nil {
		return err
	}
	if !utf8.Valid(text) { // nobody could read it again
		return errors.New("credentials: a URL or a path that is not UTF-8 cannot be kept")
	}
	return hostos.WriteFileAtomic(path, text, 0o600)
}
