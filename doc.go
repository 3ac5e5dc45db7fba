// Package boxlite runs untrusted commands in boxes: OCI images behind an
// isolation boundary of their own. It is a library; it needs no daemon and no
// root.
//
//	rt, err := boxlite.Open(ctx, boxlite.Config{Engine: gvisor.New(gvisor.Options{})})
//	box, err := rt.Create(ctx, boxlite.BoxOptions{Image: "python:slim"})
//	out, err := box.Command(ctx, "python", "-c", "print(6*7)").Output()
//
// A program that passes an engine hosts its boxes itself and must call
// [RunHelper] first in main, because boxlite starts the program again as the
// process that owns a box. A program that leaves Config.Engine nil drives an
// installed boxlite binary instead, and stays small.
//
// [Connect] gives the runtime of a server instead, to be used in the same way.
//
// The environment of the calling process is never seen in a box.
package boxlite
