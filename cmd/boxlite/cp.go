package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) cpCommand() *cobra.Command {
	var o boxlite.CopyOptions
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] SRC DST",
		Short: "Copy files into a box or out of it",
		Long: `Copy files into a box or out of it. One of SRC and DST is BOX:PATH, the other a
path here, or - for a tar stream on standard input or output. A file goes to
the exact path, or into it if that is a directory or ends in /. A directory
goes into one that exists, and becomes DST otherwise; with --no-include-parent,
or /. at the end of SRC, its content goes into DST.

A box that does not run is started for the copy and stopped again. A path here
with a colon in it is written with ./ before it.`,
		Example: `  boxlite cp data/ work:/workspace
  boxlite cp work:/workspace/out.json .
  boxlite cp work:/var/log - | tar t`,
		Args:              exactly(2, "SRC and DST"),
		ValidArgsFunction: a.completeCopy,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.cp(cmd.Context(), rt, args[0], args[1], o)
		}),
	}
	cmd.Flags().BoolVar(&o.FollowLinks, "follow-symlinks", false, "copy what links stand for")
	cmd.Flags().BoolVar(&o.NoOverwrite, "no-overwrite", false, "fail when a file is there already")
	cmd.Flags().BoolVar(&o.NoParent, "no-include-parent", false, "copy the content of a directory, not the directory")
	return cmd
}

// inBox splits BOX:PATH. A path here may hold a colon after a slash, or begin
// with a dot.
func inBox(arg string) (key, path string, ok bool) {
	key, path, ok = strings.Cut(arg, ":")
	if !ok || key == "" || strings.ContainsRune(key, '/') || key[0] == '.' {
		return "", "", false
	}
	return key, path, true
}

func (a *app) cp(ctx context.Context, rt *boxlite.Runtime, src, dst string, o boxlite.CopyOptions) (err error) {
	srcKey, srcPath, out := inBox(src)
	dstKey, dstPath, in := inBox(dst)
	switch {
	case in && out:
		return usagef("both %q and %q are in a box; copy by way of a path here", src, dst)
	case !in && !out:
		return usagef("neither %q nor %q is in a box; write BOX:PATH", src, dst)
	case srcPath == "" && out, dstPath == "" && in:
		return usagef("want a path after BOX:, as in %s:/workspace", srcKey+dstKey)
	}
	box, err := a.box(ctx, rt, srcKey+dstKey)
	if err != nil {
		return err
	}
	settle, err := a.borrow(ctx, box)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, settle()) }()
	switch {
	case in && src == "-":
		return box.CopyInTar(ctx, a.stdin, dstPath, o)
	case in:
		return box.CopyIn(ctx, src, dstPath, o)
	case dst == "-":
		return a.copyOutTar(ctx, box, srcPath, o)
	}
	return box.CopyOut(ctx, srcPath, dst, o)
}

func (a *app) copyOutTar(ctx context.Context, box *boxlite.Box, path string, o boxlite.CopyOptions) error {
	if isTerminal(a.stdout) {
		return usagef("a tar stream does not go on a terminal: use > or |")
	}
	r, err := box.CopyOutTar(ctx, path, o)
	if err != nil {
		return err
	}
	_, err = io.Copy(a.stdout, r)
	return errors.Join(err, r.Close())
}

// borrow lets a box that does not run be used. The function it returns stops
// it again.
func (a *app) borrow(ctx context.Context, box *boxlite.Box) (settle func() error, err error) {
	nothing := func() error { return nil }
	info, err := box.Info(ctx)
	if err != nil || active(info.State) {
		return nothing, err
	}
	if len(info.Options.Cmd)+len(info.Options.Entrypoint) > 0 {
		return nothing, fmt.Errorf("box %q is a job and does not run; start it first: %q", box.ID(), "boxlite start "+box.ID())
	}
	return func() error {
		ctx := context.WithoutCancel(ctx)
		if info, err := box.Info(ctx); err != nil || !active(info.State) {
			return err
		}
		return box.Stop(ctx)
	}, nil
}
