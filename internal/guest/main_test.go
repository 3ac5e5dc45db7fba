package guest_test

import (
	"os"
	"testing"

	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.CheckLeaks(m)) }
