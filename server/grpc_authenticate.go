package server

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// authenticateCall notes who calls, as authenticate does for HTTP: the same
// credentials, in the metadata of the same names or in the client's certificate.
func (s *Server) authenticateCall(ctx context.Context, c *call) error {
	if c.rule.verb == verbPublic {
		return nil
	}
	var state *tls.ConnectionState
	if p, ok := peer.FromContext(ctx); ok {
		if secured, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			state = &secured.State
		}
	}
	err := s.identify(ctx, &c.request,
		metadata.ValueFromIncomingContext(ctx, authorizationMetadata), metadata.ValueFromIncomingContext(ctx, keyMetadata), state)
	if err != nil {
		return unauthenticated(err)
	}
	return s.admitCaller(c.principal, c.rule.verb, c.rule.about == aboutRegistry)
}

// stillAdmitted returns why the caller's credentials no longer count.
func (c *call) stillAdmitted() error {
	if c.principal == nil {
		return nil
	}
	if err := c.principal.Check(); err != nil {
		return unauthenticated(err)
	}
	return nil
}

// admittedContext returns the context of the call, which ends with the caller's
// credentials.
func (c *call) admittedContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = context.WithValue(ctx, callKey{}, c)
	if c.principal == nil {
		return ctx, func() {}
	}
	return c.principal.Context(ctx)
}

// wordEnd words the error of a call that ended because the caller's credentials
// did.
func (c *call) wordEnd(err error) error {
	if err == nil {
		return nil
	}
	if ended := c.stillAdmitted(); ended != nil {
		return ended
	}
	return err
}
