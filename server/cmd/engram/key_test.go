package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/server/internal/auth"
)

func TestKeyCommands(t *testing.T) {
	sh := newShell(t)
	path := filepath.Join(t.TempDir(), "keys.json")
	var created createdKey
	sh.run("key", "create", "--keys", path, "--name", "agents", "--scope", "team-*:read,write", "--scope", "ops:admin", "--expires", "48h", "-o", "json").into(&created)
	require.Equal(t, "active", created.Status)
	require.WithinDuration(t, time.Now().Add(48*time.Hour), created.Expires, time.Minute)

	// What was printed opens what was asked for, and is printed nowhere else.
	check := func() (*auth.Principal, error) {
		keys, err := auth.ReadKeys(path)
		require.NoError(t, err)
		gate := &auth.Gate{Keys: auth.NewKeyring(keys)}
		return gate.Authenticate(t.Context(), auth.Credentials{Token: created.Key})
	}
	p, err := check()
	require.NoError(t, err)
	require.NoError(t, p.Authorise(auth.Write, "team-a"))
	secret := created.Key[len(created.Key)-20:]
	listed := sh.run("key", "list", "--keys", path).ok()
	require.NotContains(t, listed.out, secret)
	require.Contains(t, listed.out, "team-*:read,write ops:admin")
	require.NotContains(t, sh.run("key", "list", "--keys", path, "-o", "json").ok().out, secret)
	require.Contains(t, sh.run("key", "create", "--keys", path, "--scope", "*:read").ok().out, "only time")

	sh.run("key", "revoke", "--keys", path, created.ID).ok()
	_, err = check()
	require.ErrorIs(t, err, auth.ErrRevoked)
	var list struct{ Keys []keyItem }
	sh.run("key", "list", "--keys", path, "-o", "json").into(&list)
	require.Len(t, list.Keys, 2)
	require.Equal(t, "revoked", list.Keys[0].Status)
	require.Equal(t, "active", list.Keys[1].Status)

	sh.run("key", "revoke", "--keys", path, "nobody").failed("no such key")
	sh.run("key", "create", "--keys", path).failed("--scope")
	sh.run("key", "create", "--keys", path, "--scope", "*:everything").failed("everything")
	sh.run("key", "create", "--keys", path, "--scope", "*:read", "--expires", "-1h").failed("positive")
	sh.run("key", "create", "--keys", path, "--scope", "*:read", "--expires", "2020-01-01T00:00:00Z").failed("is past")
	sh.run("key", "create", "--keys", path, "--scope", "*:read", "--expires", "30d").failed("720h")
	sh.run("key", "create", "--keys", path, "--scope", "*:read", "--expires", "99999999h").failed("720h, of at most 2562047h")
	sh.run("key", "create", "--keys", path, "--scope", "*:read", "--expires", "2562047h").ok()
	sh.run("key", "list", "--keys", path, "--addr", "http://127.0.0.1:1").failed("--addr")
	sh.run("key", "list", "--keys", path+".not").failed("no such file")
	require.NoDirExists(t, sh.dir, "keys are no part of a data directory")
}
