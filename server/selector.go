package server

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
)

// Where a request may name its space, besides the path.
const (
	spaceHeader      = "X-Engram-Memory-Space"
	spaceHeaderAlias = "X-Memory-Space"
	spaceQuery       = "space"
	spaceField       = "memory_space_id" // of the body
	spacePathValue   = "space"           // of the routes
)

// fallbackHeader announces, with the space's id, that the request named none.
const fallbackHeader = "Engram-Space-Fallback"

// selector collects every place of one request that names a space.
type selector struct {
	named string // what the first of them says
	where string // which one that is; empty: none yet
	err   error  // of the first that says something else
}

// add takes one more place into account. A place that is there but empty names
// the invalid space "": a client whose variable is not set must not end up in
// the default space.
func (s *selector) add(where, named string) {
	switch {
	case s.err != nil:
	case s.where == "":
		s.named, s.where = named, where
	case s.named != named:
		s.err = refuse(kindSpaceAmbiguous, fmt.Sprintf("%s and %s name different spaces", s.where, where))
	}
}

// namedSpaces collects what the request names a space by, but for its body.
func (x *exchange) namedSpaces() (named selector, err error) {
	if inPath := x.r.PathValue(spacePathValue); inPath != "" {
		named.add("the path", inPath)
	}
	for _, header := range []string{spaceHeader, spaceHeaderAlias} {
		for _, value := range x.r.Header.Values(header) {
			named.add("the header "+header, value)
		}
	}
	query, err := parseQuery(x.r)
	if err != nil {
		return named, err
	}
	for _, value := range query[spaceQuery] {
		named.add("the query parameter "+spaceQuery, value)
	}
	return named, nil
}

// selectSpace returns the id of the space that the request means, and notes it
// in the exchange. inBody is the body's memory_space_id, nil where there is none.
func (s *Server) selectSpace(x *exchange, inBody *string) (engram.SpaceID, error) {
	named, err := x.namedSpaces()
	if err != nil {
		return "", err
	}
	if inBody != nil {
		named.add(x.bodyPlace(), *inBody)
	}
	id, fallback, err := s.resolve(&named, x.principal, func() string { return x.r.RemoteAddr }, x.route.path)
	if err != nil {
		return "", err
	}
	if x.fallback = fallback; fallback {
		x.w.Header().Set(fallbackHeader, string(id))
	}
	return s.mean(x, id)
}

// resolve decides, for every transport, which space is meant by what a request
// names. remote and asked say who asks for what.
func (s *Server) resolve(
	named *selector, caller *auth.Principal, remote func() string, asked string,
) (id engram.SpaceID, fallback bool, err error) {
	switch {
	case named.err != nil:
		return "", false, named.err
	case named.where == "":
		if only, ok := caller.Only(); ok {
			return only, false, nil // the credential has named it
		}
		return engram.DefaultSpace, true, s.fallBack(remote(), asked)
	}
	id = engram.SpaceID(named.named)
	if err := id.Validate(); err != nil {
		return "", false, refuseSpaceID(named.where, err)
	}
	return id, false, nil
}

// selectHandle returns the space that the request means, whose id selectSpace
// returns. It must exist.
func (s *Server) selectHandle(x *exchange, inBody *string) (*engram.Space, error) {
	id, err := s.selectSpace(x, inBody)
	if err != nil {
		return nil, err
	}
	return s.registry.Get(x.r.Context(), id)
}

// mean notes the space that a request is about. Every request that is about one
// passes here before the registry is asked for it: whoever may not do what
// x.route.verb says learns nothing, not even whether the space exists.
func (s *Server) mean(x *exchange, id engram.SpaceID) (engram.SpaceID, error) {
	x.space = id
	return id, s.authorise(x.principal, x.route.verb, id)
}

// refuseSpaceID words a violation of the rules for ids, with the place it stands in.
func refuseSpaceID(where string, err error) error {
	k, _ := classify(err)
	return refuse(k, fmt.Sprintf("%s: %s", where, err))
}

// parseQuery refuses what url.URL.Query would drop: a parameter that names the
// space must not get lost.
func parseQuery(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(kindMalformedRequest, "the query is malformed")
	}
	return query, nil
}
