package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
)

// Where a request may show a key or token.
const (
	authorizationHeader = "Authorization"
	keyHeader           = "X-Api-Key" // as net/http keeps it: another form is converted with each use
)

const bearerScheme = "bearer"

// Names of the rate limits, in answers and metrics.
const (
	limitSpace  = "space-requests"
	limitCaller = "caller-requests"
)

// limitError says that a request is more than a limit lets through.
type limitError struct {
	kind  kind
	limit string
	wait  time.Duration // until there is room, or may be
}

func (e *limitError) Error() string { return "limit " + e.limit + " is exceeded" }

// authenticate notes who sends the request. A route that is about all spaces is
// authorised here, one about a single space in mean, once that is known.
func (s *Server) authenticate(x *exchange) (err error) {
	if x.route.verb == verbPublic {
		return nil
	}
	header := x.r.Header
	err = s.identify(x.r.Context(), &x.request, header.Values(authorizationHeader), header.Values(keyHeader), x.r.TLS)
	if err != nil {
		return refuseCredentials(x, err)
	}
	return s.admitCaller(x.principal, x.route.verb, reachOf(x.route) == reachRegistry)
}

// maxRefusedBytes bounds what the log says of a credential: some of it is the sender's
// own words.
const maxRefusedBytes = 256

// identify notes in r who shows these values of the two headers, or metadata, and the
// certificate of the connection, or why nobody does. Where nobody is asked for
// credentials, nothing that is shown counts: it may be for what stands before the server.
func (s *Server) identify(
	ctx context.Context, r *request, authorizations, keys []string, state *tls.ConnectionState,
) error {
	if s.options.Auth == nil {
		r.principal = auth.Anyone()
		return nil
	}
	shown, err := credentialsIn(authorizations, keys, certificateOf(state))
	if err == nil {
		r.principal, err = s.options.Auth.gate.Authenticate(ctx, shown)
	}
	if err != nil {
		r.refused = err.Error()
		r.refused = r.refused[:min(len(r.refused), maxRefusedBytes)]
	}
	return err
}

// admitCaller counts a request of the caller, and decides about one that concerns all
// spaces.
func (s *Server) admitCaller(p *auth.Principal, v verb, all bool) error {
	if err := s.limitCaller(p); err != nil {
		return err
	}
	if all {
		return refuseForbidden(v, p.AuthoriseAll(v.permission()))
	}
	return nil
}

// limitCaller counts a request of the caller.
func (s *Server) limitCaller(p *auth.Principal) error {
	if s.options.Auth == nil {
		return nil // everybody is the same caller: a limit on it would tie the spaces together
	}
	if wait := s.callers.Allow(p.Name()); wait > 0 {
		return &limitError{kind: kindRateLimited, limit: limitCaller, wait: wait}
	}
	return nil
}

// credentialsIn reads the values of the two headers, or metadata. More than one
// token is refused: which of them would count must not depend on who reads them.
func credentialsIn(authorizations, keys []string, certificate *x509.Certificate) (auth.Credentials, error) {
	shown := auth.Credentials{Certificate: certificate}
	for _, value := range authorizations {
		scheme, token, _ := strings.Cut(value, " ")
		if !strings.EqualFold(scheme, bearerScheme) || token == "" || shown.Token != "" {
			return auth.Credentials{}, auth.ErrUnknown
		}
		shown.Token = token
	}
	for _, value := range keys {
		if value == "" || shown.Token != "" {
			return auth.Credentials{}, auth.ErrUnknown
		}
		shown.Token = value
	}
	return shown, nil
}

// certificateOf returns the client's certificate if TLS has verified it.
func certificateOf(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// refuseCredentials words why a request is not admitted, with the challenge of
// RFC 6750. Somebody who does not know a secret is not told what is wrong.
func refuseCredentials(x *exchange, err error) error {
	challenge := `Bearer realm="engram"`
	if !errors.Is(err, auth.ErrNone) {
		challenge += `, error="invalid_token"`
	}
	x.w.Header().Set("WWW-Authenticate", challenge)
	return unauthenticated(err)
}

func unauthenticated(err error) error {
	for _, known := range []error{auth.ErrNone, auth.ErrExpired, auth.ErrRevoked} {
		if errors.Is(err, known) {
			return refuse(kindUnauthenticated, known.Error())
		}
	}
	return refuse(kindUnauthenticated, auth.ErrUnknown.Error())
}

// authorise decides whether the caller has the verb on the space, from its id
// alone. A space that the caller may not see is answered as one that does not
// exist.
func (s *Server) authorise(p *auth.Principal, v verb, id engram.SpaceID) error {
	err := p.Authorise(v.permission(), id)
	if err == nil {
		return s.limitSpace(id)
	}
	if errors.Is(err, auth.ErrHidden) {
		return &engram.SpaceNotFoundError{Space: id}
	}
	return refuseForbidden(v, err)
}

// stillMeant returns an error once the space of a request that lasts, which follows it,
// has been renamed to an id where the caller has not got the verb: to the caller it is gone.
func stillMeant(p *auth.Principal, v verb, meant engram.SpaceID, space *engram.Space) error {
	if now := space.ID(); now != meant && p.Authorise(v.permission(), now) != nil {
		return &engram.SpaceNotFoundError{Space: meant}
	}
	return nil
}

// authoriseNew is authorise for a space that the request makes: one that the
// caller may not see is no space that is not found.
func (s *Server) authoriseNew(p *auth.Principal, v verb, id engram.SpaceID) error {
	if err := p.Authorise(v.permission(), id); err != nil {
		return refuseForbidden(v, err)
	}
	return s.limitSpace(id)
}

// limitSpace comes after the authorisation: strangers use up nothing of a space.
func (s *Server) limitSpace(id engram.SpaceID) error {
	if wait := s.spaceRate.Allow(string(id)); wait > 0 {
		return &limitError{kind: kindRateLimited, limit: limitSpace, wait: wait}
	}
	return nil
}

// refuseForbidden words that the caller may not do what needs the verb.
func refuseForbidden(v verb, err error) error {
	if err == nil {
		return nil
	}
	return refuse(kindForbidden, fmt.Sprintf("the credential does not allow to %s here", v.permission()))
}

// meanNew is mean for a space that the request makes.
func (s *Server) meanNew(x *exchange, id engram.SpaceID) error {
	x.space = id
	return s.authoriseNew(x.principal, x.route.verb, id)
}
