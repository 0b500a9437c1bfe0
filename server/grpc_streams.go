package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// What the requests of one RememberStream may take while they are under way.
// The next one waits, and with it, by the flow control of gRPC, the client.
const (
	maxInFlight      = 256
	maxInFlightBytes = 16 << 20
)

// Subscribe sends the operations of a space. There is no queue: an event is read
// from the space's log when the client takes it, so a slow client holds up
// nobody and misses nothing.
func (m memoryService) Subscribe(
	r *engramv1.SubscribeRequest, stream grpc.ServerStreamingServer[engramv1.SubscribeResponse],
) error {
	ctx, word, cancel := m.s.untilDrained(stream.Context())
	defer cancel()
	space, err := m.s.open(ctx)
	if err != nil {
		return err
	}
	info, err := standing(ctx, space)
	if err != nil {
		return word(err)
	}
	if r.GetIncarnation() != "" && r.GetIncarnation() != info.Incarnation && info.Incarnation != "" {
		return engram.ErrSpaceDeleted // a space that has its id now is another one
	}
	if r.GetAfterSeq() > info.Seq && info.State != engram.Quarantined {
		return refusePosition(r.GetAfterSeq())
	}
	m.s.streams.Add(1)
	defer m.s.streams.Add(-1)
	// At once: the first event may be long in coming.
	if err := stream.SendHeader(metadata.Pairs(incarnationMetadata, info.Incarnation)); err != nil {
		return err
	}
	c := callOf(ctx)
	for event, err := range space.Subscribe(ctx, r.GetAfterSeq()) {
		switch {
		case err == nil:
			err = stillMeant(c.principal, c.rule.verb, c.space, space)
		case errors.Is(err, engram.ErrInvalid):
			err = refusePosition(r.GetAfterSeq())
		}
		if err != nil {
			return word(err)
		}
		if err := m.s.sendEvent(c, stream, &engramv1.SubscribeResponse{Event: wire.FromEvent(&event)}); err != nil {
			return err
		}
	}
	return nil
}

// sendEvent sends an event, which counts as what the caller has under way until gRPC has
// taken it.
func (s *Server) sendEvent(
	c *call, stream grpc.ServerStreamingServer[engramv1.SubscribeResponse], message *engramv1.SubscribeResponse,
) error {
	if err := s.holdEvents(&c.request, proto.Size(message)); err != nil {
		return err
	}
	defer s.letGo(&c.request)
	return stream.Send(message)
}

// RememberStream answers each request as its write ends. A draining server
// takes no more of them, answers those under way and ends the stream; so it does
// when the caller's credentials end.
func (m memoryService) RememberStream(
	stream grpc.BidiStreamingServer[engramv1.RememberStreamRequest, engramv1.RememberStreamResponse],
) error {
	f := &flight{s: m.s, stream: stream}
	f.landed = sync.NewCond(&f.mu)
	ctx := stream.Context()
	received := make(chan error, 1)
	m.s.receivers.Go(func() { received <- f.receive() })
	var err error
	select {
	case err = <-received:
	case <-m.s.drained.Done():
		// The end of this method ends the receive.
		err = engram.ErrClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return errors.Join(err, f.land())
}

// flight is what is under way on one RememberStream.
type flight struct {
	s      *Server
	stream grpc.BidiStreamingServer[engramv1.RememberStreamRequest, engramv1.RememberStreamResponse]

	mu      sync.Mutex // guards the fields below
	landed  *sync.Cond // on mu: a request has been answered
	calls   int
	bytes   int
	closed  bool // no more take off
	sending sync.Mutex
	sendErr error // guarded by sending
}

// receive starts a write for each request, until there are no more.
func (f *flight) receive() error {
	for {
		request, err := f.stream.Recv()
		var refused *refusedMessage
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &refused):
			tag := refused.message.(*engramv1.RememberStreamRequest).GetTag()
			f.answer(refused.call, tag, func() (engram.Receipt, error) {
				return engram.Receipt{}, refused.cause
			})
			continue
		case err != nil:
			return err
		}
		size := proto.Size(request)
		if !f.takeOff(size) {
			return engram.ErrClosed
		}
		go f.write(f.stream.Context(), request, size)
	}
}

// takeOff waits for room. It returns false where no more may take off.
func (f *flight) takeOff(size int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed && f.calls > 0 && (f.calls >= maxInFlight || f.bytes+size > maxInFlightBytes) {
		f.landed.Wait()
	}
	if f.closed {
		return false
	}
	f.calls++
	f.bytes += size
	return true
}

func (f *flight) write(ctx context.Context, request *engramv1.RememberStreamRequest, size int) {
	c := callOf(ctx)
	f.answer(c, request.GetTag(), func() (engram.Receipt, error) {
		if err := f.s.hold(&c.request, int64(size)); err != nil {
			return engram.Receipt{}, err
		}
		return f.s.rememberOne(ctx, request.GetMemory(), request.GetOptions())
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls--
	f.bytes -= size
	f.landed.Broadcast()
}

// answer carries out what a message asks for, and answers it.
func (f *flight) answer(c *call, tag uint64, do func() (engram.Receipt, error)) {
	c.began = time.Now()
	answer := &engramv1.RememberStreamResponse{Tag: tag}
	var receipt engram.Receipt
	c.err = f.s.guard(c, func() (err error) {
		receipt, err = do()
		return err
	})
	if c.err == nil {
		answer.Result = &engramv1.RememberStreamResponse_Receipt{Receipt: wire.FromReceipt(receipt)}
	} else {
		answer.Result = &engramv1.RememberStreamResponse_Failure{Failure: failureOf(c.err)}
	}
	f.s.finish(c)
	f.send(answer)
}

func (f *flight) send(answer *engramv1.RememberStreamResponse) {
	f.sending.Lock()
	defer f.sending.Unlock()
	if f.sendErr == nil {
		f.sendErr = f.stream.Send(answer)
	}
}

// land waits for what is under way, and returns what went wrong in answering it.
func (f *flight) land() error {
	f.mu.Lock()
	f.closed = true
	f.landed.Broadcast()
	for f.calls > 0 {
		f.landed.Wait()
	}
	f.mu.Unlock()
	f.sending.Lock()
	defer f.sending.Unlock()
	return f.sendErr
}

// failureOf returns the status of an error as a message.
func failureOf(err error) *engramv1.Failure {
	told := statusOf(err).Proto()
	return &engramv1.Failure{Code: told.GetCode(), Message: told.GetMessage(), Details: told.GetDetails()}
}
