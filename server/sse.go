package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
	"github.com/engramdb/engram/server/internal/local"
)

// A stream reads so many of the events that were waiting in one turn, or fewer where
// they have so many bytes, one event more at most: until they are sent they are in
// memory, and a slow client has its time-out for all of them.
const (
	backlogTurn      = 64
	backlogTurnBytes = 256 << 10
)

// turnPatience is how long a turn lasts at most: longer than it takes to read what is
// there. Where it lasts as long, the stream waits for an operation that is stored but
// not durable yet.
const turnPatience = 100 * time.Millisecond

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
	data any  // becomes JSON, which has no line feeds: nothing in it can end the event
	more bool // another is waiting behind it
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
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	info, err := standing(x.r.Context(), space)
	if err != nil {
		return err
	}
	damaged := info.State == engram.Quarantined
	if query.Has("incarnation") && query.Get("incarnation") != info.Incarnation && info.Incarnation != "" {
		return refuse(kindPosition, "the position is that of another space which had this id")
	}
	if after > info.Seq && !damaged {
		return refusePosition(after)
	}
	x.w.Header().Set(incarnationHeader, info.Incarnation)
	events := func(ctx context.Context) iter.Seq2[serverEvent, error] {
		return func(yield func(serverEvent, error) bool) {
			for event, err := range space.Subscribe(ctx, after) {
				switch {
				case err == nil:
					err = stillMeant(x.principal, x.route.verb, x.space, space)
				case errors.Is(err, engram.ErrInvalid):
					err = refusePosition(after)
				}
				e := serverEvent{
					id: strconv.FormatUint(event.Seq, 10), name: string(event.Kind), data: event, more: event.Seq < info.Seq,
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
	// Where operations are waiting, the first of them tells whether the position
	// is still kept; else there is nothing that could be missing. Of a damaged space
	// none may be there but the error.
	return s.stream(x, events, strconv.FormatUint(after, 10), after < info.Seq || damaged)
}

// standing wakes the space and tells where it stands. A damaged one is as far as it is
// good: what a subscriber gets, behind which, or whatever position it has, it is told
// what is damaged.
func standing(ctx context.Context, space *engram.Space) (engram.SpaceInfo, error) {
	err := local.Wake(ctx, space)
	info := space.Info()
	if info.State == engram.Quarantined {
		err = nil
	}
	return info, err
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

// stream sends the events of a source until the client leaves, the source ends
// or the server drains. last is the position before the first one. With await
// the header is not sent before the source has yielded: an error of it is then
// the answer. An idle stream is the goroutine of its request, and a timer.
func (s *Server) stream(x *exchange, source func(context.Context) iter.Seq2[serverEvent, error], last string, await bool) error {
	x.streamed = true
	s.streams.Add(1)
	defer s.streams.Add(-1)
	ctx, release := x.principal.Context(x.r.Context())
	defer release()
	ctx, _, cancel := s.untilDrained(ctx)
	defer cancel()
	f := &streamer{server: s, x: x, ctx: ctx, cancel: cancel, last: last, sent: last}
	defer f.stop()
	defer f.leaveTurn()
	events := source(ctx)
	if await {
		f.takeTurn()
	} else if err := f.begin(); err != nil || x.r.Method == http.MethodHead {
		return err
	}
	for event, err := range events {
		if err == nil {
			err = cmp.Or(context.Cause(ctx), x.principal.Check())
		}
		if err != nil {
			return f.end(err)
		}
		if err := f.send(event); isNoRoom(err) {
			return f.end(err)
		} else if err != nil {
			return err
		}
		if await {
			await = false
			if err := f.begin(); err != nil || x.r.Method == http.MethodHead {
				return err
			}
		}
	}
	return nil
}

// streamer sends one stream.
type streamer struct {
	server *Server
	x      *exchange
	ctx    context.Context //nolint:containedctx // of the stream: ends with the request, the credential, or the server
	cancel func()          // ends ctx
	read   int             // events

	mu     sync.Mutex // guards the fields below, and what is sent
	inTurn bool
	began  time.Time   // the turn
	tired  *time.Timer // ends it
	last   string      // id of the last event
	sent   string      // id of the last event that has been sent
	unsent []byte      // the events of this turn
	beat   *time.Timer // nil: it has not begun
	over   bool
	failed error // of what was sent by a timer: nothing is sent behind it but the end
}

// begin sends the header, if that has not been sent, and has the signs of life
// begin.
func (f *streamer) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// In a turn it goes with what is sent at its end: who takes nothing has no turn.
	if err := f.writeLocked([]byte(": engram\n\n"), f.inTurn); err != nil {
		return err
	}
	f.beginBeatLocked()
	return nil
}

func (f *streamer) beginBeatLocked() {
	if f.beat == nil {
		f.beat = time.AfterFunc(f.server.heartbeat, f.heartbeat)
	}
}

func (f *streamer) heartbeat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || f.failed != nil {
		return
	}
	if f.failed = f.writeLocked([]byte(": heartbeat\n\n"), false); f.failed != nil {
		f.cancel()
		return
	}
	f.beat.Reset(f.server.heartbeat)
}

// stop returns when no heartbeat is being sent, after which none will be.
func (f *streamer) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	if f.beat != nil {
		f.beat.Stop()
	}
}

// takeTurn waits for a turn. Where the stream ends meanwhile it goes on without
// one, to find that out.
func (f *streamer) takeTurn() {
	taken := f.server.turns.take(f.ctx, f.x.held.by)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inTurn = taken; taken {
		began := time.Now()
		f.began, f.tired = began, time.AfterFunc(turnPatience, func() { f.tire(began) })
	}
}

func (f *streamer) leaveTurn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaveTurnLocked()
}

func (f *streamer) leaveTurnLocked() {
	if f.inTurn {
		f.tired.Stop()
		f.server.turns.leave(time.Since(f.began))
		f.inTurn = false
	}
}

// tire ends the turn that began then, if it lasts. What has been read is sent.
func (f *streamer) tire(began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.inTurn || !f.began.Equal(began) {
		return
	}
	f.leaveTurnLocked()
	f.beginBeatLocked()
	if f.x.status == 0 || f.failed != nil {
		return // an error may still be the answer
	}
	if f.failed = f.flushLocked(false); f.failed != nil {
		f.cancel()
	}
}

// send sends an event, with those behind it to the end of the turn. A client that is
// slow to take them has no turn meanwhile.
func (f *streamer) send(e serverEvent) error {
	goesOn, err := f.sendTurn(e)
	if err == nil && goesOn {
		f.takeTurn()
	}
	return err
}

// sendTurn reports whether it has sent what was read and there is more.
func (f *streamer) sendTurn(e serverEvent) (goesOn bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil { // what was read before has not been sent
		return false, f.failed
	}
	if err := f.addLocked(e); err != nil {
		return false, err
	}
	if f.read++; f.inTurn && e.more && f.read%backlogTurn != 0 && len(f.unsent) < backlogTurnBytes {
		return false, nil
	}
	f.leaveTurnLocked()
	return e.more, f.flushLocked(e.more)
}

// addLocked appends an event to what is to be sent.
func (f *streamer) addLocked(e serverEvent) error {
	data, err := json.Marshal(e.data)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	if e.id != "" {
		f.last = e.id
		f.unsent = append(f.unsent, "id: "+e.id+"\n"...)
	}
	f.unsent = append(f.unsent, "event: "+e.name+"\ndata: "...)
	f.unsent = append(append(f.unsent, data...), "\n\n"...)
	return nil
}

// flushLocked sends the events of this turn. They count as what the caller has under way
// until the client has taken them; where there is no room for that, none is sent.
func (f *streamer) flushLocked(more bool) error {
	text := f.unsent
	f.unsent = nil // an idle stream holds no buffer
	if err := f.server.holdEvents(&f.x.request, len(text)); err != nil {
		f.last = f.sent
		return err
	}
	defer f.server.letGo(&f.x.request)
	if err := f.writeLocked(text, more); err != nil {
		return err
	}
	f.sent = f.last
	return nil
}

// end ends the stream because of an error of its source, or of its context.
// Where nothing has been sent, what ended it is the answer. Else it is the last
// event, which has the position to go on from once more.
func (f *streamer) end(why error) error {
	f.leaveTurn()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch cause := context.Cause(f.ctx); {
	case f.x.status != 0 && f.x.r.Context().Err() != nil:
		return nil // the client has left
	case isNoRoom(f.failed):
		why = f.failed
	case f.failed != nil:
		return f.failed
	case cause != nil:
		why = cause
	}
	ended := isCredential(why)
	switch {
	case f.x.status == 0 && ended:
		return refuseCredentials(f.x, why)
	case f.x.status == 0:
		return why
	case ended:
		why = unauthenticated(why)
	}
	p := describe(why)
	p.Instance = instancePrefix + f.x.requestID
	if p.Status >= http.StatusInternalServerError && !errors.Is(why, engram.ErrClosed) {
		f.server.options.Logger.Error("event stream failed", zap.String("request_id", f.x.requestID),
			zap.String("space", string(f.x.space)), zap.Error(why))
	}
	if len(f.unsent) > 0 {
		if err := f.flushLocked(true); err != nil && !isNoRoom(err) {
			return err
		}
	}
	if err := f.addLocked(serverEvent{id: f.last, name: endEvent, data: endAnswer{LastID: f.last, Problem: p}}); err != nil {
		return err
	}
	return f.writeLocked(f.unsent, false) // whatever room there is
}

// isNoRoom reports whether an error says that the caller has too much under way, and not
// that its connection has broken.
func isNoRoom(err error) bool {
	var exceeded *limitError
	return errors.As(err, &exceeded)
}

// isCredential reports whether an error says that the credential has ended.
func isCredential(err error) bool {
	return errors.Is(err, auth.ErrRevoked) || errors.Is(err, auth.ErrExpired)
}

// writeLocked sends text, at once unless there is more behind it. An answer that is
// compressed or kept back by a proxy would not be one.
func (f *streamer) writeLocked(text []byte, more bool) error {
	if f.x.status == 0 {
		f.x.begin(eventStreamType).Set("X-Accel-Buffering", "no")
	}
	if _, err := f.x.writePart(text); err != nil {
		return err
	}
	if more {
		return nil
	}
	return supported(http.NewResponseController(f.x.w).Flush())
}
