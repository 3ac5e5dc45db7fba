package telemetry

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config says where spans go, and how.
type Config struct {
	Endpoint string            // URL that takes traces
	Headers  map[string]string // of each request; they may hold a key
	Timeout  time.Duration     // of one batch, with all its attempts
	Gzip     bool
	CAFile   string // authorities that the collector is trusted by; empty: those of the host
	CertFile string // with KeyFile: who we are
	KeyFile  string
}

// defaultTimeout is what the specification of OTLP has.
const defaultTimeout = 10 * time.Second

// defaultEndpoint is where a collector on this machine listens.
const defaultEndpoint = "http://localhost:4318"

// FromEnv reads the variables of OpenTelemetry that say where traces go. Those
// for traces alone go before those for all signals. on is false when nothing
// asks for traces: no endpoint and no OTEL_TRACES_EXPORTER, or they are turned
// off. How much is sampled, batched and kept, and what the resource is, the SDK
// reads itself.
func FromEnv(getenv func(string) string) (c Config, on bool, err error) {
	e := env{getenv}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return c, false, nil
	}
	exporter := getenv("OTEL_TRACES_EXPORTER")
	switch exporter {
	case "none":
		return c, false, nil
	case "", "otlp":
	default:
		return c, false, fmt.Errorf("OTEL_TRACES_EXPORTER %.40q: this server knows otlp and none", exporter)
	}
	all, traces := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if all == "" && traces == "" && exporter == "" {
		return c, false, nil
	}
	if err := e.protocol(); err != nil {
		return c, false, err
	}
	if c.Endpoint, err = endpoint(all, traces); err != nil {
		return c, false, err
	}
	if c.Headers, err = e.headers(); err != nil {
		return c, false, err
	}
	if c.Timeout, err = e.timeout(); err != nil {
		return c, false, err
	}
	if c.Gzip, err = e.compression(); err != nil {
		return c, false, err
	}
	_, c.CAFile = e.get("CERTIFICATE")
	_, c.CertFile = e.get("CLIENT_CERTIFICATE")
	_, c.KeyFile = e.get("CLIENT_KEY")
	return c, true, nil
}

// env looks up variables of the exporter.
type env struct{ getenv func(string) string }

// get returns the variable of that end for traces, or for all signals.
func (e env) get(end string) (name, value string) {
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"} {
		name = prefix + end
		if value = strings.TrimSpace(e.getenv(name)); value != "" {
			return name, value
		}
	}
	return name, ""
}

// protocol refuses what is not HTTP. A collector that takes protobuf over HTTP
// takes JSON at the same place.
func (e env) protocol() error {
	name, v := e.get("PROTOCOL")
	if !slices.Contains([]string{"", "http/json", "http/protobuf"}, v) {
		return fmt.Errorf("%s %.40q: this server speaks http/json; give that, and the port of the collector for HTTP, commonly 4318", name, v)
	}
	return nil
}

// endpoint is where traces go: a place for them alone as it is, one for all
// signals with the path that the specification adds.
func endpoint(all, traces string) (string, error) {
	name, v := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces
	if v == "" {
		name, v = "OTEL_EXPORTER_OTLP_ENDPOINT", all
	}
	if v == "" {
		v = defaultEndpoint
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%s: give the URL of a collector, as %s", name, defaultEndpoint) // it may hold a password
	}
	if traces == "" {
		u = u.JoinPath("v1", "traces")
	}
	return u.String(), nil
}

// headers are key=value, separated by commas, each percent-encoded.
func (e env) headers() (map[string]string, error) {
	name, v := e.get("HEADERS")
	out := map[string]string{}
	for n, pair := range strings.Split(v, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || key == "" || err != nil || strings.ContainsAny(key, ": \r\n\x00") || strings.ContainsAny(value, "\r\n\x00") {
			return nil, fmt.Errorf("%s: entry %d is not KEY=VALUE, percent-encoded", name, n+1) // it may be a secret
		}
		out[key] = value
	}
	return out, nil
}

func (e env) timeout() (time.Duration, error) {
	name, v := e.get("TIMEOUT")
	if v == "" {
		return defaultTimeout, nil
	}
	ms, err := strconv.Atoi(v)
	if err != nil || ms <= 0 || ms > int(time.Hour/time.Millisecond) {
		return 0, fmt.Errorf("%s %.40q: give milliseconds", name, v)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func (e env) compression() (bool, error) {
	name, v := e.get("COMPRESSION")
	switch v {
	case "", "none":
		return false, nil
	case "gzip":
		return true, nil
	}
	return false, fmt.Errorf("%s %.40q: there are gzip and none", name, v)
}
