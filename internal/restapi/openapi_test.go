package restapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
	"go.yaml.in/yaml/v3"
)

// operation is what a route takes and gives, as Go types; nil: no JSON.
type operation struct {
	in     any
	status int
	out    any
}

// operations is the shapes of every route.
var operations = map[string]operation{
	"GET /healthz":       {nil, 200, statusReply{}},
	"GET /readyz":        {nil, 200, statusReply{}},
	"GET /metrics":       {nil, 200, nil},
	"GET /v1/config":     {nil, 200, rest.Config{}},
	"GET /v1/me":         {nil, 200, rest.Me{}},
	"GET /v1/info":       {nil, 200, rest.Info{}},
	"GET /v1/engines":    {nil, 200, rest.Engines{}},
	"GET /v1/lease":      {nil, 101, nil},
	"GET /v1/metrics":    {nil, 200, runtimeMetricsReply{}},
	"POST /v1/boxes":     {rest.CreateBox{}, 201, rest.Box{}},
	"GET /v1/boxes":      {nil, 200, rest.Boxes{}},
	"GET /v1/boxes/{id}": {nil, 200, rest.Box{}}, "DELETE /v1/boxes/{id}": {nil, 204, nil},
	"POST /v1/boxes/{id}/start":                    {nil, 200, rest.Box{}},
	"POST /v1/boxes/{id}/stop":                     {rest.Stop{}, 200, rest.Box{}},
	"POST /v1/boxes/{id}/sync":                     {nil, 204, nil},
	"GET /v1/boxes/{id}/metrics":                   {nil, 200, rest.Metrics{}},
	"GET /v1/boxes/{id}/logs":                      {nil, 200, nil},
	"PUT /v1/boxes/{id}/network":                   {rest.Network{}, 204, nil},
	"POST /v1/boxes/{id}/network/tunnel":           {nil, 200, tunnelReply{}},
	"GET /v1/boxes/{id}/network/connect":           {nil, 101, nil},
	"GET /v1/boxes/{id}/network/log":               {nil, 200, nil},
	"PUT /v1/boxes/{id}/secrets/{name}":            {rest.SecretValue{}, 204, nil},
	"GET /v1/boxes/{id}/files":                     {nil, 200, nil},
	"PUT /v1/boxes/{id}/files":                     {nil, 204, nil},
	"GET /v1/boxes/{id}/files/stat":                {nil, 200, rest.File{}},
	"GET /v1/boxes/{id}/files/list":                {nil, 200, rest.Files{}},
	"GET /v1/boxes/{id}/files/link":                {nil, 200, rest.Link{}},
	"GET /v1/boxes/{id}/files/content":             {nil, 200, nil},
	"PUT /v1/boxes/{id}/files/content":             {nil, 204, nil},
	"POST /v1/boxes/{id}/main":                     {rest.RunMain{}, 201, rest.Started{}},
	"POST /v1/boxes/{id}/exec":                     {rest.Exec{}, 201, rest.Started{}},
	"GET /v1/boxes/{id}/attach":                    {nil, 101, nil},
	"GET /v1/boxes/{id}/executions":                {nil, 200, rest.Executions{}},
	"GET /v1/boxes/{id}/executions/{eid}":          {nil, 200, rest.Execution{}},
	"DELETE /v1/boxes/{id}/executions/{eid}":       {nil, 204, nil},
	"GET /v1/boxes/{id}/executions/{eid}/attach":   {nil, 101, nil},
	"POST /v1/boxes/{id}/executions/{eid}/signal":  {rest.Signal{}, 204, nil},
	"POST /v1/boxes/{id}/executions/{eid}/resize":  {rest.Resize{}, 204, nil},
	"POST /v1/boxes/{id}/snapshots":                {nil, 400, nil},
	"GET /v1/boxes/{id}/snapshots":                 {nil, 400, nil},
	"GET /v1/boxes/{id}/snapshots/{name}":          {nil, 400, nil},
	"DELETE /v1/boxes/{id}/snapshots/{name}":       {nil, 400, nil},
	"POST /v1/boxes/{id}/snapshots/{name}/restore": {nil, 400, nil},
	"POST /v1/boxes/{id}/clone":                    {nil, 400, nil},
	"POST /v1/boxes/{id}/export":                   {nil, 400, nil},
	"POST /v1/boxes/import":                        {nil, 400, nil},
	"POST /v1/volumes":                             {rest.CreateVolume{}, 201, rest.Volume{}},
	"GET /v1/volumes":                              {nil, 200, rest.Volumes{}},
	"POST /v1/volumes/prune":                       {nil, 200, rest.Volumes{}},
	"GET /v1/volumes/{id}":                         {nil, 200, rest.Volume{}},
	"DELETE /v1/volumes/{id}":                      {nil, 204, nil},
	"POST /v1/images/pull":                         {rest.Pull{}, 200, rest.Image{}},
	"POST /v1/images/load":                         {nil, 200, rest.Images{}},
	"POST /v1/images/import":                       {nil, 200, rest.Image{}},
	"POST /v1/images/save":                         {rest.SaveImages{}, 200, nil},
	"POST /v1/images/prune":                        {rest.PruneImages{}, 200, rest.PrunedImages{}},
	"GET /v1/images":                               {nil, 200, rest.Images{}},
	"GET /v1/images/{ref}":                         {nil, 200, rest.Image{}},
	"DELETE /v1/images/{ref}":                      {nil, 200, rest.Removed{}},
}

// spec is as much of an OpenAPI document as the test looks at.
type spec struct {
	Paths      map[string]pathItem
	Components struct{ Schemas map[string]*schema }
}

// pathItem is the operations of a path, by method.
type pathItem map[string]specOperation

// UnmarshalYAML leaves out the parameters that all methods have.
func (p *pathItem) UnmarshalYAML(n *yaml.Node) error {
	var all map[string]yaml.Node
	if err := n.Decode(&all); err != nil {
		return err
	}
	*p = pathItem{}
	for method, n := range all {
		if method == "parameters" {
			continue
		}
		var op specOperation
		if err := n.Decode(&op); err != nil {
			return err
		}
		(*p)[method] = op
	}
	return nil
}

type specOperation struct {
	OperationID string `yaml:"operationId"`
	Summary     string
	Scope       string `yaml:"x-scope"`
	RequestBody struct {
		Content map[string]struct{ Schema *schema }
	} `yaml:"requestBody"`
	Responses map[string]struct {
		Ref     string `yaml:"$ref"`
		Content map[string]struct{ Schema *schema }
	}
}

type schema struct {
	Ref        string `yaml:"$ref"`
	Type       string
	Nullable   bool
	Properties map[string]*schema
	Items      *schema
	Enum       []string
	Additional any `yaml:"additionalProperties"`
}

func readSpec(t *testing.T) (s spec) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "api", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// resolve follows a reference.
func (s *spec) resolve(t *testing.T, x *schema) *schema {
	t.Helper()
	if x == nil || x.Ref == "" {
		return x
	}
	target := s.Components.Schemas[strings.TrimPrefix(x.Ref, "#/components/schemas/")]
	if target == nil {
		t.Errorf("%s leads nowhere", x.Ref)
		return &schema{}
	}
	return target
}

// TestRoutesAreDescribed: api/openapi.yaml has every route, and no other.
func TestRoutesAreDescribed(t *testing.T) {
	s := readSpec(t)
	served := map[string]httpapi.Route{}
	for _, r := range (&Server{}).routes() {
		served[strings.Replace(r.Pattern, "...}", "}", 1)] = r
	}
	described := map[string]bool{}
	for path, methods := range s.Paths {
		for method, op := range methods {
			pattern := strings.ToUpper(method) + " " + path
			described[pattern] = true
			if method == "head" { // served by what serves GET
				pattern = "GET " + path
			}
			r, ok := served[pattern]
			if !ok {
				t.Errorf("%s is described and not served", pattern)
				continue
			}
			if op.Scope != r.Scope || op.OperationID == "" || op.Summary == "" {
				t.Errorf("%s: x-scope %q, want %q, with operationId and summary", pattern, op.Scope, r.Scope)
			}
		}
	}
	for _, pattern := range slices.Sorted(maps.Keys(served)) {
		if !described[pattern] {
			t.Errorf("%s is served and not described", pattern)
		}
		if _, ok := operations[pattern]; !ok {
			t.Errorf("%s has no shapes in this test", pattern)
		}
	}
}

// TestShapesAreDescribed: what each route takes and gives has the fields and
// types of api/openapi.yaml, and no other.
func TestShapesAreDescribed(t *testing.T) {
	s := readSpec(t)
	for pattern, want := range operations {
		method, path, _ := strings.Cut(pattern, " ")
		op, ok := s.Paths[path][strings.ToLower(method)]
		if !ok {
			continue // told by the other test
		}
		s.compare(t, pattern+" request", want.in, op.RequestBody.Content["application/json"].Schema)
		response, ok := op.Responses[fmt.Sprint(want.status)]
		if !ok {
			t.Errorf("%s: the answer %d is not described", pattern, want.status)
		}
		s.compare(t, pattern+" answer", want.out, response.Content["application/json"].Schema)
		if op.Responses["default"].Ref != "#/components/responses/Error" {
			t.Errorf("%s: errors are not described", pattern)
		}
	}
}

// TestExtensionsAreDescribed: what GET /v1/config says that the server has
// beyond BoxLite is what the document says, and nothing else.
func TestExtensionsAreDescribed(t *testing.T) {
	s := readSpec(t)
	described := s.Components.Schemas["ServerConfig"].Properties["extensions"].Items.Enum
	if got, want := slices.Sorted(slices.Values(extensions)), slices.Sorted(slices.Values(described)); !slices.Equal(got, want) {
		t.Errorf("the server says %q, the document %q", got, want)
	}
}

// TestLinesAreDescribed: so are the lines of answers that are a list of them.
func TestLinesAreDescribed(t *testing.T) {
	s := readSpec(t)
	for name, v := range map[string]any{"PullLine": rest.PullLine{}, "NetworkEvent": egress.Event{}} {
		s.compare(t, name, v, s.Components.Schemas[name])
	}
}

func (s *spec) compare(t *testing.T, where string, v any, x *schema) {
	t.Helper()
	if v == nil || x == nil {
		if v != nil || x != nil {
			t.Errorf("%s: one of code and description has none", where)
		}
		return
	}
	s.compareType(t, where, reflect.TypeOf(v), x)
}

func (s *spec) compareType(t *testing.T, where string, typ reflect.Type, x *schema) {
	t.Helper()
	x = s.resolve(t, x)
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if x == nil || jsonKind(typ) != x.Type {
		t.Errorf("%s: is %s, described as %v", where, jsonKind(typ), x)
		return
	}
	switch {
	case slices.Contains(opaque, typ):
	case typ.Kind() == reflect.Slice:
		s.compareType(t, where+"[]", typ.Elem(), x.Items)
	case typ.Kind() == reflect.Struct:
		fields := slices.DeleteFunc(reflect.VisibleFields(typ), func(f reflect.StructField) bool { return f.Anonymous })
		for _, field := range fields {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if x.Properties[name] == nil {
				t.Errorf("%s: field %s is not described", where, name)
				continue
			}
			s.compareType(t, where+"."+name, field.Type, x.Properties[name])
		}
		if len(x.Properties) != len(fields) {
			t.Errorf("%s: %d fields, described %d: %v", where, len(fields), len(x.Properties), slices.Sorted(maps.Keys(x.Properties)))
		}
	}
}

// opaque are types that say themselves what they are in JSON.
var opaque = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[[]byte](), reflect.TypeFor[rest.Env](), reflect.TypeFor[json.RawMessage](),
}

func jsonKind(typ reflect.Type) string {
	switch slices.Index(opaque, typ) {
	case 0, 1:
		return "string"
	case 2, 3:
		return "object"
	}
	switch typ.Kind() {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice:
		return "array"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float64:
		return "number"
	}
	return "integer"
}
