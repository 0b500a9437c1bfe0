package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/engramdb/engram"
)

func spaceID(s string) engram.SpaceID { return engram.SpaceID(s) }

// issuer signs tokens, with a key of each kind.
type issuer struct {
	t   *testing.T
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return &issuer{t: t, rsa: rsaKey, ec: ecKey, ed: edKey}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// keySet returns the public halves, and beside them what does not count.
func (i *issuer) keySet() []byte {
	i.t.Helper()
	point, err := i.ec.PublicKey.Bytes()
	require.NoError(i.t, err)
	set, err := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": encode(i.rsa.N.Bytes()), "e": encode(big.NewInt(int64(i.rsa.E)).Bytes())},
		{"kty": "EC", "kid": "e", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])},
		{"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": encode(i.ed.Public().(ed25519.PublicKey))},
		{"kty": "RSA", "kid": "enc", "use": "enc", "n": "AQ", "e": "AQAB"},
		{"kty": "oct", "kid": "h", "k": "c2VjcmV0"},
	}})
	require.NoError(i.t, err)
	return set
}

func claims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "https://issuer.example", "aud": []string{"engram", "other"}, "sub": "agent-7",
		"exp": time.Now().Add(time.Hour).Unix(), "engram_scopes": []string{"team-*:read,write"},
	}
}

func (i *issuer) sign(method jwt.SigningMethod, id string, key any, c jwt.MapClaims) string {
	i.t.Helper()
	token := jwt.NewWithClaims(method, c)
	if id != "" {
		token.Header["kid"] = id
	}
	return i.signed(token, key)
}

func (i *issuer) signed(token *jwt.Token, key any) string {
	i.t.Helper()
	text, err := token.SignedString(key)
	require.NoError(i.t, err)
	return text
}

func openTokens(t *testing.T, source string) *Tokens {
	t.Helper()
	tokens, err := OpenTokens(t.Context(), TokenConfig{KeySet: source, Issuer: "https://issuer.example", Audience: "engram"}, zap.NewNop())
	require.NoError(t, err)
	return tokens
}

func TestTokens(t *testing.T) {
	i := newIssuer(t)
	path := filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(path, i.keySet(), 0o600))
	gate := &Gate{Tokens: openTokens(t, path)}
	check := func(text string) (*Principal, error) {
		return gate.Authenticate(t.Context(), Credentials{Token: text})
	}
	for _, text := range []string{
		i.sign(jwt.SigningMethodRS256, "r", i.rsa, claims()),
		i.sign(jwt.SigningMethodES256, "e", i.ec, claims()),
		i.sign(jwt.SigningMethodEdDSA, "d", i.ed, claims()),
		i.sign(jwt.SigningMethodEdDSA, "", i.ed, claims()),
	} {
		p, err := check(text)
		require.NoError(t, err)
		require.Equal(t, "token:agent-7", p.Name())
		require.NoError(t, p.Authorise(Read|Write, "team-a"))
		require.ErrorIs(t, p.Authorise(Read, "other"), ErrHidden)
		require.NoError(t, p.Check())
	}
	with := func(name string, value any) string {
		c := claims()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return i.sign(jwt.SigningMethodEdDSA, "d", i.ed, c)
	}
	p, err := check(with("engram_scopes", "aaa:read bbb:write"))
	require.NoError(t, err)
	require.Len(t, p.Scopes(), 2)
	_, err = check(with("exp", time.Now().Add(-time.Hour).Unix()))
	require.ErrorIs(t, err, ErrExpired)

	extended := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims())
	extended.Header["kid"], extended.Header["crit"] = "d", []string{"bound-to"}
	stranger := newIssuer(t)
	for what, text := range map[string]string{
		"issuer":       with("iss", "https://other.example"),
		"audience":     with("aud", "other"),
		"no audience":  with("aud", nil),
		"no expiry":    with("exp", nil),
		"not yet":      with("nbf", time.Now().Add(time.Hour).Unix()),
		"no subject":   with("sub", nil),
		"no scopes":    with("engram_scopes", nil),
		"empty scopes": with("engram_scopes", ""),
		"bad scopes":   with("engram_scopes", []any{"*:everything"}),
		"odd scopes":   with("engram_scopes", []any{7}),
		"extension":    i.signed(extended, i.ed),
		"stranger":     i.sign(jwt.SigningMethodEdDSA, "d", stranger.ed, claims()),
		"unknown key":  i.sign(jwt.SigningMethodEdDSA, "x", i.ed, claims()),
		"other kind":   i.sign(jwt.SigningMethodEdDSA, "r", i.ed, claims()),
		"HS256":        i.sign(jwt.SigningMethodHS256, "h", []byte("secret"), claims()),
		"HS256 by RSA": i.sign(jwt.SigningMethodHS256, "r", i.rsa.N.Bytes(), claims()),
		"RS512":        i.sign(jwt.SigningMethodRS512, "r", i.rsa, claims()),
		"PS256":        i.sign(jwt.SigningMethodPS256, "r", i.rsa, claims()),
		"none":         i.sign(jwt.SigningMethodNone, "r", jwt.UnsafeAllowNoneSignatureType, claims()),
		"rubbish":      "a.b.c",
	} {
		_, err := check(text)
		require.ErrorIs(t, err, ErrUnknown, what)
	}
}

func TestKeySetFollowsItsURL(t *testing.T) {
	i, next := newIssuer(t), newIssuer(t)
	var served atomic.Value
	var fetched atomic.Int64
	served.Store(i.keySet())
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		_, _ = w.Write(served.Load().([]byte))
	}))
	defer provider.Close()
	tokens := openTokens(t, provider.URL)
	log, logged := observer.New(zap.ErrorLevel)
	tokens.keys.logger = zap.New(log)
	old := i.sign(jwt.SigningMethodES256, "e", i.ec, claims())
	_, err := tokens.authenticate(t.Context(), old)
	require.NoError(t, err)

	served.Store(next.keySet())
	fresh := next.sign(jwt.SigningMethodES256, "e", next.ec, claims())
	for range 3 {
		_, err = tokens.authenticate(t.Context(), i.sign(jwt.SigningMethodES256, "made-up", i.ec, claims()))
		require.ErrorIs(t, err, ErrUnknown)
	}
	require.EqualValues(t, 1, fetched.Load(), "made-up ids must not make the server fetch")

	tokens.keys.ageBy(2 * keySetMaxAge)
	_, err = tokens.authenticate(t.Context(), old)
	require.ErrorIs(t, err, ErrUnknown, "the key was withdrawn")
	_, err = tokens.authenticate(t.Context(), fresh)
	require.NoError(t, err)

	served.Store([]byte("{"))
	tokens.keys.ageBy(2 * keySetMaxAge)
	_, err = tokens.authenticate(t.Context(), fresh)
	require.NoError(t, err, "the last set counts while there is no other")
	require.Equal(t, 1, logged.Len(), "and is told to be old")

	served.Store(i.keySet())
	before := fetched.Load()
	_, err = tokens.authenticate(t.Context(), fresh)
	require.NoError(t, err)
	require.Equal(t, before, fetched.Load(), "not tried again at once")
	tokens.keys.ageBy(2 * keySetMinAge)
	_, err = tokens.authenticate(t.Context(), fresh)
	require.ErrorIs(t, err, ErrUnknown, "one failure does not keep a key that was withdrawn")
}

// TestKeySetThatIsTooLong: a set that goes on is refused for that, whatever its end may say.
func TestKeySetThatIsTooLong(t *testing.T) {
	i := newIssuer(t)
	for _, more := range []int{0, 1} {
		set := append(i.keySet(), bytes.Repeat([]byte{' '}, maxKeySetBytes)...)[:maxKeySetBytes+more]
		provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(set)
		}))
		defer provider.Close()
		_, err := openKeySet(t.Context(), provider.URL, zap.NewNop())
		if more == 0 {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, errKeySet)
		require.ErrorIs(t, err, errKeySetTooLong)
	}
}

// ageBy makes the set as if it had been loaded, and tried to, so much earlier.
func (s *keySet) ageBy(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.tried = s.loaded.Add(-d), s.tried.Add(-d)
}

// TestKeySetThatHangs: who shows a key that is known does not wait for the source.
func TestKeySetThatHangs(t *testing.T) {
	i := newIssuer(t)
	asked := make(chan context.Context, 2)
	answer := make(chan struct{}, 1)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Context()
		select {
		case <-answer:
			_, _ = w.Write(i.keySet())
		case <-r.Context().Done():
		}
	}))
	defer provider.Close()
	answer <- struct{}{}
	tokens := openTokens(t, provider.URL)
	<-asked
	tokens.keys.ageBy(2 * keySetMaxAge)
	refused := make(chan error)
	madeUp := i.sign(jwt.SigningMethodES256, "made-up", i.ec, claims())
	go func() {
		_, err := tokens.authenticate(context.Background(), madeUp)
		refused <- err
	}()
	loading := <-asked
	for range 3 {
		_, err := tokens.authenticate(t.Context(), i.sign(jwt.SigningMethodES256, "e", i.ec, claims()))
		require.NoError(t, err)
	}
	require.NoError(t, loading.Err(), "it has been waited for")
	answer <- struct{}{}
	require.ErrorIs(t, <-refused, ErrUnknown)
	require.Empty(t, asked)
}

func TestTokensRefuseToStart(t *testing.T) {
	dir := t.TempDir()
	weak := filepath.Join(dir, "weak.json")
	require.NoError(t, os.WriteFile(weak, []byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"}]}`), 0o600))
	secret := filepath.Join(dir, "secret.json")
	require.NoError(t, os.WriteFile(secret, []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`), 0o600))
	for _, source := range []string{"", filepath.Join(dir, "none"), weak, secret, "http://issuer.example/jwks", "ftp://127.0.0.1/x"} {
		_, err := OpenTokens(t.Context(), TokenConfig{KeySet: source, Issuer: "i", Audience: "a"}, zap.NewNop())
		require.ErrorIs(t, err, ErrTokens, source)
	}
	_, err := OpenTokens(t.Context(), TokenConfig{KeySet: weak, Issuer: "i"}, zap.NewNop())
	require.ErrorIs(t, err, ErrTokens)
	for _, w := range []webKey{{Type: "EC", Curve: "P-256", X: encode(make([]byte, 32)), Y: encode(make([]byte, 32))}, {Type: "OKP", Curve: "Ed25519", X: "AQ"}} {
		_, decode := w.decoder()
		var key crypto.PublicKey
		key, err = decode()
		require.Error(t, err, "%v", key)
	}
}
