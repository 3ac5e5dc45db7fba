package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// serverFlags say which server a command is for.
type serverFlags struct {
	url     string
	prefix  string
	profile string
	caFile  string
	plain   bool
}

func (f *serverFlags) register(root *cobra.Command) {
	fs := root.PersistentFlags()
	fs.StringVar(&f.url, "url", "", "use the boxes and images of a server, `URL` http[s]://HOST[:PORT] or unix:///PATH ($BOXLITE_REST_URL); its key is $BOXLITE_API_KEY, or of a profile")
	fs.StringVar(&f.profile, "profile", "", "use the server that auth login stored as `NAME` ($BOXLITE_PROFILE; default \"default\", if there is one); local is this host")
	fs.StringVar(&f.prefix, "path-prefix", "", "`PREFIX` that the server was started with ($BOXLITE_REST_PATH_PREFIX)")
	fs.StringVar(&f.caFile, "ca-file", "", "trust the certificates in `FILE` too, PEM ($BOXLITE_CA_FILE)")
	fs.BoolVar(&f.plain, "plain-http", false, "send the key over http to other machines too ($BOXLITE_PLAIN_HTTP)")
}

// hereOnly are commands that are about this machine and no server.
var hereOnly = []string{"serve", "doctor", "version", "completion"}

// check refuses a server for a command that is none of its business.
func (f *serverFlags) check(cmd *cobra.Command) error {
	top := cmd
	for top.HasParent() && top.Parent().HasParent() {
		top = top.Parent()
	}
	if slices.Contains(hereOnly, top.Name()) && (f.url != "" || f.profile != "" && f.profile != localProfile) {
		return usagef("%s is about this machine: leave out --url and --profile", top.Name())
	}
	return nil
}

// server is the server that flags, environment and the file of credentials
// name, in this order; nil is this host.
func (a *app) server() (*boxlite.Remote, error) {
	f := a.globals.server
	name, url := or(f.profile, "BOXLITE_PROFILE"), or(f.url, "BOXLITE_REST_URL")
	if f.profile == "" && f.url != "" {
		name = "" // a flag goes before the environment
	}
	if name == localProfile {
		if f.url != "" {
			return nil, usagef("--profile %s is this host, and --url %q is not: give one", localProfile, f.url)
		}
		return nil, nil
	}
	file, err := a.credentials()
	if err != nil {
		return nil, err
	}
	stored, known := file.Profiles[name]
	if name == "" {
		stored, known = file.Profiles[defaultProfile]
	}
	switch {
	case name != "" && !known:
		return nil, fmt.Errorf("no profile %q in %s; %q makes one", name, file.path, "boxlite auth login --profile "+name)
	case url == "" && !known:
		return nil, nil
	case url == "" || f.url == "" && f.profile != "":
		url = stored.URL // a flag goes before the environment
	case strings.TrimRight(url, "/") != strings.TrimRight(stored.URL, "/"):
		stored = profile{} // a key is for its own server alone
	}
	return a.remote(url, stored), nil
}

// remote adds to a profile what flags and environment say.
func (a *app) remote(url string, p profile) *boxlite.Remote {
	f := a.globals.server
	first := func(list ...string) string {
		i := slices.IndexFunc(list, func(s string) bool { return s != "" })
		if i < 0 {
			return ""
		}
		return list[i]
	}
	plain, _ := strconv.ParseBool(os.Getenv("BOXLITE_PLAIN_HTTP"))
	return &boxlite.Remote{
		URL:        url,
		Key:        first(os.Getenv("BOXLITE_API_KEY"), p.Key),
		PathPrefix: first(f.prefix, os.Getenv("BOXLITE_REST_PATH_PREFIX"), os.Getenv("BOXLITE_REST_PREFIX"), p.PathPrefix),
		CAFile:     first(f.caFile, os.Getenv("BOXLITE_CA_FILE"), p.CAFile),
		PlainKey:   f.plain || plain || p.PlainHTTP,
		Logger:     a.debugLog(),
	}
}

// connect connects to a server, unless there are flags that are none of its business.
func (a *app) connect(ctx context.Context, r boxlite.Remote) (*boxlite.Runtime, error) {
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"registry", a.globals.registries != nil},
		{"mirror", a.globals.mirrors != nil},
		{"insecure-registry", a.globals.insecure != nil},
		{"resolver", a.globals.resolver != ""},
	} {
		if flag.given {
			return nil, usagef("--%s is the server's to know: leave it out, or give it to serve", flag.name)
		}
	}
	a.away = true
	return boxlite.Connect(ctx, r)
}
