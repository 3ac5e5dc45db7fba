package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// MaxJSON is the largest JSON body that is read, in bytes: twice what the
// arguments and environment of a command may take.
const MaxJSON = 2 << 20

// bodyTimeout is how long a JSON body may take to arrive. It is far more than
// the largest takes on a slow line.
const bodyTimeout = 30 * time.Second

// writeTimeout is how long a client may take to read a JSON answer.
const writeTimeout = 30 * time.Second

// Decode reads the JSON body of a request into v. Unknown fields, wrong types
// and trailing bytes are refused by name. An empty body leaves v as it is when
// optional says that it may be.
func Decode(w http.ResponseWriter, r *http.Request, v any, optional ...bool) error {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // not all servers have one
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxJSON))
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return err
		}
		return &Error{Kind: InvalidArgument, Message: "the body did not arrive: " + err.Error(), Err: err}
	}
	if len(bytes.TrimSpace(body)) == 0 && len(optional) > 0 && optional[0] {
		return nil
	}
	return DecodeBytes(body, v)
}

// DecodeBytes is Decode of a body that has been read.
func DecodeBytes(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonError(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return InvalidArgument.Errorf("the body has more after its JSON value")
	}
	return nil
}

// jsonError says which field is wrong and why.
func jsonError(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := t.Field
		if field == "" {
			field = "the body"
		}
		return InvalidArgument.Errorf("%s: got a JSON %s, want %s", field, t.Value, jsonType(t.Type.Kind().String()))
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return InvalidArgument.Errorf("malformed JSON at byte %d: %v", s.Offset, s)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return InvalidArgument.Errorf("malformed JSON: it ends too early")
	}
	return InvalidArgument.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
}

// jsonType is what JSON calls a type of Go.
func jsonType(kind string) string {
	switch {
	case kind == "struct" || kind == "map":
		return "an object"
	case kind == "slice":
		return "an array"
	case kind == "bool":
		return "true or false"
	case kind == "string":
		return "a string"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	}
	return "a whole number in range"
}

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own types get here
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}
