package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) authCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "auth COMMAND", Short: "Log in to servers and out"},
		a.loginCommand(), a.logoutCommand(), a.statusCommand(), a.whoamiCommand())
	for _, c := range cmd.Commands() {
		c.Args, c.ValidArgsFunction = exactly(0, ""), cobra.NoFileCompletions
	}
	return cmd
}

func (a *app) loginCommand() *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "login --url URL [OPTIONS]",
		Short: "Keep the key of a server",
		Long: `Keep the key of a server, once the server has said that it is good, in
credentials.toml in the home, which nobody else can read. The key is asked for
on the terminal, or read from standard input.

Without --profile it becomes the default: commands are for that server from
then on, unless --profile local or another one is given.`,
		Example: `  boxlite auth login --url https://boxes.example.com
  boxlite auth login --url https://boxes.example.com --profile team --api-key-stdin < key`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.login(cmd.Context(), stdin) },
	}
	cmd.Flags().BoolVar(&stdin, "api-key-stdin", false, "read the key from standard input")
	return cmd
}

// profileName is the profile that auth is about.
func (a *app) profileName() (string, error) {
	name := or(a.globals.server.profile, "BOXLITE_PROFILE")
	switch {
	case name == "":
		return defaultProfile, nil
	case name == localProfile:
		return "", usagef("--profile %s is this host, where nobody logs in", localProfile)
	case !profileRE.MatchString(name):
		return "", usagef("--profile %q: use letters, digits, '_' and '-', at most 64", name)
	}
	return name, nil
}

// stored is the profile that auth is about, and the file it is in.
func (a *app) stored() (name string, file *credentials, err error) {
	if name, err = a.profileName(); err == nil {
		file, err = a.credentials()
	}
	return name, file, err
}

func (a *app) login(ctx context.Context, stdin bool) error {
	name, file, err := a.stored()
	if err != nil {
		return err
	}
	url, old := or(a.globals.server.url, "BOXLITE_REST_URL"), file.Profiles[name]
	switch {
	case url == "" && old.URL == "":
		return usagef("want --url URL: which server?")
	case url == "":
		url = old.URL
	case url != old.URL:
		old = profile{}
	}
	r := a.remote(url, old)
	if r.CAFile != "" { // commands to come may be given elsewhere
		if r.CAFile, err = filepath.Abs(r.CAFile); err != nil {
			return err
		}
	}
	if r.Key, err = a.readKey(url, stdin); err != nil {
		return err
	}
	who, err := a.whoami(ctx, *r)
	if err != nil {
		return err
	}
	p := profile{URL: url, Key: r.Key, PathPrefix: r.PathPrefix, CAFile: r.CAFile, PlainHTTP: r.PlainKey}
	if err := a.changeCredentials(func(all map[string]profile) error { all[name] = p; return nil }); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Logged in to %s as %s.\n", url, oneLine(who.Name))
	return nil
}

// maxKey bounds what is read as a key, in bytes.
const maxKey = 4 << 10

// readKey asks for a key on the terminal, where it does not show, or reads it.
func (a *app) readKey(url string, stdin bool) (string, error) {
	switch {
	case stdin:
	case !isTerminal(a.stdin):
		return "", usagef("standard input is no terminal to ask for the key on: give it to --api-key-stdin")
	default:
		show, err := a.hide("API key for " + url + ": ")
		if err != nil {
			return "", err
		}
		defer show()
	}
	line, err := bufio.NewReader(io.LimitReader(a.stdin, maxKey)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	key := strings.TrimSpace(line)
	if key == "" {
		return "", errors.New("no key was given")
	}
	return key, nil
}

// hide asks for a line that does not show on the terminal, until show is called.
// A signal ends this process with the terminal as it was.
func (a *app) hide(question string) (show func(), err error) {
	fd := int(a.stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	restore := func() {
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, before) // a terminal that is gone needs none
		fmt.Fprintln(a.stderr)
	}
	undivert := a.signals.divert(func(sig syscall.Signal) {
		restore()
		os.Exit(128 + int(sig))
	})
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		undivert()
		return nil, err
	}
	fmt.Fprint(a.stderr, question)
	return func() { restore(); undivert() }, nil
}

// whoami asks a server who has the key.
func (a *app) whoami(ctx context.Context, r boxlite.Remote) (who boxlite.Identity, err error) {
	rt, err := a.connect(ctx, r)
	if err != nil {
		return who, err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	return rt.Whoami(ctx)
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout [OPTIONS]",
		Short: "Forget the key of a server",
		RunE: func(*cobra.Command, []string) error {
			name, file, err := a.stored()
			if err != nil {
				return err
			}
			url := ""
			err = a.changeCredentials(func(all map[string]profile) error {
				p, ok := all[name]
				if !ok {
					return fmt.Errorf("no profile %q in %s", name, file.path)
				}
				url = p.URL
				delete(all, name)
				return nil
			})
			if err == nil {
				fmt.Fprintf(a.stdout, "Logged out of %s.\n", url)
			}
			return err
		},
	}
}

// authView is the output of auth status.
type authView struct {
	Profile string `json:"profile"` // empty: none
	URL     string `json:"url"`
	Name    string `json:"name"`  // of the key
	Error   string `json:"error"` // why it cannot be used
}

func (a *app) statusCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "status [OPTIONS]",
		Short: "Say which server commands are for, and whether it lets them in",
		Long: `Say which server commands are for, and whether it lets them in. The exit code is
1 if it does not, or if there is none and commands are for this host.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.server()
			if err != nil {
				return err
			}
			if r == nil {
				return errors.New("not logged in: commands are for this host")
			}
			v := authView{Profile: a.profileUsed(r), URL: r.URL}
			who, failed := a.whoami(cmd.Context(), *r)
			if v.Name = who.Name; failed != nil {
				v.Error = failed.Error()
			}
			if err := printOne(a.stdout, out.format, v, authRows); err != nil || failed == nil {
				return err
			}
			return errReported
		},
	}
	out.register(cmd, "table")
	return cmd
}

// profileUsed is the profile that r comes from, if from one.
func (a *app) profileUsed(r *boxlite.Remote) string {
	name, file, err := a.stored()
	if err != nil || file.Profiles[name].URL != r.URL || os.Getenv("BOXLITE_API_KEY") != "" {
		return ""
	}
	return name
}

func authRows(t *table, v authView) {
	t.row("server:", v.URL)
	t.row("profile:", orDash(v.Profile))
	t.row("logged in as:", orDash(v.Name))
	if v.Error != "" {
		t.row("error:", v.Error)
	}
}

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami [OPTIONS]",
		Short: "Print the name of the key, and what it may do",
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, _ []string) error {
			who, err := rt.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, oneLine(who.Name))
			if len(who.Scopes) > 0 {
				fmt.Fprintln(a.stdout, oneLine(strings.Join(who.Scopes, " ")))
			}
			return nil
		}),
	}
}
