package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// Exit codes of boxlite itself. Everything else is a command's own.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a call that makes no sense; nothing was done.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// signalError says that a signal ended boxlite itself.
type signalError syscall.Signal

func (e signalError) Error() string {
	if syscall.Signal(e) == syscall.SIGINT {
		return "interrupted"
	}
	return "interrupted by signal: " + syscall.Signal(e).String()
}

// errReported is returned when all there was to say has been printed already.
var errReported = errors.New("reported")

func quote(s string) string { return strconv.Quote(s) }

// report prints an error, if there is one, and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitFailure
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		a.printError(fmt.Errorf("%w; see %q", err, cmd.CommandPath()+" --help"))
		return exitUsage
	}
	if sig, ok := errors.AsType[signalError](err); ok {
		if syscall.Signal(sig) != syscall.SIGPIPE { // which is silent everywhere
			a.printError(err)
		}
		return 128 + int(sig)
	}
	if c, ok := errors.AsType[*boxlite.CommandError](err); ok && c.Code > 0 {
		a.printError(err)
		return c.Code
	}
	if exit, ok := errors.AsType[*boxlite.ExitError](err); ok {
		return a.reportExit(exit)
	}
	a.printError(err)
	return exitFailure
}

// reportExit passes on how a command ended. What the user cannot see from its
// own output and code is said.
func (a *app) reportExit(e *boxlite.ExitError) int {
	switch e.Cause {
	case boxlite.CauseTimeout:
		a.printError(errors.New("the command was killed: its --timeout was up"))
	case boxlite.CauseOOM:
		a.printError(errors.New("the command was killed: the box is out of memory; give it more with --memory"))
	case boxlite.CauseBoxDied:
		a.printError(e)
	}
	if e.Code < 0 || e.Code > 255 {
		return exitFailure
	}
	return e.Code
}

// printError writes one line. Parts of an error may come from a box, so
// nothing that could drive a terminal gets through.
func (a *app) printError(err error) {
	fmt.Fprintln(a.stderr, "Error:", oneLine(err.Error()))
}

func oneLine(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// exactly, atLeast and atMost check the number of arguments.
func exactly(n int, names string) cobra.PositionalArgs {
	return countArgs(names, func(got int) bool { return got == n })
}

func atLeast(n int, names string) cobra.PositionalArgs {
	return countArgs(names, func(got int) bool { return got >= n })
}

func between(lo, hi int, names string) cobra.PositionalArgs {
	return countArgs(names, func(got int) bool { return got >= lo && got <= hi })
}

func countArgs(names string, ok func(int) bool) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 && !ok(0) {
			return usagef("want %s", names)
		}
		switch {
		case ok(len(args)):
			return nil
		case names == "":
			return usagef("unexpected argument %q", args[0])
		}
		return usagef("want %s, got %d", names, len(args))
	}
}

// each runs f on every argument, reports each failure as it comes, and goes
// on. It stops early only when the user interrupts.
func (a *app) each(cmd *cobra.Command, args []string, f func(arg string) error) error {
	var failed bool
	for _, arg := range args {
		if err := f(arg); err != nil {
			if cmd.Context().Err() != nil {
				return err
			}
			a.printError(err)
			failed = true
		}
	}
	if failed {
		return errReported
	}
	return nil
}
