//go:build race

package enginetest

// raceEnabled is whether this program was built with the race detector.
const raceEnabled = true
