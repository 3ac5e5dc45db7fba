package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/internal/telemetry"
	"github.com/spf13/cobra"
)

// shutdownTimeout is how long an orderly end may take. Most supervisors wait
// that long or longer before they use force.
const shutdownTimeout = 30 * time.Second

// maxUploadGiB is what can be counted in bytes.
const maxUploadGiB = math.MaxInt64 >> 30

// serveFlags are what serve is told.
type serveFlags struct {
	host       string
	port       int
	socket     string
	apiKey     string
	keyFile    string
	cert, priv string
	prefix     string
	shutdown   time.Duration
	logFormat  string
	hostDirs   []string
	reduced    bool
	untilEOF   bool
	limits     restapi.Limits
	uploadGiB  int64
	reap       reapFlags
}

const serveLong = `Serve the BoxLite REST API, for programs in any language, until a signal ends
it: on 127.0.0.1:8100, or on a unix socket that only this user may use.

SIGINT and SIGTERM end it in order: requests under way finish, then boxes that
are not detached are stopped and their files saved. SIGHUP reads the file of
keys and the certificate again. The log goes to standard error.

Traces go where OTEL_EXPORTER_OTLP_ENDPOINT says, and the other variables of
OpenTelemetry; without it there are none.

A key is wanted on TCP as soon as there is one. Each line of the file of keys
is NAME KEY [SCOPE,SCOPE...].

With --until-eof the server belongs to the program that started it: it ends in
order when its standard input does, which happens however that program ends, and
leaves SIGINT to it. Once it takes requests it says so on standard output, in
one line.`

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [OPTIONS]",
		Short: "Serve the REST API",
		Long:  serveLong,
		Example: `  boxlite serve
  boxlite serve --socket $XDG_RUNTIME_DIR/boxlite.sock
  boxlite serve --host 0.0.0.0 --api-keys keys --tls-cert cert.pem --tls-key key.pem`,
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, &f) },
	}
	f.register(cmd)
	return cmd
}

func (f *serveFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.host, "host", "127.0.0.1", "`ADDRESS` to listen on")
	fl.IntVar(&f.port, "port", 8100, "TCP port; 0 takes a free one and prints it")
	fl.StringVar(&f.socket, "socket", "", "listen on a unix socket at `PATH`; on TCP too only if --host or --port is given")
	fl.StringVar(&f.apiKey, "api-key", "", "`KEY` that TCP clients must send; better in $BOXLITE_SERVE_API_KEY, where other users cannot see it")
	fl.StringVar(&f.keyFile, "api-keys", "", "`FILE` of keys, with names and scopes")
	fl.StringVar(&f.cert, "tls-cert", "", "`FILE` with the certificate chain, PEM")
	fl.StringVar(&f.priv, "tls-key", "", "`FILE` with its private key, PEM")
	fl.StringVar(&f.prefix, "path-prefix", "", "serve /v1/`PREFIX`/... too")
	fl.DurationVar(&f.shutdown, "shutdown-timeout", shutdownTimeout, "how long an orderly end may take")
	fl.StringVar(&f.logFormat, "log-format", "json", "json, text or off")
	fl.BoolVar(&f.untilEOF, "until-eof", false, "end in order when standard input ends; for programs that start a server of their own")
	fl.StringArrayVar(&f.hostDirs, "allow-host-dir", nil, "let TCP clients mount host directory `DIR` and what is below; repeat")
	fl.BoolVar(&f.reduced, "allow-reduced-isolation", false, "let TCP clients ask for boxes of reduced isolation")
	fl.IntVar(&f.limits.Boxes, "max-boxes", 0, "most boxes there may be (default 10000)")
	fl.IntVar(&f.limits.Running, "max-running", 0, "most boxes that run (default 256)")
	fl.Int64Var(&f.limits.MemoryMiB, "max-memory", 0, "`MiB` that running boxes may be promised together (default four times what is there)")
	fl.IntVar(&f.limits.Starts, "max-starts", 0, "boxes that start side by side, others wait (default one a processor)")
	fl.IntVar(&f.limits.Executions, "max-executions", 0, "most commands that run (default 4096)")
	fl.Int64Var(&f.uploadGiB, "max-upload", 0, "`GiB` of the largest upload (default 16)")
	f.reap.register(cmd)
}

// logger is where the server logs to.
func (f *serveFlags) logger(a *app) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if debug, _ := strconv.ParseBool(os.Getenv("BOXLITE_DEBUG")); debug || a.globals.debug {
		o.Level = slog.LevelDebug
	}
	switch f.logFormat {
	case "json":
		return slog.New(slog.NewJSONHandler(a.stderr, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(a.stderr, o)), nil
	case "off":
		return slog.New(slog.DiscardHandler), nil
	}
	return nil, usagef("--log-format %q: want json, text or off", f.logFormat)
}

// check finds flags that make no sense.
func (f *serveFlags) check(cmd *cobra.Command) error {
	switch {
	case f.port < 0 || f.port > 65535:
		return usagef("--port %d: want 0 to 65535", f.port)
	case (f.cert == "") != (f.priv == ""):
		return usagef("--tls-cert and --tls-key go together")
	case f.cert != "" && !f.onTCP(cmd):
		return usagef("--tls-cert is for TCP, and there is only --socket; give --host or --port too")
	case f.shutdown <= 0:
		return usagef("--shutdown-timeout %v: want a positive time", f.shutdown)
	case min(f.limits.Boxes, f.limits.Running, f.limits.Starts, f.limits.Executions) < 0 || f.limits.MemoryMiB < 0 || f.uploadGiB < 0:
		return usagef("a bound is negative; 0 means its default")
	case f.uploadGiB > maxUploadGiB:
		return usagef("--max-upload %d: want at most %d", f.uploadGiB, maxUploadGiB)
	}
	f.limits.Upload = f.uploadGiB << 30
	return nil
}

func (a *app) serve(cmd *cobra.Command, f *serveFlags) (err error) {
	if err := f.check(cmd); err != nil {
		return err
	}
	log, err := f.logger(a)
	if err != nil {
		return err
	}
	keys, cert := &httpapi.Keys{}, f.certificate()
	load := f.loader(keys, cert)
	if err := load(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	where := f.listen(cmd, keys, cert, log)
	reaping, err := f.reap.reaping(where.Addr != "")
	if err != nil {
		return err
	}
	ls, err := httpapi.Listen(ctx, where)
	if err != nil {
		return err
	}
	rt, tracing, closeRuntime, err := a.openTraced(ctx, f, log)
	if err != nil {
		return errors.Join(err, closeAll(ls))
	}
	defer func() { err = errors.Join(err, closeRuntime()) }()
	c := f.config(rt, keys, log)
	c.Reaping, c.Tracing = reaping, tracing
	srv := restapi.New(c)
	defer srv.Close()
	defer a.signals.divert(serverSignals(cancel, load, log, f.untilEOF))()
	if f.untilEOF {
		a.followOwner(cancel, log)
	}
	a.announce(ls, f)
	return httpapi.Serve(ctx, srv, ls, f.shutdown, log, srv.Drain)
}

// loader reads keys and certificate, now and at SIGHUP.
func (f *serveFlags) loader(keys *httpapi.Keys, cert *httpapi.Certificate) func() error {
	return func() error {
		err := keys.Load(or(f.apiKey, "BOXLITE_SERVE_API_KEY"), f.keyFile)
		if cert != nil {
			err = errors.Join(err, cert.Load(f.cert, f.priv))
		}
		return err
	}
}

// openTraced opens the runtime of the server. Its steps are traced if the
// environment says where to. done closes both.
func (a *app) openTraced(ctx context.Context, f *serveFlags, log *slog.Logger) (rt *boxlite.Runtime, t restapi.Tracing, done func() error, err error) {
	cfg, err := a.runtimeConfig()
	if err != nil {
		return nil, t, nil, err
	}
	t, closeTracing, err := openTracing(ctx, log)
	if err != nil && f.untilEOF {
		// The variables are those of the program that owns the server, and
		// about its own traces: they must not keep it from its boxes.
		log.Warn("no traces", slog.Any("err", err))
		err = nil
	}
	if err != nil {
		return nil, t, nil, err
	}
	cfg.Logger, cfg.Trace = log, t.Step
	rt, err = boxlite.Open(ctx, cfg)
	if err != nil {
		closeTracing()
		return nil, t, nil, err
	}
	return rt, t, func() error {
		err := rt.Close()
		closeTracing() // the last spans are of what Close does
		return err
	}, nil
}

// lastSpans is how long the server waits at its end for a collector to take
// what is left. Losing it harms nobody.
const lastSpans = 5 * time.Second

// openTracing begins to send spans, if the environment says where to.
func openTracing(ctx context.Context, log *slog.Logger) (t restapi.Tracing, done func(), err error) {
	done = func() {}
	cfg, on, err := telemetry.FromEnv(os.Getenv)
	if err != nil || !on {
		return t, done, err
	}
	tracing, err := telemetry.Open(ctx, cfg, log)
	if err != nil {
		return t, done, err
	}
	return restapi.Tracing{Request: tracing.Request, Step: tracing.Step}, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		if err := tracing.Close(ctx); err != nil {
			log.Warn("the last spans are lost", slog.Any("err", err))
		}
	}, nil
}

func (f *serveFlags) config(rt *boxlite.Runtime, keys *httpapi.Keys, log *slog.Logger) restapi.Config {
	return restapi.Config{
		Runtime: rt, Keys: keys, Limits: f.limits, PathPrefix: f.prefix, Logger: log, Private: f.untilEOF,
		Host: restapi.HostPolicy{Dirs: f.hostDirs, ReducedIsolation: f.reduced},
	}
}

// onTCP tells whether the server is reached over TCP.
func (f *serveFlags) onTCP(cmd *cobra.Command) bool {
	return f.socket == "" || cmd.Flags().Changed("host") || cmd.Flags().Changed("port")
}

// certificate is the one of TCP, to be loaded; nil without one.
func (f *serveFlags) certificate() *httpapi.Certificate {
	if f.cert == "" {
		return nil
	}
	return &httpapi.Certificate{}
}

func (f *serveFlags) listen(cmd *cobra.Command, keys *httpapi.Keys, cert *httpapi.Certificate, log *slog.Logger) httpapi.ListenConfig {
	c := httpapi.ListenConfig{Socket: f.socket, Cert: cert, Keys: keys, Logger: log}
	if f.onTCP(cmd) {
		c.Addr = net.JoinHostPort(f.host, strconv.Itoa(f.port))
	}
	return c
}

func closeAll(ls []net.Listener) (err error) {
	for _, l := range ls {
		err = errors.Join(err, l.Close())
	}
	return err
}

// serverSignals ends the server in order at the first signal and at once at
// the second. SIGHUP loads keys and certificate again. A terminal sends SIGINT to all of a
// foreground job; a server that is owned lets its owner decide what that means.
func serverSignals(end func(), load func() error, log *slog.Logger, owned bool) func(syscall.Signal) {
	asked := false
	return func(sig syscall.Signal) {
		switch {
		case sig == syscall.SIGINT && owned:
		case sig == syscall.SIGHUP:
			if err := load(); err != nil {
				log.Error("not all loaded; what is wrong stays as it was", slog.Any("err", err))
				return
			}
			log.Info("keys and certificate loaded")
		case asked:
			os.Exit(128 + int(sig))
		default:
			asked = true
			log.Info("shutting down", slog.String("signal", sig.String()))
			end()
		}
	}
}

// followOwner lets a server end with the program that started it.
func (a *app) followOwner(end func(), log *slog.Logger) {
	// The owner may be gone by now, and nobody read what was said: that is
	// no reason to end out of order, as the runtime of Go would.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go a.endAtEOF(end, log) // ends with standard input, or with the process
}

// endAtEOF ends the server when standard input does. What comes in is nobody's.
func (a *app) endAtEOF(end func(), log *slog.Logger) {
	_, err := io.Copy(io.Discard, a.stdin)
	log.Info("shutting down", slog.String("cause", "standard input ended"), slog.Any("err", err))
	end()
}

// announce says where the server is, for people and for scripts that gave it
// port 0. A program that started it reads this on standard output, and knows
// that requests are taken.
func (a *app) announce(ls []net.Listener, f *serveFlags) {
	out := a.stderr
	if f.untilEOF {
		out = a.stdout
	}
	for _, l := range ls {
		where := "http://" + l.Addr().String()
		switch {
		case l.Addr().Network() == "unix":
			where = "unix://" + l.Addr().String()
		case f.cert != "":
			where = "https://" + l.Addr().String()
		}
		fmt.Fprintln(out, "BoxLite REST API server listening on "+where)
	}
}
