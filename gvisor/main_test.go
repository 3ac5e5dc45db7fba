package gvisor_test

import (
	"os"
	"testing"

	"github.com/boxlite-go/boxlite/gvisor"
)

func TestMain(m *testing.M) {
	gvisor.New(gvisor.Options{}).RunHelper()
	os.Exit(m.Run())
}
