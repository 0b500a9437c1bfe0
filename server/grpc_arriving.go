package server

import (
	"context"
	"sync/atomic"
	"time"
)

// arriving is the context of an import over gRPC. It ends the import where its first
// message takes longer than a part of a body may: nothing else ends that receive but
// its client. Of the messages behind it a chunkReader sees to that.
type arriving struct {
	context.Context //nolint:containedctx // which it is

	cancel context.CancelFunc
	timer  *time.Timer
	late   atomic.Bool
}

type arrivingKey struct{}

func newArriving(ctx context.Context, timeout time.Duration) *arriving {
	a := &arriving{}
	a.Context, a.cancel = context.WithCancel(ctx)
	a.timer = time.AfterFunc(timeout, func() {
		a.late.Store(true)
		a.cancel()
	})
	return a
}

// arrived ends the wait for the first message of the stream that the context is of.
func arrived(ctx context.Context) {
	// Others have no such context.
	if a, ok := ctx.Value(arrivingKey{}).(*arriving); ok {
		a.timer.Stop()
	}
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
