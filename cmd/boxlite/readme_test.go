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

// documents have examples.
var documents = []string{"README.md", "docs/network.md"}

// TestReadmeExamplesRun runs the examples of documents that are marked for it,
// in real boxes, each block in a directory of its own, without the boxes of the
// one before.
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
	for _, name := range documents {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", name))
			if err != nil {
				t.Fatal(err)
			}
			runExamples(t, engine, dir, text)
		})
	}
}

func runExamples(t *testing.T, engine, dir string, text []byte) {
	blocks := exampleRE.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("no examples are marked <!-- run -->")
	}
	env := home(t, engine)
	for ref, file := range map[string]string{
		"python:slim": "python-slim.tar", "node:alpine": "node-alpine.tar", "alpine": "alpine.tar",
	} {
		if bytes.Contains(bytes.Join(exampleRE.FindAll(text, -1), nil), []byte(" "+ref)) {
			run(t, env, "load", "-i", filepath.Join(dir, file))
		}
	}
	for _, block := range blocks {
		cmd := exec.Command("sh", "-eux", "-c", string(block[1]))
		cmd.Dir, cmd.Env = t.TempDir(), env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		run(t, env, "rm", "--force", "--all")
	}
}
