package main

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCredentials: commands show the server of --addr who they are, by a key, a
// token file, the environment, or a certificate.
func TestCredentials(t *testing.T) {
	sh, dir, ca := newShell(t), t.TempDir(), newAuthority(t)
	t.Setenv(keyVariable, "")
	certFile, keyFile, _ := ca.serverFiles(dir)
	put := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	caFile := put("ca.pem", pemOf("CERTIFICATE", ca.cert.Raw))
	agent, secret := ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "agent"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	require.NoError(t, err)
	agentCert, agentKey := put("agent.pem", pemOf("CERTIFICATE", agent.Raw)), put("agent-key.pem", pemOf("PRIVATE KEY", der))
	keys := filepath.Join(dir, "keys.json")
	var key createdKey
	sh.run("key", "create", "--keys", keys, "--scope", "*:read,write,admin", "-o", "json").into(&key)
	oneKey, twoKeys := put("key", []byte(key.Key+"\n")), put("two-keys", []byte(key.Key+"\n"+key.Key))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, printed := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- newApp(strings.NewReader(""), printed, io.Discard).run(ctx, []string{
			"serve", "--data", sh.dir, "--http", "127.0.0.1:0", "--grpc", "off", "--keys", keys, "--tls-cert", certFile, "--tls-key", keyFile,
			"--tls-client-ca", caFile, "--client-cert", "cn:agent=alpha:read",
		})
	}()
	server := sh
	server.args = []string{"--addr", announced(t, out), "--cacert", caFile}
	server.run("space", "create", "alpha").failed("no credential", "--key-file", "engram key create")
	server.run("space", "create", "alpha", "--key", key.Key).ok()
	server.run("remember", "-s", "alpha", "--key-file", oneKey, "--id", "tea", "green tea").ok()
	require.Contains(t, server.run("lookup", "-s", "alpha", "tea", "--cert", agentCert, "--cert-key", agentKey).ok().out, "green tea")
	server.run("forget", "-s", "alpha", "tea", "--cert", agentCert, "--cert-key", agentKey).failed("does not allow")
	server.run("space", "list", "--key", "engram_wrong").failed("unknown credential")
	server.run("space", "list", "--key", key.Key, "--key-file", oneKey).failed("either --key or --key-file")
	server.run("space", "list", "--key-file", twoKeys).failed("one key")
	server.run("space", "list", "--cert", agentCert).failed("--cert-key")
	server.run("space", "list", "--cacert", agentKey).failed("no certificate")
	server.run("mcp").failed("no credential", "--key-file")
	server.run("mcp", "--key", "engram_wrong").failed("unknown credential")
	server.run("mcp", "--key", key.Key).ok()
	server.run("space", "list", "--key", key.Key+"\nX-Other: y").failed("one key")
	t.Setenv(keyVariable, key.Key+"\n")
	require.Equal(t, "ID\nalpha\n", server.run("space", "list").ok().out)
	server.run("mcp").ok()
	server.args = server.args[:2] // of an authority that nobody has named
	server.run("space", "list").failed("certificate")
	stop()
	require.Equal(t, exitOK, <-code)
}

// TestKeysAreShownToOneServer: a redirect takes no key along.
func TestKeysAreShownToOneServer(t *testing.T) {
	sh := newShell(t)
	var seen []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, "other: "+r.Header.Get("Authorization"))
	}))
	defer other.Close()
	one := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, "one: "+r.Header.Get("Authorization"))
		http.Redirect(w, r, other.URL, http.StatusFound)
	}))
	defer one.Close()
	sh.args = []string{"--addr", one.URL, "--key", "secret"}
	sh.run("space", "list").failed("no Engram server")
	require.Equal(t, []string{"one: Bearer secret", "other: "}, seen)
}
