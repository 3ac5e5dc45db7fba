package vnet

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// question is a DNS message of the box on its way to being an answer.
type question struct {
	header  dnsmessage.Header
	what    dnsmessage.Question
	asked   string // the name, as it was written
	limit   int    // bytes that the answer may have
	edns    bool
	version uint8 // of EDNS
	code    dnsmessage.RCode
	answers []dnsmessage.Resource
}

// parseQuestion reads a message. It fails for what gets no answer; what gets an
// error for an answer has a code.
func parseQuestion(b []byte, udp bool) (*question, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.Response {
		return nil, false
	}
	q := &question{header: h, limit: 1<<16 - 1}
	if udp {
		q.limit = plainSize
	}
	switch {
	case h.OpCode != 0:
		q.code = dnsmessage.RCodeNotImplemented
	case binary.BigEndian.Uint16(b[4:]) != 1: // one question
		q.code = dnsmessage.RCodeFormatError
	default:
		q.parse(&p, udp)
	}
	return q, true
}

func (q *question) parse(p *dnsmessage.Parser, udp bool) {
	what, err := p.Question()
	if err == nil {
		q.what, q.asked = what, what.Name.String()
		err = errors.Join(p.SkipAllQuestions(), p.SkipAllAnswers(), p.SkipAllAuthorities())
	}
	if err == nil {
		err = q.parseOptions(p, udp)
	}
	switch {
	case err != nil:
		q.code = dnsmessage.RCodeFormatError
	case q.version != 0:
		q.code = badVersion
	case what.Class != dnsmessage.ClassINET:
		q.code = dnsmessage.RCodeNotImplemented
	}
}

// badVersion is for an EDNS that does not exist yet: RFC 6891.
const badVersion dnsmessage.RCode = 16

// parseOptions looks for EDNS.
func (q *question) parseOptions(p *dnsmessage.Parser, udp bool) error {
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns {
				return errors.New("EDNS twice")
			}
			q.edns, q.version = true, uint8(h.TTL>>16)
			if udp {
				q.limit = max(plainSize, min(int(h.Class), maxSize))
			}
		}
		if err := p.SkipAdditional(); err != nil {
			return err
		}
	}
}

// pack makes the answer. It is nil if there can be none.
func (q *question) pack() []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, OpCode: q.header.OpCode,
			RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: q.code & 0xf,
		},
		Answers: q.answers,
	}
	if q.what.Name.Length > 0 {
		m.Questions = []dnsmessage.Question{q.what}
	}
	if q.edns {
		h := dnsmessage.ResourceHeader{}
		if h.SetEDNS0(maxSize, q.code, false) != nil {
			return nil
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err == nil && len(b) > q.limit {
		m.Truncated, m.Answers = true, nil // the box asks again over TCP
		b, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return b
}

// fail answers with what became of a lookup; absent is for a name that is not
// there.
func (q *question) fail(err error, absent dnsmessage.RCode) {
	var d *net.DNSError
	q.code = dnsmessage.RCodeServerFailure
	if errors.As(err, &d) && d.IsNotFound {
		q.code = absent
	}
}

// add answers with a record.
func (q *question) add(body dnsmessage.ResourceBody) {
	h := dnsmessage.ResourceHeader{Name: q.what.Name, Type: q.what.Type, Class: dnsmessage.ClassINET, TTL: answerTTL}
	q.answers = append(q.answers, dnsmessage.Resource{Header: h, Body: body})
}

func (q *question) addr(a netip.Addr) {
	if a.Is4() {
		q.add(&dnsmessage.AResource{A: a.As4()})
	} else {
		q.add(&dnsmessage.AAAAResource{AAAA: a.As16()})
	}
}

// name answers with a record that has a name in it, if that is one.
func (q *question) name(s string, body func(dnsmessage.Name) dnsmessage.ResourceBody) {
	if n, err := dnsmessage.NewName(s); err == nil && strings.HasSuffix(s, ".") {
		q.add(body(n))
	}
}

// text answers with a text, in parts of at most 255 bytes.
func (q *question) text(s string) {
	parts := []string{}
	for part := range slices.Chunk([]byte(s), 255) {
		parts = append(parts, string(part))
	}
	if len(parts) == 0 {
		parts = []string{""}
	}
	q.add(&dnsmessage.TXTResource{TXT: parts})
}

// reversed returns the address whose names are asked for.
func reversed(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		a, err := netip.ParseAddr(strings.Join(labels, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(rest, ".")
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(nibbles)
	b, err := hex.DecodeString(strings.Join(nibbles, ""))
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b)), true
}
