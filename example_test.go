package boxlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"time"

	"github.com/boxlite-go/boxlite"
)

var (
	ctx = context.Background()
	rt  *boxlite.Runtime
	box *boxlite.Box
)

func ExampleRuntime_Create() {
	box, err := rt.Create(ctx, boxlite.BoxOptions{
		Image:      "python:slim",
		CPUs:       2,
		MemoryMiB:  1024,
		WorkingDir: "/workspace",
		Security:   boxlite.MaximumSecurity(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer box.Remove(ctx, boxlite.RemoveOptions{Force: true})
	out, err := box.Command(ctx, "python", "-c", "print(6*7)").Output()
	fmt.Println(string(out), err)
}

func ExampleCmd() {
	cmd := box.Command(ctx, "sh", "-c", "exit 3")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Timeout = 30 * time.Second // the box kills it, and all it started
	err := cmd.Run()
	if exit, ok := errors.AsType[*boxlite.ExitError](err); ok {
		fmt.Println(exit.Code, exit.Cause)
	}
}

func ExampleCmd_Wait() {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	cmd := box.Command(ctx, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	if err := cmd.Wait(); errors.Is(err, context.DeadlineExceeded) {
		_ = cmd.Kill() // the context ended the waiting only
	}
}

func ExampleBox_CopyIn() {
	if err := box.CopyIn(ctx, "data", "/workspace/data"); err != nil {
		log.Fatal(err)
	}
	result, err := fs.ReadFile(box.FS(ctx), "workspace/out.json")
	fmt.Println(string(result), err)
}

func ExampleBox_Main() {
	job, err := rt.Create(ctx, boxlite.BoxOptions{
		Image:      "alpine:latest",
		Cmd:        []string{"cat"},
		AutoRemove: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	main := job.Main(ctx)
	main.Stdin, main.Stdout = os.Stdin, os.Stdout
	fmt.Println(main.Run()) // boots the box, runs cat, stops and removes the box
}
