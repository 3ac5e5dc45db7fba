// Package telemetry makes OpenTelemetry spans of what a server does, and sends
// them to a collector as OTLP over HTTP, in JSON. It is set up by the usual
// OTEL_ variables; without an endpoint nothing of it runs.
//
// The spans are the official SDK's; the exporter is ours, since theirs brings
// gRPC and generated messages for three times the weight. See docs/adr/0017.
package telemetry
