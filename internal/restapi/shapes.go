package restapi

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
)

func boxOf(i boxlite.BoxInfo) rest.Box {
	o := i.Options
	terms := termsOf(o.Labels)
	b := rest.Box{
		BoxID: i.ID, Status: string(i.State), CreatedAt: i.Created.UTC(), UpdatedAt: updated(i).UTC(),
		Image: o.Image, CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, Labels: publicLabels(o.Labels),
		AutoStop: terms.stop, AutoDelete: terms.remove, AutoResume: terms.resume, ExitCode: i.ExitCode, Network: networkOf(i),
		Reason: i.Reason, OOMKilled: i.OOM, Engine: i.Engine, Isolation: i.Isolation, ImageDigest: i.ImageDigest,
		DiskSizeGB: o.DiskSizeGB, DiskBytes: i.DiskBytes, Detach: o.Detach, AutoRemove: o.AutoRemove,
		Health: rest.HealthStatus{State: string(i.Health.State), Failures: i.Health.Failures, LastCheck: when(i.Health.LastCheck)},
	}
	if o.Image == "" {
		b.Image = o.Rootfs
	}
	if i.Name != "" {
		b.Name = &i.Name
	}
	if i.PID != 0 {
		b.PID = &i.PID
	}
	b.StartedAt = when(i.Started)
	return b
}

// detailsOf is all that the Go API tells.
func detailsOf(i boxlite.BoxInfo) json.RawMessage {
	i.Options.Labels = publicLabels(i.Options.Labels)
	text, err := json.Marshal(i)
	if err != nil {
		panic(err) // only our own types get here
	}
	return text
}

// when is a time that may not have come.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// updated is the last change of state that is known.
func updated(i boxlite.BoxInfo) time.Time {
	last := i.Created
	for _, t := range []time.Time{i.Started, i.Finished, i.Saved} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// Labels in which the server keeps what the Go API has no field for.
const (
	labelPrefix     = "boxlite.rest/"
	labelAutoStop   = labelPrefix + "auto-stop"
	labelAutoDelete = labelPrefix + "auto-delete"
	labelNoResume   = labelPrefix + "no-auto-resume"
	labelOverNet    = labelPrefix + "over-network" // made by a client that is not the user of the server
)

// publicLabels leaves out the server's own.
func publicLabels(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	for _, own := range []string{labelAutoStop, labelAutoDelete, labelNoResume, labelOverNet} {
		delete(out, own)
	}
	return out
}
