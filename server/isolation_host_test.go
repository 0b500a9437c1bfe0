package server

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
	"github.com/engramdb/engram/server/internal/auth"
	"github.com/engramdb/engram/server/internal/tracing"
)

// isolationBurst is how many requests the space of a tenant, and its key, may
// have while a server runs: more than A sends in nine scripts of ten, less than all
// tenants do. The rate adds nothing to it, and makes everybody who is refused wait alike.
const (
	isolationBurst = 110
	isolationRate  = 1e-12
)

// isolationRoom is what the hosts of one layer share.
type isolationRoom struct {
	dir  string
	keys map[string]string // by the name that the space of a tenant begins with
	gate *Auth

	servers atomic.Uint32 // that there have been
}

func newIsolationRoom(t *testing.T) *isolationRoom {
	t.Helper()
	room := &isolationRoom{dir: t.TempDir(), keys: make(map[string]string)}
	var keys []auth.Key
	for _, name := range ni.Names() {
		scopes, err := auth.ParseScopes([]string{name + ":read,write,admin", name + ni.Renamed + ":read,write,admin"})
		require.NoError(t, err)
		key, text := auth.NewKey(name, scopes, time.Now(), time.Time{})
		keys = append(keys, key)
		room.keys[name] = text
	}
	room.gate = &Auth{auth.Gate{Keys: auth.NewKeyring(keys)}}
	return room
}

// isolationHost is a server over a directory, with everything pinned that is no
// answer.
type isolationHost struct {
	room  *isolationRoom
	dir   string
	now   func() time.Time
	serve func(*Server, context.Context, net.Listener) error
	logs  ni.Log
	seen  string // metrics of the servers before
	spans *traceSink

	registry *engram.Registry
	provider *tracing.Provider
	server   *Server
	listener *memoryListener
	end      context.CancelFunc
	served   chan error

	damaged atomic.Bool

	mu     sync.Mutex
	tokens map[int]isolationTokens // by tenant
	lives  []string                // incarnations of A's spaces
}

// isolationTokens are what a tenant was given to come back with.
type isolationTokens struct {
	cursor      string
	tag         string
	incarnation string
}

func newIsolationHost(
	room *isolationRoom, now func() time.Time, serve func(*Server, context.Context, net.Listener) error,
) *isolationHost {
	dir, err := os.MkdirTemp(room.dir, "run")
	orPanic(err)
	h := &isolationHost{room: room, dir: dir, now: now, serve: serve, tokens: make(map[int]isolationTokens)}
	h.spans = newTraceSink()
	h.start()
	return h
}

// orPanic is for what has nothing to do with what is tested.
func orPanic(err error) {
	if err != nil {
		panic(err)
	}
}

func (h *isolationHost) start() {
	logger := h.logs.Logger()
	var err error
	h.registry, err = engram.Open(h.dir, engram.Options{
		JournalBytes: 1 << 20, Clock: ni.Clock(h.now), Logger: logger,
	})
	orPanic(err)
	h.provider, err = tracing.Open(context.Background(), tracing.Config{Endpoint: h.spans.URL, Ratio: 1}, logger)
	orPanic(err)
	rate := Rate{PerSecond: isolationRate, Burst: isolationBurst}
	h.server = New(h.registry, Options{
		Auth: h.room.gate, SpaceRate: rate, CallerRate: rate, Logger: logger, TracerProvider: h.provider,
	})
	h.server.heartbeat = time.Hour
	h.listener = newMemoryListener(h.room.servers.Add(1))
	var ctx context.Context
	ctx, h.end = context.WithCancel(context.Background())
	h.served = make(chan error, 1)
	go func() { h.served <- h.serve(h.server, ctx, h.listener) }()
}

// stop ends the server, whose clients have let go of it, and closes the
// registry. A damaged space may not close well.
func (h *isolationHost) stop() {
	w := httptest.NewRecorder()
	h.server.AdminHandler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", http.NoBody))
	h.seen += w.Body.String()
	h.end()
	orPanic(<-h.served)
	orPanic(h.provider.Close())
	if err := h.registry.Close(); !h.damaged.Load() {
		orPanic(err)
	}
}

// remains are what no value of a tenant may be in.
func (h *isolationHost) remains() map[string]string {
	orPanic(os.RemoveAll(h.dir))
	h.spans.Close()
	return map[string]string{"the log": h.logs.String(), "the metrics": h.seen, "the traces": h.spans.bytes()}
}

// key of the tenant whose space it is.
func (h *isolationHost) key(space string) string {
	return h.room.keys[strings.TrimSuffix(space, ni.Renamed)]
}

// otherName is the name that a space has when it has not this one.
func otherName(space string) string {
	if name, renamed := strings.CutSuffix(space, ni.Renamed); renamed {
		return name
	}
	return space + ni.Renamed
}

// seq of a space's last operation; 0 where the space is not there.
func (h *isolationHost) seq(space string) uint64 {
	info, err := h.registry.Info(context.Background(), engram.SpaceID(space))
	if err != nil {
		return 0
	}
	return info.Seq
}

// damage changes a byte of one of the space's files. They are open meanwhile:
// the space finds it when it reads them next.
func (h *isolationHost) damage(op *ni.Op) {
	if op.Tenant == 0 {
		return
	}
	var files []string
	err := filepath.WalkDir(filepath.Join(h.dir, op.Space), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) || len(files) == 0 {
		return
	}
	orPanic(err)
	h.damaged.Store(true)
	file, err := os.OpenFile(files[op.After%uint64(len(files))], os.O_RDWR, 0)
	orPanic(err)
	info, err := file.Stat()
	orPanic(err)
	if n := info.Size(); n > 0 {
		at := int64(op.After >> 8 % uint64(n))
		one := make([]byte, 1)
		_, err = file.ReadAt(one, at)
		orPanic(err)
		one[0] ^= 0x10
		_, err = file.WriteAt(one, at)
		orPanic(err)
	}
	orPanic(file.Close())
}

// note keeps what the tenant was given.
func (h *isolationHost) note(tenant int, given isolationTokens) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.tokens[tenant]
	if given.cursor != "" {
		kept.cursor = given.cursor
	}
	if given.tag != "" {
		kept.tag = given.tag
	}
	if given.incarnation != "" {
		kept.incarnation = given.incarnation
		if tenant == 0 {
			h.lives = append(h.lives, given.incarnation)
		}
	}
	h.tokens[tenant] = kept
}

// own are what the tenant was given last.
func (h *isolationHost) own(tenant int) isolationTokens {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tokens[tenant]
}

// foreign are tokens of somebody else where there are any, and such as might be.
// A is refused alike with both.
func (h *isolationHost) foreign(tenant int) isolationTokens {
	madeUp := strings.Repeat("5e", 16)
	tokens := isolationTokens{
		cursor:      cursor{incarnation: madeUp, time: h.now(), seq: 2}.String(),
		tag:         h.server.tag(madeUp, 2),
		incarnation: madeUp,
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := 1; i < 4; i++ {
		given := h.tokens[(tenant+i)%4]
		if given.cursor != "" {
			tokens.cursor = given.cursor
		}
		if given.tag != "" {
			tokens.tag = given.tag
		}
		if given.incarnation != "" {
			tokens.incarnation = given.incarnation
		}
	}
	return tokens
}

// pin replaces A's incarnations, which are random, in what A is shown: by its
// number, in as many bytes. They stand in cursors, too.
func (h *isolationHost) pin(text, cursor string) string {
	if buf, err := base64.RawURLEncoding.DecodeString(cursor); cursor != "" && err == nil {
		text = strings.ReplaceAll(text, cursor, hex.EncodeToString(buf))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, life := range h.lives {
		text = strings.ReplaceAll(text, life[:16], fmt.Sprintf("A's life no %04d", i))
		text = strings.ReplaceAll(text, life[16:], fmt.Sprintf("- and the rest %c", 'a'+i%26))
	}
	return text
}
