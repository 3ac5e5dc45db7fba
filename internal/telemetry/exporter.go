package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Bounds of an exporter.
const (
	// maxAnswer bounds what is read of a collector's answer, in bytes. All that
	// is of use in it is a number and a message.
	maxAnswer = 64 << 10
	// firstPause is what lies between two attempts at first; each is twice as
	// long as the one before.
	firstPause = 500 * time.Millisecond
)

// exporter sends batches of spans. One batch is under way at a time; those who
// make spans never wait for it.
type exporter struct {
	cfg    Config
	client *http.Client
	log    *slog.Logger
	ctx    context.Context //nolint:containedctx // ends with close
	cancel context.CancelFunc

	mu     sync.Mutex
	failed int // spans lost since the collector last took some
}

func newExporter(c Config, log *slog.Logger) (*exporter, error) {
	tlsConfig, err := c.tls()
	if err != nil {
		return nil, err
	}
	e := &exporter{cfg: c, log: log, client: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, MaxIdleConns: 1,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer,
		},
		// The headers may hold a key, which is for the collector alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// tls is how the collector is trusted, and how it trusts us.
func (c Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities of the collector: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities of the collector: %s has no certificate, PEM", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate for the collector: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}

// ExportSpans implements the SDK's exporter. What cannot be delivered is lost
// and told in the log: once, until something is delivered again.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := encode(spans)
	if err == nil {
		err = e.deliver(ctx, body)
	}
	e.mu.Lock()
	before := e.failed
	e.failed = 0
	if err != nil {
		e.failed = before + len(spans)
	}
	e.mu.Unlock()
	switch {
	case err != nil && before == 0:
		e.log.Warn("spans are not delivered, and lost until they are", slog.Any("err", err))
	case err == nil && before > 0:
		e.log.Info("spans are delivered again", slog.Int("lost", before))
	}
	return nil
}

// Shutdown implements the SDK's exporter.
func (e *exporter) Shutdown(context.Context) error {
	e.cancel()
	e.client.CloseIdleConnections()
	return nil
}

// deliver sends a body, more than once if that may help, for as long as the
// time of a batch.
func (e *exporter) deliver(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	if e.cfg.Gzip {
		body = zipped(body)
	}
	for pause := firstPause; ; pause *= 2 {
		err := e.send(ctx, body)
		again, ok := errors.AsType[*retryable](err)
		if !ok {
			return err
		}
		t := time.NewTimer(max(pause, again.after))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

func zipped(body []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body) // into memory
	_ = w.Close()
	return b.Bytes()
}

// retryable is a failure that may pass.
type retryable struct {
	error
	after time.Duration // what the collector asks for
}

// send makes one attempt.
func (e *exporter) send(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.cfg.Endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for k, v := range e.cfg.Headers {
		r.Header.Set(k, v)
	}
	r.Header.Set("Content-Type", "application/json")
	if e.cfg.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := e.client.Do(r)
	if err != nil {
		return &retryable{error: err}
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what is missing of it is no matter
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a date, or none, is 0
		return &retryable{fmt.Errorf("the collector answers %s", resp.Status), time.Duration(min(max(seconds, 0), 3600)) * time.Second}
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return rejected(answer)
	}
	return fmt.Errorf("the collector answers %s: %.200q", resp.Status, answer)
}

// rejected is what a collector that took a batch did not take of it. An answer
// that is not as it should be says nothing.
func rejected(answer []byte) error {
	var a struct {
		PartialSuccess struct {
			RejectedSpans json.Number `json:"rejectedSpans"`
			ErrorMessage  string      `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(answer, &a) != nil {
		return nil
	}
	if n, _ := a.PartialSuccess.RejectedSpans.Int64(); n > 0 {
		return fmt.Errorf("the collector refuses %d spans: %.200q", n, a.PartialSuccess.ErrorMessage)
	}
	return nil
}
