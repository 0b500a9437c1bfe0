package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"go.uber.org/zap"
)

// tlsFiles are the files of a TLS listener. Each handshake looks whether one of
// them has changed, so renewed certificates need no restart. Files that cannot
// be used leave what was there before.
type tlsFiles struct {
	cert, key, clientCA string // clientCA may be empty
	logger              *zap.Logger

	mu      sync.Mutex // guards the fields below
	seen    [3]fs.FileInfo
	config  *tls.Config
	refused string // why files were that have not counted since; said once
}

// openTLS loads the files. It fails if they cannot be used.
func openTLS(flags accessFlags, logger *zap.Logger) (*tls.Config, error) {
	f := &tlsFiles{cert: flags.tlsCert, key: flags.tlsKey, clientCA: flags.tlsClientCA, logger: logger}
	seen, err := f.look()
	if err != nil {
		return nil, err
	}
	if f.config, err = f.load(); err != nil {
		return nil, err
	}
	f.seen = seen
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return f.current(), nil
		},
	}, nil
}

func (f *tlsFiles) current() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.look()
	if err == nil && f.sameLocked(seen) {
		f.refused = ""
		return f.config
	}
	var config *tls.Config
	if err == nil {
		config, err = f.load()
	}
	if err != nil {
		if why := err.Error(); why != f.refused {
			f.refused = why
			f.logger.Error("TLS files cannot be used, the last ones still count", zap.Error(err))
		}
		return f.config
	}
	f.config, f.seen, f.refused = config, seen, ""
	f.logger.Info("TLS files were loaded")
	return f.config
}

// look returns what the files are. Opening a pipe would wait for who writes to it, and
// every handshake meanwhile.
func (f *tlsFiles) look() (seen [3]fs.FileInfo, err error) {
	for i, path := range []string{f.cert, f.key, f.clientCA} {
		if path == "" {
			continue
		}
		if seen[i], err = os.Stat(path); err != nil {
			return seen, fmt.Errorf("TLS: %w", err)
		}
		if !seen[i].Mode().IsRegular() {
			return seen, fmt.Errorf("TLS: %s is not a regular file", path)
		}
	}
	return seen, nil
}

func (f *tlsFiles) sameLocked(seen [3]fs.FileInfo) bool {
	for i, now := range seen {
		before := f.seen[i]
		if now == nil {
			continue
		}
		if !os.SameFile(now, before) || !now.ModTime().Equal(before.ModTime()) || now.Size() != before.Size() {
			return false
		}
	}
	return true
}

func (f *tlsFiles) load() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{certificate},
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if f.clientCA == "" {
		return config, nil
	}
	authorities, err := os.ReadFile(f.clientCA)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("TLS: %s holds no certificate", f.clientCA)
	}
	// Clients without one may still show a key.
	config.ClientAuth = tls.VerifyClientCertIfGiven
	return config, nil
}
