package vnet

import (
	"bytes"
	"strings"
)

// Bounds on what a client may send before it is known what it is. A hello with
// keys against quantum computers, tickets and padding is under 5 KiB; a line of
// HTTP is left to the server of package http when it is longer than most servers
// take.
const (
	maxHello = 16 << 10 // of the message, without its records
	maxLine  = 16 << 10
	maxHeld  = 20 << 10 // of both, as they are on the wire
)

// kind is what the first bytes of a client are.
type kind uint8

const (
	unfinished kind = iota // more bytes are needed to tell
	tlsHello
	httpLine // the first line of a request, in HTTP/1 or HTTP/2
	other    // another protocol
	hostile  // looks like TLS or HTTP, but could be read in more than one way
)

// opening is what the first bytes of a client say.
type opening struct {
	kind   kind
	name   string   // of a hello, as it was sent: the host that the client wants; empty if it does not say
	protos []string // of a hello: the protocols that the client would speak inside
}

// sniff tells what a client that began with b speaks. It looks only at b, so it
// can be called again when there is more of it.
//
// What a lenient server might take for TLS or HTTP must not come out as other:
// then it would pass without its name being looked at.
func sniff(b []byte) opening {
	if len(b) == 0 {
		return opening{}
	}
	o := opening{kind: hostile}
	if recordType(b[0]) {
		o = sniffTLS(b)
	} else {
		o.kind = sniffHTTP(b)
	}
	if o.kind == unfinished && len(b) >= maxHeld {
		o.kind = hostile
	}
	return o
}

// recordType tells whether a record of TLS can begin so.
func recordType(b byte) bool { return 0x14 <= b && b <= 0x18 }

// sniffTLS reads a ClientHello out of as many records as it was put in.
func sniffTLS(b []byte) opening {
	const handshake, clientHello, major = 0x16, 1, 3
	var message []byte
	for rest := wire(b); ; {
		if len(rest) >= 2 && rest[1] != major {
			if message == nil {
				return opening{kind: other}
			}
			return opening{kind: hostile}
		}
		if len(rest) >= 2 && rest[0] != handshake {
			return opening{kind: hostile}
		}
		if len(rest) < 5 {
			return opening{}
		}
		size := int(rest[3])<<8 | int(rest[4])
		if size == 0 || size > maxHello {
			return opening{kind: hostile}
		}
		rest = rest[5:]
		part := rest[:min(size, len(rest))]
		if message == nil && len(part) > 0 && part[0] != clientHello {
			return opening{kind: hostile}
		}
		message = append(message, part...)
		if len(message) >= 4 {
			length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			if length > maxHello {
				return opening{kind: hostile}
			}
			if body := message[4:]; len(body) >= length {
				return parseHello(body[:length])
			}
		}
		if len(part) < size {
			return opening{}
		}
		rest = rest[size:]
	}
}

// parseHello reads a whole ClientHello. It is as strict as crypto/tls: a hello
// with two names, or with bytes left over, is hostile.
func parseHello(b wire) opening {
	bad := opening{kind: hostile}
	if _, ok := b.take(2 + 32); !ok { // version, random
		return bad
	}
	for _, size := range []int{1, 2, 1} { // session id, cipher suites, compression methods
		if _, ok := b.vector(size); !ok {
			return bad
		}
	}
	o := opening{kind: tlsHello}
	if len(b) == 0 {
		return o
	}
	extensions, ok := b.vector(2)
	if !ok || len(b) != 0 {
		return bad
	}
	seen := map[int]bool{}
	for len(extensions) > 0 {
		id, ok := extensions.number(2)
		if !ok || seen[id] {
			return bad
		}
		seen[id] = true
		data, ok := extensions.vector(2)
		if !ok || !o.extension(id, data) {
			return bad
		}
	}
	return o
}

// extension takes what matters of one extension of a hello.
func (o *opening) extension(id int, data wire) (ok bool) {
	const serverName, alpn = 0, 16
	switch id {
	case serverName:
		o.name, ok = hostName(data)
		return ok
	case alpn:
		list, ok := data.vector(2)
		if !ok || len(data) != 0 || len(list) == 0 {
			return false
		}
		for len(list) > 0 {
			p, ok := list.vector(1)
			if !ok || len(p) == 0 {
				return false
			}
			o.protos = append(o.protos, string(p))
		}
	}
	return true
}

// hostName reads the extension that names the server.
func hostName(data wire) (string, bool) {
	const typeHost = 0
	list, ok := data.vector(2)
	if !ok || len(data) != 0 || len(list) == 0 {
		return "", false
	}
	name := ""
	for len(list) > 0 {
		t, ok := list.number(1)
		if !ok {
			return "", false
		}
		v, ok := list.vector(2)
		if !ok || len(v) == 0 {
			return "", false
		}
		if t != typeHost {
			continue
		}
		if name != "" {
			return "", false
		}
		name = string(v)
	}
	return name, true
}

// wire is read from its front.
type wire []byte

func (w *wire) take(n int) (wire, bool) {
	if len(*w) < n {
		return nil, false
	}
	v := (*w)[:n]
	*w = (*w)[n:]
	return v, true
}

// number reads a number of size bytes.
func (w *wire) number(size int) (int, bool) {
	v, ok := w.take(size)
	n := 0
	for _, c := range v {
		n = n<<8 | int(c)
	}
	return n, ok
}

// vector reads bytes behind their length, which is a number of size bytes.
func (w *wire) vector(size int) (wire, bool) {
	n, ok := w.number(size)
	if !ok {
		return nil, false
	}
	return w.take(n)
}

// sniffHTTP looks at the first line alone, which says METHOD TARGET VERSION.
// Only a whole line is judged, unless a byte of it cannot be of HTTP.
func sniffHTTP(b []byte) kind {
	b = bytes.TrimLeft(b, "\r\n") // servers skip empty lines in front of a request
	line, _, whole := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	not := other
	if isMethod(leadingWord(line)) {
		not = hostile // some server may read it
	}
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return not
		}
	}
	fields := strings.Fields(string(line))
	switch n := len(fields); {
	case n > 0 && !isToken(fields[0]):
		return not
	case !whole && len(line) < maxLine:
		return unfinished
	case !whole:
		return httpLine // the server says 431, or reads on
	case n > 1 && hasVersion(fields[n-1]):
		return httpLine
	case 0 < n && n <= 2 && isMethod(fields[0]): // HTTP/0.9
		return httpLine
	}
	return other
}

// leadingWord returns the letters that b begins with.
func leadingWord(b []byte) string {
	letter := func(c rune) bool { return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' }
	if i := bytes.IndexFunc(b, func(c rune) bool { return !letter(c) }); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func hasVersion(s string) bool { return len(s) >= 4 && strings.EqualFold(s[:4], "HTTP") }

// isMethod tells whether s is a method that servers know, in any case.
func isMethod(s string) bool {
	switch strings.ToUpper(s) {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		return true
	}
	return false
}

// isToken tells whether s can be a method: RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
