package server

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/engramdb/engram"
)

// arriving is the context of an RPC, which can be ended while a message of it is
// received or sent: nothing else ends that but its client.
type arriving struct {
	context.Context //nolint:containedctx // which it is

	cancel context.CancelFunc
	late   atomic.Bool
}

type arrivingKey struct{}

func newArriving(ctx context.Context) *arriving {
	a := &arriving{}
	a.Context, a.cancel = context.WithCancel(ctx)
	return a
}

// within receives or sends a message, and ends the RPC that the context is of where that
// takes longer than the timeout.
func within(ctx context.Context, timeout time.Duration, do func() error) error {
	a := ctx.Value(arrivingKey{}).(*arriving)
	timer := time.AfterFunc(timeout, func() {
		a.late.Store(true)
		a.cancel()
	})
	defer timer.Stop()
	return do()
}

// receive receives a message of the call, which has to come in time. single: the call
// has no other. A stream of those that anybody may open waits for none once the server
// drains.
func (s *Server) receive(ctx context.Context, c *call, message any, single bool, receive func(any) error) error {
	waits := c.rule.verb == verbPublic && !single
	if waits {
		defer context.AfterFunc(s.drained, ctx.Value(arrivingKey{}).(*arriving).cancel)()
	}
	err := within(ctx, s.bodyTimeout, func() error {
		if c.rule.verb == verbPublic {
			return receivePublic(ctx, message, single, receive)
		}
		return receiveBounded(message, receive)
	})
	c.unread = err != nil
	if waits && err != nil && !errors.Is(err, io.EOF) && s.draining.Load() {
		return engram.ErrClosed
	}
	return err
}

// Err says of a message that is late what gRPC tells the client: that the time was up.
func (a *arriving) Err() error {
	err := a.Context.Err()
	if err != nil && a.late.Load() {
		return context.DeadlineExceeded
	}
	return err
}

// Value has the context itself under its own key.
func (a *arriving) Value(key any) any {
	if key == (arrivingKey{}) {
		return a
	}
	return a.Context.Value(key)
}
