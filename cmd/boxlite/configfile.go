package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/boxlite-go/boxlite"
)

// configFile is the JSON that --config names.
type configFile struct {
	HomeDir         string         `json:"home_dir"`
	ImageRegistries []fileRegistry `json:"image_registries"`
	Mirrors         []fileMirror   `json:"mirrors"`
	Resolver        string         `json:"resolver"`

	AllowAbsoluteNames bool `json:"allow_absolute_names"`
}

type fileRegistry struct {
	Host       string    `json:"host"`
	Transport  string    `json:"transport"` // "https" or "http"; empty: https
	SkipVerify bool      `json:"skip_verify"`
	CAFile     string    `json:"ca_file"`
	Search     bool      `json:"search"`
	Auth       *fileAuth `json:"auth"`
}

type fileAuth struct {
	Type     string `json:"type"` // "basic", "bearer" or "anonymous"
	Username string `json:"username"`
	Password string `json:"password"`
	Token    string `json:"token"`
}

type fileMirror struct {
	Registry   string `json:"registry"`
	Host       string `json:"host"`
	Transport  string `json:"transport"`
	SkipVerify bool   `json:"skip_verify"`
}

// readConfig adds what the file at path says to cfg.
func readConfig(path string, cfg *boxlite.Config) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	var f configFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := f.apply(cfg); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

func (f *configFile) apply(cfg *boxlite.Config) error {
	cfg.Home, cfg.AllowAbsoluteNames, cfg.Resolver = f.HomeDir, f.AllowAbsoluteNames, f.Resolver
	for _, r := range f.ImageRegistries {
		reg, err := r.registry()
		if err != nil {
			return err
		}
		cfg.Registries = append(cfg.Registries, reg)
	}
	for _, m := range f.Mirrors {
		plain, err := plainHTTP(m.Transport)
		if err != nil {
			return err
		}
		if m.Registry == "" || m.Host == "" {
			return fmt.Errorf("mirror %q of %q: give both registry and host", m.Host, m.Registry)
		}
		cfg.Mirrors = append(cfg.Mirrors, boxlite.Mirror{
			Registry: m.Registry, Host: m.Host, PlainHTTP: plain, SkipVerify: m.SkipVerify,
		})
	}
	return nil
}

func (r *fileRegistry) registry() (boxlite.Registry, error) {
	reg := boxlite.Registry{Host: r.Host, SkipVerify: r.SkipVerify, CAFile: r.CAFile, Search: r.Search}
	if err := checkHost(r.Host); err != nil {
		return reg, err
	}
	plain, err := plainHTTP(r.Transport)
	if err != nil {
		return reg, err
	}
	reg.PlainHTTP = plain
	if r.Auth == nil {
		return reg, nil
	}
	switch r.Auth.Type {
	case "basic":
		if r.Auth.Username == "" || r.Auth.Password == "" {
			return reg, fmt.Errorf("registry %s: username and password must be provided together", r.Host)
		}
		reg.Username, reg.Password = r.Auth.Username, r.Auth.Password
	case "bearer":
		reg.Token = r.Auth.Token
	case "anonymous", "":
	default:
		return reg, fmt.Errorf("registry %s: auth type %q: want basic, bearer or anonymous", r.Host, r.Auth.Type)
	}
	return reg, nil
}

func plainHTTP(transport string) (bool, error) {
	switch transport {
	case "", "https":
		return false, nil
	case "http":
		return true, nil
	}
	return false, fmt.Errorf("unsupported registry transport: %q; want https or http", transport)
}
