package engramtest

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
)

// maxCopies bounds how often a directory is copied until nothing has moved.
const maxCopies = 100

// inProcess is a server in the process of the test.
type inProcess struct {
	dir      string
	registry *engram.Registry
	web, rpc net.Listener
	end      func()     // cuts off every connection and request
	served   chan error // of both

	working sync.RWMutex // read-held by each handler; guards gone
	gone    bool         // no handler may begin
}

func startInProcess(tb testing.TB, dir string, options Options) host {
	tb.Helper()
	registry, err := engram.Open(dir, options.Registry)
	require.NoError(tb, err)
	h := &inProcess{dir: dir, registry: registry, served: make(chan error, 2)}
	h.web, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		require.NoError(tb, errors.Join(err, registry.Close()))
	}
	h.rpc, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		require.NoError(tb, errors.Join(err, h.web.Close(), registry.Close()))
	}
	requests, cut := context.WithCancel(context.Background())
	handler := server.New(registry, options.Server)
	web := &http.Server{
		Handler:           h.gate(handler),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: 10 * time.Second,
	}
	calls := &cutListener{Listener: h.rpc, open: map[net.Conn]struct{}{}}
	go func() {
		err := web.Serve(h.web)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		h.served <- err
	}()
	go func() { h.served <- handler.ServeGRPC(requests, calls) }()
	h.end = func() {
		handler.Drain()
		cut()
		// That connections break is what this is for.
		_ = web.Close()
		calls.cut()
	}
	return h
}

// cutListener knows its connections, to cut them all.
type cutListener struct {
	net.Listener

	mu   sync.Mutex // guards the fields below
	open map[net.Conn]struct{}
	gone bool // none is let in
}

func (l *cutListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return nil, errors.Join(net.ErrClosed, connection.Close())
	}
	l.open[connection] = struct{}{}
	return &cutConn{connection, l}, nil
}

func (l *cutListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	for connection := range l.open {
		_ = connection.Close()
	}
}

// cutConn tells its listener when it is closed.
type cutConn struct {
	net.Conn

	listener *cutListener
}

func (c *cutConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c.Conn)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// gate keeps count of the handlers that are at work.
func (h *inProcess) gate(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.working.RLock()
		defer h.working.RUnlock()
		if h.gone {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	})
}

func (h *inProcess) addresses() (url, rpc string) {
	return "http://" + h.web.Addr().String(), h.rpc.Addr().String()
}

// quiet cuts the connections and waits until no handler is at work.
func (h *inProcess) quiet() error {
	h.end()
	err := errors.Join(<-h.served, <-h.served) // calls of gRPC are over with the latter
	h.working.Lock()
	h.gone = true
	h.working.Unlock()
	return err
}

func (h *inProcess) stop() error { return errors.Join(h.quiet(), h.registry.Close()) }

func (h *inProcess) crash(tb testing.TB) string {
	tb.Helper()
	require.NoError(tb, h.quiet())
	dir := filepath.Join(tb.TempDir(), "data")
	for range maxCopies {
		before := listFiles(tb, h.dir)
		err := os.CopyFS(dir, os.DirFS(h.dir))
		if err == nil && sameFiles(before, listFiles(tb, h.dir)) {
			require.NoError(tb, h.registry.Close())
			require.NoError(tb, os.RemoveAll(h.dir))
			return dir
		}
		// A file vanished or grew meanwhile: this copy is of no moment.
		require.NoError(tb, os.RemoveAll(dir))
	}
	require.Fail(tb, "the files of the server do not come to rest", h.dir)
	return ""
}

// fileState is what tells whether a file has changed.
type fileState struct {
	path    string
	size    int64
	changed time.Time
}

func listFiles(tb testing.TB, dir string) []fileState {
	tb.Helper()
	var files []fileState
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return ignoreVanished(err)
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreVanished(err)
		}
		files = append(files, fileState{path, info.Size(), info.ModTime()})
		return nil
	})
	require.NoError(tb, err)
	return files
}

// ignoreVanished: what is gone is missing in the list, which says enough.
func ignoreVanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func sameFiles(a, b []fileState) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].path != b[i].path || a[i].size != b[i].size || !a[i].changed.Equal(b[i].changed) {
			return false
		}
	}
	return true
}
