package server

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestHosts(t *testing.T) {
	f := newFixture(t, Options{Hosts: []string{"Engram.Example", "other.example:443"}})
	for host, allowed := range map[string]bool{
		"localhost": true, "localhost:7432": true, "LOCALHOST.": true, "app.localhost": true,
		"127.0.0.1:7432": true, "[::1]:7432": true, "[::1]": true, "192.0.2.1": true, "": true,
		"engram.example": true, "engram.example:80": true, "other.example": true,
		"evil.example": false, "evil.example:7432": false, "localhost.evil.example": false,
		"127.0.0.1.evil.example": false, "notlocalhost": false, "sub.engram.example": false, "127.1": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody)
		r.Host = host
		w := httptest.NewRecorder()
		f.server.ServeHTTP(w, r)
		if allowed {
			require.Equal(t, http.StatusOK, w.Code, host)
			continue
		}
		readReply(t, w.Result()).problem(421, "host-not-allowed")
	}
	all := newFixture(t, Options{Hosts: []string{AnyHost}})
	require.Equal(t, 200, all.call("GET", "http://evil.example/readyz", "").status)
}

// TestRequestsFramedTwice: what a proxy may have read as the body of the first
// request must not become a second one.
func TestRequestsFramedTwice(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	r := start(t, f)
	const memory = `{"content":"x"}`
	first := "POST /v1/spaces/alpha/memories HTTP/1.1\r\nHost: localhost\r\n"
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(memory), memory)
	hidden := first + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(memory), memory)
	for name, header := range map[string]string{
		"length first":   fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n", len(chunked)),
		"encoding first": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
		"bare ends":      "content-length: 5\ntransfer-encoding: chunked\n\n",
		"far apart":      "Content-Length: 5\r\nX-Pad: " + strings.Repeat("x", 12<<10) + "\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := &running{fixture: &fixture{t: t}, address: r.address}
			connection := r.dial()
			r.send(connection, first+header+chunked+hidden)
			answers := bufio.NewReader(connection)
			response, err := http.ReadResponse(answers, nil)
			require.NoError(t, err)
			readReply(t, response).problem(400, "framed-twice")
			require.True(t, response.Close)
			_, err = answers.ReadByte()
			require.ErrorIs(t, err, io.EOF, "nothing else is answered")
		})
	}
	// Of HTTP/1.0, net/http passes over the encoding, and would keep the connection.
	old := strings.Replace(first, "1.1", "1.0", 1) + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"
	connection := r.dial()
	r.send(connection, old+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(memory), memory)+hidden)
	answers := bufio.NewReader(connection)
	response, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	readReply(t, response).problem(400, "framed-twice")
	_, err = answers.ReadByte()
	require.ErrorIs(t, err, io.EOF, "nothing else is answered")
	require.Zero(t, memoryCount(t, space))

	// The same connection may send one after the other, in either framing.
	kept := r.dial()
	for range 3 {
		r.send(kept, hidden)
		require.Equal(t, 201, r.read(kept).status)
		r.send(kept, first+"Transfer-Encoding: chunked\r\n\r\n"+chunked)
		require.Equal(t, 201, r.read(kept).status)
	}
	require.Equal(t, 6, memoryCount(t, space))
	// Behind another listener nothing is known of the bytes: the connection ends.
	reply := f.callChunked("/v1/spaces/alpha/memories", memory)
	require.Equal(t, 201, reply.status)
	require.Equal(t, "close", reply.header.Get("Connection"))
	r10 := httptest.NewRequest(http.MethodPost, "/v1/spaces/alpha/memories", strings.NewReader(memory))
	r10.Host, r10.Proto, r10.ProtoMinor = "localhost", "HTTP/1.0", 0
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r10)
	require.Equal(t, "close", w.Header().Get("Connection"))
}

// callChunked is call with a body of unknown length.
func (f *fixture) callChunked(target, body string) reply {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Host, r.ContentLength, r.TransferEncoding = "localhost", -1, []string{"chunked"}
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r)
	return readReply(f.t, w.Result())
}

// TestAttacksOnTheConnection: each ends in a refusal, and stores nothing.
func TestAttacksOnTheConnection(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	r := start(t, f)
	const first, memory = "POST /v1/spaces/alpha/memories HTTP/1.1\r\n", `{"content":"x"}`
	whole := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(memory), memory)
	flood := strings.Repeat("X-Flood: x\r\n", (maxHeaderBytes+8<<10)/12)
	for name, request := range map[string]string{
		"many headers":      first + "Host: localhost\r\n" + flood + whole,
		"long path":         "POST /v1/spaces/" + strings.Repeat("a", maxHeaderBytes+8<<10) + "/memories HTTP/1.1\r\nHost: localhost\r\n" + whole,
		"two lengths":       first + "Host: localhost\r\nContent-Length: 3\r\n" + whole,
		"negative length":   first + "Host: localhost\r\nContent-Length: -1\r\n\r\n" + memory,
		"other encoding":    first + "Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + memory,
		"two encodings":     first + "Host: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + memory,
		"huge chunk":        first + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + memory,
		"negative chunk":    first + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-f\r\n" + memory,
		"space before name": first + "Host: localhost\r\n Content-Length: 15\r\n" + whole,
		"space in name":     first + "Host: localhost\r\nContent-Length : 15\r\n\r\n" + memory,
		"no host":           first + whole,
		"two hosts":         first + "Host: localhost\r\nHost: localhost\r\n" + whole,
		"other host":        first + "Host: evil.example\r\n" + whole,
		"absolute other":    "POST http://evil.example/v1/spaces/alpha/memories HTTP/1.1\r\nHost: localhost\r\n" + whole,
		"climbing path":     "POST /v1/spaces/beta/../alpha/memories HTTP/1.1\r\nHost: localhost\r\n" + whole,
		"encoded climbing":  "POST /v1/spaces/%2e%2e%2falpha/memories HTTP/1.1\r\nHost: localhost\r\n" + whole,
		"NUL in the space":  "POST /v1/spaces/alpha%00/memories HTTP/1.1\r\nHost: localhost\r\n" + whole,
		"NUL in a header":   first + "Host: localhost\r\nX-Memory-Space: alpha\x00\r\n" + whole,
		"backslashes":       "POST /v1\\spaces\\alpha\\memories HTTP/1.1\r\nHost: localhost\r\n" + whole,
		"other protocol":    "POST /v1/spaces/alpha/memories HTTP/9.9\r\nHost: localhost\r\n" + whole,
	} {
		t.Run(name, func(t *testing.T) {
			r := &running{fixture: &fixture{t: t}, address: r.address}
			connection := r.dial()
			r.send(connection, request)
			status := r.read(connection).status
			require.GreaterOrEqual(t, status, 400)
			require.Less(t, status, 600)
		})
	}
	require.Zero(t, memoryCount(t, space))
}

// TestFallbacksAreCounted and said once for each client, of which no more are
// remembered than a bound.
func TestFallbacksAreCounted(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	f := newFixture(t, Options{Logger: zap.New(core)})
	ask := func(remote string) {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/v1/memories", http.NoBody)
		r.RemoteAddr = remote
		f.server.ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("192.0.2.1:1")
	ask("192.0.2.1:2")
	require.Equal(t, 1, logs.Len())
	require.Equal(t, "192.0.2.1", logs.All()[0].ContextMap()["client"])
	for i := range maxClients + 10 {
		ask(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256))
	}
	require.Equal(t, maxClients, logs.Len())
	var stats registryStatsAnswer
	f.call("GET", "/v1/stats", "").into(200, &stats)
	require.Equal(t, uint64(maxClients+12), stats.Fallbacks)
}
