package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Bounds on the key set.
const (
	maxKeySetBytes   = 1 << 20 // of one that is fetched
	keySetTimeout    = 10 * time.Second
	keySetMaxAge     = 10 * time.Minute // then it is loaded again: a key that was withdrawn must go
	keySetMinAge     = 30 * time.Second // between two tries, whatever key ids senders make up
	minModulusBits   = 2048
	maxRSAExponent   = 1<<31 - 1
	ecCoordinateSize = 32
)

var (
	errKeySet        = errors.New("key set")
	errKeySetTooLong = fmt.Errorf("is longer than %d bytes", maxKeySetBytes)
)

// keySet is a JSON Web Key Set that is loaded again from time to time. While it
// cannot be, the last one counts, and it is tried again.
type keySet struct {
	source string
	logger *zap.Logger

	loading sync.Mutex // is held while the set is loaded; who shows a key of it waits for no other

	mu     sync.Mutex // guards the fields below; taken last
	keys   []publicKey
	loaded time.Time
	tried  time.Time // to load it, the last time
}

type publicKey struct {
	id        string
	algorithm string
	key       crypto.PublicKey
}

func openKeySet(ctx context.Context, source string, logger *zap.Logger) (*keySet, error) {
	if isURL(source) {
		if err := validateKeySetURL(source); err != nil {
			return nil, err
		}
	}
	set := &keySet{source: source, logger: logger}
	return set, set.load(ctx)
}

func isURL(source string) bool { return strings.Contains(source, "://") }

// validateKeySetURL: whoever can change what is fetched can let anybody in, so
// it comes by https or from the same machine. No error shows more of it than its host.
// An @ elsewhere is the end of a password with a character that should be escaped.
func validateKeySetURL(source string) error {
	parsed, err := url.Parse(source)
	if err != nil || strings.Contains(parsed.RequestURI()+parsed.EscapedFragment(), "@") {
		return fmt.Errorf("%w: its URL is malformed", errKeySet)
	}
	ip := net.ParseIP(parsed.Hostname())
	local := parsed.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if parsed.Scheme != "https" && (parsed.Scheme != "http" || !local) {
		return fmt.Errorf("%w: %s: want https", errKeySet, parsed.Host)
	}
	return nil
}

// find returns the key of a token. A token without a key id counts only where
// there is one key of its algorithm.
func (s *keySet) find(ctx context.Context, id, algorithm string) (crypto.PublicKey, error) {
	key, due, err := s.lookup(id, algorithm)
	switch {
	case !due:
		return key, err
	case err != nil:
		s.loading.Lock()
	case !s.loading.TryLock():
		return key, nil
	}
	defer s.loading.Unlock()
	if key, due, err = s.lookup(id, algorithm); !due { // another has loaded it
		return key, err
	}
	// Not the sender's context: others wait for the same set.
	reload := s.load(context.WithoutCancel(ctx))
	if reload == nil {
		key, _, err = s.lookup(id, algorithm)
		return key, err
	}
	s.logger.Error("key set cannot be loaded, the last one still counts", zap.Error(reload))
	if err != nil {
		return nil, errors.Join(err, reload)
	}
	return key, nil
}

// lookup finds a key in the set as it is, and reports whether that is too old for
// the answer.
func (s *keySet) lookup(id, algorithm string) (key crypto.PublicKey, due bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err = s.findLocked(id, algorithm)
	old := err != nil || time.Since(s.loaded) > keySetMaxAge
	return key, old && time.Since(s.tried) > keySetMinAge, err
}

func (s *keySet) findLocked(id, algorithm string) (crypto.PublicKey, error) {
	var found []publicKey
	for _, key := range s.keys {
		if key.algorithm == algorithm && (id == "" || key.id == id) {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%w: %d keys for %s with id %q", errKeySet, len(found), algorithm, id)
	}
	return found[0].key, nil
}

func (s *keySet) load(ctx context.Context) error {
	keys, err := s.read(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = time.Now()
	if err == nil {
		s.keys, s.loaded = keys, s.tried
	}
	return err
}

func (s *keySet) read(ctx context.Context) ([]publicKey, error) {
	data, err := s.fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeySet, err)
	}
	return parseKeySet(data)
}

func (s *keySet) fetch(ctx context.Context) (data []byte, err error) {
	if !isURL(s.source) {
		if err := refuseIrregular(s.source); err != nil {
			return nil, err
		}
		return os.ReadFile(s.source)
	}
	ctx, cancel := context.WithTimeout(ctx, keySetTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.source, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		return validateKeySetURL(r.URL.String())
	}}
	response, err := client.Do(request)
	var whole *url.Error // which has the URL
	if errors.As(err, &whole) {
		err = whole.Err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", request.URL.Host, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", request.URL.Host, response.Status)
	}
	data, err = io.ReadAll(io.LimitReader(response.Body, maxKeySetBytes+1))
	if len(data) > maxKeySetBytes {
		return nil, fmt.Errorf("%s: %w", request.URL.Host, errKeySetTooLong)
	}
	return data, err
}

// webKey is a key as RFC 7517 and RFC 8037 write it.
type webKey struct {
	Type      string `json:"kty"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv"`
	N         string `json:"n"`
	E         string `json:"e"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

// parseKeySet returns the keys that sign tokens of the algorithms that count.
// Providers publish others beside them, which are left out.
func parseKeySet(data []byte) ([]publicKey, error) {
	var set struct {
		Keys []webKey `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeySet, err)
	}
	var keys []publicKey
	for _, w := range set.Keys {
		algorithm, decode := w.decoder()
		if decode == nil || w.Use != "" && w.Use != "sig" || w.Algorithm != "" && w.Algorithm != algorithm {
			continue
		}
		key, err := decode()
		if err != nil {
			return nil, fmt.Errorf("%w: key %q: %w", errKeySet, w.ID, err)
		}
		keys = append(keys, publicKey{id: w.ID, algorithm: algorithm, key: key})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no key for %s", errKeySet, strings.Join(tokenAlgorithms, ", "))
	}
	return keys, nil
}

func (w *webKey) decoder() (algorithm string, decode func() (crypto.PublicKey, error)) {
	switch {
	case w.Type == "RSA":
		return "RS256", w.rsaKey
	case w.Type == "EC" && w.Curve == "P-256":
		return "ES256", w.ecKey
	case w.Type == "OKP" && w.Curve == "Ed25519":
		return "EdDSA", w.edKey
	}
	return "", nil
}

func (w *webKey) rsaKey() (crypto.PublicKey, error) {
	n, err := decodeInteger(w.N)
	if err != nil {
		return nil, err
	}
	e, err := decodeInteger(w.E)
	if err != nil {
		return nil, err
	}
	if n.BitLen() < minModulusBits || !e.IsInt64() || e.Int64() < 3 || e.Int64() > maxRSAExponent {
		return nil, fmt.Errorf("RSA keys must have %d bits or more", minModulusBits)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

func decodeInteger(s string) (*big.Int, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return new(big.Int).SetBytes(b), err
}

func (w *webKey) ecKey() (crypto.PublicKey, error) {
	point := []byte{4} // uncompressed, SEC 1 section 2.3.3
	for _, text := range []string{w.X, w.Y} {
		coordinate, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(coordinate) != ecCoordinateSize {
			return nil, errors.New("coordinates must be of 32 bytes")
		}
		point = append(point, coordinate...)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

func (w *webKey) edKey() (crypto.PublicKey, error) {
	x, err := base64.RawURLEncoding.DecodeString(w.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x must be of %d bytes", ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(x), nil
}
