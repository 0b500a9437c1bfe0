package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/engramv1"
)

// loaded is a server with a space of 1,000 memories, on both transports.
type loaded struct {
	registry *engram.Registry
	space    *engram.Space
	server   *Server
	web, rpc string
}

func newLoaded(b *testing.B) *loaded {
	b.Helper()
	registry, err := engram.Open(b.TempDir(), engram.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, registry.Close()) })
	l := &loaded{registry: registry, server: New(registry, Options{})}
	l.space, err = registry.Create(b.Context(), "alpha", engram.SpaceConfig{})
	require.NoError(b, err)
	batch := make([]engram.Memory, 1000)
	for i := range batch {
		batch[i] = engram.Memory{ID: fmt.Sprint(i), Content: fmt.Sprintf("Fact %d of subject %d.", i, i%500), Episode: fmt.Sprint(i / 20)}
	}
	_, err = l.space.RememberBatch(b.Context(), batch)
	require.NoError(b, err)
	l.web = listenBench(b, l.server.Serve)
	l.rpc = listenBench(b, func(ctx context.Context, listener net.Listener) error { return l.server.ServeGRPC(ctx, listener) })
	return l
}

// listenBench serves on loopback until the benchmark ends.
func listenBench(b *testing.B, serve func(context.Context, net.Listener) error) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener) }()
	b.Cleanup(func() {
		stop()
		require.NoError(b, <-served)
	})
	return listener.Addr().String()
}

func dialBench(b *testing.B, address string) *grpc.ClientConn {
	b.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, conn.Close()) })
	return conn
}

// measured is a call that is compared with others of one run.
type measured struct {
	name string
	call func(i int) error
}

// compare alternates rounds of the calls and reports, of each, the calls a second
// and the median of their ratios to the first one's. The ratio of processor time,
// of both ends, is what other processes on the machine disturb least.
func compare(b *testing.B, callers, calls int, all []measured) {
	b.Helper()
	rates := make([][]float64, len(all))
	spent := make([]time.Duration, len(all))
	for b.Loop() {
		for i, m := range all {
			before := processorTime()
			rates[i] = append(rates[i], rateOf(b, callers, calls, m.call))
			spent[i] += processorTime() - before
		}
	}
	for i, m := range all {
		ratios := make([]float64, len(rates[i]))
		for round := range ratios {
			ratios[round] = rates[i][round] / rates[0][round]
		}
		slices.Sort(ratios)
		slices.Sort(rates[i])
		b.ReportMetric(rates[i][len(ratios)/2], m.name+"/s")
		if i > 0 {
			b.ReportMetric(ratios[len(ratios)/2], m.name+"-ratio")
		}
		if i > 0 && spent[i] > 0 {
			b.ReportMetric(float64(spent[0])/float64(spent[i]), m.name+"-cpu-ratio")
		}
	}
}

func rateOf(b *testing.B, callers, calls int, call func(int) error) float64 {
	b.Helper()
	var work sync.WaitGroup
	var next atomic.Int64
	began := time.Now()
	for range callers {
		work.Go(func() {
			for {
				i := int(next.Add(1))
				if i > calls {
					return
				}
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	return float64(calls) / time.Since(began).Seconds()
}

// bareService answers as the server does, with what it was made with: the same
// messages without anything behind them.
type bareService struct {
	engramv1.UnimplementedMemoryServiceServer

	lookup *engramv1.LookupResponse
	recall *engramv1.RecallResponse
}

func (s bareService) Lookup(context.Context, *engramv1.LookupRequest) (*engramv1.LookupResponse, error) {
	return s.lookup, nil
}

func (s bareService) Recall(context.Context, *engramv1.RecallRequest) (*engramv1.RecallResponse, error) {
	return s.recall, nil
}

func listenBareGRPC(b *testing.B, service bareService) string {
	b.Helper()
	return listenBench(b, func(ctx context.Context, listener net.Listener) error {
		s := grpc.NewServer(connectionOptions()...)
		engramv1.RegisterMemoryServiceServer(s, service)
		go func() {
			<-ctx.Done()
			s.GracefulStop()
		}()
		return s.Serve(listener)
	})
}

// BenchmarkCallsOverGRPC compares a look-up and a small recall with a service of
// grpc-go that has the same options, takes the same requests and answers the same
// messages.
func BenchmarkCallsOverGRPC(b *testing.B) {
	l := newLoaded(b)
	memories := engramv1.NewMemoryServiceClient(dialBench(b, l.rpc))
	lookup := func(asked engramv1.MemoryServiceClient, i int) (*engramv1.LookupResponse, error) {
		return asked.Lookup(b.Context(), &engramv1.LookupRequest{MemorySpaceId: "alpha", Id: fmt.Sprint(i % 1000)})
	}
	recall := func(asked engramv1.MemoryServiceClient, i int) (*engramv1.RecallResponse, error) {
		return asked.Recall(b.Context(), &engramv1.RecallRequest{MemorySpaceId: "alpha", Cue: smallCue(i)})
	}
	var service bareService
	var err error
	service.lookup, err = lookup(memories, 100)
	require.NoError(b, err)
	service.recall, err = recall(memories, 100)
	require.NoError(b, err)
	bare := engramv1.NewMemoryServiceClient(dialBench(b, listenBareGRPC(b, service)))
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint("lookup/callers=", callers), func(b *testing.B) {
			compare(b, callers, 500, []measured{
				{"bare", func(i int) error { _, err := lookup(bare, i); return err }},
				{"lookup", func(i int) error { _, err := lookup(memories, i); return err }},
			})
		})
		b.Run(fmt.Sprint("recall/callers=", callers), func(b *testing.B) {
			compare(b, callers, 500, []measured{
				{"bare", func(i int) error { _, err := recall(bare, i); return err }},
				{"recall", func(i int) error { _, err := recall(memories, i); return err }},
			})
		})
	}
}

// smallCue asks for one memory by its id: what a recall costs whatever is recalled.
func smallCue(i int) *engramv1.Cue {
	return &engramv1.Cue{Ids: []string{fmt.Sprint(i % 1000)}, Limit: 1, Spread: &engramv1.Spread{Off: true}}
}

// listenBareHTTP serves a handler that decodes the same cues and encodes the
// same answers.
func listenBareHTTP(b *testing.B, memory, recall any) string {
	b.Helper()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the benchmark notices what is missing
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/spaces/{space}/memories/{id}", func(w http.ResponseWriter, _ *http.Request) { answer(w, memory) })
	mux.HandleFunc("POST /v1/spaces/{space}/recall", func(w http.ResponseWriter, r *http.Request) {
		var cue struct {
			IDs    []string `json:"ids"`
			Limit  int      `json:"limit"`
			Spread struct {
				Off bool `json:"off"`
			} `json:"spread"`
		}
		if err := json.NewDecoder(r.Body).Decode(&cue); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, recall)
	})
	return listenBench(b, func(ctx context.Context, listener net.Listener) error {
		s := &http.Server{ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, Handler: mux}
		go func() {
			<-ctx.Done()
			_ = s.Close()
		}()
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// newSender returns what sends a request with the headers that are given, and reads
// its answer.
func newSender(b *testing.B, callers int, headers http.Header) func(method, target, body string) error {
	b.Helper()
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	b.Cleanup(web.CloseIdleConnections)
	return func(method, target, body string) error {
		request, err := http.NewRequestWithContext(b.Context(), method, "http://"+target, strings.NewReader(body))
		if err != nil {
			return err
		}
		maps.Copy(request.Header, headers)
		answer, err := web.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, %w", answer.StatusCode, err)
		}
		return answer.Body.Close()
	}
}

// sendRecall sends a smallCue.
func sendRecall(send func(method, target, body string) error, address string, i int) error {
	return send(http.MethodPost, address+"/v1/spaces/alpha/recall", fmt.Sprintf(`{"ids":["%d"],"limit":1,"spread":{"off":true}}`, i%1000))
}

// BenchmarkCallsOverHTTP compares the same with a handler of net/http.
func BenchmarkCallsOverHTTP(b *testing.B) {
	l := newLoaded(b)
	memory, err := l.space.Lookup(b.Context(), "100")
	require.NoError(b, err)
	recalled, err := l.space.Recall(b.Context(), engram.Cue{IDs: []string{"100"}, Limit: 1, Spread: engram.Spread{Off: true}})
	require.NoError(b, err)
	bare := listenBareHTTP(b, memory, recalled)
	for _, callers := range []int{1, 16} {
		send := newSender(b, callers, nil)
		lookup := func(address string, i int) error {
			return send(http.MethodGet, fmt.Sprintf("%s/v1/spaces/alpha/memories/%d", address, i%1000), "")
		}
		recall := func(address string, i int) error { return sendRecall(send, address, i) }
		b.Run(fmt.Sprint("lookup/callers=", callers), func(b *testing.B) {
			compare(b, callers, 500, []measured{
				{"bare", func(i int) error { return lookup(bare, i) }},
				{"lookup", func(i int) error { return lookup(l.web, i) }},
			})
		})
		b.Run(fmt.Sprint("recall/callers=", callers), func(b *testing.B) {
			compare(b, callers, 500, []measured{
				{"bare", func(i int) error { return recall(bare, i) }},
				{"recall", func(i int) error { return recall(l.web, i) }},
			})
		})
	}
}

// BenchmarkCallsOverMCP compares a small recall by the tool with the same over HTTP.
func BenchmarkCallsOverMCP(b *testing.B) {
	l := newLoaded(b)
	const message = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"recall","arguments":{"space":"alpha","ids":["%d"],"limit":1}}}`
	for _, callers := range []int{1, 16} {
		send := newSender(b, callers, http.Header{
			"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		})
		b.Run(fmt.Sprint("recall/callers=", callers), func(b *testing.B) {
			compare(b, callers, 500, []measured{
				{"http", func(i int) error { return sendRecall(send, l.web, i) }},
				{"mcp", func(i int) error { return send(http.MethodPost, l.web+mcpPath, fmt.Sprintf(message, i%1000)) }},
			})
		})
	}
}

// BenchmarkRememberStream compares durable writes of 64 callers over one stream
// with the library's own.
func BenchmarkRememberStream(b *testing.B) {
	l := newLoaded(b)
	c, err := client.Dial(l.rpc, client.Options{Insecure: true})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.Close()) })
	stream := c.Space("alpha").RememberStream(b.Context())
	b.Cleanup(func() { require.NoError(b, stream.Close()) })
	content := strings.Repeat("something to remember ", 9)
	compare(b, 64, 6400, []measured{
		{"library", func(int) error {
			_, err := l.space.Remember(b.Context(), engram.Memory{Content: content})
			return err
		}},
		{"stream", func(int) error {
			_, err := stream.Remember(b.Context(), engram.Memory{Content: content})
			return err
		}},
	})
}

// BenchmarkIdleSubscribers reports the bytes that a subscriber costs in which
// nothing happens: of the server alone over SSE, of both ends over gRPC.
func BenchmarkIdleSubscribers(b *testing.B) {
	const subscribers = 1000
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc + stats.StackInuse
	}
	settle := func(l *loaded) {
		for l.server.streams.Load() < subscribers {
			time.Sleep(time.Millisecond)
		}
	}
	b.Run("sse", func(b *testing.B) {
		for b.Loop() {
			l := newLoaded(b)
			before := memory()
			connections := make([]net.Conn, subscribers)
			for i := range connections {
				connection, err := net.Dial("tcp", l.web)
				require.NoError(b, err)
				connections[i] = connection
				_, err = io.WriteString(connection, "GET /v1/spaces/alpha/events?after=1001 HTTP/1.1\r\nHost: localhost\r\n\r\n")
				require.NoError(b, err)
			}
			settle(l)
			b.ReportMetric(float64(memory()-before)/subscribers, "B/subscriber")
			for _, connection := range connections {
				require.NoError(b, connection.Close())
			}
		}
	})
	b.Run("grpc-both-ends", func(b *testing.B) {
		for b.Loop() {
			l := newLoaded(b)
			before := memory()
			for range subscribers / 50 {
				memories := engramv1.NewMemoryServiceClient(dialBench(b, l.rpc))
				for range 50 {
					_, err := memories.Subscribe(b.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "alpha", AfterSeq: 1001})
					require.NoError(b, err)
				}
			}
			settle(l)
			b.ReportMetric(float64(memory()-before)/subscribers, "B/subscriber")
		}
	})
}

// BenchmarkEventLatency reports the time from the acknowledgement of a write to
// the event at a live subscriber.
func BenchmarkEventLatency(b *testing.B) {
	run := func(b *testing.B, l *loaded, arrived <-chan time.Time) {
		b.Helper()
		var all []time.Duration
		for b.Loop() {
			_, err := l.space.Remember(b.Context(), engram.Memory{ID: "live", Content: "x"})
			acknowledged := time.Now()
			require.NoError(b, err)
			all = append(all, max(0, (<-arrived).Sub(acknowledged)))
		}
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, "median-us")
		b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1e3, "p99-us")
	}
	b.Run("sse", func(b *testing.B) {
		l := newLoaded(b)
		answer, err := http.Get("http://" + l.web + "/v1/spaces/alpha/events?after=1001")
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, answer.Body.Close()) })
		arrived := make(chan time.Time, 16)
		go func() {
			for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
				if bytes.HasPrefix(lines.Bytes(), []byte("data: ")) {
					arrived <- time.Now()
				}
			}
		}()
		run(b, l, arrived)
	})
	b.Run("grpc", func(b *testing.B) {
		l := newLoaded(b)
		stream, err := engramv1.NewMemoryServiceClient(dialBench(b, l.rpc)).
			Subscribe(b.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "alpha", AfterSeq: 1001})
		require.NoError(b, err)
		_, err = stream.Header() // it is there
		require.NoError(b, err)
		arrived := make(chan time.Time, 16)
		go func() {
			for {
				if _, err := stream.Recv(); err != nil {
					return
				}
				arrived <- time.Now()
			}
		}()
		run(b, l, arrived)
	})
}
