package server

import (
	"errors"
	"slices"
	"strings"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/internal/edits"
	"github.com/engramdb/engram/server/internal/auth"
)

// Bounds of the search for the name that was meant.
const (
	maxNear        = 3   // names in an answer
	maxNearEdits   = 2   // characters put in, left out or replaced
	maxNearScanned = 256 // names looked at for each scope that is a prefix
)

// nearError is an error about a space that is not found, with the names of
// spaces that may have been meant: of those alone that the caller may see.
type nearError struct {
	error

	near []engram.SpaceID
}

func (e *nearError) Unwrap() error { return e.error }

// withNear adds the near names to an error about a space that is not found. Who
// sees all spaces gets the library's; for others the names that they see are
// looked through, so that nothing depends on the rest.
func (s *Server) withNear(p *auth.Principal, err error) error {
	var notFound *engram.SpaceNotFoundError
	if p == nil || !errors.As(err, &notFound) {
		return err
	}
	near := notFound.Near
	if !slices.ContainsFunc(p.Scopes(), func(scope auth.Scope) bool { return scope.Pattern == "*" }) {
		near = s.nearInScopes(p, string(notFound.Space))
	}
	if len(near) == 0 {
		return err
	}
	return &nearError{err, near}
}

func (s *Server) nearInScopes(p *auth.Principal, asked string) []engram.SpaceID {
	var near []engram.SpaceID
	consider := func(id engram.SpaceID) {
		if string(id) != asked && resembles(asked, string(id)) && !slices.Contains(near, id) {
			near = append(near, id)
		}
	}
	for _, scope := range p.Scopes() {
		prefix, several := strings.CutSuffix(scope.Pattern, "*")
		if !several {
			if s.exists(engram.SpaceID(prefix)) {
				consider(engram.SpaceID(prefix))
			}
			continue
		}
		scanned := 0
		for id := range s.registry.Spaces(auth.Before(engram.SpaceID(prefix))) {
			if scanned++; scanned > maxNearScanned || !strings.HasPrefix(string(id), prefix) {
				break
			}
			consider(id)
		}
	}
	slices.Sort(near)
	return near[:min(len(near), maxNear)]
}

// resembles reports whether other may have been meant by asked: it begins with
// it, or is a few edits away.
func resembles(asked, other string) bool {
	return strings.HasPrefix(other, asked) || edits.Distance(asked, other, maxNearEdits) <= maxNearEdits
}
