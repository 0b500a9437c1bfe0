package server

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// turns are what event streams read in that have events waiting, so that who asks
// for long histories again and again holds up nobody else: half of the processors
// take turns, and while others wait for one, each is followed by a rest.
type turns struct {
	taken   chan struct{} // has room for as many as there are at a time
	waiting atomic.Int64
}

// turnRest is how many times as long as the turn before it a rest is.
const turnRest = 2

func newTurns() *turns {
	return &turns{taken: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// take waits for a turn. It reports whether there was one before ctx ended.
func (t *turns) take(ctx context.Context) bool {
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	select {
	case t.taken <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// leave ends a turn that lasted as long.
func (t *turns) leave(lasted time.Duration) {
	if t.waiting.Load() == 0 {
		t.free()
		return
	}
	time.AfterFunc(turnRest*lasted, t.free)
}

func (t *turns) free() { <-t.taken }
