//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// TestTLSFilesAreNoPipes: every handshake would wait for what writes to one.
func TestTLSFilesAreNoPipes(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	var flags accessFlags
	flags.tlsCert, flags.tlsKey, _ = ca.serverFiles(dir)
	flags.tlsClientCA = filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(flags.tlsClientCA, pemOf("CERTIFICATE", ca.cert.Raw), 0o600))
	for _, path := range []string{flags.tlsCert, flags.tlsKey, flags.tlsClientCA} {
		secured, err := openTLS(flags, zap.NewNop())
		require.NoError(t, err)
		before, err := secured.GetConfigForClient(nil)
		require.NoError(t, err)
		require.NoError(t, os.Rename(path, path+".kept"))
		require.NoError(t, syscall.Mkfifo(path, 0o600))
		after, err := secured.GetConfigForClient(nil)
		require.NoError(t, err)
		require.Same(t, before, after)
		_, err = openTLS(flags, zap.NewNop())
		require.ErrorContains(t, err, path+" is not a regular file")
		require.NoError(t, os.Rename(path+".kept", path))
	}
}
