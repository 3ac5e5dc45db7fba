package boxlite

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/shim"
)

// Secret is a value that a box may use and never sees. Commands find a
// placeholder in the environment variable BOXLITE_SECRET_<NAME>; on its way to
// one of Hosts, over TLS, the placeholder is replaced by the value, in headers
// and in bodies of text of known length. In what comes back the value is
// replaced by the placeholder. To every other host the placeholder goes as it
// is.
//
// For these hosts TLS ends outside the box: commands meet certificates of an
// authority that was made for this box, which its bundles of certificates and
// the usual variables (SSL_CERT_FILE, ...) name.
type Secret struct {
	// Name of the secret: letters, digits, '_', '-' and '.', at most 64. In the
	// name of the variable letters are capital, and the last two become '_'.
	Name string `json:"name"`

	// Value is kept in memory only, of this process and of the one that owns
	// the running box, and never stored: whoever starts the box later gives it
	// again, with [Box.SetSecret]. It has no line ends, and at least 8 bytes,
	// so that it can be told from other text.
	Value string `json:"-"`

	// Hosts that get the value: names, or *.name for what is below one.
	Hosts []string `json:"hosts"`

	// Placeholder is what the box sees. Empty means <BOXLITE_SECRET:name>.
	Placeholder string `json:"placeholder,omitempty"`
}

// String tells the secret without its value.
func (s Secret) String() string {
	return fmt.Sprintf("secret %s for %s", s.Name, strings.Join(s.Hosts, ", "))
}

// GoString is [Secret.String], so that no verb of fmt prints the value.
func (s Secret) GoString() string { return s.String() }

// LogValue is [Secret.String].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Bounds of secrets.
const (
	maxSecrets     = 64
	maxSecretName  = 64
	maxSecretValue = 8 << 10 // more than any token, and less than servers accept in a header
	minSecretValue = 8
	maxHosts       = 64
)

// withPlaceholders checks secrets and fills in their placeholders.
func withPlaceholders(secrets []Secret) ([]Secret, error) {
	if len(secrets) > maxSecrets {
		return nil, fmt.Errorf("%w: %d secrets: at most %d", ErrInvalid, len(secrets), maxSecrets)
	}
	secrets = slices.Clone(secrets)
	for i := range secrets {
		s := &secrets[i]
		if s.Placeholder == "" {
			s.Placeholder = "<BOXLITE_SECRET:" + s.Name + ">"
		}
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("%w: secret %q: %w", ErrInvalid, s.Name, err)
		}
		for _, o := range secrets[:i] {
			switch {
			case secretVar(o.Name) == secretVar(s.Name):
				return nil, fmt.Errorf("%w: secrets %q and %q have the same variable %s", ErrInvalid, o.Name, s.Name, secretVar(s.Name))
			case strings.Contains(o.Placeholder, s.Placeholder), strings.Contains(s.Placeholder, o.Placeholder):
				return nil, fmt.Errorf("%w: the placeholder of secret %q is part of that of %q: give it another", ErrInvalid, s.Name, o.Name)
			}
		}
	}
	return secrets, nil
}

func (s *Secret) check() error {
	const named = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	switch {
	case s.Name == "" || len(s.Name) > maxSecretName || strings.Trim(s.Name, named) != "":
		return fmt.Errorf("name it with letters, digits, '_', '-' and '.', at most %d", maxSecretName)
	case len(s.Hosts) == 0:
		return fmt.Errorf("no hosts: say which hosts get its value")
	case len(s.Hosts) > maxHosts:
		return fmt.Errorf("%d hosts: at most %d", len(s.Hosts), maxHosts)
	case len(s.Placeholder) < minSecretValue || len(s.Placeholder) > 256 || !printableASCII(s.Placeholder):
		return fmt.Errorf("placeholder %q: give %d to 256 printable characters of ASCII", s.Placeholder, minSecretValue)
	}
	s.Hosts = slices.Clone(s.Hosts)
	for i, h := range s.Hosts {
		rest, below := strings.CutPrefix(h, "*.")
		name, err := egress.Name(rest)
		if err != nil {
			return fmt.Errorf("host %q: %w; give a name without a port, or *.name for what is below it", h, err)
		}
		if s.Hosts[i] = name; below {
			s.Hosts[i] = "*." + name
		}
	}
	if s.Value != "" {
		return checkSecretValue(s.Value)
	}
	return nil
}

func checkSecretValue(v string) error {
	switch {
	case len(v) < minSecretValue || len(v) > maxSecretValue:
		return fmt.Errorf("a value of %d bytes: give %d to %d", len(v), minSecretValue, maxSecretValue)
	case !printableASCII(v):
		return fmt.Errorf("its value has characters that no header may have: give printable ASCII, without line ends")
	}
	return nil
}

func printableASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// withoutValues parts the values from what is stored.
func withoutValues(secrets []Secret) (stored []Secret, values map[string]string) {
	stored, values = slices.Clone(secrets), map[string]string{}
	for i := range stored {
		if v := stored[i].Value; v != "" {
			values[stored[i].Name] = v
		}
		stored[i].Value = ""
	}
	return stored, values
}

func (b *localBox) SetSecret(name, value string) error {
	if !slices.ContainsFunc(b.options.Secrets, func(s Secret) bool { return s.Name == name }) {
		return b.fail("set secret", fmt.Errorf("secret %q %w: the box was created without it", name, ErrNotFound))
	}
	if err := checkSecretValue(value); err != nil {
		return b.fail("set secret", fmt.Errorf("%w: secret %q: %w", ErrInvalid, name, err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.values == nil {
		b.values = map[string]string{}
	}
	b.values[name] = value
	return nil
}

// secrets is what the shim gets. The error names a secret without a value.
func (b *localBox) secrets() ([]shim.Secret, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []shim.Secret
	for _, s := range b.options.Secrets {
		v := b.values[s.Name]
		if v == "" {
			return nil, fmt.Errorf("%w: secret %q has no value, since values are not stored: give it with SetSecret, or --secret %s", ErrState, s.Name, s.Name)
		}
		list = append(list, shim.Secret{Name: s.Name, Value: v, Hosts: s.Hosts, Placeholder: s.Placeholder})
	}
	return list, nil
}

// secretVar is the variable that has the placeholder.
func secretVar(name string) string {
	return "BOXLITE_SECRET_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// secretEnv is the environment that goes with secrets.
func secretEnv(secrets []Secret) []string {
	if len(secrets) == 0 {
		return nil
	}
	var env []string
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"} {
		env = append(env, name+"="+guest.BundlePath)
	}
	env = append(env, "NODE_EXTRA_CA_CERTS="+guest.AuthorityPath)
	for _, s := range secrets {
		env = append(env, secretVar(s.Name)+"="+s.Placeholder)
	}
	return env
}
