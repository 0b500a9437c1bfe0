package server

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/engramdb/engram/server/internal/auth"
)

// AuthConfig says which credentials count. Any one of them is enough for a request.
//
// Each grants scopes, PATTERN:VERB,VERB: verbs (read, write, admin) on a space, on the
// spaces of a prefix ("team-*"), or on all ("*").
type AuthConfig struct {
	// Keys is the file of the API keys that count, as engram key create makes it; or,
	// where it begins with "{", the JSON of such a file itself. A file is followed: a
	// key that is added or revoked there counts, or ceases to, with the next request.
	// While it cannot be read, the last keys count. Default none.
	Keys string
	// Tokens says which JSON Web Tokens count; default none.
	Tokens TokenConfig
	// Certificates are what the bearers of client certificates may do, as NAME=SCOPE
	// with cn: (common name), dns: or uri: (alternative names) before the name:
	// "cn:agent=team-*:read". More than one may be for a name. TLS must have verified
	// the certificate, with the authorities of the listener's configuration. Default
	// none.
	Certificates []string
	// Logger hears of files that are read again or cannot be; default none.
	Logger *zap.Logger
}

// TokenConfig says which JSON Web Tokens count (RFC 7519; RS256, ES256, EdDSA), as an
// OpenID provider issues them. A token needs iss, aud, exp, sub and the claim of the
// scopes. All fields but Claim are required.
type TokenConfig struct {
	// KeySet is a file, or the https URL, of a JSON Web Key Set (RFC 7517). It is
	// loaded again once it is ten minutes old, or has not got the key that a token
	// names; while it cannot be, the last one counts.
	KeySet string
	// Issuer is what the claim iss must be.
	Issuer string
	// Audience is what the claim aud must contain.
	Audience string
	// Claim is the claim with the scopes, a list or separated by spaces; default
	// "engram_scopes".
	Claim string
}

// Auth decides who may do what. It is safe for concurrent use, also by several servers.
type Auth struct{ gate auth.Gate }

// OpenAuth loads what the configuration names. It fails where that cannot be used, and
// where the configuration names nothing: a server must not start with credentials that
// it does not know. ctx ends the loading only. The caller must Close the result after
// Serve has returned.
func OpenAuth(ctx context.Context, config AuthConfig) (*Auth, error) {
	logger := config.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	tokens := config.Tokens
	withTokens := tokens.KeySet != "" || tokens.Issuer != "" || tokens.Audience != ""
	if config.Keys == "" && !withTokens && len(config.Certificates) == 0 {
		return nil, errors.New("credentials: neither keys, tokens nor certificates are configured")
	}
	a := new(Auth)
	var err error
	if withTokens {
		if a.gate.Tokens, err = auth.OpenTokens(ctx, auth.TokenConfig(tokens), logger); err != nil {
			return nil, err
		}
	}
	if len(config.Certificates) > 0 {
		a.gate.Certificates = auth.Certificates{}
	}
	for _, rule := range config.Certificates {
		if err := a.gate.Certificates.Add(rule); err != nil {
			return nil, err
		}
	}
	if config.Keys != "" { // last: what a ring on a file begins has to be ended
		if a.gate.Keys, err = auth.OpenKeys(config.Keys, logger); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Close ends following the file of keys, which go on to count as they were. It may be
// called more than once; a nil *Auth has nothing to end.
func (a *Auth) Close() {
	if a != nil && a.gate.Keys != nil {
		a.gate.Keys.Close()
	}
}
