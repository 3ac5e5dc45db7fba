package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// globals are the flags every command takes. Each is looked for on the command
// line, then in the environment, then in the configuration file.
type globals struct {
	home       string
	config     string
	registries []string
	insecure   []string
	mirrors    []string
	resolver   string
	debug      bool
	server     serverFlags
}

func (g *globals) register(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&g.home, "home", "", "`DIR` of boxes and images ($BOXLITE_HOME; default ~/.boxlite)")
	f.StringVar(&g.config, "config", "", "configuration `FILE`, JSON ($BOXLITE_CONFIG)")
	f.StringArrayVar(&g.registries, "registry", nil, "registry `HOST` to try for names without one; repeat ($BOXLITE_REGISTRIES)")
	f.StringArrayVar(&g.mirrors, "mirror", nil, "ask another host first, `REGISTRY=HOST[/PREFIX]`; repeat ($BOXLITE_MIRRORS)")
	f.StringArrayVar(&g.insecure, "insecure-registry", nil, "speak plain http with registry `HOST`; repeat ($BOXLITE_INSECURE_REGISTRIES)")
	f.StringVar(&g.resolver, "resolver", "", "DNS server to ask for boxes, `IP[:PORT]` ($BOXLITE_RESOLVER; default as this host does)")
	g.server.register(root)
	f.BoolVar(&g.debug, "debug", false, "log to standard error ($BOXLITE_DEBUG)")
}

// or returns what the flag says, else what the environment says.
func or(flag, env string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(env)
}

// orList reads a list from a variable, separated by commas or spaces.
func orList(flag []string, env string) []string {
	if len(flag) > 0 {
		return flag
	}
	return strings.FieldsFunc(os.Getenv(env), func(r rune) bool { return r == ',' || r == ' ' })
}

// runtimeConfig puts flags, environment and configuration file together.
func (a *app) runtimeConfig() (boxlite.Config, error) {
	cfg := boxlite.Config{Engine: a.engine, Logger: a.debugLog()}
	if path := or(a.globals.config, "BOXLITE_CONFIG"); path != "" {
		if err := readConfig(path, &cfg); err != nil {
			return cfg, err
		}
	}
	if home := or(a.globals.home, "BOXLITE_HOME"); home != "" {
		abs, err := filepath.Abs(home)
		if err != nil {
			return cfg, err
		}
		cfg.Home = abs
	}
	if r := or(a.globals.resolver, "BOXLITE_RESOLVER"); r != "" {
		cfg.Resolver = r
	}
	return cfg, a.addRegistries(&cfg)
}

// debugLog is where the library logs to; nil: nowhere.
func (a *app) debugLog() *slog.Logger {
	if debug, _ := strconv.ParseBool(os.Getenv("BOXLITE_DEBUG")); !debug && !a.globals.debug {
		return nil
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (a *app) addRegistries(cfg *boxlite.Config) error {
	for _, host := range orList(a.globals.registries, "BOXLITE_REGISTRIES") {
		if err := checkHost(host); err != nil {
			return usagef("--registry: %w", err)
		}
		registryFor(cfg, host).Search = true
	}
	for _, host := range orList(a.globals.insecure, "BOXLITE_INSECURE_REGISTRIES") {
		if err := checkHost(host); err != nil {
			return usagef("--insecure-registry: %w", err)
		}
		registryFor(cfg, host).PlainHTTP = true
	}
	for _, s := range orList(a.globals.mirrors, "BOXLITE_MIRRORS") {
		m, err := parseMirror(s)
		if err != nil {
			return usagef("--mirror: %w", err)
		}
		cfg.Mirrors = append(cfg.Mirrors, m)
	}
	for i := range cfg.Mirrors {
		m := &cfg.Mirrors[i]
		host, _, _ := strings.Cut(m.Host, "/")
		m.PlainHTTP = m.PlainHTTP || loopback(host) || insecure(cfg, host)
	}
	return nil
}

// registryFor finds the entry of a host, or adds one.
func registryFor(cfg *boxlite.Config, host string) *boxlite.Registry {
	for i := range cfg.Registries {
		if cfg.Registries[i].Host == host {
			return &cfg.Registries[i]
		}
	}
	cfg.Registries = append(cfg.Registries, boxlite.Registry{Host: host})
	return &cfg.Registries[len(cfg.Registries)-1]
}

func insecure(cfg *boxlite.Config, host string) bool {
	for _, r := range cfg.Registries {
		if r.Host == host {
			return r.PlainHTTP
		}
	}
	return false
}

// loopback tells whether a host is this machine, where docker too speaks plain
// http without being asked to.
func loopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func checkHost(host string) error {
	switch {
	case host == "":
		return errors.New("registry host is required")
	case strings.Contains(host, "/"):
		return fmt.Errorf("registry host must be host[:port], not a URL: %q", host)
	}
	return nil
}

func parseMirror(s string) (boxlite.Mirror, error) {
	reg, host, ok := strings.Cut(s, "=")
	if !ok || host == "" || strings.Contains(host, "://") {
		return boxlite.Mirror{}, fmt.Errorf("%q: want REGISTRY=HOST[/PREFIX], as in docker.io=mirror.example.com", s)
	}
	if err := checkHost(reg); err != nil {
		return boxlite.Mirror{}, err
	}
	return boxlite.Mirror{Registry: reg, Host: host}, nil
}

// open opens the runtime the flags name: that of a server, or of a home here.
// The caller closes it.
func (a *app) open(ctx context.Context) (*boxlite.Runtime, error) {
	server, err := a.server()
	if err != nil {
		return nil, err
	}
	if server != nil {
		return a.connect(ctx, *server)
	}
	return a.openHome(ctx)
}

// openHome opens the home here.
func (a *app) openHome(ctx context.Context) (*boxlite.Runtime, error) {
	cfg, err := a.runtimeConfig()
	if err != nil {
		return nil, err
	}
	return boxlite.Open(ctx, cfg)
}

// runner is what a command does with an open runtime.
type runner func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error

// with opens the runtime around f.
func (a *app) with(f runner) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		rt, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rt.Close()) }()
		return f(cmd, rt, args)
	}
}

// box finds a box by what the user wrote.
func (a *app) box(ctx context.Context, rt *boxlite.Runtime, key string) (*boxlite.Box, error) {
	b, err := rt.Box(ctx, key)
	if errors.Is(err, boxlite.ErrNotFound) {
		return nil, noBox(key)
	}
	return b, err
}

func noBox(key string) error {
	return fmt.Errorf("no box %q; %q shows all", key, "boxlite list -a")
}
