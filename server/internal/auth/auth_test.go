package auth

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/engramdb/engram"
)

func scopes(t *testing.T, texts ...string) []Scope {
	t.Helper()
	parsed, err := ParseScopes(texts)
	require.NoError(t, err)
	return parsed
}

func TestScopes(t *testing.T) {
	for _, text := range []string{"*:read", "alpha:read,write,admin", "team-*:write", "a*:admin", "con*:read", strings.Repeat("x", 64) + ":read", strings.Repeat("x", 63) + "*:read"} {
		scope, err := ParseScope(text)
		require.NoError(t, err, text)
		require.Equal(t, text, scope.String())
	}
	for _, text := range []string{"", "*", "*:", "*:reed", "*:read,", ":read", "al:read", "Alpha:read", "con:read", "a*b:read", "**:read", "-*:read", "../*:read", "alpha:read:write", strings.Repeat("x", 65) + "*:read"} {
		_, err := ParseScope(text)
		require.ErrorIs(t, err, ErrScope, text)
	}
	_, err := ParseScopes(nil)
	require.ErrorIs(t, err, ErrScope)
}

func TestAuthorise(t *testing.T) {
	p := &Principal{scopes: scopes(t, "aaa:read", "team-*:read,write", "team-x:admin", "ops:admin")}
	for _, c := range []struct {
		verb  Verb
		space string
		want  error
	}{
		{Read, "aaa", nil},
		{Write, "aaa", ErrForbidden},
		{Read | Write, "aaa", ErrForbidden},
		{Read, "aaab", ErrHidden},
		{Read, "aa", ErrHidden},
		{Read, "team-", nil},
		{Read | Write, "team-a", nil},
		{Admin, "team-a", ErrForbidden},
		{Read | Write | Admin, "team-x", nil},
		{Read, "team", ErrHidden},
		{Read, "ops", ErrForbidden},
		{Admin, "ops", nil},
		{0, "ops", ErrForbidden},
		{0, "other", ErrHidden},
		{Read, "", ErrHidden},
	} {
		err := p.Authorise(c.verb, spaceID(c.space))
		require.Equal(t, c.want, err, "%s on %q", c.verb, c.space)
		require.Equal(t, !errors.Is(c.want, ErrHidden), p.Sees(spaceID(c.space)))
	}
	require.ErrorIs(t, p.AuthoriseAll(Admin), ErrForbidden)
	require.NoError(t, Anyone().AuthoriseAll(All))
	require.ErrorIs(t, Anyone().AuthoriseAll(0), ErrForbidden)
	require.ErrorIs(t, (&Principal{}).Authorise(Read, "aaa"), ErrHidden)
}

// TestBehind walks over ids as a listing does: it meets all that are seen, and of the
// hidden ones no more than there are scopes, and one.
func TestBehind(t *testing.T) {
	var ids []engram.SpaceID
	for _, first := range []string{"aaa", "aab", "ops", "team", "team-", "teamx", "zzz"} {
		ids = append(ids, spaceID(first))
		for n := range 50 {
			ids = append(ids, spaceID(fmt.Sprintf("%s%02d", first, n)))
		}
	}
	slices.Sort(ids)
	for _, texts := range [][]string{
		{"ops:admin"},
		{"team-*:read"},
		{"aaa:read", "zzz:read"},
		{"team*:read", "team-*:write", "team-07:admin"},
		{"never:read"},
		{"zzz*:read", "aaa42:write", "team-:read", "b*:read"},
		{"*:read"},
		{"team:read", "team:write"},
	} {
		p := &Principal{scopes: scopes(t, texts...)}
		var want, got []engram.SpaceID
		for _, id := range ids {
			if p.Sees(id) {
				want = append(want, id)
			}
		}
		hidden := 0
		for at := 0; at < len(ids); {
			if p.Sees(ids[at]) {
				got = append(got, ids[at])
				at++
				continue
			}
			hidden++
			after, more := p.Behind(ids[at])
			if !more {
				break
			}
			require.Less(t, ids[at], after, texts)
			for at < len(ids) && ids[at] <= after {
				at++
			}
		}
		require.Equal(t, want, got, texts)
		require.LessOrEqual(t, hidden, len(texts)+1, texts)
	}
}

func TestOnly(t *testing.T) {
	for want, texts := range map[string][]string{
		"aaa": {"aaa:read", "aaa:write"},
		"-":   {"aaa:read", "bbb:read"},
		"--":  {"aa*:read"},
		"---": {"*:read"},
	} {
		only, ok := (&Principal{scopes: scopes(t, texts...)}).Only()
		require.Equal(t, !strings.HasPrefix(want, "-"), ok, texts)
		if ok {
			require.Equal(t, spaceID(want), only)
		}
	}
	_, ok := (&Principal{}).Only()
	require.False(t, ok)
}

// newKey makes a key with what tests need most.
func newKey(t *testing.T, expires time.Time, texts ...string) (Key, string) {
	t.Helper()
	return NewKey("test", scopes(t, texts...), time.Now(), expires)
}

func write(t *testing.T, path string, keys ...Key) {
	t.Helper()
	require.NoError(t, UpdateKeys(path, func([]Key) ([]Key, error) { return keys, nil }))
}

func TestKeys(t *testing.T) {
	key, text := newKey(t, time.Time{}, "aaa:read")
	gone, goneText := newKey(t, time.Now().Add(-time.Second), "aaa:read")
	revoked, revokedText := newKey(t, time.Time{}, "aaa:read")
	revoked.Revoked = time.Now()
	gate := &Gate{Keys: NewKeyring([]Key{key, gone, revoked})}
	require.Equal(t, 3, gate.Keys.Len())

	p, err := gate.Authenticate(t.Context(), Credentials{Token: text})
	require.NoError(t, err)
	require.Equal(t, "key:"+key.ID, p.Name())
	require.NoError(t, p.Check())
	require.Equal(t, key.Scopes, p.Scopes())

	other, otherText := newKey(t, time.Time{}, "aaa:read")
	require.NotEqual(t, key.ID, other.ID)
	swapped := keyPrefix + key.ID + "_" + otherText[len(otherText)-secretLength:]
	for token, want := range map[string]error{
		goneText: ErrExpired, revokedText: ErrRevoked,
		otherText: ErrUnknown, swapped: ErrUnknown, text + "x": ErrUnknown, text[:len(text)-1]: ErrUnknown,
		strings.ToUpper(text): ErrUnknown, keyPrefix: ErrUnknown, "word": ErrUnknown, key.Hash: ErrUnknown,
		keyPrefix + key.ID + "_" + key.Hash[:secretLength]:                  ErrUnknown,
		keyPrefix + gone.ID + "_" + otherText[len(otherText)-secretLength:]: ErrUnknown,
		"": ErrNone,
	} {
		_, err := gate.Authenticate(t.Context(), Credentials{Token: token})
		require.ErrorIs(t, err, want, token)
	}
	_, err = (&Gate{}).Authenticate(t.Context(), Credentials{Token: text})
	require.ErrorIs(t, err, ErrUnknown)
	anyone, err := (*Gate)(nil).Authenticate(t.Context(), Credentials{})
	require.NoError(t, err)
	require.NoError(t, anyone.Authorise(All, "aaa"))
}

// The file holds nothing that opens anything.
func TestKeyFileHoldsNoSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	key, text := newKey(t, time.Now().Add(time.Hour), "team-*:read,write")
	write(t, path, key)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(content), text[len(text)-secretLength:])
	require.Contains(t, string(content), "team-*:read,write")
	keys, err := ReadKeys(path)
	require.NoError(t, err)
	require.True(t, sameKey(key, keys[0]))
	require.GreaterOrEqual(t, secretLength*5, 128, "bits of a secret in base32")
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		require.NoError(t, os.Chmod(path, 0o620))
		_, err = ReadKeys(path)
		require.ErrorIs(t, err, ErrKeys)
	}
}

func TestKeyFileRefusals(t *testing.T) {
	key, _ := newKey(t, time.Time{}, "aaa:read")
	valid, err := json.Marshal(keyFile{Version: 1, Keys: []Key{key}})
	require.NoError(t, err)
	_, err = ParseKeys(valid)
	require.NoError(t, err)
	for what, replace := range map[string][2]string{
		"version":       {`"version":1`, `"version":2`},
		"no version":    {`"version":1,`, ``},
		"unknown field": {`"version":1`, `"version":1,"more":1`},
		"hash":          {key.Hash, "x" + key.Hash[1:]},
		"short hash":    {key.Hash, key.Hash[2:]},
		"upper hash":    {key.Hash, strings.ToUpper(key.Hash[:63]) + "A"},
		"id":            {key.ID, "short"},
		"scope":         {`"aaa:read"`, `"aaa:reed"`},
		"no scope":      {`"aaa:read"`, ``},
		"end":           {`}]}`, `}]`},
	} {
		broken := strings.Replace(string(valid), replace[0], replace[1], 1)
		require.NotEqual(t, string(valid), broken)
		_, err := ParseKeys([]byte(broken))
		require.ErrorIs(t, err, ErrKeys, what)
	}
	twice, err := json.Marshal(keyFile{Version: 1, Keys: []Key{key, key}})
	require.NoError(t, err)
	_, err = ParseKeys(twice)
	require.ErrorIs(t, err, ErrKeys)

	path := filepath.Join(t.TempDir(), "keys.json")
	_, err = OpenKeyring(path, zap.NewNop())
	require.ErrorIs(t, err, ErrKeys)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(path, twice, 0o600))
	_, err = OpenKeyring(path, zap.NewNop())
	require.ErrorIs(t, err, ErrKeys)
}

// TestMostKeys: as many as a file may hold can be read again, and no more are written.
func TestMostKeys(t *testing.T) {
	scopes, err := ParseScopes([]string{"acme:read"})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "keys.json")
	add := func(n int) error {
		return UpdateKeys(path, func(keys []Key) ([]Key, error) {
			for range n {
				name := len(keys)
				keys = append(keys, Key{
					ID: fmt.Sprintf("%0*d", keyIDLength, name), Hash: fmt.Sprintf("%064x", name),
					Scopes: scopes, Created: time.Unix(1e9, 0).UTC(),
				})
			}
			return keys, nil
		})
	}
	const n = 77_000
	require.NoError(t, add(n))
	require.ErrorContains(t, add(1000), "would be larger")
	keys, err := ReadKeys(path)
	require.NoError(t, err)
	require.Len(t, keys, n)
}

func TestUpdateKeysTogether(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for {
				key, _ := NewKey("", []Scope{{"*", Read}}, time.Now(), time.Time{})
				err := UpdateKeys(path, func(keys []Key) ([]Key, error) { return append(keys, key), nil })
				if err == nil {
					return
				}
				runtime.Gosched() // another one is changing them
			}
		})
	}
	wait.Wait()
	keys, err := ReadKeys(path)
	require.NoError(t, err)
	require.Len(t, keys, 8)
	require.ErrorIs(t, UpdateKeys(path, func([]Key) ([]Key, error) { return nil, ErrKeyNotFound }), ErrKeyNotFound)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// TestRevocationIsImmediate: the call that follows the change of the file sees it.
func TestRevocationIsImmediate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	first, firstText := newKey(t, time.Time{}, "aaa:read")
	second, secondText := newKey(t, time.Time{}, "bbb:read")
	write(t, path, first, second)
	ring, err := OpenKeyring(path, zap.NewNop())
	require.NoError(t, err)
	defer ring.Close()
	p, err := ring.authenticate(firstText)
	require.NoError(t, err)
	other, err := ring.authenticate(secondText)
	require.NoError(t, err)
	stream, end := p.Context(t.Context())
	defer end()
	otherStream, otherEnd := other.Context(t.Context())
	defer otherEnd()

	revoked := first
	revoked.Revoked = time.Now()
	write(t, path, revoked, second)
	require.ErrorIs(t, p.Check(), ErrRevoked)
	<-stream.Done()
	require.ErrorIs(t, context.Cause(stream), ErrRevoked)
	_, err = ring.authenticate(firstText)
	require.ErrorIs(t, err, ErrRevoked)

	require.NoError(t, other.Check())
	require.NoError(t, otherStream.Err())
	again, err := ring.authenticate(secondText)
	require.NoError(t, err)
	require.Same(t, other, again)

	second.Scopes = scopes(t, "bbb:write")
	write(t, path, second)
	require.ErrorIs(t, other.Check(), ErrRevoked, "a key with other scopes is another principal")
	again, err = ring.authenticate(secondText)
	require.NoError(t, err)
	require.NoError(t, again.Authorise(Write, "bbb"))
	_, err = ring.authenticate(firstText)
	require.ErrorIs(t, err, ErrUnknown)
}

// TestIdleStreamsEnd: nobody calls Check, the poll alone ends the stream.
func TestIdleStreamsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.json")
		key, text := newKey(t, time.Time{}, "aaa:read")
		short, shortText := newKey(t, time.Now().Add(time.Minute), "aaa:read")
		write(t, path, key, short)
		ring, err := OpenKeyring(path, zap.NewNop())
		require.NoError(t, err)
		defer ring.Close()
		p, err := ring.authenticate(text)
		require.NoError(t, err)
		shortlived, err := ring.authenticate(shortText)
		require.NoError(t, err)
		stream, end := p.Context(t.Context())
		defer end()
		shortStream, shortEnd := shortlived.Context(t.Context())
		defer shortEnd()

		<-shortStream.Done()
		require.ErrorIs(t, context.Cause(shortStream), ErrExpired)
		require.ErrorIs(t, shortlived.Check(), ErrExpired)
		require.NoError(t, stream.Err())

		began := time.Now()
		write(t, path)
		<-stream.Done()
		require.ErrorIs(t, context.Cause(stream), ErrRevoked)
		require.LessOrEqual(t, time.Since(began), pollInterval)
	})
}

// keyringOfOne returns a keyring of one key that reads space aaa, its file, the key and
// what is shown for it.
func keyringOfOne(t *testing.T, logger *zap.Logger) (ring *Keyring, path string, key Key, text string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.json")
	key, text = newKey(t, time.Time{}, "aaa:read")
	write(t, path, key)
	ring, err := OpenKeyring(path, logger)
	require.NoError(t, err)
	return ring, path, key, text
}

func TestUnreadableKeysStayAsTheyWere(t *testing.T) {
	ring, path, _, text := keyringOfOne(t, zap.NewNop())
	defer ring.Close()
	for _, spoil := range []func() error{
		func() error { return os.WriteFile(path, []byte("{"), 0o600) },
		func() error { return os.Remove(path) },
	} {
		require.NoError(t, spoil())
		p, err := ring.authenticate(text)
		require.NoError(t, err)
		require.NoError(t, p.Check())
	}
	write(t, path)
	_, err := ring.authenticate(text)
	require.ErrorIs(t, err, ErrUnknown)
	ring.Close()
}

// TestUnreadableKeysAreTriedAgain: what made them unreadable may end without a trace
// in the file, as a lack of descriptors does.
func TestUnreadableKeysAreTriedAgain(t *testing.T) {
	core, log := observer.New(zap.ErrorLevel)
	ring, path, key, text := keyringOfOne(t, zap.New(core))
	ring.Close() // the test looks itself
	key.Revoked = time.Now()
	write(t, path, key)
	revoked, err := os.ReadFile(path)
	require.NoError(t, err)
	moment := time.Now()
	put := func(content []byte) {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		require.NoError(t, os.Chtimes(path, moment, moment))
	}
	put(bytes.Repeat([]byte("x"), len(revoked)))
	for range 3 {
		ring.poll()
		_, err = ring.authenticate(text)
		require.NoError(t, err)
	}
	require.Equal(t, 1, log.Len(), "the same is said once")
	put(revoked)
	ring.poll()
	_, err = ring.authenticate(text)
	require.ErrorIs(t, err, ErrRevoked)
}

// TestKeysThatGoAreComplainedOf: each time, also where the same file came back meanwhile.
func TestKeysThatGoAreComplainedOf(t *testing.T) {
	core, log := observer.New(zap.ErrorLevel)
	ring, path, _, _ := keyringOfOne(t, zap.New(core))
	ring.Close() // the test looks itself
	for times := 1; times <= 3; times++ {
		require.NoError(t, os.Rename(path, path+".away"))
		ring.poll()
		ring.poll()
		require.Equal(t, times, log.Len())
		require.NoError(t, os.Rename(path+".away", path))
		ring.poll()
	}
}

func TestCertificates(t *testing.T) {
	rules := Certificates{}
	for _, rule := range []string{"cn:agent=aaa:read", "dns:agent.example=team-*:read,write", "uri:spiffe://x/y?a=b=*:admin", "cn:agent=bbb:write"} {
		require.NoError(t, rules.Add(rule))
	}
	for _, rule := range []string{"agent=aaa:read", "cn:=aaa:read", "cn:agent", "ip:x=aaa:read"} {
		require.ErrorIs(t, rules.Add(rule), ErrCertificateRule, rule)
	}
	require.ErrorIs(t, rules.Add("cn:agent=x"), ErrScope)

	gate := &Gate{Certificates: rules}
	tomorrow := time.Now().Add(24 * time.Hour)
	shown := func(c *x509.Certificate) (*Principal, error) {
		return gate.Authenticate(t.Context(), Credentials{Certificate: c})
	}
	p, err := shown(&x509.Certificate{Subject: pkix.Name{CommonName: "agent"}, NotAfter: tomorrow})
	require.NoError(t, err)
	require.Equal(t, "certificate:cn:agent", p.Name())
	require.NoError(t, p.Authorise(Read, "aaa"))
	require.NoError(t, p.Authorise(Write, "bbb"))
	require.ErrorIs(t, p.Authorise(Read, "team-a"), ErrHidden)

	uri, err := url.Parse("spiffe://x/y?a=b")
	require.NoError(t, err)
	p, err = shown(&x509.Certificate{URIs: []*url.URL{uri}, DNSNames: []string{"other"}, NotAfter: tomorrow})
	require.NoError(t, err)
	require.NoError(t, p.AuthoriseAll(Admin))

	_, err = shown(&x509.Certificate{DNSNames: []string{"agent"}, NotAfter: tomorrow})
	require.ErrorIs(t, err, ErrUnknown, "a name of another kind")
	_, err = shown(&x509.Certificate{Subject: pkix.Name{CommonName: "agent"}, NotAfter: time.Now().Add(-time.Hour)})
	require.ErrorIs(t, err, ErrExpired)
	_, err = (&Gate{}).Authenticate(t.Context(), Credentials{Certificate: &x509.Certificate{}})
	require.ErrorIs(t, err, ErrUnknown)
}
