package boxlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
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

func ExampleBoxOptions_network() {
	box, err := rt.Create(ctx, boxlite.BoxOptions{
		Image: "python:slim",
		// The package index, a database of this network, and nothing else.
		Network: egress.Policy{Mode: egress.AllowList, Allow: []egress.Rule{
			egress.MustParse("pypi.org:443"),
			egress.MustParse("files.pythonhosted.org:443"),
			egress.MustParse("tcp:10.1.2.3:5432"),
		}},
		// Programs send $BOXLITE_SECRET_OPENAI, and the host gets the value.
		Secrets: []boxlite.Secret{{Name: "openai", Value: os.Getenv("OPENAI_API_KEY"), Hosts: []string{"api.openai.com"}}},
		Ports:   []boxlite.Port{{HostPort: 8080, BoxPort: 80}},
	})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range box.NetworkLog(ctx, boxlite.NetworkLogOptions{Refused: true, Follow: true}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Name, e.Addr, e.Reason)
	}
}

func ExampleBox_DialContext() {
	client := &http.Client{Transport: &http.Transport{DialContext: box.DialContext}}
	response, err := client.Get("http://box:8000/") // whatever host is named, it is the box
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
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

func ExampleBoxOptions_volumes() {
	if _, err := rt.Volumes().Create(ctx, "cache"); err != nil && !errors.Is(err, boxlite.ErrExists) {
		log.Fatal(err)
	}
	box, err := rt.Create(ctx, boxlite.BoxOptions{
		Image: "python:slim",
		Volumes: []boxlite.Volume{
			{Host: "/srv/datasets", Guest: "/data", ReadOnly: true}, // whatever runs in the box
			{Host: "/srv/results/today", Guest: "/results"},
			{Name: "cache", Guest: "/root/.cache"}, // outlasts the box, and may be in several
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(box.ID())
}
