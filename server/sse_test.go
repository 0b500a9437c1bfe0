package server

import (
	"bufio"
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
	"google.golang.org/grpc/codes"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// received is one event as a client of the standard's parser sees it.
type received struct{ id, name, data string }

// subscriber reads one event stream.
type subscriber struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Reader
	comments int
}

// live serves the fixture on a connection that streams.
func live(t *testing.T, f *fixture) string {
	t.Helper()
	server := httptest.NewServer(f.server)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func get(t *testing.T, target string, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	return response
}

func subscribe(t *testing.T, target string, headers ...string) *subscriber {
	t.Helper()
	response := get(t, target, headers...)
	t.Cleanup(func() { require.NoError(t, response.Body.Close()) })
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, eventStreamType, response.Header.Get("Content-Type"))
	require.Empty(t, response.Header.Get("Content-Encoding"))
	return &subscriber{t: t, response: response, lines: bufio.NewReader(response.Body)}
}

// next returns the next event, or how the stream ended.
func (s *subscriber) next() (received, error) {
	var e received
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return received{}, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "":
			if strings.HasPrefix(line, ":") {
				s.comments++
				continue
			}
			if e != (received{}) {
				return e, nil
			}
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			require.Empty(s.t, e.data)
			e.data = value
		default:
			require.Fail(s.t, "unexpected line", "%q", line)
		}
	}
}

// event returns the next event, which must be one of the space.
func (s *subscriber) event() engram.Event {
	s.t.Helper()
	got, err := s.next()
	require.NoError(s.t, err)
	var e engram.Event
	require.NoError(s.t, json.Unmarshal([]byte(got.data), &e))
	require.Equal(s.t, string(e.Kind), got.name)
	require.Equal(s.t, fmt.Sprint(e.Seq), got.id)
	return e
}

// end returns the last event, behind which the stream ends properly.
func (s *subscriber) end() endAnswer {
	s.t.Helper()
	got, err := s.next()
	require.NoError(s.t, err)
	require.Equal(s.t, endEvent, got.name, got.data)
	var e endAnswer
	require.NoError(s.t, json.Unmarshal([]byte(got.data), &e))
	require.Equal(s.t, got.id, e.LastID)
	_, err = s.next()
	require.ErrorIs(s.t, err, io.EOF)
	return e
}

func remember(t *testing.T, space *engram.Space, contents ...string) {
	t.Helper()
	for _, content := range contents {
		_, err := space.Remember(t.Context(), engram.Memory{Content: content})
		require.NoError(t, err)
	}
}

func TestEventsResumeExactly(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	url := live(t, f) + "/v1/spaces/alpha/events"
	remember(t, space, "two", "three")

	all := subscribe(t, url)
	for seq := uint64(1); seq <= 3; seq++ {
		require.Equal(t, seq, all.event().Seq)
	}
	tail := subscribe(t, url+"?after=3")
	require.Equal(t, space.Info().Incarnation, tail.response.Header.Get(incarnationHeader))
	remember(t, space, "four")
	for _, s := range []*subscriber{all, tail} {
		e := s.event()
		require.Equal(t, uint64(4), e.Seq)
		require.Equal(t, engram.Remembered, e.Kind)
		require.Equal(t, "four", e.Memory.Content)
		require.Equal(t, engram.SpaceID("alpha"), e.Memory.Space)
	}
	// A browser that reconnects repeats the query.
	again := subscribe(t, url+"?after=0", lastEventID, "2")
	require.Equal(t, uint64(3), again.event().Seq)
	require.Equal(t, uint64(4), again.event().Seq)
}

func TestEventsRefuseForeignPositions(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "/v1/spaces/alpha/events"
	remember(t, space, "two")
	f.call("GET", target+"?after=3", "").problem(410, "position-unknown")
	f.call("GET", target, "", lastEventID, "3").problem(410, "position-unknown")
	f.call("GET", target+"?incarnation="+strings.Repeat("0", 32), "").problem(410, "position-unknown")
	for _, query := range []string{"?after=-1", "?after=", "?after=x", "?after=1&after=1", "?from=1"} {
		f.call("GET", target+query, "").problem(400, "malformed-request")
	}
	f.call("GET", target, "", lastEventID, "1", lastEventID, "2").problem(400, "malformed-request")
	f.call("GET", "/v1/spaces/beta/events", "").problem(404, "space-not-found")

	// A space of the same id that has gone as far is told by its incarnation.
	incarnation := space.Info().Incarnation
	require.NoError(t, f.registry.Delete(t.Context(), "alpha"))
	remember(t, f.create("alpha"), "two")
	f.call("GET", target+"?after=1&incarnation="+incarnation, "").problem(410, "position-unknown")
}

func TestEventsOfATrimmedPositionAreGone(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	remember(t, space, strings.Repeat("x", engram.MaxContentBytes), "kept")
	for memory, err := range space.Memories(t.Context(), engram.Filter{}) {
		require.NoError(t, err)
		if memory.Content != "kept" {
			_, err = space.Forget(t.Context(), []string{memory.ID})
			require.NoError(t, err)
		}
	}
	require.Equal(t, 204, f.call("POST", "/v1/spaces/alpha/checkpoint", "").status)
	p := f.call("GET", "/v1/spaces/alpha/events?after=0", "").problem(410, "history-trimmed")
	require.Equal(t, space.Info().Seq, p.Floor)
	s := subscribe(t, fmt.Sprintf("%s/v1/spaces/alpha/events?after=%d", live(t, f), p.Floor))
	remember(t, space, "after")
	require.Equal(t, p.Floor+1, s.event().Seq)
}

// TestEventsOfADamagedSpace: over each transport a stream has what precedes the damage,
// be there a memory in it or not. Behind that, and whatever position the client has, it
// is told what is damaged: the position may be one that was acknowledged.
func TestEventsOfADamagedSpace(t *testing.T) {
	dir := t.TempDir()
	registry, err := engram.Open(dir, engram.Options{})
	require.NoError(t, err)
	for id, contents := range map[engram.SpaceID][]string{"alpha": {"good", "damaged in alpha"}, "beta": {"damaged in beta"}} {
		space, err := registry.Create(t.Context(), id, engram.SpaceConfig{})
		require.NoError(t, err)
		remember(t, space, contents...)
	}
	require.NoError(t, registry.Close())
	damage(t, dir, "damaged in alpha")
	damage(t, dir, "damaged in beta")
	registry, err = engram.Open(dir, engram.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	w := wireTo(t, &fixture{t: t, dir: dir, registry: registry, server: New(registry, Options{})})
	url := live(t, w.fixture)
	for id, whole := range map[string]uint64{"alpha": 2, "beta": 1} {
		s := subscribe(t, url+"/v1/spaces/"+id+"/events")
		stream, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: id})
		require.NoError(t, err)
		for seq := uint64(1); seq <= whole; seq++ {
			require.Equal(t, seq, s.event().Seq)
			answer, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, seq, answer.GetEvent().GetSeq())
		}
		require.Equal(t, problemTypePrefix+"space-damaged", s.end().Problem.Type)
		_, err = stream.Recv()
		refused(t, err, codes.DataLoss, "SPACE_DAMAGED")
		for _, after := range []uint64{whole, whole + 1, 99} {
			w.call("GET", fmt.Sprintf("/v1/spaces/%s/events?after=%d", id, after), "").problem(500, "space-damaged")
			stream, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: id, AfterSeq: after})
			require.NoError(t, err)
			_, err = stream.Recv()
			refused(t, err, codes.DataLoss, "SPACE_DAMAGED")
		}
	}
}

// Of a space that was whole when it woke it is known how far it has come.
func TestEventsBehindDamageThatIsFound(t *testing.T) {
	w := newWired(t, Options{})
	remember(t, w.create("alpha"), "damaged")
	require.NoError(t, w.registry.Settle(t.Context()))
	damage(t, w.dir, "damaged")
	w.call("GET", "/v1/spaces/alpha/export", "").problem(500, "space-damaged")
	w.call("GET", "/v1/spaces/alpha/events?after=2", "").problem(500, "space-damaged")
	w.call("POST", "/v1/spaces/alpha/memories", `{"content":"x"}`).problem(500, "space-damaged")
	w.call("GET", "/v1/spaces/alpha/events?after=3", "").problem(410, "position-unknown")
	stream, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "alpha", AfterSeq: 3})
	require.NoError(t, err)
	_, err = stream.Recv()
	refused(t, err, codes.OutOfRange, "POSITION_UNKNOWN")
}

// TestEventsCannotBeInjected: whatever a memory says, it is the data of one event.
func TestEventsCannotBeInjected(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const evil = "x\r\n\r\nid: 99\r\nevent: end\rdata: {}\n\nid: 98\n\u0000\u2028\u2029\u0085"
	_, err := space.Remember(t.Context(), engram.Memory{Content: evil, Attributes: map[string]string{"k": evil}})
	require.NoError(t, err)
	s := subscribe(t, live(t, f)+"/v1/spaces/alpha/events?after=1")
	e := s.event()
	require.Equal(t, uint64(2), e.Seq)
	require.Equal(t, evil, e.Memory.Content)
	remember(t, space, "three")
	require.Equal(t, uint64(3), s.event().Seq)
}

func TestEventStreamsEndWithTheirPosition(t *testing.T) {
	f := newFixture(t, Options{})
	deleted := f.create("alpha")
	f.create("beta")
	f.server.heartbeat = time.Millisecond
	url := live(t, f)
	alpha := subscribe(t, url+"/v1/spaces/alpha/events")
	require.Equal(t, uint64(1), alpha.event().Seq)
	remember(t, deleted, "two")
	require.Equal(t, uint64(2), alpha.event().Seq)
	beta := subscribe(t, url+"/v1/events?space=beta&after=1")
	spaces := subscribe(t, url+"/v1/space-events")

	require.Equal(t, 204, f.call("DELETE", "/v1/spaces/alpha", "").status)
	end := alpha.end()
	require.Equal(t, "2", end.LastID)
	require.Equal(t, problemTypePrefix+"space-deleted", end.Problem.Type)
	require.NotZero(t, alpha.comments)
	got, err := spaces.next()
	require.NoError(t, err)
	require.Equal(t, received{name: "deleted", data: `{"kind":"deleted","space":"alpha"}`}, got)

	f.server.Drain()
	f.server.Drain()
	end = beta.end()
	require.Equal(t, "1", end.LastID, "nothing happened: the position is the one it began at")
	require.Equal(t, problemTypePrefix+"shutting-down", end.Problem.Type)
	require.Equal(t, problemTypePrefix+"shutting-down", spaces.end().Problem.Type)
}

// TestServeEndsStreams: a stream is no request that a drain waits for.
func TestServeEndsStreams(t *testing.T) {
	f := newFixture(t, Options{DrainTimeout: time.Hour})
	f.create("alpha")
	r := start(t, f)
	s := subscribe(t, "http://"+r.address+"/v1/spaces/alpha/events?after=1")
	r.stop()
	require.Equal(t, "1", s.end().LastID)
	require.NoError(t, r.wait())
}

// TestSlowSubscriberIsCutOff: it holds up no writer, and whatever it has got
// whole tells where to go on, so that nothing is missing.
func TestSlowSubscriberIsCutOff(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	f.server.writeTimeout = 100 * time.Millisecond
	r := start(t, f)
	connection, err := net.Dial("tcp", r.address)
	require.NoError(t, err)
	defer func() { require.NoError(t, connection.Close()) }()
	r.send(connection, "GET /v1/spaces/alpha/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	require.NoError(t, err)
	slow := &subscriber{t: t, response: response, lines: bufio.NewReader(response.Body)}

	const writes = 16 // MiB, more than the buffers of the two ends take
	for range writes {
		remember(t, space, strings.Repeat("x", engram.MaxContentBytes))
	}
	require.Eventually(t, func() bool { return f.server.streams.Load() == 0 }, time.Minute, time.Millisecond)
	var last uint64
	for {
		got, err := slow.next()
		if err != nil {
			require.NotErrorIs(t, err, io.EOF, "the stream must not seem to have ended")
			break
		}
		last++
		require.Equal(t, fmt.Sprint(last), got.id)
	}
	require.Less(t, last, uint64(writes))
	patient := start(t, &fixture{t: t, registry: f.registry, server: New(f.registry, Options{})})
	rest := subscribe(t, "http://"+patient.address+"/v1/spaces/alpha/events", lastEventID, fmt.Sprint(last))
	for last++; last <= writes+1; last++ {
		require.Equal(t, last, rest.event().Seq)
	}
}

// TestBacklogIsReadInTurns: who waits for a turn holds up nobody, and then gets
// every event.
func TestBacklogIsReadInTurns(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	events := 3*backlogTurn + 5
	for i := range events {
		remember(t, space, fmt.Sprint(i))
	}
	r := start(t, f)
	target := "http://" + r.address + "/v1/spaces/alpha/events?after="
	f.server.turns.takeAll(t.Context())
	waiting := r.dial()
	r.send(waiting, "GET /v1/spaces/alpha/events?after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	tail := subscribe(t, target+fmt.Sprint(space.Info().Seq))
	remember(t, space, "the last one")
	require.Equal(t, space.Info().Seq, tail.event().Seq)
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target+"1", http.NoBody)
	require.NoError(t, err)
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = http.DefaultClient.Do(request) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { // the one that has left does not
		_, waiting := f.server.turns.figures()
		return waiting == 1
	}, time.Minute, time.Millisecond)
	for range f.server.turns.most {
		f.server.turns.free()
	}
	response, err := http.ReadResponse(bufio.NewReader(waiting), nil)
	require.NoError(t, err)
	s := &subscriber{t: t, response: response, lines: bufio.NewReader(response.Body)}
	for i := range events + 1 {
		require.Equal(t, uint64(i+2), s.event().Seq)
	}
	taken, _ := f.server.turns.figures()
	require.Zero(t, taken)
}

// TestSlowSubscribersHaveNoTurn: more of them than there are turns take nothing.
func TestSlowSubscribersHaveNoTurn(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const events = 200
	for range events { // more than what the sockets hold
		remember(t, space, strings.Repeat("x", 64<<10))
	}
	r := start(t, f)
	for range f.server.turns.most + 1 {
		r.send(r.dial(), "GET /v1/spaces/alpha/events?after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	for f.server.streams.Load() <= int64(f.server.turns.most) {
		time.Sleep(time.Millisecond)
	}
	s := subscribe(t, "http://"+r.address+"/v1/spaces/alpha/events?after=1")
	for i := range events {
		require.Equal(t, uint64(i+2), s.event().Seq)
	}
}

// TestStreamsThatWaitForDurabilityHaveNoTurn: what is stored and not durable yet is not
// streamed. Meanwhile a stream has sent what it has read, and keeps no turn from others.
func TestStreamsThatWaitForDurabilityHaveNoTurn(t *testing.T) {
	registry, err := engram.Open(t.TempDir(), engram.Options{Durability: engram.None})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	f := &fixture{t: t, registry: registry, server: New(registry, Options{})}
	f.server.heartbeat = time.Millisecond
	url := live(t, f)
	space := f.create("alpha")
	remember(t, space, "two")
	require.NoError(t, registry.Settle(t.Context()))
	remember(t, space, "three", "four")
	var waiting []*subscriber
	for range f.server.turns.most + 1 {
		s := subscribe(t, url+"/v1/spaces/alpha/events")
		require.Equal(t, uint64(1), s.event().Seq)
		require.Equal(t, uint64(2), s.event().Seq)
		waiting = append(waiting, s, subscribe(t, url+"/v1/spaces/alpha/events?after=2"))
	}
	require.NoError(t, registry.Settle(t.Context()))
	for _, s := range waiting {
		require.Equal(t, uint64(3), s.event().Seq)
		require.Equal(t, uint64(4), s.event().Seq)
	}
}

func TestHeadOfAStreamEnds(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	reply := f.call("HEAD", "/v1/spaces/alpha/events", "")
	require.Equal(t, 200, reply.status)
	require.Equal(t, eventStreamType, reply.header.Get("Content-Type"))
}
