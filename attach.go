package boxlite

// AttachOptions say from where to follow an execution. The zero value replays
// all that is kept, and loses nothing from then on.
type AttachOptions struct {
	// StdoutFrom and StderrFrom are offsets in the whole of each output, for
	// one who has what comes before. An offset that has not been reached yet
	// counts as the end.
	StdoutFrom, StderrFrom int64

	// Lossy lets a slow reader fall behind and miss output. Otherwise it holds
	// up the command.
	Lossy bool

	// Gap, if set, is told of output that is no longer kept: bytes from one
	// offset to another. It is called by the goroutine that writes to Stdout
	// and Stderr, at the place where they are missing.
	Gap func(stderr bool, from, to int64)
}

func attachOption(o []AttachOptions) AttachOptions {
	if len(o) > 0 {
		return o[0]
	}
	return AttachOptions{}
}
