// Package resttest judges what a REST server says by api/openapi.yaml: a
// judge between server and clients reads along, and tells what the document
// does not say. It is for tests.
package resttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// Judge compares requests and answers with a document. It is safe for
// concurrent use.
type Judge struct {
	doc   *openapi3.T
	mux   *http.ServeMux
	paths map[string]string // of the document, by pattern of mux

	mu     sync.Mutex
	seen   map[string]bool // operations that have done what they can
	faults map[string]bool
}

// Open reads a document. Objects in it have no fields but those described,
// also where it does not say so: what is served should be described.
func Open(file string) (*Judge, error) {
	doc, err := openapi3.NewLoader().LoadFromFile(file)
	if err != nil {
		return nil, err
	}
	for _, s := range doc.Components.Schemas {
		seal(s)
	}
	j := &Judge{doc: doc, mux: http.NewServeMux(), paths: map[string]string{}, seen: map[string]bool{}, faults: map[string]bool{}}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			// The reference of an image has slashes in it.
			pattern := method + " " + strings.Replace(path, "{ref}", "{ref...}", 1)
			j.paths[pattern] = path
			j.mux.Handle(pattern, http.NotFoundHandler())
		}
	}
	return j, nil
}

// seal closes an object that has fields, and those in it.
func seal(ref *openapi3.SchemaRef) {
	if ref == nil || ref.Ref != "" {
		return
	}
	s := ref.Value
	if len(s.Properties) > 0 && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties.Has = &no
	}
	seal(s.Items)
	for _, p := range s.Properties {
		seal(p)
	}
}

// Exchange is one request and its answer. Bodies that are nil are not looked
// at.
type Exchange struct {
	Method   string
	URL      *url.URL
	Request  []byte
	Status   int
	Header   http.Header // of the answer
	Response []byte
}

// Check judges an exchange.
func (j *Judge) Check(x Exchange) {
	_, pattern := j.mux.Handler(&http.Request{Method: x.Method, URL: x.URL, Host: "localhost"})
	path, ok := j.paths[pattern]
	if !ok {
		if x.Status < http.StatusBadRequest {
			j.fault("%s %s: answered with %d and not described", x.Method, x.URL.Path, x.Status)
			return
		}
		j.body(x.Method+" (unknown)", x, openapi3.Content{"application/json": j.errorType()})
		return
	}
	item := j.doc.Paths.Value(path)
	op := item.GetOperation(x.Method)
	if op == nil && x.Method == http.MethodHead {
		op = item.Get // without its body
	}
	name := x.Method + " " + path
	if x.Status < http.StatusBadRequest || op.Responses.Status(x.Status) != nil && !succeeds(op) {
		j.mu.Lock()
		j.seen[name] = true
		j.mu.Unlock()
	}
	if x.Status < http.StatusBadRequest {
		j.query(name, x, append(slices.Clone(item.Parameters), op.Parameters...))
		j.request(name, x, op)
	}
	answer := op.Responses.Status(x.Status)
	if answer == nil && x.Status >= http.StatusBadRequest {
		answer = op.Responses.Default()
	}
	if answer == nil {
		j.fault("%s: the answer %d is not described", name, x.Status)
		return
	}
	j.body(fmt.Sprintf("%s: answer %d", name, x.Status), x, answer.Value.Content)
}

// succeeds tells whether an operation can. One that is always refused is
// described by the error alone.
func succeeds(op *openapi3.Operation) bool {
	for status := range op.Responses.Map() {
		if status < "4" {
			return true
		}
	}
	return false
}

// errorType is what errors are everywhere.
func (j *Judge) errorType() *openapi3.MediaType {
	return j.doc.Components.Responses["Error"].Value.Content["application/json"]
}

// query looks at the parameters of a request that was understood.
func (j *Judge) query(name string, x Exchange, known openapi3.Parameters) {
	for key := range x.URL.Query() {
		if known.GetByInAndName("query", key) == nil {
			j.fault("%s: parameter %s is not described", name, key)
		}
	}
}

// request looks at the body of a request that was understood.
func (j *Judge) request(name string, x Exchange, op *openapi3.Operation) {
	if len(bytes.TrimSpace(x.Request)) == 0 {
		return
	}
	if op.RequestBody == nil {
		j.fault("%s: the body of its request is not described", name)
		return
	}
	if t := op.RequestBody.Value.Content["application/json"]; t != nil {
		j.value(name+": request", x.Request, t.Schema)
	}
}

// body looks at type and body of an answer.
func (j *Judge) body(name string, x Exchange, content openapi3.Content) {
	if x.Method == http.MethodHead || x.Status == http.StatusSwitchingProtocols || x.Status == http.StatusNotModified {
		return
	}
	typ, _, _ := mime.ParseMediaType(x.Header.Get("Content-Type"))
	if len(content) == 0 {
		if len(x.Response) > 0 {
			j.fault("%s: has a body, described without one", name)
		}
		return
	}
	described := content[typ]
	switch {
	case described == nil:
		j.fault("%s: is of type %q, described are %v", name, typ, slices.Sorted(maps.Keys(content)))
	case x.Response == nil:
	case typ == "application/json":
		j.value(name, x.Response, described.Schema)
	case typ == "application/x-ndjson":
		for line := range bytes.Lines(x.Response) {
			j.value(name, line, described.Schema)
		}
	}
}

// value compares JSON with its description.
func (j *Judge) value(name string, text []byte, schema *openapi3.SchemaRef) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		j.fault("%s: is no JSON: %v", name, err)
		return
	}
	if err := schema.Value.VisitJSON(v, openapi3.MultiErrors(), openapi3.EnableFormatValidation()); err != nil {
		j.fault("%s: %.500q: %v", name, text, err)
	}
}

func (j *Judge) fault(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.faults) < 100 { // the first ones tell enough
		j.faults[fmt.Sprintf(format, args...)] = true
	}
}

// Faults returns what was not as described since the last call.
func (j *Judge) Faults() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := slices.Sorted(maps.Keys(j.faults))
	clear(j.faults)
	return out
}

// Unseen returns the operations that have never succeeded, or been refused if
// that is all they do.
func (j *Judge) Unseen() (out []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for path, item := range j.doc.Paths.Map() {
		for method := range item.Operations() {
			if name := method + " " + path; !j.seen[name] {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}
