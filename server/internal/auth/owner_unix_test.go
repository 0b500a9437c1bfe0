//go:build unix

package auth

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// TestChangedKeysKeepTheirReaders: the server that follows the file runs as another
// user than who revokes a key, and must be able to read that.
func TestChangedKeysKeepTheirReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	key, _ := newKey(t, time.Time{}, "aaa:read")
	write(t, path, key)
	require.NoError(t, os.Chmod(path, 0o640))
	owner, group := os.Getuid(), os.Getgid()
	if owner == 0 {
		owner, group = 54321, 54322
		require.NoError(t, os.Chown(path, owner, group))
	}
	key.Revoked = time.Now()
	write(t, path, key)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
	stat := info.Sys().(*syscall.Stat_t)
	require.Equal(t, []int{owner, group}, []int{int(stat.Uid), int(stat.Gid)})
}

// TestKeysAreNoPipe: whoever shows a key would wait for what writes to it.
func TestKeysAreNoPipe(t *testing.T) {
	ring, path, _, text := keyringOfOne(t, zap.NewNop())
	defer ring.Close()
	require.NoError(t, os.Remove(path))
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	_, err := ring.authenticate(text)
	require.NoError(t, err, "the last ones still count")
	_, err = OpenKeyring(path, zap.NewNop())
	require.ErrorIs(t, err, ErrKeys)
}

// TestKeySetIsNoPipe: whoever shows a token of an unknown key would wait.
func TestKeySetIsNoPipe(t *testing.T) {
	i, path := newIssuer(t), filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(path, i.keySet(), 0o600))
	tokens := openTokens(t, path)
	require.NoError(t, os.Remove(path))
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	tokens.keys.ageBy(2 * keySetMaxAge)
	_, err := tokens.authenticate(t.Context(), i.sign(jwt.SigningMethodES256, "made-up", i.ec, claims()))
	require.ErrorIs(t, err, ErrUnknown)
	_, err = tokens.authenticate(t.Context(), i.sign(jwt.SigningMethodES256, "e", i.ec, claims()))
	require.NoError(t, err, "the last set still counts")
	_, err = OpenTokens(t.Context(), TokenConfig{KeySet: path, Issuer: "i", Audience: "a"}, zap.NewNop())
	require.ErrorIs(t, err, ErrTokens)
}
