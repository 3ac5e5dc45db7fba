package telemetry

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// The shapes of OTLP in JSON: ids in hexadecimal, enumerations as numbers, and
// numbers of 64 bits as strings.

type otlpRequest struct {
	ResourceSpans []otlpResource `json:"resourceSpans"`
}

type otlpResource struct {
	Resource struct {
		Attributes []otlpAttr `json:"attributes"`
	} `json:"resource"`
	ScopeSpans []otlpScope `json:"scopeSpans"`
}

type otlpScope struct {
	Scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	} `json:"scope"`
	Spans []otlpSpan `json:"spans"`
}

type otlpSpan struct {
	TraceID    string     `json:"traceId"`
	SpanID     string     `json:"spanId"`
	Parent     string     `json:"parentSpanId,omitempty"`
	TraceState string     `json:"traceState,omitempty"`
	Flags      uint32     `json:"flags"`
	Name       string     `json:"name"`
	Kind       int        `json:"kind"`
	Start      string     `json:"startTimeUnixNano"`
	End        string     `json:"endTimeUnixNano"`
	Attributes []otlpAttr `json:"attributes,omitempty"`
	Dropped    int        `json:"droppedAttributesCount,omitempty"`
	Status     otlpStatus `json:"status"`
}

type otlpStatus struct {
	Code    int    `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

type otlpAttr struct {
	Key   string    `json:"key"`
	Value otlpValue `json:"value"`
}

// otlpValue has one of its fields.
type otlpValue struct {
	String *string    `json:"stringValue,omitempty"`
	Bool   *bool      `json:"boolValue,omitempty"`
	Int    *string    `json:"intValue,omitempty"`
	Double any        `json:"doubleValue,omitempty"`
	Array  *otlpArray `json:"arrayValue,omitempty"`
}

type otlpArray struct {
	Values []otlpValue `json:"values"`
}

// encode makes the body that takes spans to a collector. They are of one
// provider, so their resource is the same.
func encode(spans []sdk.ReadOnlySpan) ([]byte, error) {
	var r otlpResource
	r.Resource.Attributes = attrsOf(spans[0].Resource().Attributes())
	at := map[string]int{}
	for _, s := range spans {
		scope := s.InstrumentationScope()
		i, ok := at[scope.Name]
		if !ok {
			i = len(r.ScopeSpans)
			at[scope.Name] = i
			var o otlpScope
			o.Scope.Name, o.Scope.Version = scope.Name, scope.Version
			r.ScopeSpans = append(r.ScopeSpans, o)
		}
		r.ScopeSpans[i].Spans = append(r.ScopeSpans[i].Spans, spanOf(s))
	}
	return json.Marshal(otlpRequest{[]otlpResource{r}})
}

func spanOf(s sdk.ReadOnlySpan) otlpSpan {
	c := s.SpanContext()
	o := otlpSpan{
		TraceID: c.TraceID().String(), SpanID: c.SpanID().String(), TraceState: c.TraceState().String(),
		Flags: uint32(c.TraceFlags()), Name: s.Name(), Kind: int(s.SpanKind()),
		Start: nanos(s.StartTime()), End: nanos(s.EndTime()),
		Attributes: attrsOf(s.Attributes()), Dropped: s.DroppedAttributes(),
	}
	if p := s.Parent(); p.SpanID().IsValid() {
		o.Parent = p.SpanID().String()
	}
	switch st := s.Status(); st.Code { // the wire counts them in another order
	case codes.Ok:
		o.Status = otlpStatus{Code: 1}
	case codes.Error:
		o.Status = otlpStatus{2, st.Description}
	}
	return o
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func attrsOf(attrs []attribute.KeyValue) []otlpAttr {
	out := make([]otlpAttr, len(attrs))
	for i, a := range attrs {
		out[i] = otlpAttr{string(a.Key), valueOf(a.Value)}
	}
	return out
}

func valueOf(v attribute.Value) otlpValue {
	switch v.Type() {
	case attribute.BOOL:
		b := v.AsBool()
		return otlpValue{Bool: &b}
	case attribute.INT64:
		n := strconv.FormatInt(v.AsInt64(), 10)
		return otlpValue{Int: &n}
	case attribute.FLOAT64:
		return otlpValue{Double: double(v.AsFloat64())}
	case attribute.STRINGSLICE:
		list := otlpArray{Values: []otlpValue{}}
		for _, s := range v.AsStringSlice() {
			list.Values = append(list.Values, otlpValue{String: &s})
		}
		return otlpValue{Array: &list}
	}
	s := v.String()
	return otlpValue{String: &s}
}

// double is a number, or the name that the mapping to JSON has for one that
// JSON lacks.
func double(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return f
}
