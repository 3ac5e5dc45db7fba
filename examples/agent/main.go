// Agent runs Python that a model wrote, which nobody has read, with a limit on
// its time, and takes what it made.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/gvisor"
)

const code = `
import json
print("working")
json.dump({"answer": 6 * 7}, open("/workspace/out.json", "w"))
`

func main() {
	engine := gvisor.New(gvisor.Options{})
	boxlite.RunHelper(engine)
	if err := run(context.Background(), engine); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, engine boxlite.Engine) (err error) {
	rt, err := boxlite.Open(ctx, boxlite.Config{Engine: engine, Home: os.Getenv("BOXLITE_HOME")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	box, err := rt.Create(ctx, boxlite.BoxOptions{
		Image:      "python:slim",
		MemoryMiB:  1024,
		WorkingDir: "/workspace",
		Security:   boxlite.MaximumSecurity(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Remove(ctx, boxlite.RemoveOptions{Force: true})) }()

	if err := box.WriteFile(ctx, "/workspace/job.py", []byte(code), 0o644); err != nil {
		return err
	}
	cmd := box.Command(ctx, "python", "job.py")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Timeout = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return err
	}
	out, err := box.ReadFile(ctx, "/workspace/out.json")
	if err == nil {
		fmt.Println(string(out))
	}
	return err
}
