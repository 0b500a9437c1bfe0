package client_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/client"
)

// host serves one data directory, and can be stopped and started again.
type host struct {
	t        *testing.T
	registry *engram.Registry
	address  string
	options  server.Options
	stop     func()
}

func newHost(t *testing.T) *host {
	t.Helper()
	registry, err := engram.Open(t.TempDir(), engram.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	h := &host{t: t, registry: registry, address: "127.0.0.1:0"}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *host) start() {
	h.t.Helper()
	listener, err := net.Listen("tcp", h.address)
	require.NoError(h.t, err)
	h.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	h.t.Cleanup(cancel)
	served := make(chan error, 1)
	go func() { served <- server.New(h.registry, h.options).ServeGRPC(ctx, listener) }()
	h.stop = func() {
		h.stop = func() {}
		cancel()
		require.NoError(h.t, <-served)
	}
}

func (h *host) dial() *client.Client {
	h.t.Helper()
	c, err := client.Dial(h.address, client.Options{Insecure: true, Attempts: 20})
	require.NoError(h.t, err)
	h.t.Cleanup(func() { require.NoError(h.t, c.Close()) })
	return c
}

func (h *host) space(c *client.Client, id engram.SpaceID) *client.Space {
	h.t.Helper()
	space, err := c.Create(h.t.Context(), id, engram.SpaceConfig{})
	require.NoError(h.t, err)
	return space
}

// TestEqualIDsInTwoSpaces: what one space is told never shows in the other.
func TestEqualIDsInTwoSpaces(t *testing.T) {
	h := newHost(t)
	c := h.dial()
	for _, id := range []engram.SpaceID{"alpha", "beta"} {
		_, err := h.space(c, id).Remember(t.Context(), engram.Memory{ID: "same", Content: "tea of " + string(id)})
		require.NoError(t, err)
	}
	_, err := c.Space("alpha").Forget(t.Context(), []string{"same"})
	require.NoError(t, err)
	_, err = c.Space("alpha").Lookup(t.Context(), "same")
	require.ErrorIs(t, err, engram.ErrMemoryNotFound)
	answer, err := c.Space("beta").Recall(t.Context(), engram.Cue{Text: "tea"})
	require.NoError(t, err)
	require.Len(t, answer.Recollections, 1)
	require.Equal(t, "tea of beta", answer.Recollections[0].Memory.Content)
}

// TestSubscriptionsNeverMix reads two spaces at once while both are written.
func TestSubscriptionsNeverMix(t *testing.T) {
	const writes = 20
	h := newHost(t)
	c := h.dial()
	ids := []engram.SpaceID{"alpha", "beta"}
	for _, id := range ids {
		h.space(c, id)
	}
	var readers, writers sync.WaitGroup
	seen := make([][]string, len(ids))
	for i, id := range ids {
		readers.Go(func() {
			for event, err := range c.Space(id).Subscribe(t.Context(), 0) {
				if err != nil {
					seen[i] = append(seen[i], err.Error())
					return
				}
				if event.Memory == nil {
					continue
				}
				seen[i] = append(seen[i], string(event.Memory.Space)+" "+event.Memory.Content)
				if len(seen[i]) == writes {
					return
				}
			}
		})
		writers.Go(func() {
			for n := range writes {
				_, _ = c.Space(id).Remember(t.Context(), engram.Memory{ID: fmt.Sprint(n), Content: fmt.Sprint(n)})
			}
		})
	}
	writers.Wait()
	readers.Wait()
	for i, id := range ids {
		require.Len(t, seen[i], writes)
		for n, event := range seen[i] {
			require.Equal(t, fmt.Sprintf("%s %d", id, n), event)
		}
	}
}

// TestSubscriptionGoesOnOverARestart: each event once, though the server went.
func TestSubscriptionGoesOnOverARestart(t *testing.T) {
	h := newHost(t)
	c := h.dial()
	space := h.space(c, "alpha")
	local, err := h.registry.Get(t.Context(), "alpha")
	require.NoError(t, err)
	_, err = space.Remember(t.Context(), engram.Memory{ID: "0", Content: "x"})
	require.NoError(t, err)
	var got []string
	for event, err := range space.Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		got = append(got, event.IDs...)
		switch len(got) {
		case 1:
			h.stop()
			_, err := local.Remember(t.Context(), engram.Memory{ID: "1", Content: "x"})
			require.NoError(t, err)
			h.start()
		case 2:
			_, err := space.Remember(t.Context(), engram.Memory{ID: "2", Content: "x"})
			require.NoError(t, err)
		}
		if len(got) == 3 {
			break
		}
	}
	require.Equal(t, []string{"0", "1", "2"}, got)
}

// TestSubscriptionGoesOnWhereThereIsNoRoom: one that has been open waits for room on a
// server that was restarted.
func TestSubscriptionGoesOnWhereThereIsNoRoom(t *testing.T) {
	h := newHost(t)
	h.space(h.dial(), "alpha")
	other, leave := context.WithCancel(t.Context())
	var opened atomic.Int32
	c, err := client.Dial(h.address, client.Options{Insecure: true, Dial: []grpc.DialOption{grpc.WithStreamInterceptor(
		func(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			if opened.Add(1) == 3 { // the second was refused
				leave()
			}
			return open(ctx, d, conn, method, options...)
		})}})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	var seqs []uint64
	for event, err := range c.Space("alpha").Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		seqs = append(seqs, event.Seq)
		if len(seqs) == 2 {
			break
		}
		h.stop()
		h.options.MaxCallerRequests = 1
		h.start()
		next, end := iter.Pull2(h.dial().Space("alpha").Subscribe(other, 0))
		defer end()
		_, err, _ := next()
		require.NoError(t, err)
		local, err := h.registry.Get(t.Context(), "alpha")
		require.NoError(t, err)
		_, err = local.Remember(t.Context(), engram.Memory{Content: "x"})
		require.NoError(t, err)
	}
	require.Equal(t, []uint64{1, 2}, seqs)
}

// TestSubscriptionDoesNotGoOnInAnotherSpace: a space of the same id that was
// created since is not the one that was subscribed to.
func TestSubscriptionDoesNotGoOnInAnotherSpace(t *testing.T) {
	h := newHost(t)
	c := h.dial()
	space := h.space(c, "alpha")
	_, err := space.Remember(t.Context(), engram.Memory{ID: "0", Content: "x"})
	require.NoError(t, err)
	for event, err := range space.Subscribe(t.Context(), 0) {
		if err != nil {
			require.ErrorIs(t, err, engram.ErrSpaceDeleted)
			return
		}
		if len(event.IDs) == 1 {
			h.stop()
			require.NoError(t, h.registry.Delete(t.Context(), "alpha"))
			_, err := h.registry.Create(t.Context(), "alpha", engram.SpaceConfig{})
			require.NoError(t, err)
			h.start()
		}
	}
	require.FailNow(t, "the subscription ended without an error")
}

func TestCancelledSubscription(t *testing.T) {
	h := newHost(t)
	space := h.space(h.dial(), "alpha")
	_, err := space.Remember(t.Context(), engram.Memory{ID: "0", Content: "x"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range space.Subscribe(ctx, 0) {
		last = err
		cancel()
	}
	require.ErrorIs(t, last, context.Canceled)
}

// TestWritesGoOnOverARestart: a retried write takes effect once.
func TestWritesGoOnOverARestart(t *testing.T) {
	h := newHost(t)
	c := h.dial()
	space := h.space(c, "alpha")
	stream := space.RememberStream(t.Context())
	_, err := stream.Remember(t.Context(), engram.Memory{ID: "0", Content: "x"})
	require.NoError(t, err)
	h.stop()
	h.start()
	_, err = stream.Remember(t.Context(), engram.Memory{ID: "1", Content: "x"})
	require.NoError(t, err)
	require.NoError(t, stream.Close())
	_, err = stream.Remember(t.Context(), engram.Memory{ID: "2", Content: "x"})
	require.ErrorIs(t, err, engram.ErrClosed)
	h.stop()
	h.start()
	first, err := space.Remember(t.Context(), engram.Memory{ID: "3", Content: "x"}, client.RequestID("r"))
	require.NoError(t, err)
	again, err := space.Remember(t.Context(), engram.Memory{ID: "3", Content: "x"}, client.RequestID("r"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	info, err := space.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, info.Memories)
	require.Equal(t, first.Seq, info.Seq)
}

// TestRememberStreamOfASilentServer: a write lasts no longer than its context, nor the
// stream longer than until it is closed, also while there is no connection yet.
func TestRememberStreamOfASilentServer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	c, err := client.Dial(silent.Addr().String(), client.Options{Insecure: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	stream := c.Space("alpha").RememberStream(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = stream.Remember(ctx, engram.Memory{Content: "x"})
	require.ErrorIs(t, err, context.Canceled)
	failed := make(chan error)
	go func() {
		_, err := stream.Remember(t.Context(), engram.Memory{Content: "x"})
		failed <- err
	}()
	require.NoError(t, stream.Close())
	require.Error(t, <-failed)
}

// TestRememberStreamOfManyCallers: each gets the receipt of its own write.
func TestRememberStreamOfManyCallers(t *testing.T) {
	h := newHost(t)
	space := h.space(h.dial(), "alpha")
	stream := space.RememberStream(t.Context())
	defer func() { require.NoError(t, stream.Close()) }()
	var callers sync.WaitGroup
	wrong := make(chan string, 64)
	for n := range 64 {
		callers.Go(func() {
			id := fmt.Sprint(n)
			if receipt, err := stream.Remember(t.Context(), engram.Memory{ID: id, Content: id}); err != nil || receipt.ID != id {
				wrong <- fmt.Sprint(id, receipt, err)
			}
		})
	}
	callers.Wait()
	require.Empty(t, wrong)
	info, err := space.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 64, info.Memories)
}

// TestRememberStreamOutlivesABadWrite: what cannot be sent, or is too large for the
// server, fails alone.
func TestRememberStreamOutlivesABadWrite(t *testing.T) {
	h := newHost(t)
	space := h.space(h.dial(), "alpha")
	stream := space.RememberStream(t.Context())
	defer func() { require.NoError(t, stream.Close()) }()
	for _, c := range []struct {
		bad  engram.Memory
		want error
	}{
		{engram.Memory{Content: "\xff"}, engram.ErrInvalid},
		{engram.Memory{Content: strings.Repeat("x", 9<<20)}, engram.ErrLimit},
	} {
		_, err := space.Remember(t.Context(), c.bad)
		require.ErrorIs(t, err, c.want)
		var callers sync.WaitGroup
		wrong := make(chan error, 400)
		for n := range 200 {
			callers.Go(func() {
				if _, err := stream.Remember(t.Context(), engram.Memory{ID: fmt.Sprint(n), Content: "good"}); err != nil {
					wrong <- err
				}
			})
			if n%50 == 25 {
				callers.Go(func() {
					if _, err := stream.Remember(t.Context(), c.bad); !errors.Is(err, c.want) {
						wrong <- fmt.Errorf("bad: %w", err)
					}
				})
			}
		}
		callers.Wait()
		close(wrong)
		for err := range wrong {
			require.NoError(t, err)
		}
	}
}

// TestLargeAnswersAreStreamed: an answer that no message holds comes all the same.
func TestLargeAnswersAreStreamed(t *testing.T) {
	h := newHost(t)
	space := h.space(h.dial(), "alpha")
	local, err := h.registry.Get(t.Context(), "alpha")
	require.NoError(t, err)
	content := strings.Repeat("x", engram.MaxContentBytes)
	for range 33 {
		_, err := local.Remember(t.Context(), engram.Memory{Content: content})
		require.NoError(t, err)
	}
	answer, err := space.Recall(t.Context(), engram.Cue{Limit: 33})
	require.NoError(t, err)
	want, err := local.Recall(t.Context(), engram.Cue{Limit: 33})
	require.NoError(t, err)
	require.True(t, len(answer.Recollections) == 33 && answer.Seq == want.Seq)
	n := 0
	for _, err := range space.Memories(t.Context(), engram.Filter{}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 33, n)
}

// TestLargeAnswersAreAskedForAgain: as a stream a recall is a call like any other.
func TestLargeAnswersAreAskedForAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var streams atomic.Int32
	c, err := client.Dial(h.address, client.Options{Insecure: true, Dial: []grpc.DialOption{
		grpc.WithUnaryInterceptor(
			func(ctx context.Context, method string, q, a any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
				if strings.HasSuffix(method, "/Recall") {
					return status.Error(codes.ResourceExhausted, "message is too large")
				}
				return invoke(ctx, method, q, a, conn, options...)
			}),
		grpc.WithStreamInterceptor(
			func(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
				if streams.Add(1) == 1 {
					return nil, status.Error(codes.Unavailable, "connection broke")
				}
				return open(ctx, d, conn, method, options...)
			}),
	}})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	space := h.space(c, "alpha")
	_, err = space.Remember(t.Context(), engram.Memory{Content: "x"})
	require.NoError(t, err)
	answer, err := space.Recall(t.Context(), engram.Cue{Text: "x"})
	require.NoError(t, err)
	require.Len(t, answer.Recollections, 1)
}

func TestExportAndImport(t *testing.T) {
	h := newHost(t)
	c := h.dial()
	space := h.space(c, "alpha")
	for n := range 50 {
		_, err := space.Remember(t.Context(), engram.Memory{ID: fmt.Sprint(n), Content: strings.Repeat("word ", 500)})
		require.NoError(t, err)
	}
	var exported, again bytes.Buffer
	_, err := space.Export(t.Context(), &exported)
	require.NoError(t, err)
	copied, err := c.Import(t.Context(), "beta", bytes.NewReader(exported.Bytes()))
	require.NoError(t, err)
	_, err = copied.Export(t.Context(), &again)
	require.NoError(t, err)
	require.Equal(t, exported.String(), again.String())

	// What breaks off is not there at all, and neither is a broken source.
	_, err = c.Import(t.Context(), "gamma", bytes.NewReader(exported.Bytes()[:exported.Len()/2]))
	require.ErrorIs(t, err, engram.ErrInvalid)
	_, err = c.Import(t.Context(), "gamma", strings.NewReader(`{"format":"engram-export","version":9}`+"\n"))
	require.ErrorIs(t, err, engram.ErrVersion)
	var told *client.Error
	require.ErrorAs(t, err, &told)
	require.Equal(t, codes.InvalidArgument, told.Code)
	broken, err := os.Open(t.TempDir())
	require.NoError(t, err)
	_, err = c.Import(t.Context(), "gamma", broken) // a directory cannot be read
	require.Error(t, err)
	require.NoError(t, broken.Close())
	// A compressed one that lacks but its checksum has all lines.
	var zipped bytes.Buffer
	zipper := gzip.NewWriter(&zipped)
	_, err = zipper.Write(exported.Bytes())
	require.NoError(t, err)
	require.NoError(t, zipper.Close())
	zipped.Truncate(zipped.Len() - 8)
	unzipped, err := gzip.NewReader(&zipped)
	require.NoError(t, err)
	_, err = c.Import(t.Context(), "gamma", unzipped)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = c.Get(t.Context(), "gamma")
	require.ErrorIs(t, err, engram.ErrSpaceNotFound)
}

func TestUnreachableServer(t *testing.T) {
	h := newHost(t)
	h.stop()
	c, err := client.Dial(h.address, client.Options{Insecure: true, Attempts: 2})
	require.NoError(t, err)
	_, err = c.Space("alpha").Lookup(t.Context(), "x")
	require.ErrorIs(t, err, client.ErrUnavailable)
	require.NoError(t, c.Close())
}

// TestAttemptsMeetAServerThatComesBack: the attempts of a call last longer than the
// connection waits before it tries again.
func TestAttemptsMeetAServerThatComesBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var dialled atomic.Int32
	c, err := client.Dial(h.address, client.Options{Insecure: true, Attempts: 5, Dial: []grpc.DialOption{grpc.WithContextDialer(
		func(ctx context.Context, address string) (net.Conn, error) {
			if dialled.Add(1) == 1 {
				return nil, errors.New("not there yet")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		})}})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	_, err = c.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, dialled.Load())
}

// TestClose: what is under way then and what comes later says that the client is
// closed, which is not what a cancelled context says.
func TestClose(t *testing.T) {
	h := newHost(t)
	c, err := client.Dial(h.address, client.Options{Insecure: true})
	require.NoError(t, err)
	space := h.space(c, "alpha")
	stream := space.RememberStream(t.Context())
	_, err = stream.Remember(t.Context(), engram.Memory{Content: "x"})
	require.NoError(t, err)
	next, end := iter.Pull2(space.Subscribe(t.Context(), 0))
	defer end()
	for range 2 {
		_, err, _ = next()
		require.NoError(t, err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err, _ := next()
		waiting <- err
	}()

	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-waiting, engram.ErrClosed)
	for name, call := range map[string]func() error{
		"lookup":   func() error { _, err := space.Lookup(t.Context(), "x"); return err },
		"remember": func() error { _, err := space.Remember(t.Context(), engram.Memory{Content: "x"}); return err },
		"stream":   func() error { _, err := stream.Remember(t.Context(), engram.Memory{Content: "x"}); return err },
		"export":   func() error { _, err := space.Export(t.Context(), io.Discard); return err },
		"import":   func() error { _, err := c.Import(t.Context(), "beta", strings.NewReader("")); return err },
		"create":   func() error { _, err := c.Create(t.Context(), "beta", engram.SpaceConfig{}); return err },
	} {
		err := call()
		require.ErrorIs(t, err, engram.ErrClosed, name)
		require.NotErrorIs(t, err, context.Canceled, name)
	}
	require.NoError(t, stream.Close())
}
