package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/spf13/cobra"
)

func (a *app) networkCommand() *cobra.Command {
	return group(&cobra.Command{Use: "network COMMAND", Short: "See and change what boxes do on the network"},
		a.networkLogCommand(), a.networkSetCommand(), a.networkTunnelCommand())
}

func (a *app) networkSetCommand() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use:   "set --network MODE [OPTIONS] BOX",
		Short: "Change what a box may reach",
		Long: `Change what a box may reach. What the flags say takes the place of all rules
that the box had. In a running box it holds at once: connections that are not
allowed any more are reset. To give a box a network or take it away, stop it
first.`,
		Example: `  boxlite network set --network allowlist --allow pypi.org --allow files.pythonhosted.org work
  boxlite network set --network enabled work`,
		Args:              exactly(1, "BOX"),
		ValidArgsFunction: a.completeOneBox,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			if f.mode == "" {
				return usagef("want --network MODE: enabled, allowlist or disabled")
			}
			p, err := f.policy()
			if err != nil {
				return err
			}
			box, err := a.box(cmd.Context(), rt, args[0])
			if err != nil {
				return err
			}
			return box.SetNetwork(cmd.Context(), p)
		}),
	}
	f.register(cmd)
	return cmd
}

func (a *app) networkLogCommand() *cobra.Command {
	var (
		o      boxlite.NetworkLogOptions
		format string
	)
	cmd := &cobra.Command{
		Use:   "log [OPTIONS] BOX",
		Short: "Show what a box did on the network",
		Long: `Show what a box did on the network, and what became of it: every connection,
question for a name, and request that was checked, with the rule that decided
and, where it was refused, the reason. What was sent is not recorded.`,
		Example: `  boxlite network log --refused work
  boxlite network log -f --format json work`,
		Args:              exactly(1, "BOX"),
		ValidArgsFunction: a.completeOneBox,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			box, err := a.box(cmd.Context(), rt, args[0])
			if err != nil {
				return err
			}
			return a.networkLog(cmd.Context(), box, o, format)
		}),
	}
	fs := cmd.Flags()
	fs.BoolVarP(&o.Follow, "follow", "f", false, "go on until the box ends")
	fs.BoolVar(&o.Refused, "refused", false, "only what was refused")
	fs.StringVar(&format, "format", "table", "`FORMAT`: table, json (an object a line), or a Go template such as {{.Addr}}")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) networkLog(ctx context.Context, box *boxlite.Box, o boxlite.NetworkLogOptions, format string) error {
	show, err := a.eventPrinter(format)
	if err != nil {
		return err
	}
	for e, err := range box.NetworkLog(ctx, o) {
		if err != nil {
			return err
		}
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

// eventPrinter returns what prints one event as the user asked.
func (a *app) eventPrinter(format string) (func(egress.Event) error, error) {
	switch format {
	case "table":
		// The widths are fixed, since a log that is followed has no end.
		const line = "%-8s  %-6s  %-3s  %-4s  %-32s  %-28s  %s\n"
		fmt.Fprintf(a.stdout, line, "TIME", "KIND", "DIR", "PROT", "NAME", "ADDRESS", "VERDICT")
		return func(e egress.Event) error {
			_, err := fmt.Fprintf(a.stdout, line, e.Time.Local().Format(time.TimeOnly), e.Kind, orDash(string(e.Direction)),
				orDash(string(e.Proto)), orDash(oneLine(e.Name)), orDash(oneLine(e.Addr)), oneLine(outcome(e)))
			return err
		}, nil
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		return func(e egress.Event) error { return enc.Encode(e) }, nil
	}
	t, err := parseTemplate(format)
	if err != nil {
		return nil, err
	}
	return func(e egress.Event) error { return execute(a.stdout, t, e) }, nil
}

// outcome says in words what became of an event, and what to do about a refusal.
func outcome(e egress.Event) string {
	if e.Closed {
		return fmt.Sprintf("closed after %s, sent %s, received %s",
			e.Duration.Round(time.Millisecond), humanSize(e.Sent), humanSize(e.Received))
	}
	if fix := e.Reason.Fix(); fix != "" {
		return e.Verdict.String() + "; " + fix
	}
	return e.Verdict.String()
}

func (a *app) networkTunnelCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "tunnel [OPTIONS] BOX PORT",
		Short: "Reach a port of a box that is not published",
		Long: `Reach a TCP port of a running box from this host, until interrupted. The
address that is listened on is printed.`,
		Example: `  boxlite network tunnel work 8000
  boxlite network tunnel --listen 127.0.0.1:9000 work 8000
  boxlite network tunnel --listen unix:/tmp/work.sock work 8000`,
		Args:              exactly(2, "BOX and PORT"),
		ValidArgsFunction: a.completeOneBox,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			box, err := a.box(cmd.Context(), rt, args[0])
			if err != nil {
				return err
			}
			port, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil || port == 0 {
				return usagef("port %q: give 1 to 65535", args[1])
			}
			return a.tunnel(cmd.Context(), box, args[1], listen)
		}),
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`ADDR` of this host: [HOST:]PORT, port 0 being chosen, or unix:/PATH")
	return cmd
}

// maxTunnelled bounds the connections of a tunnel; more wait.
const maxTunnelled = 256

// tunnel serves a port of the box until ctx ends.
func (a *app) tunnel(ctx context.Context, box *boxlite.Box, port, listen string) error {
	if info, err := box.Info(ctx); err != nil {
		return err
	} else if !active(info.State) {
		return fmt.Errorf("box %q is %s; start it first", box.ID(), info.State)
	}
	ln, err := listenOn(ctx, listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	fmt.Fprintln(a.stdout, ln.Addr())
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxTunnelled)
	for {
		conn, err := ln.Accept()
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		slots <- struct{}{}
		wg.Go(func() { // ends with the connection, or with ctx
			defer func() { <-slots }()
			if err := join(ctx, conn, box, port); err != nil {
				a.printError(err)
			}
		})
	}
}

func listenOn(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return lc.Listen(ctx, "unix", path)
	}
	if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
		addr = "127.0.0.1:" + addr
	}
	network := "tcp"
	if a, err := netip.ParseAddrPort(addr); err == nil && a.Addr().Is4() {
		network = "tcp4" // else 0.0.0.0 would be all addresses of IPv6, too
	}
	return lc.Listen(ctx, network, addr)
}

// join carries one connection to the box.
func join(ctx context.Context, here net.Conn, box *boxlite.Box, port string) error {
	defer here.Close()
	there, err := box.DialContext(ctx, "tcp", net.JoinHostPort(box.ID(), port))
	if err != nil {
		return err
	}
	defer there.Close()
	stop := context.AfterFunc(ctx, func() { here.Close(); there.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { pour(here, there) })
	pour(there, here)
	back.Wait()
	return nil
}

// pour copies one way and passes on the end of it.
func pour(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		return
	}
	dst.Close()
	src.Close()
}
