package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/auth"
)

// end ends the server of gRPC.
func (w *wired) end() {
	w.t.Helper()
	w.stop()
	require.NoError(w.t, <-w.served)
	w.served <- nil
}

// idle waits until nothing is under way.
func (f *fixture) idle() {
	f.t.Helper()
	u := f.server.underWay
	require.Eventually(f.t, func() bool {
		return u.connections.Taken() == 0 && u.requests.Taken() == 0 && u.bodies.Taken() == 0
	}, time.Minute, time.Millisecond)
}

// TestConnectionsAreBounded: of one address and of all, over both transports together.
func TestConnectionsAreBounded(t *testing.T) {
	for name, options := range map[string]Options{
		"of an address": {MaxAddressConnections: 3}, "of all": {MaxConnections: 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWired(t, options)
			w.create("alpha")
			r := start(t, w.fixture)
			_, err := w.memories.Lookup(t.Context(), &engramv1.LookupRequest{MemorySpaceId: "alpha", Id: "none"})
			refused(t, err, codes.NotFound, "MEMORY_NOT_FOUND")
			ready := func(connection net.Conn) error {
				_, err := io.WriteString(connection, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
				if err != nil {
					return err
				}
				_, err = connection.Read(make([]byte, 1))
				return err
			}
			first, second := r.dial(), r.dial()
			require.NoError(t, ready(first))
			require.NoError(t, ready(second))
			require.Error(t, ready(r.dial()))
			other, err := net.Dial("tcp", w.conn.Target())
			require.NoError(t, err)
			_, err = io.ReadAll(other)
			require.True(t, err == nil || isCut(err), "%v", err)
			require.NoError(t, other.Close())
			require.Equal(t, uint64(2), w.server.underWay.refused.Load())
			require.NoError(t, ready(first))

			require.NoError(t, second.CloseWrite())
			require.Eventually(t, func() bool { return ready(r.dial()) == nil }, time.Minute, time.Millisecond)
			r.stop()
			require.NoError(t, r.wait())
			w.end()
			w.idle()
		})
	}
}

func TestAddressOf(t *testing.T) {
	for remote, address := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "192.0.2.1": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64", "[2001:db8:1:2:ffff::1]:81": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "pipe": "pipe", "": "",
	} {
		require.Equal(t, address, addressOf(remote), remote)
	}
}

// keysOf returns a gate with keys that may do everything, and their secrets.
func keysOf(t *testing.T, n int) (*Auth, []string) {
	t.Helper()
	scopes, err := auth.ParseScopes([]string{"*:read,write,admin"})
	require.NoError(t, err)
	keys, secrets := make([]auth.Key, n), make([]string, n)
	for i := range n {
		keys[i], secrets[i] = auth.NewKey(fmt.Sprint("key-", i), scopes, time.Now(), time.Time{})
	}
	return &Auth{auth.Gate{Keys: auth.NewKeyring(keys)}}, secrets
}

// TestRequestsUnderWayAreBounded: of one caller, streams among them, over all
// transports together.
func TestRequestsUnderWayAreBounded(t *testing.T) {
	gate, keys := keysOf(t, 2)
	w := newWired(t, Options{Auth: gate, MaxCallerRequests: 2})
	w.create("alpha")
	r := start(t, w.fixture)
	streams := []*net.TCPConn{r.dial(), r.dial()}
	for _, stream := range streams {
		r.send(stream, "GET /v1/spaces/alpha/events HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: "+keys[0]+"\r\n\r\n")
		_, err := stream.Read(make([]byte, 1))
		require.NoError(t, err)
	}
	ask := func(key string) reply { return w.call("GET", "/v1/spaces/alpha", "", keyHeader, key) }
	said := ask(keys[0])
	require.Equal(t, limitUnderWay, said.problem(429, "too-much-under-way").Limit)
	require.Equal(t, "1", said.header.Get("Retry-After"))
	require.Equal(t, 200, ask(keys[1]).status, "another caller has its own")
	require.Equal(t, 200, w.call("GET", "/readyz", "").status)
	lookup := func(key string) error {
		_, err := w.memories.Lookup(metadata.AppendToOutgoingContext(t.Context(), keyMetadata, key), &engramv1.LookupRequest{MemorySpaceId: "alpha", Id: "x"})
		return err
	}
	require.Equal(t, limitUnderWay, refused(t, lookup(keys[0]), codes.ResourceExhausted, "TOO_MUCH_UNDER_WAY").GetMetadata()["limit"])
	refused(t, lookup(keys[1]), codes.NotFound, "MEMORY_NOT_FOUND")

	require.NoError(t, streams[0].CloseWrite())
	require.Eventually(t, func() bool { return ask(keys[0]).status == 200 }, time.Minute, time.Millisecond)
	r.stop()
	require.NoError(t, r.wait())
	w.end()
	w.idle()
}

// TestBodiesUnderWayAreBounded: what is more than there is room for stores nothing, and
// is told so, whichever way it comes.
func TestBodiesUnderWayAreBounded(t *testing.T) {
	gate, keys := keysOf(t, 3)
	w := newWired(t, Options{Auth: gate, MaxBodyBytes: 2000})
	alpha := w.create("alpha")
	r := start(t, w.fixture)
	const path = "/v1/spaces/alpha/memories"
	memory := func(n int) string { return fmt.Sprintf(`{"content":%q}`, strings.Repeat("x", n)) }
	too := func(said reply) {
		t.Helper()
		require.Equal(t, limitBodies, said.problem(429, "too-much-under-way").Limit)
		require.Equal(t, "1", said.header.Get("Retry-After"))
	}
	too(w.call("POST", path, memory(1001), keyHeader, keys[0]))
	too(w.call("POST", path, string(zip(t, []byte(memory(5000)))), keyHeader, keys[0], "Content-Encoding", "gzip"))
	too(w.call("POST", mcpPath, strings.Repeat(" ", 1001), keyHeader, keys[0]))
	require.Equal(t, 201, w.call("POST", path, memory(500), keyHeader, keys[0]).status)

	hang := func(key string) *net.TCPConn {
		connection := r.dial()
		r.send(connection, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: "+key+"\r\nContent-Length: 1000\r\n\r\n"+memory(970))
		return connection
	}
	// Two callers take all that there is.
	slow := []*net.TCPConn{hang(keys[0]), hang(keys[1])}
	require.Eventually(t, func() bool { return w.server.underWay.bodies.Taken() > 1900 }, time.Minute, time.Millisecond)
	too(w.call("POST", path, memory(100), keyHeader, keys[2]))
	ctx := metadata.AppendToOutgoingContext(t.Context(), keyMetadata, keys[2])
	_, err := w.memories.Remember(ctx, &engramv1.RememberRequest{MemorySpaceId: "alpha", Memory: memoryOf("x", strings.Repeat("x", 100))})
	require.Equal(t, limitBodies, refused(t, err, codes.ResourceExhausted, "TOO_MUCH_UNDER_WAY").GetMetadata()["limit"])
	stream, err := w.memories.RememberStream(ctx)
	require.NoError(t, err)
	long := strings.Repeat("x", 100)
	for _, memory := range []*engramv1.Memory{
		memoryOf("x", long),
		{Content: "x", Attributes: map[string]string{"k": long}},
	} {
		require.NoError(t, stream.Send(&engramv1.RememberStreamRequest{MemorySpaceId: "alpha", Memory: memory, Tag: 7}))
		answer, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, int32(codes.ResourceExhausted), answer.GetFailure().GetCode())
	}
	require.NoError(t, stream.CloseSend())
	for _, connection := range slow {
		require.NoError(t, connection.CloseWrite())
	}
	require.Eventually(t, func() bool { return w.server.underWay.bodies.Taken() == 0 }, time.Minute, time.Millisecond)

	// An import is not kept, but a chunk of it is.
	var export bytes.Buffer
	_, err = alpha.Export(t.Context(), &export)
	require.NoError(t, err)
	long = export.String() + strings.Repeat("\n", 5000)
	require.Less(t, w.call("POST", "/v1/spaces/beta/import", long, keyHeader, keys[0]).status, 429)
	importing, err := w.spaces.Import(ctx)
	require.NoError(t, err)
	require.NoError(t, importing.Send(&engramv1.ImportRequest{MemorySpaceId: "gamma", Chunk: export.Bytes()[:100]}))
	require.NoError(t, importing.Send(&engramv1.ImportRequest{Chunk: []byte(long[100:])}))
	_, err = importing.CloseAndRecv()
	refused(t, err, codes.ResourceExhausted, "TOO_MUCH_UNDER_WAY")
	require.NotContains(t, w.fixture.spaces(), "gamma")
	require.Equal(t, 1, memoryCount(t, alpha))
	r.stop()
	require.NoError(t, r.wait())
	w.end()
	w.idle()
}

// slowWriter stalls where it is to take the first byte.
type slowWriter struct{ stalledWriter }

func (w *slowWriter) Write(p []byte) (int, error) {
	return len(p), w.FlushError()
}

// TestAnswersUnderWayAreBounded: what a client is slow to take counts until it has it, and
// what a caller never has room for is refused at once.
func TestAnswersUnderWayAreBounded(t *testing.T) {
	const length = 100 << 10
	w := newWired(t, Options{MaxBodyBytes: 2 * (length + length/2)})
	remember(t, w.create("alpha"), strings.Repeat("x", length), strings.Repeat("y", length))
	const list, recall = "/v1/spaces/alpha/memories", "/v1/spaces/alpha/recall"
	tool := func(arguments string) reply {
		return w.call("POST", mcpPath+"?space=alpha",
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"recall","arguments":`+arguments+`}}`,
			"Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	}
	filter := &engramv1.Filter{Kind: "episodic"}
	const one, two = `{"filter":{"kind":"episodic"},"limit":1}`, `{"filter":{"kind":"episodic"}}`

	w.call("POST", recall, two).problem(422, "limit-exceeded")
	w.call("GET", list, "").problem(422, "limit-exceeded")
	require.Contains(t, tool(`{"kind":"episodic"}`).body, "limit-exceeded")
	_, err := w.memories.Recall(t.Context(), &engramv1.RecallRequest{MemorySpaceId: "alpha", Cue: &engramv1.Cue{Filter: filter}})
	refused(t, err, codes.InvalidArgument, "LIMIT_EXCEEDED")
	_, err = w.memories.ListMemories(t.Context(), &engramv1.ListMemoriesRequest{MemorySpaceId: "alpha"})
	refused(t, err, codes.InvalidArgument, "LIMIT_EXCEEDED")
	require.Equal(t, 200, w.call("POST", recall, one).status)
	// What a tool answers is in its message twice: as a value and as text.
	tool(`{"kind":"episodic","limit":1}`).problem(422, "limit-exceeded")

	let := make(chan struct{})
	slow := &slowWriter{stalledWriter{ResponseRecorder: httptest.NewRecorder(), let: let}}
	slow.stalls.Add(1)
	var taken sync.WaitGroup
	taken.Go(func() {
		w.server.ServeHTTP(slow, httptest.NewRequest("POST", "http://localhost"+recall, strings.NewReader(one)))
	})
	slow.stalls.Wait()
	require.Equal(t, limitBodies, w.call("POST", recall, one).problem(429, "too-much-under-way").Limit)
	require.Equal(t, limitBodies, w.call("GET", list+"?limit=1", "").problem(429, "too-much-under-way").Limit)
	require.Contains(t, tool(`{"kind":"episodic","limit":1}`).body, "too-much-under-way")
	require.Equal(t, 201, w.call("POST", list, `{"content":"short"}`).status)
	close(let)
	taken.Wait()
	require.Zero(t, w.server.underWay.bodies.Taken())
	require.Equal(t, 200, w.call("POST", recall, one).status)
	require.Zero(t, w.server.underWay.bodies.Taken())
}

// TestAnswersAreCountedBeforeTheyAreRead: those of many recalls, each too large to be sent,
// would be in memory together.
func TestAnswersAreCountedBeforeTheyAreRead(t *testing.T) {
	const length, memories = 512 << 10, 32
	w := newWired(t, Options{MaxBodyBytes: 4 * length})
	remember(t, w.create("alpha"), slices.Repeat([]string{strings.Repeat("x ", length/2)}, memories)...)
	calls := map[string]func(){
		"HTTP": func() {
			w.call("POST", "/v1/spaces/alpha/recall", `{"limit":1000}`).problem(422, "limit-exceeded")
		},
		"gRPC": func() {
			_, err := w.memories.Recall(t.Context(), &engramv1.RecallRequest{MemorySpaceId: "alpha", Cue: &engramv1.Cue{Limit: 1000}})
			refused(t, err, codes.InvalidArgument, "LIMIT_EXCEEDED")
		},
	}
	for name, call := range calls {
		call() // what a first recall prepares is kept
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		call()
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(memories*length/4), name)
	}
}

// TestEventsUnderWayAreBounded: those that clients do not take would be in memory together.
// A stream for which there is no room ends, and goes on from where it was.
func TestEventsUnderWayAreBounded(t *testing.T) {
	const length = 100 << 10
	w := newWired(t, Options{MaxBodyBytes: 4 * length})
	space := w.create("alpha")
	remember(t, space, strings.Repeat("x", length))
	bodies := w.server.underWay.bodies
	seq := space.Info().Seq
	base, events := live(t, w.fixture), "/v1/spaces/alpha/events?after="
	before := fmt.Sprint(seq - 1)

	others := []holder{{address: "one"}, {address: "two"}}
	for _, other := range others {
		require.True(t, bodies.Take(other, 2*length-1000))
	}
	require.Equal(t, limitBodies, w.call("GET", events+before, "").problem(429, "too-much-under-way").Limit)
	stream, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "alpha"})
	require.NoError(t, err)
	for err == nil { // those that are small
		_, err = stream.Recv()
	}
	require.Equal(t, limitBodies, refused(t, err, codes.ResourceExhausted, "TOO_MUCH_UNDER_WAY").GetMetadata()["limit"])
	late := subscribe(t, base+events+fmt.Sprint(seq))
	remember(t, space, "short", strings.Repeat("y", length))
	require.Equal(t, seq+1, late.event().Seq)
	ended := late.end()
	require.Equal(t, fmt.Sprint(seq+1), ended.LastID)
	require.Contains(t, ended.Problem.Type, "too-much-under-way")
	for _, other := range others {
		bodies.Return(other, 2*length-1000)
	}

	require.Equal(t, seq+2, subscribe(t, base+events+ended.LastID).event().Seq)
	let := make(chan struct{})
	stalled := &stalledWriter{ResponseRecorder: httptest.NewRecorder(), let: let}
	stalled.stalls.Add(1)
	ctx, leave := context.WithCancel(t.Context())
	var streams sync.WaitGroup
	streams.Go(func() {
		w.server.ServeHTTP(stalled, httptest.NewRequestWithContext(ctx, "GET", "http://localhost"+events+ended.LastID, http.NoBody))
	})
	stalled.stalls.Wait()
	require.Greater(t, bodies.Taken(), int64(length))
	close(let)
	require.Eventually(t, func() bool { return bodies.Taken() == 0 }, time.Minute, time.Millisecond)
	leave()
	streams.Wait()
}

// TestExportsUnderWayAreBounded: each keeps in memory what the space was when it began.
func TestExportsUnderWayAreBounded(t *testing.T) {
	gate, keys := keysOf(t, 2)
	w := newWired(t, Options{Auth: gate})
	remember(t, w.create("alpha"), "x")
	const path = "/v1/spaces/alpha/export"
	ask := func(key string) reply { return w.call("GET", path, "", keyHeader, key) }
	let := make(chan struct{})
	var slow sync.WaitGroup
	for range maxCallerExports {
		stalled := &slowWriter{stalledWriter{ResponseRecorder: httptest.NewRecorder(), let: let}}
		stalled.stalls.Add(1)
		r := httptest.NewRequest("GET", "http://localhost"+path, http.NoBody)
		r.Header.Set(keyHeader, keys[0])
		slow.Go(func() { w.server.ServeHTTP(stalled, r) })
		stalled.stalls.Wait()
	}
	require.Equal(t, limitExports, ask(keys[0]).problem(429, "too-much-under-way").Limit)
	export := func(key string) error {
		stream, err := w.spaces.Export(
			metadata.AppendToOutgoingContext(t.Context(), keyMetadata, key), &engramv1.ExportRequest{MemorySpaceId: "alpha"})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	require.Equal(t, limitExports, refused(t, export(keys[0]), codes.ResourceExhausted, "TOO_MUCH_UNDER_WAY").GetMetadata()["limit"])
	require.Equal(t, 200, w.call("GET", "/v1/spaces/alpha", "", keyHeader, keys[0]).status)
	require.Equal(t, 200, ask(keys[1]).status, "another caller has its own")
	require.ErrorIs(t, export(keys[1]), io.EOF)
	close(let)
	slow.Wait()
	require.Equal(t, 200, ask(keys[0]).status)
	require.ErrorIs(t, export(keys[0]), io.EOF)
	require.Zero(t, w.server.underWay.exports.Taken())
}

// TestImportsUnderWayAreBounded: each keeps the index of what it makes in memory.
func TestImportsUnderWayAreBounded(t *testing.T) {
	gate, keys := keysOf(t, 2)
	w := newWired(t, Options{Auth: gate})
	remember(t, w.create("alpha"), "x")
	whole := []byte(w.call("GET", "/v1/spaces/alpha/export", "", keyHeader, keys[0]).body)
	var slow sync.WaitGroup
	var ends []*io.PipeWriter
	for i := range maxCallerImports {
		body, end := io.Pipe()
		ends = append(ends, end)
		t.Cleanup(func() { _ = end.Close() }) // a test that fails ends
		r := httptest.NewRequest("POST", fmt.Sprint("http://localhost/v1/spaces/slow-", i, "/import"), body)
		r.Header.Set(keyHeader, keys[0])
		slow.Go(func() {
			answer := httptest.NewRecorder()
			w.server.ServeHTTP(answer, r)
			require.Equal(t, 201, answer.Code, answer.Body)
		})
		_, err := end.Write(whole[:1]) // is read once it is under way
		require.NoError(t, err)
	}
	over := w.call("POST", "/v1/spaces/beta/import", string(whole), keyHeader, keys[0])
	require.Equal(t, limitImports, over.problem(429, "too-much-under-way").Limit)
	imports := func(key, id string) error {
		stream, err := w.spaces.Import(metadata.AppendToOutgoingContext(t.Context(), keyMetadata, key))
		require.NoError(t, err)
		require.NoError(t, stream.Send(&engramv1.ImportRequest{MemorySpaceId: id, Chunk: whole}))
		_, err = stream.CloseAndRecv()
		return err
	}
	require.Equal(t, limitImports, refused(t, imports(keys[0], "gamma"), codes.ResourceExhausted, "TOO_MUCH_UNDER_WAY").GetMetadata()["limit"])
	require.NoError(t, imports(keys[1], "delta"), "another caller has its own")
	for _, end := range ends {
		_, err := end.Write(whole[1:])
		require.NoError(t, err)
		require.NoError(t, end.Close())
	}
	slow.Wait()
	require.NoError(t, imports(keys[0], "gamma"))
	require.Zero(t, w.server.underWay.imports.Taken())
}

// TestLookupsUnderWayAreBounded: one memory alone may be more than there is room for.
func TestLookupsUnderWayAreBounded(t *testing.T) {
	const length = 10 << 10
	w := newWired(t, Options{MaxBodyBytes: length})
	receipt, err := w.create("alpha").Remember(t.Context(), engram.Memory{Content: strings.Repeat("x", length)})
	require.NoError(t, err)
	w.call("GET", "/v1/spaces/alpha/memories/"+receipt.ID, "").problem(422, "limit-exceeded")
	_, err = w.memories.Lookup(t.Context(), &engramv1.LookupRequest{MemorySpaceId: "alpha", Id: receipt.ID})
	refused(t, err, codes.InvalidArgument, "LIMIT_EXCEEDED")
}

// TestUnderWayIsMeasured: as long as it lasts.
func TestUnderWayIsMeasured(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	r := start(t, f)
	slow := r.hang("/v1/spaces/alpha/memories", 100)
	r.send(slow, `{"content":"x"`)
	require.Eventually(t, func() bool { return f.server.underWay.bodies.Taken() == 14 }, time.Minute, time.Millisecond)
	f.requireCounted("engram_connections 1", "engram_connections_refused_total 0", "engram_requests_under_way 1", "engram_body_bytes 14")
	require.NoError(t, slow.CloseWrite())
	f.idle()
	f.requireCounted("engram_connections 0", "engram_requests_under_way 0", "engram_body_bytes 0")
	require.Equal(t, http.StatusOK, f.call("GET", "/v1/spaces/alpha", "").status)
}
