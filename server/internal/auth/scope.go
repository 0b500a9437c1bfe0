package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/engramdb/engram"
)

// Verb is a sort of access to a space. A set of verbs is their sum. None
// includes another: who may administer a space need not be able to read it.
type Verb uint8

// The verbs.
const (
	Read  Verb = 1 << iota // see what the space holds
	Write                  // change what the space holds
	Admin                  // create, delete, rename and configure the space
)

// All is every verb.
const All = Read | Write | Admin

var verbNames = [...]struct {
	verb Verb
	name string
}{{Read, "read"}, {Write, "write"}, {Admin, "admin"}}

// String returns the names of the verbs, separated by commas.
func (v Verb) String() string {
	var names []string
	for _, row := range verbNames {
		if v&row.verb != 0 {
			names = append(names, row.name)
		}
	}
	return strings.Join(names, ",")
}

func parseVerbs(s string) (Verb, error) {
	var verbs Verb
	for name := range strings.SplitSeq(s, ",") {
		i := slices.IndexFunc(verbNames[:], func(row struct {
			verb Verb
			name string
		},
		) bool {
			return row.name == name
		})
		if i < 0 {
			return 0, fmt.Errorf("%w: verb %q is none of read, write, admin", ErrScope, name)
		}
		verbs |= verbNames[i].verb
	}
	return verbs, nil
}

// ErrScope is wrapped by every error about a malformed scope.
var ErrScope = errors.New("malformed scope")

// Scope grants verbs on the spaces that a pattern matches. As text it is
// PATTERN:VERB,VERB, for example "team-*:read,write".
type Scope struct {
	// Pattern is a space's id, a prefix of ids followed by '*', or "*" for all.
	Pattern string
	// Verbs are what is granted.
	Verbs Verb
}

// ParseScope reads the text of a scope. It fails with ErrScope.
func ParseScope(s string) (Scope, error) {
	pattern, verbs, found := strings.Cut(s, ":")
	if !found {
		return Scope{}, fmt.Errorf("%w: %q: want PATTERN:VERB,VERB", ErrScope, s)
	}
	if err := validatePattern(pattern); err != nil {
		return Scope{}, err
	}
	granted, err := parseVerbs(verbs)
	if err != nil {
		return Scope{}, err
	}
	return Scope{Pattern: pattern, Verbs: granted}, nil
}

// ParseScopes reads the texts of several scopes, at least one.
func ParseScopes(texts []string) ([]Scope, error) {
	if len(texts) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrScope)
	}
	scopes := make([]Scope, len(texts))
	for i, text := range texts {
		scope, err := ParseScope(text)
		if err != nil {
			return nil, err
		}
		scopes[i] = scope
	}
	return scopes, nil
}

// validatePattern refuses what could match no space: it is a mistake of the
// one who wrote it, and would show only when somebody is refused.
func validatePattern(pattern string) error {
	prefix, isPrefix := strings.CutSuffix(pattern, "*")
	switch {
	case pattern == "*":
		return nil
	case !isPrefix:
		if err := engram.SpaceID(pattern).Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrScope, err)
		}
		return nil
	}
	// A prefix that some id has is an id itself once it is long enough. The
	// filler keeps short prefixes and those of device names from being refused.
	const filler = "000"
	filled := prefix
	if len(prefix) <= 64-len(filler) {
		filled += filler
	}
	if err := engram.SpaceID(filled).Validate(); err != nil || prefix == "" {
		return fmt.Errorf("%w: no id of a space begins with %q", ErrScope, prefix)
	}
	return nil
}

// String returns the text that ParseScope reads.
func (s Scope) String() string { return s.Pattern + ":" + s.Verbs.String() }

// MarshalText implements [encoding.TextMarshaler].
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Scope) UnmarshalText(text []byte) error {
	parsed, err := ParseScope(string(text))
	*s = parsed
	return err
}

func (s Scope) matches(space engram.SpaceID) bool {
	if prefix, ok := strings.CutSuffix(s.Pattern, "*"); ok {
		return strings.HasPrefix(string(space), prefix)
	}
	return s.Pattern == string(space)
}
