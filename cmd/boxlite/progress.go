package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/boxlite-go/boxlite"
	"golang.org/x/term"
)

// patience is how long a pull may take before a log, where no terminal shows
// its progress, is told about it.
const patience = 3 * time.Second

// pullFunc is [boxlite.Images.Pull] or [boxlite.Images.Ensure].
type pullFunc func(context.Context, string, func(boxlite.Progress)) (boxlite.Image, error)

// pull gets an image and shows progress on standard error.
func (a *app) pull(ctx context.Context, ref string, pull pullFunc) (boxlite.Image, error) {
	p := &progress{w: a.stderr, terminal: isTerminal(a.stderr), begun: time.Now()}
	if f, ok := a.stderr.(*os.File); ok && p.terminal {
		p.width, _, _ = term.GetSize(int(f.Fd()))
	}
	img, err := pull(ctx, ref, p.show)
	p.end(ref, err)
	return img, err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress shows a pull: on a terminal one line for each phase, elsewhere one
// line when it takes long and one when it has ended.
type progress struct {
	w        io.Writer
	terminal bool
	width    int // of the terminal; 0: not known
	begun    time.Time
	phase    string
	since    time.Time // when the phase began
	size     int64     // of the download
	said     bool      // something was printed that the end should complete
}

func (p *progress) show(s boxlite.Progress) {
	if s.Phase == "download" {
		p.size = max(s.Total, s.Done)
	}
	if !p.terminal {
		if !p.said && time.Since(p.begun) > patience {
			p.said = true
			fmt.Fprintf(p.w, "%s: pulling\n", s.Ref)
		}
		return
	}
	if s.Phase == "done" {
		return
	}
	if s.Phase != p.phase {
		if p.said {
			fmt.Fprintln(p.w)
		}
		p.phase, p.since = s.Phase, time.Now()
	}
	p.said = true
	fmt.Fprint(p.w, "\r\x1b[K"+p.line(s))
}

func (p *progress) line(s boxlite.Progress) string {
	line := fmt.Sprintf("%s: %-8s", s.Ref, s.Phase)
	if s.Total > 0 {
		line += fmt.Sprintf(" %3d%%  %s / %s", s.Done*100/s.Total, humanSize(s.Done), humanSize(s.Total))
	}
	if d := time.Since(p.since).Seconds(); d > 0.2 && s.Done > 0 {
		line += fmt.Sprintf("  %.1f MB/s", float64(s.Done)/1e6/d)
	}
	if p.width > 0 && len(line) >= p.width {
		line = line[:p.width-1] // one that wraps cannot be written over
	}
	return line
}

func (p *progress) end(ref string, err error) {
	switch {
	case !p.said:
	case p.terminal:
		fmt.Fprintln(p.w)
	case err == nil:
		fmt.Fprintf(p.w, "%s: pulled %s in %s\n", ref, humanSize(p.size), humanDuration(time.Since(p.begun)))
	}
}
