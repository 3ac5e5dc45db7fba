package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// imageView is an image in the output of images.
type imageView struct {
	ID         string     `json:"id"` // digest of the manifest
	Reference  string     `json:"reference"`
	Repository string     `json:"repository"`
	Tag        string     `json:"tag"`
	ConfigID   string     `json:"config_id"`
	Platform   string     `json:"platform"`
	Layers     int        `json:"layers"`
	Size       int64      `json:"size_bytes"`
	CreatedAt  *time.Time `json:"created_at,omitempty"`
	PulledAt   *time.Time `json:"pulled_at,omitempty"`
}

func (a *app) imagesCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "images [OPTIONS]",
		Short:             "List images",
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, _ []string) error {
			list, err := rt.Images().List(cmd.Context())
			if err != nil {
				return err
			}
			var views []imageView
			for _, img := range list {
				if out.quiet {
					fmt.Fprintln(a.stdout, img.Digest)
				}
				views = append(views, viewOfImage(img))
			}
			if out.quiet {
				return nil
			}
			return printList(a.stdout, out.format, views, imageRow, "REPOSITORY", "TAG", "IMAGE ID", "PULLED", "SIZE")
		}),
	}
	out.registerList(cmd)
	return cmd
}

func viewOfImage(i boxlite.Image) imageView {
	v := imageView{
		ID: i.Digest, Reference: i.Ref, ConfigID: i.ConfigDigest, Platform: i.Platform, Layers: i.Layers,
		Size: i.Size, CreatedAt: optional(i.Created), PulledAt: optional(i.Pulled),
	}
	v.Repository, v.Tag = splitRef(i.Ref)
	return v
}

// splitRef splits a reference as users write it. One with a digest has no tag.
func splitRef(ref string) (repository, tag string) {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

func imageRow(t *table, v imageView) {
	pulled := "-"
	if v.PulledAt != nil {
		pulled = ago(*v.PulledAt)
	}
	none := func(s string) string {
		if s == "" {
			return "<none>"
		}
		return s
	}
	t.row(none(v.Repository), none(v.Tag), shortDigest(v.ID), pulled, humanSize(v.Size))
}
