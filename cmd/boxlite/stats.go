package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

const (
	// statsEvery is the time between two lines of a stream.
	statsEvery = time.Second
	// statsSample is how long the processor is watched for a single line. It
	// must be many ticks of the host's accounting, which are 10 ms.
	statsSample = 200 * time.Millisecond
)

// statsView is a running box in the output of stats.
type statsView struct {
	ID            string  `json:"id"`
	Name          string  `json:"name"`
	CPUPercent    float64 `json:"cpu_percent"` // of one processor, lately
	CPUSeconds    float64 `json:"cpu_seconds"` // since the start
	Memory        int64   `json:"memory_bytes"`
	MemoryLimit   int64   `json:"memory_limit_bytes"`
	Executions    int     `json:"executions"`
	OOMKills      int64   `json:"oom_kills"`
	UptimeSeconds float64 `json:"uptime_seconds"`

	NetworkSent        int64 `json:"network_sent_bytes"`
	NetworkReceived    int64 `json:"network_received_bytes"`
	NetworkConnections int64 `json:"network_connections"` // since the start
	NetworkOpen        int64 `json:"network_open"`        // now
	NetworkRefused     int64 `json:"network_refused"`
	NetworkLookups     int64 `json:"network_lookups"`
}

func (a *app) statsCommand() *cobra.Command {
	var (
		out    output
		stream bool
	)
	cmd := &cobra.Command{
		Use:               "stats [OPTIONS] BOX",
		Short:             "Show what a running box uses",
		Args:              exactly(1, "BOX"),
		ValidArgsFunction: a.completeOneBox,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			box, err := a.box(cmd.Context(), rt, args[0])
			if err != nil {
				return err
			}
			if stream {
				return a.streamStats(cmd.Context(), box, out.format)
			}
			before, err := box.Stats(cmd.Context())
			if err != nil {
				return err
			}
			_, v, err := nextStats(cmd.Context(), box, before, time.After(statsSample))
			if err != nil {
				return err
			}
			return printList(a.stdout, out.format, []statsView{v}, statsRow, statsHeader...)
		}),
	}
	out.register(cmd, "table")
	cmd.Flags().BoolVarP(&stream, "stream", "s", false, "go on every second until the box ends")
	return cmd
}

var statsHeader = []string{"ID", "NAME", "CPU %", "MEMORY / LIMIT", "MEMORY %", "EXECUTIONS", "OOM KILLS", "SENT / RECEIVED", "REFUSED", "UP"}

func (a *app) streamStats(ctx context.Context, box *boxlite.Box, format string) error {
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	s, err := box.Stats(ctx)
	for first := true; err == nil; first = false {
		var v statsView
		if s, v, err = nextStats(ctx, box, s, tick.C); err == nil {
			err = a.printStats(format, v, first)
			continue
		}
		if info, e := box.Info(ctx); errors.Is(e, boxlite.ErrNotFound) || e == nil && !active(info.State) {
			return nil // it has ended, and so has the stream
		}
	}
	return err
}

// printStats prints one item of a stream: the header once, JSON in a line.
func (a *app) printStats(format string, v statsView, first bool) error {
	switch {
	case format == "json":
		return json.NewEncoder(a.stdout).Encode(v)
	case format != "table" || first:
		return printList(a.stdout, format, []statsView{v}, statsRow, statsHeader...)
	}
	var b bytes.Buffer
	if err := printList(&b, format, []statsView{v}, statsRow, statsHeader...); err != nil {
		return err
	}
	_, line, _ := bytes.Cut(b.Bytes(), []byte("\n"))
	_, err := a.stdout.Write(line)
	return err
}

// nextStats waits and tells what was used since before.
func nextStats(ctx context.Context, box *boxlite.Box, before boxlite.Stats, wait <-chan time.Time) (boxlite.Stats, statsView, error) {
	select {
	case <-wait:
	case <-ctx.Done():
		return before, statsView{}, context.Cause(ctx)
	}
	s, err := box.Stats(ctx)
	v := statsView{
		ID: box.ID(), Name: box.Name(), CPUSeconds: s.CPU.Seconds(), Memory: s.Memory, MemoryLimit: s.MemoryLimit,
		Executions: s.Executions, OOMKills: s.OOMKills, UptimeSeconds: s.Uptime.Seconds(),
		NetworkSent: s.Network.Sent, NetworkReceived: s.Network.Received, NetworkConnections: s.Network.Connections,
		NetworkOpen: s.Network.Open, NetworkRefused: s.Network.Refused, NetworkLookups: s.Network.Lookups,
	}
	if d := s.Uptime - before.Uptime; d > 0 {
		v.CPUPercent = 100 * float64(s.CPU-before.CPU) / float64(d)
	}
	return s, v, err
}

func statsRow(t *table, v statsView) {
	percent := "-"
	if v.MemoryLimit > 0 {
		percent = fmt.Sprintf("%.1f%%", 100*float64(v.Memory)/float64(v.MemoryLimit))
	}
	t.row(v.ID, orDash(v.Name), fmt.Sprintf("%.1f%%", v.CPUPercent),
		humanMemory(v.Memory)+" / "+humanMemory(v.MemoryLimit), percent,
		fmt.Sprint(v.Executions), fmt.Sprint(v.OOMKills),
		humanSize(v.NetworkSent)+" / "+humanSize(v.NetworkReceived), fmt.Sprint(v.NetworkRefused), humanDuration(time.Duration(v.UptimeSeconds*float64(time.Second))))
}
