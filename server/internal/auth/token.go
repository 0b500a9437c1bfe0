package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
)

// DefaultScopeClaim is the claim of a token that holds its scopes.
const DefaultScopeClaim = "engram_scopes"

// tokenLeeway is how far the clocks of issuer and server may differ.
const tokenLeeway = 30 * time.Second

// maxSubjectBytes bounds the subject, which stands in logs.
const maxSubjectBytes = 256

// tokenAlgorithms are what a signature may be. HS256 is not among them: with it
// whoever can check a token can make one.
var tokenAlgorithms = []string{"RS256", "ES256", "EdDSA"}

// ErrTokens is wrapped by errors about the settings for JSON Web Tokens.
var ErrTokens = errors.New("JSON Web Tokens")

// TokenConfig says which JSON Web Tokens count. All but Claim are required.
type TokenConfig struct {
	KeySet   string // file or https URL of a JSON Web Key Set (RFC 7517)
	Issuer   string // the claim iss must be this
	Audience string // the claim aud must contain this
	Claim    string // with the scopes, as a list or separated by spaces; default DefaultScopeClaim
}

// Tokens checks JSON Web Tokens (RFC 7519), as an OpenID provider issues them.
// A token needs iss, aud, exp, sub and the claim of the scopes.
type Tokens struct {
	claim  string
	keys   *keySet
	parser *jwt.Parser
}

// OpenTokens loads the key set. It fails with ErrTokens: a server must not start
// with tokens that it cannot check. That the set cannot be loaded again later is logged.
func OpenTokens(ctx context.Context, config TokenConfig, logger *zap.Logger) (*Tokens, error) {
	if config.KeySet == "" || config.Issuer == "" || config.Audience == "" {
		return nil, fmt.Errorf("%w: key set, issuer and audience are needed together", ErrTokens)
	}
	keys, err := openKeySet(ctx, config.KeySet, logger)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTokens, err)
	}
	if config.Claim == "" {
		config.Claim = DefaultScopeClaim
	}
	return &Tokens{claim: config.Claim, keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods(tokenAlgorithms),
		jwt.WithIssuer(config.Issuer),
		jwt.WithAudience(config.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(tokenLeeway),
		jwt.WithStrictDecoding(),
	)}, nil
}

func (t *Tokens) authenticate(ctx context.Context, text string) (*Principal, error) {
	claims := jwt.MapClaims{}
	_, err := t.parser.ParseWithClaims(text, claims, func(token *jwt.Token) (any, error) {
		if _, critical := token.Header["crit"]; critical { // RFC 7515, section 4.1.11: no extension is known here
			return nil, errors.New("the token has extensions that must be understood")
		}
		id, _ := token.Header["kid"].(string)
		return t.keys.find(ctx, id, token.Method.Alg())
	})
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, ErrExpired
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	subject, err := claims.GetSubject()
	if err != nil || subject == "" || len(subject) > maxSubjectBytes {
		return nil, fmt.Errorf("%w: the token has no usable subject", ErrUnknown)
	}
	scopes, err := scopesOf(claims[t.claim])
	if err != nil {
		return nil, fmt.Errorf("%w: claim %s: %w", ErrUnknown, t.claim, err)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return &Principal{name: "token:" + subject, scopes: scopes, expires: expires.Add(tokenLeeway)}, nil
}

// scopesOf reads a list of texts, or one text with spaces between the scopes,
// as OAuth 2.0 writes them.
func scopesOf(claim any) ([]Scope, error) {
	switch claim := claim.(type) {
	case string:
		return ParseScopes(strings.Fields(claim))
	case []any:
		texts := make([]string, len(claim))
		for i, element := range claim {
			text, ok := element.(string)
			if !ok {
				return nil, fmt.Errorf("%w: not a text", ErrScope)
			}
			texts[i] = text
		}
		return ParseScopes(texts)
	}
	return nil, fmt.Errorf("%w: there is none", ErrScope)
}
