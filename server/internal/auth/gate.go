package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
)

// Errors of Authenticate. They say nothing that the sender does not know.
var (
	// ErrNone: the request shows no credential.
	ErrNone = errors.New("no credential")
	// ErrUnknown: the credential is not one that this server knows.
	ErrUnknown = errors.New("unknown credential")
	// ErrExpired: the credential is genuine, but its time is over.
	ErrExpired = errors.New("credential has expired")
	// ErrRevoked: the credential is genuine, but was revoked or changed.
	ErrRevoked = errors.New("credential was revoked")
)

// Credentials are what a request shows. Empty fields are not there.
type Credentials struct {
	Token       string            // an API key or a JSON Web Token
	Certificate *x509.Certificate // of the client, verified by TLS
}

// Gate admits requests. Fields that are nil admit nobody. The zero Gate admits
// nobody; a nil *Gate asks for nothing and admits [Anyone].
type Gate struct {
	Keys         *Keyring
	Tokens       *Tokens
	Certificates Certificates
}

// Authenticate returns who shows these credentials. A token counts before a
// certificate, because one connection may carry requests of several. It fails
// with ErrNone, ErrUnknown, ErrExpired or ErrRevoked.
func (g *Gate) Authenticate(ctx context.Context, shown Credentials) (*Principal, error) {
	switch {
	case g == nil:
		return Anyone(), nil
	case strings.HasPrefix(shown.Token, keyPrefix) && g.Keys != nil:
		return g.Keys.authenticate(shown.Token)
	case shown.Token != "" && g.Tokens != nil:
		return g.Tokens.authenticate(ctx, shown.Token)
	case shown.Token != "":
		return nil, ErrUnknown
	case shown.Certificate != nil && g.Certificates != nil:
		return g.Certificates.authenticate(shown.Certificate)
	case shown.Certificate != nil:
		return nil, ErrUnknown
	}
	return nil, ErrNone
}
