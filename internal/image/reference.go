package image

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/boxlite-go/boxlite/internal/pattern"
)

// dockerHub is what people call the registry that has several names.
const dockerHub = "docker.io"

var (
	// As the distribution specification has it.
	repositoryRE = pattern.New(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRE        = pattern.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	hostRE       = pattern.New(`^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$`)
)

// maxReference bounds what is parsed: host, repository, tag and digest at
// their longest.
const maxReference = 1024

// Reference names an image in a registry, by tag or digest.
type Reference struct {
	ref       name.Reference
	qualified bool // the user named the registry
}

// ParseReference reads a name as users write it: "alpine", "python:slim",
// "ghcr.io/owner/name@sha256:...", "localhost:5000/name". The error is
// [ErrInvalidReference].
func ParseReference(s string) (Reference, error) {
	bad := func(why string) (Reference, error) {
		shown := s[:min(len(s), 200)]
		return Reference{}, fmt.Errorf("%w %q: %s; write it like \"python:slim\" or \"ghcr.io/owner/name:tag\"", ErrInvalidReference, shown, why)
	}
	switch {
	case s == "":
		return bad("it is empty")
	case len(s) > maxReference:
		return bad("it is too long")
	}
	ref, err := name.ParseReference(s, name.WeakValidation)
	if err != nil {
		return bad(reason(err))
	}
	repo := ref.Context()
	switch {
	case !hostRE.MatchString(repo.RegistryStr()):
		return bad("the registry is not a host name")
	case len(repo.RepositoryStr()) > 255:
		return bad("the repository has more than 255 characters")
	case !repositoryRE.MatchString(repo.RepositoryStr()):
		return bad("a repository has lower-case letters, digits and single separators")
	}
	if t, ok := ref.(name.Tag); ok && !tagRE.MatchString(t.TagStr()) {
		return bad("a tag has letters, digits, \"_\", \".\" and \"-\", at most 128")
	}
	if d, ok := ref.(name.Digest); ok && !strings.HasPrefix(d.DigestStr(), "sha256:") {
		return bad("only sha256 digests are supported")
	}
	return Reference{ref, qualified(s)}, nil
}

// reason is the last part of what the parser says, which is the cause.
func reason(err error) string {
	s := err.Error()
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return s
}

// qualified tells whether the first element of a name is a registry, as docker
// does.
func qualified(s string) bool {
	host, _, ok := strings.Cut(s, "/")
	return ok && (host == "localhost" || strings.ContainsAny(host, ".:"))
}

// Registry is the host, "docker.io" for that under all its names.
func (r Reference) Registry() string { return hostName(r.ref.Context().RegistryStr()) }

func hostName(host string) string {
	switch host {
	case name.DefaultRegistry, "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub
	}
	return host
}

// Digest is the digest that the reference pins, or empty.
func (r Reference) Digest() string {
	if d, ok := r.ref.(name.Digest); ok {
		return d.DigestStr()
	}
	return ""
}

// repository is registry and repository, the same for all spellings.
func (r Reference) repository() string {
	return r.Registry() + "/" + r.ref.Context().RepositoryStr()
}

// Full is the reference with everything that may be left out:
// "docker.io/library/python:slim".
func (r Reference) Full() string {
	if d := r.Digest(); d != "" {
		return r.repository() + "@" + d
	}
	return r.repository() + ":" + r.ref.Identifier()
}

// String is the reference as users write it: "python:slim".
func (r Reference) String() string { return familiar(r.Full()) }

// familiar leaves out of a full reference what docker would.
func familiar(full string) string {
	s, ok := strings.CutPrefix(full, dockerHub+"/")
	if !ok {
		return full
	}
	if short, ok := strings.CutPrefix(s, "library/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return s
}

// in is the same repository and tag in another registry.
func (r Reference) in(host string) (Reference, error) {
	repo := strings.TrimPrefix(r.ref.Context().RepositoryStr(), "library/")
	sep := ":"
	if r.Digest() != "" {
		sep = "@"
	}
	return ParseReference(host + "/" + repo + sep + r.ref.Identifier())
}
