package agent

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// bundles are the files in which distributions keep the authorities they
// trust: Debian and Alpine, Fedora, Alpine's libtls, SUSE.
var bundles = []string{
	guest.BundlePath,
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/cert.pem",
	"/etc/ssl/ca-bundle.pem",
}

// maxBundle is far more than any bundle has.
const maxBundle = 8 << 20

// What is ours in a bundle lies between these lines. Whoever reads PEM ignores
// them.
var (
	trustBegin = []byte("# boxlite: made at each start of the box\n")
	trustEnd   = []byte("# boxlite: end\n")
)

// trust adds an authority to the bundles that are there, and makes the first
// of them if it is not.
func (a *Agent) trust(t *guest.Trust) error {
	var given []byte // what the image trusts
	texts := make([][]byte, len(bundles))
	for i, name := range bundles {
		// A bundle that cannot be read is replaced, so that nothing in the box
		// can keep the authority out.
		text, _ := readRegular(a.path(name), maxBundle)
		texts[i] = withoutTrust(text)
		if len(given) == 0 {
			given = texts[i]
		}
	}
	if len(given) == 0 {
		given = t.Roots
	}
	for i, name := range bundles {
		text := texts[i]
		ours := t.CA
		if len(text) == 0 {
			if _, err := os.Stat(a.path(name)); err != nil && i > 0 {
				continue
			}
			ours = lines(given, t.CA)
		}
		if err := a.writeBundle(name, lines(text, trustBegin, ours, trustEnd)); err != nil {
			return fail(kindOf(err), "certificates of the box: %v", err)
		}
	}
	if err := replaceFile(a.path(guest.AuthorityPath), t.CA); err != nil {
		return fail(kindOf(err), "certificates of the box: %v", err)
	}
	return nil
}

// writeBundle writes to the file that name stands for: many images link one bundle
// to another. A link to anything else, such as /dev/null, is replaced itself.
func (a *Agent) writeBundle(name string, text []byte) error {
	path := a.path(name)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		if st, err := os.Lstat(real); err == nil && st.Mode().IsRegular() {
			path = real
		}
	}
	return replaceFile(path, text)
}

// withoutTrust is what of a bundle is not ours.
func withoutTrust(text []byte) []byte {
	before, rest, found := bytes.Cut(text, trustBegin)
	if !found {
		return text
	}
	_, after, _ := bytes.Cut(rest, trustEnd)
	return lines(before, after)
}

// lines puts texts one after the other, each ending its last line.
func lines(texts ...[]byte) []byte {
	var all []byte
	for _, t := range texts {
		all = append(all, t...)
		if n := len(all); n > 0 && all[n-1] != '\n' {
			all = append(all, '\n')
		}
	}
	return all
}
