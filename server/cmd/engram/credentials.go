package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// keyVariable counts where no flag gives a key.
const keyVariable = "ENGRAM_KEY"

// credentialFlags are what a command shows the server of --addr.
type credentialFlags struct {
	key, keyFile string
	authorities  string
	cert, secret string // files of a client certificate
}

func (f *credentialFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.key, "key", "", "API `key` or token for --addr; other users may see it in the list of processes (default $"+keyVariable+", then none)")
	flags.StringVar(&f.keyFile, "key-file", "", "`file` that holds the key or token for --addr")
	flags.StringVar(&f.authorities, "cacert", "", "`file` of the authorities that sign the certificate of --addr (default the system's)")
	flags.StringVar(&f.cert, "cert", "", "`file` of the client certificate for --addr")
	flags.StringVar(&f.secret, "cert-key", "", "`file` of the private key of --cert")
}

// isCredential reports whether a flag is one of these.
func isCredential(name string) bool {
	switch name {
	case "key", "key-file", "cacert", "cert", "cert-key":
		return true
	}
	return false
}

// transport returns what carries requests to the server at the address, and to
// no other, with the credentials.
func (f *credentialFlags) transport(address string) (http.RoundTripper, error) {
	key, err := f.token()
	if err != nil {
		return nil, err
	}
	config, err := f.tls()
	if err != nil {
		return nil, err
	}
	carrier := http.DefaultTransport.(*http.Transport).Clone()
	carrier.TLSClientConfig = config
	target, err := url.Parse(address)
	if key == "" || err != nil { // which whoever uses the address says
		return carrier, nil
	}
	return &keyed{RoundTripper: carrier, key: key, scheme: target.Scheme, host: target.Host}, nil
}

// token returns the key, "" for none.
func (f *credentialFlags) token() (string, error) {
	key, source := os.Getenv(keyVariable), "$"+keyVariable
	switch {
	case f.key != "" && f.keyFile != "":
		return "", errors.New("give either --key or --key-file")
	case f.key != "":
		key, source = f.key, "--key"
	case f.keyFile != "":
		text, err := os.ReadFile(f.keyFile)
		if err != nil {
			return "", fmt.Errorf("--key-file: %w", err)
		}
		key, source = string(text), "--key-file "+f.keyFile
	}
	key = strings.TrimSpace(key)
	if key == "" && f.keyFile != "" || strings.ContainsAny(key, "\r\n") {
		return "", fmt.Errorf("%s: must hold one key", source)
	}
	return key, nil
}

func (f *credentialFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.authorities != "" {
		text, err := os.ReadFile(f.authorities)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--cacert: %s holds no certificate", f.authorities)
		}
	}
	if (f.cert == "") != (f.secret == "") {
		return nil, errors.New("--cert and --cert-key are needed together")
	}
	if f.cert != "" {
		certificate, err := tls.LoadX509KeyPair(f.cert, f.secret)
		if err != nil {
			return nil, fmt.Errorf("--cert: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// keyed shows a key to one server. A redirect to another does not take it along.
type keyed struct {
	http.RoundTripper

	key, scheme, host string
}

// RoundTrip implements [http.RoundTripper].
func (k *keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == k.scheme && r.URL.Host == k.host {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+k.key)
	}
	return k.RoundTripper.RoundTrip(r)
}
