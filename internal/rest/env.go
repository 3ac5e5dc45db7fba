package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Env is an environment as KEY=value, on the wire an object whose order is
// kept.
type Env []string

// MarshalJSON writes the object.
func (e Env) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, kv := range e {
		if i > 0 {
			b.WriteByte(',')
		}
		key, value, _ := strings.Cut(kv, "=")
		for j, s := range []string{key, value} {
			text, err := json.Marshal(s)
			if err != nil {
				return nil, err
			}
			b.Write(text)
			if j == 0 {
				b.WriteByte(':')
			}
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads it.
func (e *Env) UnmarshalJSON(text []byte) error {
	*e = nil
	dec := json.NewDecoder(bytes.NewReader(text))
	t, err := dec.Token()
	if err != nil || t == nil { // null
		return err
	}
	if t != json.Delim('{') {
		return &json.UnmarshalTypeError{Value: kindOf(t), Type: reflect.TypeFor[map[string]string]()}
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		value, err := dec.Token()
		if err != nil {
			return err
		}
		s, ok := value.(string)
		if !ok {
			return &json.UnmarshalTypeError{Value: kindOf(value), Type: reflect.TypeFor[string]()}
		}
		*e = append(*e, fmt.Sprintf("%s=%s", key, s))
	}
	return nil
}

// kindOf is what JSON calls the type of a token.
func kindOf(t json.Token) string {
	switch t := t.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "bool"
	case json.Delim:
		if t == '[' {
			return "array"
		}
		return "object"
	}
	return "number"
}
