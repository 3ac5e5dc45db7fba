package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// HostAlias is the name under which a box can reach the loopback of its host,
// where an Allow rule has this very name: no wildcard stands for it.
const HostAlias = "host.boxlite.internal"

// ErrName says that a string is not the name of a host.
var ErrName = errors.New("not a host name")

const (
	// maxName and maxLabel are the bounds of DNS, without the root's dot.
	maxName  = 253
	maxLabel = 63

	// maxUnicode bounds what is given to IDNA: a label of 63 bytes of ASCII
	// never needs more than 4 bytes for each.
	maxUnicode = 4 * maxName
)

// profile is the mapping that browsers use. Hyphens and underscores are left to
// check: names like r3---sn.example.com and _srv._tcp.example.com exist.
var profile = idna.New(
	idna.MapForLookup(), idna.BidiRule(), idna.CheckJoiners(true), idna.Transitional(false),
	idna.StrictDomainName(false), idna.CheckHyphens(false), idna.VerifyDNSLength(false),
)

// Name returns the one form in which names are compared: lower case ASCII, with
// IDNA applied, without the trailing dot. Everything that compares, resolves or
// dials a name uses this form and no other, so that two parts never read one
// name differently.
//
// What is no name of a host is an error that is [ErrName]: other bytes than
// letters, digits, '-' and '_', labels that are empty or longer than 63, more
// than 253 bytes, and names whose last label is a number, which some programs
// would take for an address (127.1, 0x7f000001).
func Name(s string) (string, error) {
	n := s
	if !canonical(n) {
		var err error
		if n, err = convert(n); err != nil {
			return "", fmt.Errorf("%w: %q: %w", ErrName, shorten(s), err)
		}
	}
	if err := checkName(n); err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrName, shorten(s), err)
	}
	return n, nil
}

// canonical tells, without allocating, whether IDNA has nothing to do on s.
func canonical(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', c >= utf8.RuneSelf:
			return false
		}
	}
	return !strings.Contains(s, "xn--") && !strings.HasSuffix(s, ".")
}

func convert(s string) (string, error) {
	if len(s) > maxUnicode {
		return "", errors.New("too long")
	}
	if !utf8.ValidString(s) {
		return "", errors.New("not UTF-8")
	}
	// Control characters and spaces are not for IDNA to map away.
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
		return "", fmt.Errorf("has the character %q", s[i])
	}
	n, err := profile.ToASCII(s)
	if err != nil {
		return "", err
	}
	// Other scripts have dots of their own, so this comes after the mapping.
	n = strings.TrimSuffix(strings.ToLower(n), ".")
	if again, err := profile.ToASCII(n); err != nil || again != n {
		return "", errors.New("has more than one form")
	}
	return n, nil
}

// checkName judges what IDNA left.
func checkName(n string) error {
	if n == "" {
		return errors.New("empty")
	}
	if len(n) > maxName {
		return fmt.Errorf("longer than %d bytes", maxName)
	}
	last := ""
	for label := range strings.SplitSeq(n, ".") {
		if err := checkLabel(label); err != nil {
			return err
		}
		last = label
	}
	if numeric(last) {
		return errors.New("ends in a number, which is no name; give an address as four decimal numbers or as IPv6")
	}
	return nil
}

func checkLabel(l string) error {
	if l == "" {
		return errors.New("has an empty part")
	}
	if len(l) > maxLabel {
		return fmt.Errorf("has a part longer than %d bytes", maxLabel)
	}
	for i := range len(l) {
		switch c := l[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("has the character %q", c)
		}
	}
	return nil
}

// numeric tells whether inet_aton and the like would take a last label for part
// of an IPv4 address.
func numeric(l string) bool {
	if hex, ok := strings.CutPrefix(l, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(l, "0123456789") == ""
}

// shorten makes hostile input fit for a message.
func shorten(s string) string {
	const enough = 100
	if len(s) > enough {
		return strings.ToValidUTF8(s[:enough], "") + "..."
	}
	return s
}

// literal returns the address if a client said one where a name belongs.
func literal(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}
