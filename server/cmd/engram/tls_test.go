package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "CA"}}
	a.cert, a.key = a.issue(template)
	return a
}

// issue signs a certificate, by itself if there is no authority yet.
func (a *authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return cert, key
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// serverFiles writes a certificate for 127.0.0.1 over what is there.
func (a *authority) serverFiles(dir string) (certFile, keyFile string, cert *x509.Certificate) {
	a.t.Helper()
	cert, key := a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, content := range map[string][]byte{certFile: pemOf("CERTIFICATE", cert.Raw), keyFile: pemOf("PRIVATE KEY", der)} {
		require.NoError(a.t, os.WriteFile(path+".new", content, 0o600))
		require.NoError(a.t, os.Rename(path+".new", path))
	}
	return certFile, keyFile, cert
}

// client returns a client that trusts the authority and has a certificate for
// the name, if there is one. Each request makes a connection of its own.
func (a *authority) client(name string) *http.Client {
	a.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.cert)
	if name != "" {
		cert, key := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
}

// askTLS sends a request and returns the status and what TLS agreed on.
func askTLS(t *testing.T, client *http.Client, method, url, token, body string) (int, *tls.ConnectionState) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, response.TLS
}

// TestServeTLS: an address that others reach, with keys and certificates, and
// both replaced while the server runs.
func TestServeTLS(t *testing.T) {
	sh, dir, ca := newShell(t), t.TempDir(), newAuthority(t)
	certFile, keyFile, first := ca.serverFiles(dir)
	caFile, keys := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "keys.json")
	require.NoError(t, os.WriteFile(caFile, pemOf("CERTIFICATE", ca.cert.Raw), 0o600))
	var key createdKey
	sh.run("key", "create", "--keys", keys, "--scope", "*:read,write,admin", "-o", "json").into(&key)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, printed := io.Pipe()
	var logged lockedBuffer
	code := make(chan int, 1)
	go func() {
		code <- newApp(strings.NewReader(""), printed, &logged).run(ctx, []string{
			"serve", "--data", sh.dir, "--http", "0.0.0.0:0", "--grpc", "off", "--keys", keys, "--tls-cert", certFile, "--tls-key", keyFile,
			"--tls-client-ca", caFile, "--client-cert", "cn:agent=alpha:read",
		})
	}()
	url := announced(t, out)
	require.True(t, strings.HasPrefix(url, "https://"), url)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "https://"))
	require.NoError(t, err)
	url = "https://127.0.0.1:" + port
	ask := func(client *http.Client, method, path, token, body string) (int, *tls.ConnectionState) {
		return askTLS(t, client, method, url+path, token, body)
	}
	plain, agent, stranger := ca.client(""), ca.client("agent"), ca.client("stranger")
	status, state := ask(plain, "POST", "/v1/spaces", key.Key, `{"id":"alpha"}`)
	require.Equal(t, 201, status)
	require.Equal(t, first.SerialNumber, state.PeerCertificates[0].SerialNumber)
	for _, c := range []struct {
		client *http.Client
		path   string
		token  string
		want   int
	}{
		{plain, "/v1/spaces/alpha", "", 401},
		{plain, "/readyz", "", 200},
		{agent, "/v1/spaces/alpha", "", 200},
		{agent, "/v1/spaces/other", "", 404},
		{agent, "/v1/stats", "", 403},
		{agent, "/v1/stats", key.Key, 200},
		{stranger, "/v1/spaces/alpha", "", 401},
	} {
		status, _ := ask(c.client, "GET", c.path, c.token, "")
		require.Equal(t, c.want, status, c.path)
	}
	_, err = newAuthority(t).client("agent").Get(url + "/readyz")
	require.Error(t, err, "of another authority")

	_, _, second := ca.serverFiles(dir)
	sh.run("key", "revoke", "--keys", keys, key.ID).ok()
	status, state = ask(plain, "GET", "/v1/spaces/alpha", key.Key, "")
	require.Equal(t, 401, status)
	require.Equal(t, second.SerialNumber, state.PeerCertificates[0].SerialNumber)

	require.NoError(t, os.WriteFile(certFile, []byte("rubbish"), 0o600))
	_, state = ask(plain, "GET", "/readyz", "", "")
	require.Equal(t, second.SerialNumber, state.PeerCertificates[0].SerialNumber, "what cannot be used leaves what was there")
	stop()
	require.Equal(t, exitOK, <-code, logged.String())
	require.NotContains(t, logged.String(), key.Key)
}

// TestTLSFilesAreComplainedOfOnce: strangers who begin handshakes make no log lines.
func TestTLSFilesAreComplainedOfOnce(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	var flags accessFlags
	flags.tlsCert, flags.tlsKey, _ = newAuthority(t).serverFiles(t.TempDir())
	secured, err := openTLS(flags, zap.New(core))
	require.NoError(t, err)
	handshakes := func() {
		for range 3 {
			_, err := secured.GetConfigForClient(nil)
			require.NoError(t, err)
		}
	}
	for round := range 2 {
		require.NoError(t, os.Rename(flags.tlsCert, flags.tlsCert+".kept"))
		handshakes()
		require.Equal(t, 2*round+1, logs.Len(), "the file is gone")
		require.NoError(t, os.WriteFile(flags.tlsCert, []byte("no certificate"), 0o600))
		handshakes()
		require.Equal(t, 2*round+2, logs.Len(), "there is another, which is none")
		require.NoError(t, os.Rename(flags.tlsCert+".kept", flags.tlsCert))
		handshakes()
	}
}
