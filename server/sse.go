package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/engramdb/engram"
)

const (
	eventStreamType = "text/event-stream"
	lastEventID     = "Last-Event-ID"
	endEvent        = "end" // the last of a stream that the server ends
)

// incarnationHeader says whose events a stream has: positions of another
// incarnation mean nothing in it.
const incarnationHeader = "Engram-Incarnation"

// serverEvent is one event of a stream.
type serverEvent struct {
	id   string // the position to go on from; empty: there is none
	name string
	data any // becomes JSON, which has no line feeds: nothing in it can end the event
}

// endAnswer is the data of the last event.
type endAnswer struct {
	LastID  string  `json:"last_id,omitempty"` // to go on from
	Problem problem `json:"problem"`           // why the stream ends
}

// streamEvents streams the operations of a space. There is no queue: an event is
// read from the space's log when the client takes it, so a slow client holds up
// nobody and misses nothing; one that takes nothing for writeTimeout is cut off,
// and goes on from the last id that it has.
func (s *Server) streamEvents(x *exchange) error {
	query, err := parseParameters(x.r, spaceQuery, "after", "incarnation")
	if err != nil {
		return err
	}
	after, err := positionOf(x.r, query.Get("after"), query.Has("after"))
	if err != nil {
		return err
	}
	space, err := s.selectHandle(x)
	if err != nil {
		return err
	}
	if err := wake(x.r.Context(), space); err != nil {
		return err
	}
	info := space.Info()
	if query.Has("incarnation") && query.Get("incarnation") != info.Incarnation {
		return refuse(kindPosition, "the position is that of another space which had this id")
	}
	if after > info.Seq {
		return refusePosition(after)
	}
	x.w.Header().Set(incarnationHeader, info.Incarnation)
	events := func(ctx context.Context) iter.Seq2[serverEvent, error] {
		return func(yield func(serverEvent, error) bool) {
			for event, err := range space.Subscribe(ctx, after) {
				e := serverEvent{id: strconv.FormatUint(event.Seq, 10), name: string(event.Kind), data: event}
				if !yield(e, err) {
					return
				}
			}
		}
	}
	// Where operations are waiting, the first of them tells whether the position
	// is still kept; else there is nothing that could be missing.
	return s.stream(x, events, strconv.FormatUint(after, 10), after < info.Seq)
}

func refusePosition(after uint64) error {
	return errors.Join(
		refuse(kindPosition, fmt.Sprintf("the space has not reached seq %d", after)),
		&engram.InvalidError{Field: "after", Reason: "is a seq that the space has not reached"}, // as the library says it
	)
}

// positionOf reads where the client wants to go on. A browser that reconnects
// repeats the query and adds the id of the last event: that counts.
func positionOf(r *http.Request, after string, given bool) (uint64, error) {
	where := "the query parameter after"
	if ids := r.Header.Values(lastEventID); len(ids) > 0 {
		after, given, where = strings.Join(ids, ","), true, "the header "+lastEventID
	}
	if !given {
		return 0, nil
	}
	position, err := strconv.ParseUint(after, 10, 64)
	if err != nil {
		return 0, refuse(kindMalformedRequest, where+" must be a seq")
	}
	return position, nil
}

// streamSpaceEvents streams what becomes of the spaces, from now on. These
// events are not kept, so they have no ids.
func (s *Server) streamSpaceEvents(x *exchange) error {
	if _, err := parseParameters(x.r); err != nil {
		return err
	}
	return s.stream(x, func(ctx context.Context) iter.Seq2[serverEvent, error] {
		source := s.registry.Events(ctx)
		return func(yield func(serverEvent, error) bool) {
			for event, err := range source {
				if !yield(serverEvent{name: string(event.Kind), data: event}, err) {
					return
				}
			}
		}
	}, "", false)
}

// taken is what a source has yielded.
type taken struct {
	event serverEvent
	err   error
}

// stream sends the events of a source until the client leaves, the source ends
// or the server drains. last is the position before the first one. With await
// the header is not sent before the source has yielded: an error of it is then
// the answer.
func (s *Server) stream(x *exchange, source func(context.Context) iter.Seq2[serverEvent, error], last string, await bool) error {
	x.streamed = true
	s.streams.Add(1)
	defer s.streams.Add(-1)
	ctx, cancel := x.principal.Context(x.r.Context())
	events := make(chan taken)
	yields := source(ctx)
	go func() {
		defer close(events)
		for event, err := range yields {
			select {
			case events <- taken{event, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range events { // until the goroutine has ended
			continue
		}
	}()
	f := streamer{server: s, x: x, ctx: ctx, last: last}
	if await {
		select {
		case t, open := <-events:
			if ended := x.principal.Check(); ended != nil {
				return refuseCredentials(x, ended)
			}
			if !open || t.err != nil {
				return t.err
			}
			if err := f.send(t.event); err != nil {
				return err
			}
		case <-s.drained:
			return engram.ErrClosed
		}
	}
	return f.run(events)
}

// streamer sends one stream.
type streamer struct {
	server *Server
	x      *exchange
	ctx    context.Context // ends with the request, and when its credential does
	last   string          // id of the last event
}

func (f *streamer) run(events <-chan taken) error {
	if err := f.write(": engram\n\n"); err != nil || f.x.r.Method == http.MethodHead {
		return err
	}
	heartbeat := time.NewTicker(f.server.heartbeat)
	defer heartbeat.Stop()
	for {
		var err error
		select {
		case t, open := <-events:
			switch {
			case f.x.r.Context().Err() != nil:
				return nil // the client has left
			case f.ctx.Err() != nil:
				return f.end(unauthenticated(context.Cause(f.ctx)))
			case !open:
				return nil
			case t.err != nil:
				return f.end(t.err)
			}
			if ended := f.x.principal.Check(); ended != nil {
				return f.end(unauthenticated(ended))
			}
			err = f.send(t.event)
		case <-heartbeat.C:
			err = f.write(": heartbeat\n\n")
		case <-f.server.drained:
			return f.end(engram.ErrClosed)
		}
		if err != nil {
			return err
		}
	}
}

func (f *streamer) send(e serverEvent) error {
	data, err := json.Marshal(e.data)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	id := ""
	if e.id != "" {
		f.last, id = e.id, "id: "+e.id+"\n"
	}
	return f.write(id + "event: " + e.name + "\ndata: " + string(data) + "\n\n")
}

// end sends the last event, which has the position to go on from once more.
func (f *streamer) end(why error) error {
	p := describe(why)
	p.Instance = instancePrefix + f.x.requestID
	if p.Status >= http.StatusInternalServerError && !errors.Is(why, engram.ErrClosed) {
		f.server.options.Logger.Error("event stream failed", zap.String("request_id", f.x.requestID),
			zap.String("space", string(f.x.space)), zap.Error(why))
	}
	return f.send(serverEvent{id: f.last, name: endEvent, data: endAnswer{LastID: f.last, Problem: p}})
}

// write sends text at once. An answer that is compressed or kept back by a proxy
// would not be one.
func (f *streamer) write(text string) error {
	if f.x.status == 0 {
		f.x.begin(eventStreamType).Set("X-Accel-Buffering", "no")
	}
	if _, err := f.x.Write([]byte(text)); err != nil {
		return err
	}
	return supported(http.NewResponseController(f.x.w).Flush())
}
