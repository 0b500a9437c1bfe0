package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// attack holds a server's connections in a way that costs the attacker little.
type attack struct {
	name string
	// mount begins it, and returns when its connections are there.
	mount func(web, rpc string) ([]net.Conn, error)
	// ends: the server breaks the connections off, or answers and closes them.
	ends bool
}

const attackers = 40

// sent opens connections and sends the same on each.
func sent(text string) func(web, _ string) ([]net.Conn, error) {
	return func(web, _ string) ([]net.Conn, error) {
		var all []net.Conn
		for range attackers {
			connection, err := net.Dial("tcp", web)
			if err != nil {
				return all, err
			}
			all = append(all, connection)
			// One that is refused early may be closed before all is sent.
			if _, err := io.WriteString(connection, text); err != nil && !isCut(err) {
				return all, err
			}
		}
		return all, nil
	}
}

func isCut(err error) bool {
	var broken *net.OpError
	return errors.As(err, &broken) && !broken.Timeout()
}

func attacks() []attack {
	const first = "POST /v1/spaces/alpha/memories HTTP/1.1\r\nHost: localhost\r\n"
	const memory = `{"content":"x"}`
	whole := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(memory), memory)
	return []attack{
		{"slow header", sent(first + "X-Slow: "), true},
		{"slow body", sent(first + "Content-Length: 100\r\n\r\n" + memory), true},
		{"slow chunk", sent(first + "Transfer-Encoding: chunked\r\n\r\nff\r\n" + memory), true},
		{"slow body that nobody reads", sent(strings.Replace(first, "/v1", "/v2", 1) + "Content-Length: 100\r\n\r\n" + memory), true},
		{"bad chunk", sent(first + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + memory), true},
		{"header flood", sent(first + strings.Repeat("X-Flood: x\r\n", (maxHeaderBytes+8<<10)/12) + whole), true},
		{"huge body", sent(first + fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n\r\n", int64(maxRememberBody)+1)), true},
		{"upper case", sent(strings.Replace(first, "alpha", "ALPHA", 1) + "Connection: close\r\n" + whole), true},
		{"upper case, encoded", sent(strings.Replace(first, "alpha", "%41lpha", 1) + "Connection: close\r\n" + whole), true},
		{"slow event readers", sent("GET /v1/spaces/alpha/events HTTP/1.1\r\nHost: localhost\r\n\r\n"), false},
		{"rapid reset", resetRapidly, true},
		{"silence at the gRPC port", func(_, rpc string) ([]net.Conn, error) { return sent("")(rpc, "") }, false},
	}
}

// resetRapidly opens and resets streams of HTTP/2 as fast as it can (CVE-2023-44487).
func resetRapidly(_, rpc string) ([]net.Conn, error) {
	const streams = 5000
	connection, err := net.Dial("tcp", rpc)
	if err != nil {
		return nil, err
	}
	all := []net.Conn{connection}
	header, err := headerOf(engramv1.MemoryService_Remember_FullMethodName)
	if err != nil {
		return all, err
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	err = framer.WriteSettings()
	for i := range uint32(streams) {
		err = errors.Join(err,
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: header, EndHeaders: true}),
			framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	if err != nil {
		return all, err
	}
	if _, err := connection.Write(out.Bytes()); err != nil && !isCut(err) {
		return all, err
	}
	return all, nil
}

// headerOf returns the header of a call, which serves every stream of a connection.
func headerOf(method string) ([]byte, error) {
	var header bytes.Buffer
	names := hpack.NewEncoder(&header)
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "localhost"},
		{Name: ":path", Value: method},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	} {
		field.Sensitive = true // in no table
		if err := names.WriteField(field); err != nil {
			return nil, err
		}
	}
	return header.Bytes(), nil
}

// politely writes and reads in the space beta, over both transports, and returns
// how long each request took.
func politely(ctx context.Context, web string, memories engramv1.MemoryServiceClient, n int) ([]time.Duration, error) {
	var took []time.Duration
	for i := range n {
		began := time.Now()
		answer, err := http.Post("http://"+web+"/v1/spaces/beta/recall", "application/json", strings.NewReader(`{"text":"polite"}`))
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		took = append(took, time.Since(began))
		if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d, %w", answer.StatusCode, err)
		}
		began = time.Now()
		_, err = memories.Remember(ctx, &engramv1.RememberRequest{
			MemorySpaceId: "beta", Memory: memoryOf(fmt.Sprint(i), "a polite client"),
		})
		took = append(took, time.Since(began))
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

// TestAttacks: under each attack the server answers others, ends what it has to
// end, and stores nothing of it.
func TestAttacks(t *testing.T) {
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			w := newWired(t, Options{})
			alpha := w.create("alpha")
			beta := w.create("beta")
			w.server.readHeaderTimeout, w.server.bodyTimeout = 2*time.Second, 2*time.Second
			r := start(t, w.fixture)
			connections, err := a.mount(r.address, w.conn.Target())
			defer func() {
				for _, connection := range connections {
					_ = connection.Close()
				}
			}()
			require.NoError(t, err)
			_, err = politely(t.Context(), r.address, w.memories, 10)
			require.NoError(t, err)
			if a.ends {
				for _, connection := range connections {
					answer, err := io.ReadAll(connection)
					require.True(t, err == nil || isCut(err), "%v", err) // and not for ever
					require.NotContains(t, string(answer), "HTTP/1.1 2")
				}
			}
			require.Zero(t, memoryCount(t, alpha))
			require.Equal(t, 10, memoryCount(t, beta))
			require.Equal(t, []engram.SpaceID{"alpha", "beta"}, w.fixture.spaces())
		})
	}
}

// TestAbandonedStreamsCloseTheirConnection: but not one on which as many are
// answered, or as many are given up over a longer time or beside as many others.
func TestAbandonedStreamsCloseTheirConnection(t *testing.T) {
	log, logged := observer.New(zap.WarnLevel)
	w := newWired(t, Options{Logger: zap.New(log)})
	w.create("alpha")
	for range 2 * maxAbandoned {
		_, err := w.memories.Lookup(t.Context(), &engramv1.LookupRequest{MemorySpaceId: "alpha", Id: "none"})
		require.Equal(t, codes.NotFound, status.Code(err), "%v", err)
	}
	require.Empty(t, logged.All())

	connections, err := resetRapidly("", w.conn.Target())
	require.NoError(t, err)
	_, err = io.ReadAll(connections[0])
	require.True(t, err == nil || isCut(err), "%v", err)
	require.Equal(t, 1, logged.FilterMessageSnippet("gives up its calls").Len())
	require.NoError(t, connections[0].Close())
	_, err = w.memories.Lookup(t.Context(), &engramv1.LookupRequest{MemorySpaceId: "alpha", Id: "none"})
	require.Equal(t, codes.NotFound, status.Code(err), "another connection: %v", err)

	steady := &meteredConn{}
	now := time.Unix(0, 0)
	for range 20 {
		for range maxAbandoned {
			taken, _ := steady.open(now)
			require.True(t, taken)
		}
		now = now.Add(abandonedWindow)
	}
	for range 10 * maxAbandoned {
		_, _ = steady.open(now)
		steady.waited()
	}
	for range 9 * maxAbandoned { // beside those that it has waited for
		taken, _ := steady.open(now)
		require.True(t, taken)
	}
	now = now.Add(abandonedWindow)
	for i := range maxAbandoned + 2 {
		taken, first := steady.open(now)
		require.Equal(t, i < maxAbandoned, taken)
		require.Equal(t, i == maxAbandoned, first)
	}
}

// TestThousandIdleStreams: they wait, others are answered, and when something
// happens all hear of it, and of nothing else.
func TestThousandIdleStreams(t *testing.T) {
	const streams = 1000
	w := newWired(t, Options{})
	alpha := w.create("alpha")
	w.create("beta")
	r := start(t, w.fixture)
	var connections []net.Conn
	for range streams {
		connection := r.dial()
		r.send(connection, "GET /v1/spaces/alpha/events?after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, connection.SetDeadline(time.Time{}))
		connections = append(connections, connection)
	}
	for w.server.streams.Load() < streams {
		time.Sleep(time.Millisecond)
	}
	_, err := politely(t.Context(), r.address, w.memories, 20)
	require.NoError(t, err)
	remember(t, alpha, "canary")
	var reading sync.WaitGroup
	heard := make([]string, streams)
	for i, connection := range connections {
		reading.Go(func() {
			part := make([]byte, 1024)
			for !strings.Contains(heard[i], "canary") {
				n, err := connection.Read(part)
				if err != nil {
					heard[i] = err.Error()
					return
				}
				heard[i] += string(part[:n])
			}
		})
	}
	reading.Wait()
	for _, all := range heard {
		require.Equal(t, 1, strings.Count(all, "event: "), all)
		require.Contains(t, all, "id: 2\n")
	}
}

// BenchmarkUnderAttack reports the p99 of polite requests, alone and under each
// attack, which goes on as long.
func BenchmarkUnderAttack(b *testing.B) {
	const requests = 300
	p99 := func(took []time.Duration) time.Duration {
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	for _, a := range attacks() {
		b.Run(strings.ReplaceAll(a.name, " ", "-"), func(b *testing.B) {
			l := newLoaded(b)
			_, err := l.registry.Create(b.Context(), "beta", engram.SpaceConfig{})
			require.NoError(b, err)
			memories := engramv1.NewMemoryServiceClient(dialBench(b, l.rpc))
			polite := func() time.Duration {
				took, err := politely(b.Context(), l.web, memories, requests)
				require.NoError(b, err)
				return p99(took)
			}
			var ratios []float64
			for b.Loop() {
				quiet := polite()
				stop, stopped := make(chan struct{}), make(chan error, 1)
				go func() { stopped <- l.keepUp(a, stop) }()
				ratios = append(ratios, float64(polite())/float64(quiet))
				close(stop)
				require.NoError(b, <-stopped)
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "p99-ratio")
		})
	}
}

// keepUp mounts the attack again and again.
func (l *loaded) keepUp(a attack, stop <-chan struct{}) error {
	for {
		connections, err := a.mount(l.web, l.rpc)
		select {
		case <-stop:
		case <-time.After(50 * time.Millisecond):
		}
		for _, connection := range connections {
			_ = connection.Close()
		}
		if err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		default:
		}
	}
}
