package server

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// stalledWriter is a client that takes nothing until it is let go.
type stalledWriter struct {
	*httptest.ResponseRecorder
	stalls sync.WaitGroup
	once   sync.Once
	let    chan struct{}
}

func (w *stalledWriter) FlushError() error {
	w.once.Do(w.stalls.Done)
	<-w.let
	return nil
}

// A client that takes nothing, not even the header, keeps no turn from others.
func TestStalledClientsHaveNoTurn(t *testing.T) {
	f := newFixture(t, Options{})
	for _, id := range []string{"stalled", "other"} {
		space := f.create(engram.SpaceID(id))
		remember(t, space, "one", "two", "three")
	}
	require.NoError(t, f.registry.Settle(t.Context()))
	let := make(chan struct{})
	var streams sync.WaitGroup
	for range f.server.turns.most {
		w := &stalledWriter{ResponseRecorder: httptest.NewRecorder(), let: let}
		w.stalls.Add(1)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/v1/spaces/stalled/events?after=0", http.NoBody)
		streams.Go(func() { f.server.ServeHTTP(w, r) })
		w.stalls.Wait()
	}
	taken, _ := f.server.turns.figures()
	require.Zero(t, taken)
	answer := f.call("HEAD", "/v1/spaces/other/events?after=0", "")
	require.Equal(t, http.StatusOK, answer.status)
	f.server.Drain()
	close(let)
	streams.Wait()
}

// A turn that ends by itself and finds no room is not sent, and nothing behind it: its
// events would be missing to who goes on from there.
func TestTurnWithoutRoomIsTheLast(t *testing.T) {
	const length = 2 * maxUncountedBytes
	f := newFixture(t, Options{MaxBodyBytes: length})
	x := &exchange{server: f.server, w: httptest.NewRecorder(), r: httptest.NewRequest(http.MethodGet, "/", http.NoBody), status: 200}
	ctx, cancel := context.WithCancel(t.Context())
	s := &streamer{server: f.server, x: x, ctx: ctx, cancel: cancel, last: "7", sent: "7"}
	s.takeTurn()
	require.NoError(t, s.send(serverEvent{id: "8", name: "long", data: strings.Repeat("x", length), more: true}))
	require.True(t, f.server.underWay.bodies.Take(holder{address: "other"}, length/2))
	require.True(t, f.server.underWay.bodies.Take(holder{address: "third"}, 1))
	s.tire(s.began)
	s.heartbeat()
	require.Error(t, ctx.Err())
	err := s.send(serverEvent{id: "9", name: "short"})
	require.True(t, isNoRoom(err))
	require.NoError(t, s.end(err))
	s.stop()
	sent := x.w.(*httptest.ResponseRecorder).Body.String()
	require.NotContains(t, sent, "long")
	require.NotContains(t, sent, "short")
	require.Contains(t, sent, "id: 7\nevent: end")
	require.Contains(t, sent, "too-much-under-way")
}

// partsWriter notes how long the longest part is that is written at once, and leaves
// when it has all events.
type partsWriter struct {
	*httptest.ResponseRecorder
	longest, events int
	leave           func()
}

func (w *partsWriter) Write(p []byte) (int, error) {
	w.longest = max(w.longest, len(p))
	if w.events -= bytes.Count(p, []byte("\nevent: ")); w.events == 0 {
		w.leave()
	}
	return len(p), nil
}

// What a stream has read and not sent is bounded, however long the memories are.
func TestTurnsAreBoundedInBytes(t *testing.T) {
	f := newFixture(t, Options{})
	const length = 60 << 10
	remember(t, f.create("alpha"), slices.Repeat([]string{strings.Repeat("x", length)}, backlogTurn)...)
	ctx, cancel := context.WithCancel(t.Context())
	w := &partsWriter{ResponseRecorder: httptest.NewRecorder(), events: backlogTurn, leave: cancel}
	f.server.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/spaces/alpha/events?after=1", http.NoBody))
	require.Zero(t, w.events)
	require.Greater(t, w.longest, 2*length, "several events at once")
	require.Less(t, w.longest, backlogTurnBytes+2*length)
}
