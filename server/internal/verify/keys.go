package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
)

// Key is an API key with what it may do, as engram key create -o json prints it.
type Key struct {
	ID     string       `json:"id"`
	Scopes []auth.Scope `json:"scopes"`
	Key    string       `json:"key"`
}

// ParseKeys reads keys, one JSON object after the other. It fails with ErrConfig.
func ParseKeys(r io.Reader) ([]Key, error) {
	var keys []Key
	for decoder := json.NewDecoder(r); ; {
		var key Key
		err := decoder.Decode(&key)
		switch {
		case errors.Is(err, io.EOF) && len(keys) > 0:
			return keys, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: the file holds no key", ErrConfig)
		case err != nil:
			return nil, fmt.Errorf("%w: key %d: %w", ErrConfig, len(keys)+1, err)
		case key.Key == "" || len(key.Scopes) == 0:
			return nil, fmt.Errorf("%w: key %d: give what `engram key create -o json` prints, with the fields key and scopes", ErrConfig, len(keys)+1)
		}
		keys = append(keys, key)
	}
}

// roles are what the keys are used for.
type roles struct {
	operator string // the key that makes and deletes the spaces; empty: none is needed
	prefix   string // that its spaces must begin with
	tenants  []tenantKey
}

// tenantKey sees the spaces that begin with its prefix, and no others.
type tenantKey struct {
	Key

	prefix string
	verbs  auth.Verb
}

// rolesOf takes the first key that may do everything with the spaces of some
// prefix, or all, for the operator, and the others that are confined to a longer
// one for tenants. Keys of single spaces are of no use: those exist.
func rolesOf(keys []Key) (roles, error) {
	var r roles
	if len(keys) == 0 {
		return r, nil
	}
	for _, key := range keys {
		for _, scope := range key.Scopes {
			if prefix, open := strings.CutSuffix(scope.Pattern, "*"); open && scope.Verbs == auth.All && r.operator == "" {
				r.operator, r.prefix = key.Key, prefix
			}
		}
	}
	if r.operator == "" {
		return r, fmt.Errorf("%w: no key may read, write and administer the spaces of a prefix, as with the scope %q", ErrConfig, prefixOfSpaces+"*:read,write,admin")
	}
	base := r.prefix + prefixOfSpaces
	for _, key := range keys {
		if key.Key == r.operator || len(key.Scopes) != 1 {
			continue
		}
		prefix, open := strings.CutSuffix(key.Scopes[0].Pattern, "*")
		confined := open && strings.HasPrefix(prefix, r.prefix) && !strings.HasPrefix(base, prefix)
		if confined && key.Scopes[0].Verbs&auth.Read != 0 {
			r.tenants = append(r.tenants, tenantKey{key, prefix, key.Scopes[0].Verbs})
		}
	}
	return r, nil
}

// tenantSees reports whether the key of a tenant is about ids that begin so.
func (r roles) tenantSees(begin string) bool {
	return slices.ContainsFunc(r.tenants, func(t tenantKey) bool { return strings.HasPrefix(begin, t.prefix) })
}

// tenant is a key over one transport.
type tenant struct {
	tenantKey

	over transport
}

// tenants are those of all transports, and strangers.
type tenants []tenant

// on returns those over a transport.
func (t tenants) on(over transport) []tenant {
	var on []tenant
	for _, tenant := range t {
		if tenant.over.name() == over.name() {
			on = append(on, tenant)
		}
	}
	return on
}

// dialTenants reaches the server with the key of each tenant.
func (r *run) dialTenants(keys roles) error {
	for _, key := range keys.tenants {
		if id := r.spaces.nextWith(key.prefix, 1)[0]; id.Validate() != nil {
			return fmt.Errorf("%w: the prefix of key %s leaves no room for an id: %s: %w", ErrConfig, key.ID, id, id.Validate())
		}
		transports, err := r.dial(key.Key.Key)
		if err != nil {
			return err
		}
		for _, over := range transports {
			r.tenants = append(r.tenants, tenant{key, over})
		}
	}
	return nil
}

// sees reports whether the tenant's key is about such a space.
func (t tenant) sees(id engram.SpaceID) bool { return strings.HasPrefix(string(id), t.prefix) }
