package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// scope is whose spans these are.
const scope = "github.com/boxlite-go/boxlite"

// Tracing makes spans and sends them. Close it, or the last ones are lost. Its
// methods are safe for concurrent use, and never wait for a collector: a queue
// that is full drops spans.
type Tracing struct {
	provider *sdk.TracerProvider
	exporter *exporter
	tracer   trace.Tracer
}

// Open begins to send spans to where c says.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Tracing, error) {
	e, err := newExporter(c, log)
	if err != nil {
		return nil, err
	}
	// What the SDK finds wrong in its variables it tells to the process.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("tracing", slog.Any("err", err))
	}))
	res, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "boxlite"), attribute.String("service.version", boxlite.Version()),
		),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // the last goes before
	)
	if err != nil { // it has what could be read
		log.Warn("tracing: resource", slog.Any("err", err))
	}
	t := &Tracing{exporter: e, provider: sdk.NewTracerProvider(sdk.WithBatcher(e), sdk.WithResource(res))}
	t.tracer = t.provider.Tracer(scope, trace.WithInstrumentationVersion(boxlite.Version()))
	return t, nil
}

// Close sends what is left for as long as ctx lives.
func (t *Tracing) Close(ctx context.Context) error {
	err := t.provider.Shutdown(ctx)
	t.exporter.cancel()
	return err
}

// Step is a [boxlite.Tracer]: steps become spans.
func (t *Tracing) Step(ctx context.Context, step string, begin time.Time, facts ...slog.Attr) (context.Context, func(time.Time, error)) {
	attrs := make([]attribute.KeyValue, len(facts))
	for i, f := range facts {
		attrs[i] = attribute.String("boxlite."+f.Key, f.Value.String())
	}
	ctx, span := t.tracer.Start(ctx, step, trace.WithTimestamp(begin), trace.WithAttributes(attrs...))
	return ctx, func(at time.Time, err error) {
		outcome(span, err)
		span.End(trace.WithTimestamp(at))
	}
}

// maxMessage bounds what a span has of an error, in bytes: guests and
// registries have a say in it.
const maxMessage = 1 << 10

// outcome notes how a step ended. That a command exits with a code is what
// commands do, and that somebody stopped waiting is no failure either.
func outcome(span trace.Span, err error) {
	if err == nil {
		return
	}
	message := err.Error()
	message = strings.ToValidUTF8(message[:min(len(message), maxMessage)], "")
	if exit, ok := errors.AsType[*boxlite.ExitError](err); ok {
		span.SetAttributes(attribute.Int("boxlite.exit_code", exit.Code), attribute.String("boxlite.cause", string(exit.Cause)))
		if exit.Cause == boxlite.CauseExited {
			return
		}
	}
	if errors.Is(err, context.Canceled) {
		span.SetAttributes(attribute.String("boxlite.canceled", message))
		return
	}
	span.SetStatus(codes.Error, message)
}

// Request begins the span of a request, below the one that its traceparent
// names. end is told how it was answered.
func (t *Tracing) Request(r *http.Request, route, id string) (ctx context.Context, end func(status int, err error)) {
	ctx = propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	_, path, _ := strings.Cut(route, " ")
	ctx, span := t.tracer.Start(ctx, route, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("http.route", path),
		attribute.String("url.path", r.URL.Path), attribute.String("boxlite.request_id", id),
	))
	return ctx, func(status int, err error) {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if err != nil && status >= http.StatusInternalServerError {
			outcome(span, err)
		}
		span.End()
	}
}
