package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/engramdb/engram"
)

// running is a server on a real listener.
type running struct {
	*fixture
	address string
	stop    context.CancelFunc
	ended   chan error
}

func start(t *testing.T, f *fixture) *running {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{fixture: f, address: listener.Addr().String(), stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- f.server.Serve(ctx, listener) }()
	t.Cleanup(stop)
	return r
}

// wait returns what Serve returned.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(time.Minute):
		require.FailNow(r.t, "Serve did not return")
		return nil
	}
}

// dial opens a connection that sends and reads raw bytes.
func (r *running) dial() *net.TCPConn {
	r.t.Helper()
	connection, err := net.Dial("tcp", r.address)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, connection.Close()) })
	require.NoError(r.t, connection.SetDeadline(time.Now().Add(time.Minute)))
	return connection.(*net.TCPConn)
}

func (r *running) send(connection net.Conn, text string) {
	r.t.Helper()
	_, err := io.WriteString(connection, text)
	require.NoError(r.t, err)
}

func (r *running) read(connection net.Conn) reply {
	r.t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	require.NoError(r.t, err)
	return readReply(r.t, response)
}

// hang opens a request that promises a body of n bytes, and returns when the
// server waits for them: its 100 Continue says so.
func (r *running) hang(path string, n int) *net.TCPConn {
	r.t.Helper()
	connection := r.dial()
	r.send(connection, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", path, n))
	const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
	got := make([]byte, len(goOn))
	_, err := io.ReadFull(connection, got)
	require.NoError(r.t, err)
	require.Equal(r.t, goOn, string(got))
	return connection
}

func TestServeEndsAfterRequestsUnderWay(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	r := start(t, f)
	const body = `{"content":"said while the server was told to end"}`
	slow := r.hang("/v1/spaces/alpha/memories", len(body))
	r.send(slow, body[:10])

	r.stop()
	require.Eventually(t, func() bool {
		return f.call("GET", "/readyz", "").status == http.StatusServiceUnavailable
	}, time.Minute, time.Millisecond)
	select {
	case err := <-r.ended:
		require.FailNow(t, "Serve returned before the request was answered", "%v", err)
	case <-time.After(50 * time.Millisecond):
	}
	r.send(slow, body[10:])
	require.Equal(t, http.StatusCreated, r.read(slow).status)
	require.NoError(t, r.wait())
	require.Equal(t, 1, memoryCount(t, space))
	_, err := net.Dial("tcp", r.address)
	require.Error(t, err, "nobody listens any more")
}

func TestServeCutsOffAtTheDeadline(t *testing.T) {
	f := newFixture(t, Options{DrainTimeout: 50 * time.Millisecond})
	space := f.create("alpha")
	r := start(t, f)
	r.send(r.hang("/v1/spaces/alpha/memories", 100), `{"content":`)
	r.stop()
	require.ErrorIs(t, r.wait(), context.DeadlineExceeded)
	require.Zero(t, memoryCount(t, space))
}

func TestServeReportsABrokenListener(t *testing.T) {
	f := newFixture(t, Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.ErrorIs(t, f.server.Serve(t.Context(), listener), net.ErrClosed)
}

// TestBrokenBodiesStoreNothing: the JSON of these bodies is whole, only the
// body is not.
func TestBrokenBodiesStoreNothing(t *testing.T) {
	const memory = `{"content":"half a request is no request"}`
	head := "POST /v1/spaces/alpha/memories HTTP/1.1\r\nHost: localhost\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(memory), memory)
	cases := map[string]struct {
		request string
		status  int
		slug    string
	}{
		"shorter than promised": {head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(memory)+5, memory), 400, "body-incomplete"},
		"no last chunk":         {head + "Transfer-Encoding: chunked\r\n\r\n" + chunk, 400, "body-incomplete"},
		"malformed chunk":       {head + "Transfer-Encoding: chunked\r\n\r\n" + chunk + "zz\r\n", 400, "body-incomplete"},
		"promised too large":    {head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", maxRememberBody+1, memory), 413, "body-too-large"},
	}
	f := newFixture(t, Options{})
	space := f.create("alpha")
	r := start(t, f)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := &running{fixture: &fixture{t: t}, address: r.address}
			connection := r.dial()
			r.send(connection, c.request)
			_ = connection.CloseWrite() // fails where the server has answered and closed
			r.read(connection).problem(c.status, c.slug)
		})
	}
	require.Zero(t, memoryCount(t, space))

	large := r.dial()
	// Writing the end fails where the server has answered and closed before.
	_, _ = io.WriteString(large, head+"Transfer-Encoding: chunked\r\n\r\n"+fmt.Sprintf("%x\r\n", maxRememberBody+1)+strings.Repeat(" ", maxRememberBody+1)+"\r\n0\r\n\r\n")
	r.read(large).problem(413, "body-too-large")
	require.Zero(t, memoryCount(t, space))

	whole := r.dial()
	r.send(whole, head+"Transfer-Encoding: chunked\r\n\r\n"+chunk+"0\r\n\r\n")
	require.Equal(t, 201, r.read(whole).status)
	require.Equal(t, 1, memoryCount(t, space))
}

func TestSlowBodyTimesOut(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	f.server.bodyTimeout = 50 * time.Millisecond
	r := start(t, f)
	connection := r.dial()
	r.send(connection, "POST /v1/spaces/alpha/memories HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"content\":")
	r.read(connection).problem(408, "body-timeout")
	require.Zero(t, memoryCount(t, space))
}

// TestBodiesThatNobodyReadTimeOut: net/http waits for them before it sends the answer.
func TestBodiesThatNobodyReadTimeOut(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	f.server.bodyTimeout = 50 * time.Millisecond
	r := start(t, f)
	for first, status := range map[string]int{
		"GET /readyz": 200, "GET /v1/spaces/alpha": 200, "POST /v1/nothing": 404, "POST /v1/spaces/alpha/checkpoint": 204,
	} {
		connection := r.dial()
		r.send(connection, first+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
		require.Equal(t, status, r.read(connection).status, first)
	}
}

// TestBodiesThatNoHandlerHearsOfTimeOut: the connection ends, where net/http answers by
// itself.
func TestBodiesThatNoHandlerHearsOfTimeOut(t *testing.T) {
	f := newFixture(t, Options{})
	f.server.readHeaderTimeout, f.server.bodyTimeout = 50*time.Millisecond, 50*time.Millisecond
	r := start(t, f)
	for _, first := range []string{"OPTIONS * HTTP/1.1\r\n", "GET * HTTP/1.1\r\n", "POST /v1/spaces HTTP/1.1\r\nExpect: nothing\r\n"} {
		connection := r.dial()
		r.send(connection, first+"Host: localhost\r\nContent-Length: 100\r\n\r\nx")
		_, err := io.Copy(io.Discard, connection)
		require.NoError(t, err, first)
	}
}

// TestBodyDeadlineEndsWithTheBody: work that takes longer than the body may is
// not mistaken for a client that has left.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	f := newFixture(t, Options{})
	f.server.bodyTimeout = 300 * time.Millisecond
	slow := httptest.NewServer(f.server.handler(route{path: "slow", verb: verbPublic, handle: func(s *Server, x *exchange) error {
		if err := s.decode(x, new(recallBody), maxRecallBody); err != nil {
			return err
		}
		time.Sleep(2 * s.bodyTimeout)
		if err := x.r.Context().Err(); err != nil {
			return err
		}
		return x.answer(http.StatusOK, struct{}{})
	}}))
	defer slow.Close()
	response, err := http.Post(slow.URL, "application/json", strings.NewReader(`{"text":"x"}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, readReply(t, response).status)
}

func TestLargeHeadersAreRefused(t *testing.T) {
	r := start(t, newFixture(t, Options{}))
	connection := r.dial()
	// net/http reads 4 KiB more than it is told.
	r.send(connection, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nX-Long: "+strings.Repeat("x", maxHeaderBytes+8<<10)+"\r\n\r\n")
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, r.read(connection).status)
}

// TestAccessLog: what was asked and how it went, never what was said.
func TestAccessLog(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	f := newFixture(t, Options{Logger: zap.New(core)})
	f.create("alpha")
	f.call("POST", "/v1/spaces/alpha/memories", `{"id":"canary-id","content":"canary","embedding":[0.125]}`)
	f.call("POST", "/v1/recall", `{"text":"canary"}`)
	f.call("GET", "/canary", "")
	require.Equal(t, 1, logs.FilterMessage("a client names no space and gets the default one").Len())
	entries := logs.FilterMessage("request").All()
	require.Len(t, entries, 3)
	written := entries[0].ContextMap()
	require.Equal(t, "POST", written["method"])
	require.Equal(t, "/v1/spaces/{space}/memories", written["route"])
	require.Equal(t, "alpha", written["space"])
	require.Equal(t, int64(201), written["status"])
	require.Equal(t, false, written["fallback"])
	require.Equal(t, true, entries[1].ContextMap()["fallback"])
	require.Equal(t, int64(404), entries[1].ContextMap()["status"])
	var all bytes.Buffer
	for _, entry := range logs.All() {
		require.NoError(t, json.NewEncoder(&all).Encode(entry.ContextMap()))
	}
	require.NotContains(t, all.String(), "canary")
	require.NotContains(t, all.String(), "0.125")
}

func TestOwnFailuresAreLoggedInFull(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	f := newFixture(t, Options{Logger: zap.New(core)})
	f.create("alpha")
	closed, err := engram.Open(t.TempDir(), engram.Options{})
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	f.server.registry = closed
	f.call("POST", "/v1/spaces/alpha/recall", `{"text":"x"}`).problem(503, "shutting-down")
	require.Equal(t, 1, logs.Len())
}
