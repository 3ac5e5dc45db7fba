package main

import (
	"context"
	"slices"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// complete asks the runtime. A home that cannot be opened completes to
// nothing: a shell is no place for an error.
func (a *app) complete(cmd *cobra.Command, find func(context.Context, *boxlite.Runtime) []string) ([]string, cobra.ShellCompDirective) {
	rt, err := a.open(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer rt.Close()
	return find(cmd.Context(), rt), cobra.ShellCompDirectiveNoFileComp
}

// boxKeys are the names of boxes, or the ids of those that have none.
func boxKeys(ctx context.Context, rt *boxlite.Runtime) []string {
	infos, _ := rt.Boxes(ctx)
	var keys []string
	for _, i := range infos {
		key := i.Name
		if key == "" {
			key = i.ID
		}
		keys = append(keys, key+"\t"+imageName(i.Options)+", "+string(i.State))
	}
	return keys
}

func imageRefs(ctx context.Context, rt *boxlite.Runtime) []string {
	list, _ := rt.Images().List(ctx)
	var refs []string
	for _, i := range list {
		if i.Ref != "" {
			refs = append(refs, i.Ref)
		}
	}
	return refs
}

func (a *app) completeBoxes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	keys, directive := a.complete(cmd, boxKeys)
	return without(keys, args), directive
}

func (a *app) completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	refs, directive := a.complete(cmd, imageRefs)
	return without(refs, args), directive
}

// completeOneBox completes the first argument; what follows is a command.
func (a *app) completeOneBox(cmd *cobra.Command, args []string, s string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeBoxes(cmd, args, s)
}

// completeImage is completeOneBox for an image.
func (a *app) completeImage(cmd *cobra.Command, args []string, s string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeImages(cmd, args, s)
}

func (a *app) completeExecution(cmd *cobra.Command, args []string, s string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return a.completeOneBox(cmd, args, s)
	}
	return a.complete(cmd, func(ctx context.Context, rt *boxlite.Runtime) (ids []string) {
		box, err := rt.Box(ctx, args[0])
		if err != nil {
			return nil
		}
		list, _ := box.Executions(ctx)
		for _, x := range list {
			ids = append(ids, x.ID+"\t"+oneLine(strings.Join(x.Args, " ")))
		}
		return ids
	})
}

// completeCopy completes BOX: for either side, beside paths here.
func (a *app) completeCopy(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if strings.ContainsAny(toComplete, ":/.") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	keys, _ := a.complete(cmd, boxKeys)
	for i, k := range keys {
		name, note, _ := strings.Cut(k, "\t")
		keys[i] = name + ":\t" + note
	}
	return keys, cobra.ShellCompDirectiveNoSpace
}

// without leaves out what is on the command line already.
func without(list, args []string) []string {
	return slices.DeleteFunc(list, func(s string) bool {
		key, _, _ := strings.Cut(s, "\t")
		return slices.Contains(args, key)
	})
}
