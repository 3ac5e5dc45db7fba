package image

import (
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Config says where a store is and how it reaches registries.
type Config struct {
	Dir        string         // of the store, made with mode 0700 if missing
	Mirrors    []Mirror       // asked in order, the registry itself last
	Registries []Registry     // by host
	Keychain   authn.Keychain // for hosts without credentials above; nil: docker's configuration file
	Platform   string         // os/arch[/variant]; empty: linux on this machine's processor
	MaxSize    int64          // bytes of one image, compressed or not; 0: 20 GiB
	MaxEntries int            // files of one image; 0: 2 million
	// AllowAbsolute takes layers whose entries have absolute names, as below
	// the image's root, instead of refusing them.
	AllowAbsolute bool
	Logger        *slog.Logger // nil: silent
}

// Mirror is a host that has the images of a registry.
type Mirror struct {
	Registry   string // whose: "docker.io"
	Host       string // host[:port][/prefix]
	Insecure   bool   // http
	SkipVerify bool   // accept any certificate
}

// Registry says how to talk to one host.
type Registry struct {
	Host       string // host[:port]
	PlainHTTP  bool
	SkipVerify bool   // accept any certificate
	CAFile     string // PEM, trusted beside the system's
	Username   string
	Password   string
	Token      string // bearer token; goes before Username
	Search     bool   // tried for names without a registry, in order
}

const (
	defaultMaxSize    = 20 << 30
	defaultMaxEntries = 2_000_000
	maxManifest       = 4 << 20 // as registries bound it
	maxConfig         = 8 << 20
	maxLayers         = 256
)

func (c Config) complete() (Config, *v1.Platform, error) {
	if c.MaxSize <= 0 {
		c.MaxSize = defaultMaxSize
	}
	c.MaxSize = min(c.MaxSize, math.MaxInt64/2)
	if c.MaxEntries <= 0 {
		c.MaxEntries = defaultMaxEntries
	}
	if c.Keychain == nil {
		c.Keychain = authn.DefaultKeychain
	}
	if c.Platform == "" {
		c.Platform = "linux/" + runtime.GOARCH
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := v1.ParsePlatform(c.Platform)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return c, nil, fmt.Errorf("platform %q: write it like \"linux/amd64\"", c.Platform)
	}
	for _, m := range c.Mirrors {
		host, _, _ := strings.Cut(m.Host, "/")
		if !hostRE.MatchString(host) {
			return c, nil, fmt.Errorf("mirror %q of %q: write it like \"host:port\" or \"host/prefix\"", m.Host, m.Registry)
		}
	}
	for _, r := range c.Registries {
		if !hostRE.MatchString(r.Host) {
			return c, nil, fmt.Errorf("registry %q: write it like \"host:port\"", r.Host)
		}
	}
	return c, p, nil
}

// registry finds what is said of a host.
func (c *Config) registry(host string) Registry {
	for _, r := range c.Registries {
		if hostName(r.Host) == hostName(host) {
			return r
		}
	}
	return Registry{Host: host}
}

// candidates are the full references that a user may mean, best first.
func (c *Config) candidates(ref Reference) []Reference {
	if ref.qualified {
		return []Reference{ref}
	}
	var out []Reference
	for _, r := range c.Registries {
		if !r.Search {
			continue
		}
		if at, err := ref.in(r.Host); err == nil {
			out = append(out, at)
		}
	}
	if len(out) == 0 {
		out = append(out, ref)
	}
	return out
}
