package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// keyPrefix begins every key, so that a scanner for leaked secrets finds them.
const keyPrefix = "engram_"

// Lengths of the parts of a key: engram_ID_SECRET, all in base32. The id has 80
// random bits, which only have to be unique, the secret 260.
const (
	keyIDLength  = 16
	secretLength = 52
)

// Key is what is stored of an API key. The secret is not: only its hash. A
// plain SHA-256 is enough, because the secret is random and long; a slow hash
// makes short secrets expensive to guess, and every request with them.
type Key struct {
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"` // for people
	Hash    string    `json:"sha256"`         // of the secret, in hex
	Scopes  []Scope   `json:"scopes"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // from then on it is refused
	Revoked time.Time `json:"revoked,omitzero"` // since when it is refused
}

// NewKey makes a key and returns its text, which nothing can recover later.
func NewKey(name string, scopes []Scope, created, expires time.Time) (Key, string) {
	random := strings.ToLower(rand.Text() + rand.Text() + rand.Text())
	id, secret := random[:keyIDLength], random[len(random)-secretLength:]
	key := Key{
		ID: id, Name: name, Hash: hashOf(secret), Scopes: scopes,
		Created: created.UTC().Truncate(time.Second), Expires: expires.UTC(),
	}
	return key, keyPrefix + id + "_" + secret
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// splitKey returns the parts of a key's text.
func splitKey(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	return id, secret, ok && len(id) == keyIDLength && len(secret) == secretLength
}

// matches compares in constant time. A Key without a hash matches nothing.
func (k *Key) matches(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hashOf(secret)), []byte(k.Hash)) == 1
}

// status returns nil, or why the key is refused at that time.
func (k *Key) status(now time.Time) error {
	switch {
	case !k.Revoked.IsZero():
		return ErrRevoked
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return ErrExpired
	}
	return nil
}

// Status returns "active", "expired" or "revoked".
func (k *Key) Status(now time.Time) string {
	switch err := k.status(now); {
	case err == nil:
		return "active"
	case errors.Is(err, ErrExpired):
		return "expired"
	}
	return "revoked"
}
