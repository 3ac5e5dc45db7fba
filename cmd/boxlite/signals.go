package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signals hands SIGINT, SIGTERM and SIGHUP to one function: at first to one
// that ends the context of the command, later to whoever diverts them.
type signals struct {
	ch   chan os.Signal
	done chan struct{}

	mu      sync.Mutex
	handler func(syscall.Signal)
}

// watchSignals starts to listen. The first signal cancels with a
// [signalError], the second ends the process. Call stop at the end.
func watchSignals(cancel context.CancelCauseFunc) *signals {
	s := &signals{ch: make(chan os.Signal, 8), done: make(chan struct{})}
	var asked bool
	s.handler = func(sig syscall.Signal) {
		if asked {
			os.Exit(128 + int(sig))
		}
		asked = true
		cancel(signalError(sig))
	}
	signal.Notify(s.ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// Ends when stop closes ch.
	go func() {
		defer close(s.done)
		for sig := range s.ch {
			s.current()(sig.(syscall.Signal))
		}
	}()
	return s
}

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.ch)
	<-s.done
}

func (s *signals) current() func(syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handler
}

// divert hands signals to h until the function it returns is called.
func (s *signals) divert(h func(syscall.Signal)) (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.handler
	s.handler = h
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.handler = before
	}
}
