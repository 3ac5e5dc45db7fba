package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// imagesEnv names the directory of the images that "make images" makes.
const imagesEnv = "BOXLITE_TEST_IMAGES"

var exampleRE = regexp.MustCompile("(?s)<!-- run -->\n```sh\n(.*?)```")

// TestReadmeExamplesRun runs the examples of the README that are marked for
// it, in real boxes, each block in a directory of its own.
func TestReadmeExamplesRun(t *testing.T) {
	on(t, func(t *testing.T, engine string) {
		if engine != "gvisor" {
			t.Skip("needs real boxes")
		}
		testReadme(t, engine)
	})
}

func testReadme(t *testing.T, engine string) {
	dir := os.Getenv(imagesEnv)
	if dir == "" {
		t.Skipf("needs images: make images, and %s", imagesEnv)
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := exampleRE.FindAllSubmatch(readme, -1)
	if len(blocks) == 0 {
		t.Fatal("README.md has no examples marked <!-- run -->")
	}
	env := home(t, engine)
	for ref, file := range map[string]string{
		"python:slim": "python-slim.tar", "node:alpine": "node-alpine.tar", "alpine:latest": "alpine.tar",
	} {
		if bytes.Contains(bytes.Join(exampleRE.FindAll(readme, -1), nil), []byte(ref)) {
			run(t, env, "load", "-i", filepath.Join(dir, file))
		}
	}
	for _, block := range blocks {
		cmd := exec.Command("sh", "-eux", "-c", string(block[1]))
		cmd.Dir, cmd.Env = t.TempDir(), env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
