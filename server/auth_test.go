package server

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/server/internal/auth"
)

// newKey returns a key with the scope, and the JSON of a file that holds it.
func newKey(t *testing.T, scope string) (text, file string) {
	t.Helper()
	scopes, err := auth.ParseScopes([]string{scope})
	require.NoError(t, err)
	key, text := auth.NewKey("", scopes, time.Now(), time.Time{})
	stored, err := json.Marshal(key)
	require.NoError(t, err)
	return text, fmt.Sprintf(`{"version": 1, "keys": [%s]}`, stored)
}

func TestOpenAuth(t *testing.T) {
	text, file := newKey(t, "alpha:read")
	opened, err := OpenAuth(t.Context(), AuthConfig{Keys: file, Certificates: []string{"cn:agent=alpha:read", "cn:agent=beta:write"}})
	require.NoError(t, err)
	defer opened.Close()
	f := newFixture(t, Options{Auth: opened})
	f.create("alpha")
	require.Equal(t, 200, f.call("GET", "/v1/spaces/alpha", "", keyHeader, text).status)
	f.call("GET", "/v1/spaces/alpha", "").problem(401, "unauthenticated")

	agent := &x509.Certificate{Subject: pkix.Name{CommonName: "agent"}, NotAfter: time.Now().Add(time.Hour)}
	principal, err := opened.gate.Authenticate(t.Context(), auth.Credentials{Certificate: agent})
	require.NoError(t, err)
	require.NoError(t, principal.Authorise(auth.Write, "beta"))
}

// TestOpenAuthRefuses what would admit others than are meant, or nobody.
func TestOpenAuthRefuses(t *testing.T) {
	_, file := newKey(t, "alpha:read")
	missing := filepath.Join(t.TempDir(), "missing.json")
	for name, refused := range map[string]struct {
		config AuthConfig
		err    error // nil: any
	}{
		"nothing":               {AuthConfig{}, nil},
		"a claim alone":         {AuthConfig{Tokens: TokenConfig{Claim: "scopes"}}, nil},
		"no file":               {AuthConfig{Keys: missing}, fs.ErrNotExist},
		"malformed keys":        {AuthConfig{Keys: "{"}, auth.ErrKeys},
		"tokens of any issuer":  {AuthConfig{Keys: file, Tokens: TokenConfig{KeySet: missing, Audience: "engram"}}, auth.ErrTokens},
		"tokens without a set":  {AuthConfig{Keys: file, Tokens: TokenConfig{Issuer: "issuer"}}, auth.ErrTokens},
		"no set":                {AuthConfig{Tokens: TokenConfig{KeySet: missing, Issuer: "issuer", Audience: "engram"}}, fs.ErrNotExist},
		"a rule without a name": {AuthConfig{Keys: file, Certificates: []string{"alpha:read"}}, auth.ErrCertificateRule},
		"a rule without a verb": {AuthConfig{Keys: file, Certificates: []string{"cn:agent=alpha"}}, auth.ErrScope},
	} {
		t.Run(name, func(t *testing.T) {
			opened, err := OpenAuth(t.Context(), refused.config)
			require.Error(t, err)
			require.Nil(t, opened)
			if refused.err != nil {
				require.ErrorIs(t, err, refused.err)
			}
		})
	}
}
