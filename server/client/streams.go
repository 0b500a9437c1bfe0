package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"sync"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// Subscribe yields every operation of the space with a seq greater than after,
// as [engram.Space.Subscribe] does. It goes on by itself where the connection
// breaks or the server restarts, each event once, for as long as ctx lasts: only
// the first connection is bounded by Options.Attempts. A space of the same id
// that was created meanwhile is another one, and an error.
func (s *Space) Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error] {
	return func(yield func(engram.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		sub := subscription{space: s, after: after}
		for failed := 1; ; failed++ {
			went, err := sub.follow(ctx, yield)
			if err == nil {
				return // the caller has seen enough
			}
			if went {
				failed = 1
			}
			known := sub.incarnation != ""
			again := temporary(err) && (known || failed < s.c.attempts) || known && limited(err)
			if !again || !pause(ctx, failed, err) {
				if ctx.Err() != nil {
					err = ctx.Err()
				}
				yield(engram.Event{}, err)
				return
			}
		}
	}
}

// subscription is a position in the history of one incarnation.
type subscription struct {
	space       *Space
	after       uint64
	incarnation string // empty: no server has said it yet
}

// follow yields events over one stream. It returns whether there was one, and
// why the stream ended: nil where the caller wants no more.
func (s *subscription) follow(ctx context.Context, yield func(engram.Event, error) bool) (went bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := s.space.c
	stream, err := c.memories.Subscribe(ctx, &engramv1.SubscribeRequest{
		MemorySpaceId: string(s.space.id), AfterSeq: s.after, Incarnation: s.incarnation,
	})
	if err != nil {
		return false, c.errorOf(err, nil)
	}
	header, err := stream.Header()
	if err == nil {
		if said := header.Get("engram-incarnation"); len(said) == 1 {
			s.incarnation = said[0]
		}
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = status.Error(codes.Unavailable, "the server ended the subscription")
		}
		if err != nil {
			return went, c.errorOf(err, nil)
		}
		event, err := wire.ToEvent(answer.GetEvent())
		if err != nil {
			return went, err
		}
		s.after, went = event.Seq, true
		if !yield(event, nil) {
			return true, nil
		}
	}
}

// RememberStream sends many writes over one stream of the server. Its Remember
// may be called by many goroutines at once, which is what it is for: it costs
// less than as many calls of Space.Remember.
type RememberStream struct {
	space *Space
	ctx   context.Context
	end   context.CancelFunc

	work sync.WaitGroup // writes that are being sent

	opening sync.Mutex // guards flight; held while a stream is opened
	flight  *flight    // nil: no stream is open

	mu     sync.Mutex // guards closed
	closed bool
}

// flight is one stream and the writes under way on it.
type flight struct {
	c       *Client
	stream  grpc.BidiStreamingClient[engramv1.RememberStreamRequest, engramv1.RememberStreamResponse]
	done    chan struct{} // closed when nothing more is answered
	sending sync.Mutex    // a stream takes one message at a time

	mu      sync.Mutex // guards the fields below
	tag     uint64
	waiting map[uint64]chan<- outcome
	err     error // that the stream ended with
}

type outcome struct {
	receipt engram.Receipt
	err     error
}

// RememberStream returns a stream of writes, which lasts until it is closed or
// ctx ends.
func (s *Space) RememberStream(ctx context.Context) *RememberStream {
	ctx, end := context.WithCancel(ctx)
	return &RememberStream{space: s, ctx: ctx, end: end}
}

// Remember is Space.Remember over the stream. Writes that are under way together
// may take effect in any order.
func (r *RememberStream) Remember(
	ctx context.Context, m engram.Memory, options ...WriteOption,
) (engram.Receipt, error) {
	request := &engramv1.RememberStreamRequest{
		MemorySpaceId: string(r.space.id), Memory: wire.FromMemory(&m), Options: writeOptions(options),
		Tag: math.MaxUint64, // each attempt has one of its own, which is no longer
	}
	if err := sendable(request); err != nil { // it would end the stream, and fail what others have on it
		return engram.Receipt{}, err
	}
	for attempt := 1; ; attempt++ {
		receipt, err := r.try(ctx, request)
		if err == nil || request.GetOptions().GetFailFast() || attempt >= r.space.c.attempts ||
			!temporary(err) || !pause(ctx, attempt, err) {
			return receipt, err
		}
	}
}

func (r *RememberStream) try(ctx context.Context, request *engramv1.RememberStreamRequest) (engram.Receipt, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return engram.Receipt{}, engram.ErrClosed
	}
	r.work.Add(1)
	r.mu.Unlock()
	answered, sent := make(chan outcome, 1), make(chan sending, 1)
	go func() { // it waits for the connection, and for room on it, as long as the stream lasts
		defer r.work.Done()
		sent <- r.send(request, answered)
	}()
	var s sending
	select {
	case s = <-sent:
	case <-ctx.Done():
		return engram.Receipt{}, ctx.Err()
	}
	if s.err != nil {
		return engram.Receipt{}, s.err
	}
	f := s.flight
	defer f.forget(s.tag)
	select {
	case o := <-answered:
		return o.receipt, o.err
	case <-f.done:
	case <-ctx.Done():
		return engram.Receipt{}, ctx.Err()
	}
	select {
	case o := <-answered: // it came before the end
		return o.receipt, o.err
	default:
		return engram.Receipt{}, f.reason()
	}
}

// sending is a write that was handed to a stream.
type sending struct {
	flight *flight
	tag    uint64
	err    error
}

// send hands a write to the stream that is open.
func (r *RememberStream) send(request *engramv1.RememberStreamRequest, answered chan<- outcome) sending {
	f, err := r.open()
	if err != nil {
		return sending{err: err}
	}
	message := &engramv1.RememberStreamRequest{
		MemorySpaceId: request.MemorySpaceId, Memory: request.Memory, Options: request.Options,
	}
	message.Tag = f.register(answered)
	if err := f.send(message); err != nil && !errors.Is(err, io.EOF) { // io.EOF: the stream's end says why
		f.forget(message.Tag)
		return sending{err: r.space.c.errorOf(err, message)}
	}
	return sending{flight: f, tag: message.Tag}
}

// Close ends the stream. Writes that are under way fail; they may take effect.
func (r *RememberStream) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.work.Wait()
	r.opening.Lock()
	defer r.opening.Unlock()
	if r.flight != nil {
		<-r.flight.done
	}
	return nil
}

// open returns a stream that works.
func (r *RememberStream) open() (*flight, error) {
	r.opening.Lock()
	defer r.opening.Unlock()
	if r.flight != nil {
		select {
		case <-r.flight.done:
		default:
			return r.flight, nil
		}
	}
	c := r.space.c
	stream, err := c.memories.RememberStream(r.ctx)
	if err != nil {
		return nil, c.errorOf(err, nil)
	}
	r.flight = &flight{c: c, stream: stream, done: make(chan struct{}), waiting: map[uint64]chan<- outcome{}}
	go r.flight.receive()
	return r.flight, nil
}

func (f *flight) register(answered chan<- outcome) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tag++
	f.waiting[f.tag] = answered
	return f.tag
}

func (f *flight) forget(tag uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiting, tag)
}

func (f *flight) send(message *engramv1.RememberStreamRequest) error {
	f.sending.Lock()
	defer f.sending.Unlock()
	return f.stream.Send(message)
}

// receive hands answers to those who wait for them, until the stream ends.
func (f *flight) receive() {
	defer close(f.done)
	for {
		answer, err := f.stream.Recv()
		f.mu.Lock()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = status.Error(codes.Unavailable, "the server ended the stream")
			}
			f.err = f.c.errorOf(err, nil)
			f.mu.Unlock()
			return
		}
		if answered := f.waiting[answer.GetTag()]; answered != nil {
			delete(f.waiting, answer.GetTag())
			answered <- outcomeOf(answer)
		}
		f.mu.Unlock()
	}
}

func (f *flight) reason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func outcomeOf(answer *engramv1.RememberStreamResponse) outcome {
	if failure := answer.GetFailure(); failure != nil {
		return outcome{err: fromStatus(status.FromProto(&spb.Status{
			Code: failure.GetCode(), Message: failure.GetMessage(), Details: failure.GetDetails(),
		}))}
	}
	return outcome{receipt: wire.ToReceipt(answer.GetReceipt())}
}
