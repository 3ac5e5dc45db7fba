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

// credentials reads the file in the home. One that is not there is empty; one
// that others can read is refused.
func (a *app) credentials() (*credentials, error) {
	cfg, err := a.runtimeConfig()
	if err != nil {
		return nil, err
	}
	if cfg.Home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("%w; give --home", err)
		}
		cfg.Home = filepath.Join(user, ".boxlite")
	}
	c := &credentials{path: filepath.Join(cfg.Home, "credentials.toml"), Profiles: map[string]profile{}}
	f, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm()&0o077 != 0 {
		return nil, errors.Join(err, fmt.Errorf("credentials: others can read %s, so its keys may be known; run \"chmod 600 %s\", or log in again with new ones", c.path, c.path))
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

// save writes a new file and puts it in the place of the old one when it is
// whole.
func (c *credentials) save() error {
	text, err := toml.Marshal(c)
	if err != nil {
		return err
	}
	dir := filepath.Dir(c.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".credentials-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), c.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
