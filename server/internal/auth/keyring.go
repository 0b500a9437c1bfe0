package auth

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// pollInterval is how often a Keyring looks at its file while nobody asks: what
// an idle stream waits at most for the revocation of its key.
const pollInterval = time.Second

// Keyring knows the keys that count. One that was opened on a file follows it:
// every use looks first whether the file was replaced, which costs a
// microsecond, so a revocation takes effect with the next request and the next
// message of a stream, and within a second on a stream that is idle.
//
// A file that turns unreadable leaves the keys as they were and is complained
// of in the log: a slip of the editor must not lock everybody out, and whoever
// wants to do that can remove the keys. It is tried again each second.
type Keyring struct {
	path   string // empty: the keys never change
	logger *zap.Logger

	mu      sync.RWMutex // guards the fields below
	seen    fs.FileInfo  // what the file was when it was last read, in vain or not
	missing bool         // the file was not there when last looked for
	entries map[string]*entry

	complaint string // why the file could not be read when it was last tried; empty: it could

	stop   context.CancelFunc
	joined chan struct{}
}

// entry is a key that counts, and the principal of everybody who shows it.
type entry struct {
	key       Key
	principal *Principal
	end       context.CancelFunc
}

// OpenKeyring reads the keys of a file and follows it until Close. It fails
// with ErrKeys: a server must not start with keys that it does not know.
func OpenKeyring(path string, logger *zap.Logger) (*Keyring, error) {
	keys, info, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &Keyring{path: path, logger: logger, seen: info, stop: stop, joined: make(chan struct{})}
	k.setLocked(keys)
	go k.follow(ctx)
	return k, nil
}

// IsInline reports whether what names the keys is the JSON of a key file itself, as a
// container gets it from its environment.
func IsInline(keys string) bool { return strings.HasPrefix(strings.TrimSpace(keys), "{") }

// OpenKeys is OpenKeyring, or NewKeyring of the JSON of a key file itself.
func OpenKeys(keys string, logger *zap.Logger) (*Keyring, error) {
	if !IsInline(keys) {
		return OpenKeyring(keys, logger)
	}
	parsed, err := ParseKeys([]byte(keys))
	if err != nil {
		return nil, err
	}
	return NewKeyring(parsed), nil
}

// NewKeyring returns a keyring of keys that never change.
func NewKeyring(keys []Key) *Keyring {
	k := &Keyring{logger: zap.NewNop()}
	k.setLocked(keys)
	return k
}

// Close ends following the file. The keys go on to count as they were.
func (k *Keyring) Close() {
	if k.stop != nil {
		k.stop()
		<-k.joined
	}
}

// Len returns how many keys there are, those that are refused included.
func (k *Keyring) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.entries)
}

func (k *Keyring) follow(ctx context.Context) {
	defer close(k.joined)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.poll()
		}
	}
}

// poll is refresh, and tries a file again that could not be read: the reason may
// have been another than the file.
func (k *Keyring) poll() {
	k.mu.Lock()
	if k.complaint != "" {
		k.seen = nil
	}
	k.mu.Unlock()
	k.refresh()
}

// refresh reads the file if it is another than the one that was last read.
func (k *Keyring) refresh() {
	if k.path == "" {
		return
	}
	info, err := os.Stat(k.path)
	k.mu.RLock()
	unchanged := err == nil && !k.missing && sameFile(info, k.seen) || err != nil && k.missing
	k.mu.RUnlock()
	if unchanged {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.missing = err != nil
	if err != nil {
		k.logger.Error("keys are gone, the last ones still count", zap.Error(err))
		return
	}
	keys, read, err := readKeys(k.path)
	if err != nil {
		k.seen = info
		if k.complaint != err.Error() {
			k.complaint = err.Error()
			k.logger.Error("keys cannot be read, the last ones still count", zap.Error(err))
		}
		return
	}
	k.seen, k.complaint = read, ""
	k.setLocked(keys)
	k.logger.Info("keys were loaded", zap.Int("keys", len(keys)))
}

// sameFile tells replaced files by their identity, and files that were written
// in place by time and size.
func sameFile(a, b fs.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// setLocked replaces the keys. A key that is the same as before keeps its
// principal, and with it its streams; all others end.
func (k *Keyring) setLocked(keys []Key) {
	entries := make(map[string]*entry, len(keys))
	now := time.Now()
	for _, key := range keys {
		if old := k.entries[key.ID]; old != nil && sameKey(old.key, key) {
			entries[key.ID] = old
			continue
		}
		ended, end := context.WithCancel(context.Background())
		entries[key.ID] = &entry{key: key, end: end, principal: &Principal{
			name: "key:" + key.ID, scopes: key.Scopes, expires: key.Expires, ended: ended, refresh: k.refresh,
		}}
		if key.status(now) != nil {
			end()
		}
	}
	for id, old := range k.entries {
		if entries[id] != old {
			old.end()
		}
	}
	k.entries = entries
}

// sameKey reports whether two keys admit the same.
func sameKey(a, b Key) bool {
	return a.Hash == b.Hash && slices.Equal(a.Scopes, b.Scopes) &&
		a.Expires.Equal(b.Expires) && a.Revoked.Equal(b.Revoked)
}

// authenticate returns the principal of a key's text. It fails with ErrUnknown,
// and for one who knows the secret with ErrExpired or ErrRevoked.
func (k *Keyring) authenticate(text string) (*Principal, error) {
	id, secret, ok := splitKey(text)
	if !ok {
		return nil, fmt.Errorf("%w: not of the form of a key", ErrUnknown)
	}
	k.refresh()
	k.mu.RLock()
	found := k.entries[id]
	k.mu.RUnlock()
	if found == nil {
		// Hashing as for a known id leaves no time to tell them apart.
		(&Key{}).matches(secret)
		return nil, ErrUnknown
	}
	if !found.key.matches(secret) {
		return nil, ErrUnknown
	}
	if err := found.key.status(time.Now()); err != nil {
		return nil, err
	}
	return found.principal, nil
}
