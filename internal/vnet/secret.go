package vnet

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/boxlite-go/boxlite/egress"
)

// ErrSecret says that a secret cannot be kept as it is given.
var ErrSecret = errors.New("invalid secret")

// Bounds of secrets.
const (
	maxSecrets = 64
	maxHosts   = 64

	// minValue is the shortest value. Shorter ones occur by chance in what is
	// scrubbed, and are soon guessed.
	minValue = 8

	// maxValue is more than any token or key, and less than servers accept in
	// a header.
	maxValue = 8 << 10
)

// Secret is a value that the box does not get. Where a request to one of its
// hosts has the placeholder, the value is put in on the way.
type Secret struct {
	Name        string
	Value       string
	Placeholder string   // what the box has instead
	Hosts       []string // names, or *.name for all names below one
}

// String tells nothing of the value, so that no message or log shows it.
func (s Secret) String() string {
	return fmt.Sprintf("%s for %s", s.Name, strings.Join(s.Hosts, ", "))
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// secret is a Secret that was checked.
type secret struct {
	Secret
	hosts []host
}

// host is a name, or with below the names below it.
type host struct {
	name  string
	below bool
}

func (h host) has(name string) bool {
	if h.below {
		return strings.HasSuffix(name, "."+h.name)
	}
	return name == h.name
}

// checkSecrets brings secrets into the form in which they are used. Its errors
// have no values in them.
func checkSecrets(secrets []Secret) ([]secret, error) {
	if len(secrets) > maxSecrets {
		return nil, fmt.Errorf("%w: %d secrets: at most %d", ErrSecret, len(secrets), maxSecrets)
	}
	checked := make([]secret, 0, len(secrets))
	for _, s := range secrets {
		c, err := checkSecret(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrSecret, s.Name, err)
		}
		for _, o := range checked {
			if strings.Contains(o.Placeholder, s.Placeholder) || strings.Contains(s.Placeholder, o.Placeholder) {
				return nil, fmt.Errorf("%w: %q and %q: one placeholder is part of the other", ErrSecret, o.Name, s.Name)
			}
		}
		checked = append(checked, c)
	}
	return checked, nil
}

func checkSecret(s Secret) (secret, error) {
	c := secret{Secret: s}
	switch n := len(s.Value); {
	case n == 0:
		return c, errors.New("has no value")
	case n < minValue:
		return c, fmt.Errorf("the value is shorter than %d bytes, so it could not be told from other text in a response", minValue)
	case n > maxValue:
		return c, fmt.Errorf("the value is longer than %d bytes", maxValue)
	}
	switch n := len(s.Placeholder); {
	case n < minValue:
		return c, fmt.Errorf("the placeholder is shorter than %d bytes, so it could not be told from other text", minValue)
	case n > maxValue:
		return c, fmt.Errorf("the placeholder is longer than %d bytes", maxValue)
	case strings.Contains(s.Placeholder, s.Value):
		return c, errors.New("the placeholder has the value in it")
	}
	if len(s.Hosts) == 0 || len(s.Hosts) > maxHosts {
		return c, fmt.Errorf("is for %d hosts: name 1 to %d", len(s.Hosts), maxHosts)
	}
	for _, h := range s.Hosts {
		rest, below := strings.CutPrefix(h, "*.")
		name, err := egress.Name(rest)
		if err != nil {
			return c, fmt.Errorf("host %q: %w; give a name, or *.name", h, err)
		}
		c.hosts = append(c.hosts, host{name, below})
	}
	return c, nil
}

func (s *secret) isFor(name string) bool {
	return slices.ContainsFunc(s.hosts, func(h host) bool { return h.has(name) })
}

// reach adds the hosts of secrets to what a list allows, by TLS on its usual port:
// who gives a box a secret for a host means it to be used there. Deny rules are
// stronger, and where the internet is allowed nothing needs to be added. The host
// itself is opened by rules alone.
func reach(p egress.Policy, secrets []secret) egress.Policy {
	if p.Mode != egress.AllowList {
		return p
	}
	p.Allow = slices.Clip(p.Allow)
	for _, s := range secrets {
		for _, h := range s.hosts {
			name := h.name
			switch {
			case h.below:
				name = "*." + name
			case name == egress.HostAlias:
				continue
			}
			p.Allow = append(p.Allow, egress.MustParse("tcp:"+name+":443")) // a canonical name always makes a rule
		}
	}
	return p
}

// exchange puts the secrets of one host into a request, and takes them out of
// its response.
type exchange struct {
	secrets []*secret
	used    []string // names of the secrets that were put in
	creds   []pair   // Basic credentials that were made: with the value, as the box wrote them
}

// forms are the ways of writing a text into what carries it.
var forms = []func(string) string{
	func(s string) string { return s },
	func(s string) string { return inJSON(s, false) },
	func(s string) string { return inJSON(s, true) },
	url.QueryEscape,
	url.PathEscape,
	inXML,
}

func inJSON(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	_ = e.Encode(s) // strings have no errors, nor has a Buffer
	return strings.TrimSuffix(b.String(), "\n")[1 : b.Len()-2]
}

func inXML(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a Buffer has no errors
	return b.String()
}

// fill puts the values into s, written by form where the placeholder is.
func (x *exchange) fill(s string, form func(string) string) string {
	for _, c := range x.secrets {
		if from := form(c.Placeholder); strings.Contains(s, from) {
			s = strings.ReplaceAll(s, from, form(c.Value))
			x.use(c)
		}
	}
	return s
}

func (x *exchange) use(c *secret) {
	if !slices.Contains(x.used, c.Name) {
		x.used = append(x.used, c.Name)
	}
}

func plain(s string) string { return s }

// fillHeader puts the values into a header, credentials of Basic included.
func (x *exchange) fillHeader(h http.Header) {
	for _, values := range h {
		for i, v := range values {
			if filled, ok := x.fillBasic(v); ok {
				values[i] = filled
			} else {
				values[i] = x.fill(v, plain)
			}
		}
	}
}

func (x *exchange) fillBasic(v string) (string, bool) {
	scheme, coded, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return "", false
	}
	coded = strings.TrimSpace(coded)
	clear, err := base64.StdEncoding.DecodeString(coded)
	if err != nil {
		return "", false
	}
	filled := x.fill(string(clear), plain)
	if filled == string(clear) {
		return "", false
	}
	secretly := base64.StdEncoding.EncodeToString([]byte(filled))
	x.creds = append(x.creds, pair{[]byte(secretly), []byte(coded)})
	return scheme + " " + secretly, true
}

// fillBody puts the values into the body of a request of that content type.
// Where it is not text that can be read, b is returned as it is.
func (x *exchange) fillBody(b []byte, content string) []byte {
	s := string(b)
	switch textOf(content) {
	case textJSON:
		s = x.fill(s, forms[1])
		return []byte(x.fill(s, forms[2]))
	case textXML:
		return []byte(x.fill(s, inXML))
	case textForm:
		return []byte(x.fillForm(s))
	case textPlain:
		return []byte(x.fill(s, plain))
	}
	return b
}

// fillForm puts the values into the fields of a form; fields without a
// placeholder stay as they were written.
func (x *exchange) fillForm(s string) string {
	fields := strings.Split(s, "&")
	for i, field := range fields {
		parts := strings.SplitN(field, "=", 2)
		for j, part := range parts {
			clear, err := url.QueryUnescape(part)
			if err != nil {
				continue
			}
			if filled := x.fill(clear, plain); filled != clear {
				parts[j] = url.QueryEscape(filled)
			}
		}
		fields[i] = strings.Join(parts, "=")
	}
	return strings.Join(fields, "&")
}

// text is how a body is written.
type text uint8

const (
	notText text = iota
	textPlain
	textJSON
	textForm
	textXML
)

// textOf tells how a body of a content type is written.
func textOf(content string) text {
	t, _, _ := strings.Cut(content, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	switch {
	case t == "application/x-www-form-urlencoded":
		return textForm
	case t == "application/json", t == "application/x-ndjson", strings.HasSuffix(t, "+json"):
		return textJSON
	case t == "application/xml", t == "text/xml", strings.HasSuffix(t, "+xml"):
		return textXML
	case strings.HasPrefix(t, "text/"), t == "application/graphql", t == "application/yaml":
		return textPlain
	}
	return notText
}

// scrubs are the pairs that take the values out of a response.
func (x *exchange) scrubs() []pair {
	pairs := slices.Clone(x.creds)
	for _, c := range x.secrets {
		for _, form := range forms {
			from := []byte(form(c.Value))
			if !slices.ContainsFunc(pairs, func(p pair) bool { return bytes.Equal(p.from, from) }) {
				pairs = append(pairs, pair{from, []byte(form(c.Placeholder))})
			}
		}
	}
	return pairs
}

// scrubHeader takes the values out of a header.
func scrubHeader(h http.Header, pairs []pair) {
	for _, values := range h {
		for i, v := range values {
			for _, p := range pairs {
				v = strings.ReplaceAll(v, string(p.from), string(p.to))
			}
			values[i] = v
		}
	}
}
