// Package agent is the in-box side of the guest protocol: it runs commands,
// keeps their output, ends them with all they started, and moves files.
//
// In a box it is PID 1 and reaps whatever is left. The host hands it streams
// as descriptors over a control socket; the end of that socket ends it.
//
// The way of output: a pump takes it from the command's pipe or terminal to a
// ring, which keeps the last bytes by offset; followers take it from there to
// their streams. A follower that loses nothing holds up the ring, and so the
// pump, the pipe and the command.
package agent
