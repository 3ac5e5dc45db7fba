package main

import (
	"fmt"
	"os"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) importCommand() *cobra.Command {
	var (
		c               boxlite.ImageConfig
		entrypoint, run string
	)
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] FILE|- IMAGE",
		Short: "Make an image from a tar of a root file system",
		Long:  "Make an image from a tar of a root file system, plain or compressed.",
		Example: `  boxlite import --cmd '["sh", "-l"]' rootfs.tar.gz mine:latest
  tar c -C rootfs . | boxlite import - mine:latest`,
		Args: exactly(2, "FILE and IMAGE"),
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) (err error) {
			if c.Entrypoint, err = words(entrypoint); err != nil {
				return usagef("--entrypoint: %w", err)
			}
			if c.Cmd, err = words(run); err != nil {
				return usagef("--cmd: %w", err)
			}
			r, err := a.input(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			img, err := rt.Images().Import(cmd.Context(), r, args[1], c)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "Imported: %s\nDigest: %s\n", img.Ref, img.Digest)
			return nil
		}),
	}
	fs := cmd.Flags()
	fs.StringVar(&entrypoint, "entrypoint", "", "entrypoint: a `PROGRAM`, or a JSON array")
	fs.StringVar(&run, "cmd", "", "command: a `PROGRAM`, or a JSON array")
	fs.StringArrayVarP(&c.Env, "env", "e", nil, "environment, `KEY=VALUE`; repeat")
	fs.StringVarP(&c.WorkingDir, "workdir", "w", "", "working `DIR`")
	fs.StringVarP(&c.User, "user", "u", "", "`USER`")
	return cmd
}

// input opens a file, or standard input for "-". The caller closes it.
func (a *app) input(path string) (*os.File, error) {
	if path != "-" {
		return os.Open(path)
	}
	if isTerminal(a.stdin) {
		return nil, usagef("standard input is a terminal: name a file, or use <")
	}
	return a.stdin, nil
}
