package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite/internal/pattern"
)

// parseBytes reads a size: a number of units, or with b, k, m, g, t (powers of
// 1024) behind it, as docker takes them: 512m, 2g, 1.5GiB.
func parseBytes(s string, unit int64) (int64, error) {
	m := sizeRE.FindStringSubmatch(strings.ToLower(s))
	if m == nil {
		return 0, fmt.Errorf("%q is not a size; write 512m or 2g", s)
	}
	if suffix := m[2]; suffix != "" {
		unit = 1
		if i := strings.IndexByte("bkmgt", suffix[0]); i > 0 {
			unit <<= 10 * i
		}
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil || v*float64(unit) >= 1<<62 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return int64(v * float64(unit)), nil
}

var sizeRE = pattern.New(`^([0-9]+(?:\.[0-9]+)?)(b|[kmgt](?:i?b)?)?$`)

// parseSeconds reads a time: a number of seconds, or as in 90s, 15m, 2h.
func parseSeconds(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a time; write seconds, or 30s, 15m, 2h", s)
	}
	return d, nil
}

// value is a flag that is parsed by a function. It implements pflag.Value.
type value struct {
	kind string // shown in the help
	text string
	set  func(string) error
}

func (v *value) String() string { return v.text }

func (v *value) Type() string { return v.kind }

func (v *value) Set(s string) error {
	if err := v.set(s); err != nil {
		return err
	}
	v.text = s
	return nil
}

// number is a flag within bounds. An explicit zero is out of them, unlike the
// zero of a flag that was not given.
func number(to *int, name string, lo, hi int, parse func(string) (int64, error)) *value {
	return &value{kind: name, set: func(s string) error {
		n, err := parse(s)
		if err != nil {
			return err
		}
		if n < int64(lo) || n > int64(hi) {
			return fmt.Errorf("give %d to %d", lo, hi)
		}
		*to = int(n)
		return nil
	}}
}

func parseInt(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, errors.New("not a whole number")
	}
	return n, nil
}

// parseMiB reads a size in MiB, or with a unit.
func parseMiB(s string) (int64, error) {
	n, err := parseBytes(s, 1<<20)
	return n >> 20, err
}

// parseGB reads a size in units of 1e9 bytes. A unit behind it is for those
// who are used to write one.
func parseGB(s string) (int64, error) {
	return parseInt(strings.TrimRight(s, "gGbB"))
}

func seconds(to *time.Duration) *value {
	return &value{kind: "DURATION", set: func(s string) (err error) {
		*to, err = parseSeconds(s)
		return err
	}}
}

// span is a flag that takes a time within bounds.
func span(to *time.Duration, lo, hi time.Duration) *value {
	return &value{kind: "DURATION", set: func(s string) error {
		d, err := parseSeconds(s)
		if err != nil {
			return err
		}
		if d < lo || d > hi {
			return fmt.Errorf("give %v to %v", lo, hi)
		}
		*to = d
		return nil
	}}
}

// interval is a flag that takes a time span or "off", which is a negative one.
func interval(to *time.Duration) *value {
	return &value{kind: "DURATION", set: func(s string) (err error) {
		if s == "off" {
			*to = -1
			return nil
		}
		if *to, err = parseSeconds(s); err == nil && *to <= 0 {
			return errors.New("give a time, or off")
		}
		return err
	}}
}

func bytesValue(to *int64) *value {
	return &value{kind: "SIZE", set: func(s string) (err error) {
		*to, err = parseBytes(s, 1)
		return err
	}}
}

// humanSize writes bytes for people, as docker does.
func humanSize(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%dB", n)
	}
	v, i := float64(n)/1000, 0
	for ; v >= 999.5 && i < len(units)-1; i++ {
		v /= 1000
	}
	return fmt.Sprintf("%.3g%cB", v, units[i])
}

// humanMemory writes bytes in powers of 1024, as memory is bought.
func humanMemory(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2fGiB", float64(n)/(1<<30))
}

// humanDuration writes a time span for people: one number, one unit.
func humanDuration(d time.Duration) string {
	for _, u := range []struct {
		span time.Duration
		name string
	}{
		{365 * 24 * time.Hour, "year"},
		{30 * 24 * time.Hour, "month"},
		{7 * 24 * time.Hour, "week"},
		{24 * time.Hour, "day"},
		{time.Hour, "hour"},
		{time.Minute, "minute"},
		{time.Second, "second"},
	} {
		switch n := int(d / u.span); {
		case n == 1:
			return "1 " + u.name
		case n > 1:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a second"
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return humanDuration(time.Since(t)) + " ago"
}
