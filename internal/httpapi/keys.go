package httpapi

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// Scopes that a key may have.
var Scopes = []string{
	"box:read", "box:write", "box:exec", "box:delete", "image:read", "image:write",
	"volume:read", "volume:write", "volume:delete", "runtime:read", "me:read",
}

// Principal is who makes a request.
type Principal struct {
	Name   string
	Scopes []string
	Local  bool // came through the unix socket, as the user who runs the server
}

// May tells whether the principal has a scope. Everybody has the empty one.
func (p Principal) May(scope string) bool {
	return scope == "" || slices.Contains(p.Scopes, scope)
}

// minKey is the least a key may have: 16 characters are 64 bits even if they
// are hexadecimal.
const minKey = 16

// maxKeys bounds the keys of a server: each is compared with at each request.
const maxKeys = 1024

// Keys is the set of keys a server accepts. It keeps digests, not keys. The
// zero value accepts none. It is safe for concurrent use.
type Keys struct {
	mu   sync.RWMutex
	keys []key
}

type key struct {
	digest [sha256.Size]byte
	who    Principal
}

// Any tells whether there is a key at all.
func (k *Keys) Any() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.keys) > 0
}

// Set replaces the keys by those that add gives names to.
func (k *Keys) set(keys []key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
}

// Find returns whose key the token is. It takes the same time whether and
// where it finds one.
func (k *Keys) Find(token string) (who Principal, ok bool) {
	digest := sha256.Sum256([]byte(token))
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, key := range k.keys {
		if subtle.ConstantTimeCompare(digest[:], key.digest[:]) == 1 {
			who, ok = key.who, true
		}
	}
	return who, ok
}

// Load replaces the keys by a single one with all scopes, if it is not empty,
// and those of a file, if that is named. A file that is wrong changes nothing.
//
// Each line of the file is NAME KEY [SCOPE,SCOPE...]; without scopes a key has
// all of them. A # begins a comment.
func (k *Keys) Load(single, file string) error {
	var keys []key
	if single != "" {
		one, err := newKey("default", single, "")
		if err != nil {
			return err
		}
		keys = append(keys, one)
	}
	if file != "" {
		more, err := readKeys(file)
		if err != nil {
			return err
		}
		keys = append(keys, more...)
	}
	for i, a := range keys {
		for _, b := range keys[:i] {
			if a.digest == b.digest {
				return fmt.Errorf("keys: %q and %q have the same key; give each its own", b.who.Name, a.who.Name)
			}
		}
	}
	k.set(keys)
	return nil
}

// maxKeyFile bounds the file of keys, in bytes.
const maxKeyFile = 1 << 20

func readKeys(file string) ([]key, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	defer f.Close()
	switch st, err := f.Stat(); {
	case err != nil:
		return nil, fmt.Errorf("keys: %w", err)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("keys: %s can be read by others; run \"chmod 600 %s\"", file, file)
	case st.Size() > maxKeyFile: // the beginning of a key would be one
		return nil, fmt.Errorf("keys: %s has %d bytes, at most %d", file, st.Size(), maxKeyFile)
	}
	var keys []key
	names := map[string]bool{}
	sc := bufio.NewScanner(io.LimitReader(f, maxKeyFile))
	for n := 1; sc.Scan(); n++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		one, err := parseKey(fields)
		if err == nil && names[one.who.Name] {
			err = fmt.Errorf("the name %q is used twice", one.who.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("keys: %s line %d: %w", file, n, err)
		}
		names[one.who.Name] = true
		keys = append(keys, one)
	}
	switch {
	case sc.Err() != nil:
		return nil, fmt.Errorf("keys: %s: %w", file, sc.Err())
	case len(keys) == 0 || len(keys) > maxKeys:
		return nil, fmt.Errorf("keys: %s has %d keys; give 1 to %d", file, len(keys), maxKeys)
	}
	return keys, nil
}

func parseKey(fields []string) (key, error) {
	switch len(fields) {
	case 2:
		return newKey(fields[0], fields[1], "")
	case 3:
		return newKey(fields[0], fields[1], fields[2])
	}
	return key{}, errors.New("want NAME KEY [SCOPE,SCOPE...]")
}

func newKey(name, secret, scopes string) (key, error) {
	if len(secret) < minKey {
		return key{}, fmt.Errorf("the key of %q is too short to be one; give at least %d characters, as \"openssl rand -hex 16\" does", name, minKey)
	}
	who := Principal{Name: name, Scopes: Scopes}
	if scopes != "" {
		who.Scopes = strings.Split(scopes, ",")
		for _, s := range who.Scopes {
			if !slices.Contains(Scopes, s) {
				return key{}, fmt.Errorf("no scope %q; there are %s", s, strings.Join(Scopes, " "))
			}
		}
	}
	return key{sha256.Sum256([]byte(secret)), who}, nil
}
