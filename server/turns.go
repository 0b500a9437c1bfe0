package server

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// turns are what event streams read in that have events waiting, so that who asks
// for long histories again and again holds up nobody else: half of the processors
// take turns, and while others wait for one, each is followed by a rest. Callers have
// them in rotation, however many streams each has.
type turns struct {
	most int // at a time

	mu      sync.Mutex // guards the fields below
	taken   int
	waiting map[holder][]chan struct{} // what is closed when the turn has come, in order
	next    []holder                   // whose turn comes, in order: those who wait
}

// turnRest is how many times as long as the turn before it a rest is.
const turnRest = 2

func newTurns() *turns {
	return &turns{most: max(1, runtime.GOMAXPROCS(0)/2), waiting: map[holder][]chan struct{}{}}
}

// take waits for a turn. It reports whether there was one before ctx ended.
func (t *turns) take(ctx context.Context, by holder) bool {
	come, waits := t.queue(by)
	if !waits {
		return true
	}
	select {
	case <-come:
		return true
	case <-ctx.Done():
		return !t.leaveQueue(by, come)
	}
}

// queue takes a turn that is free, or says what to wait for.
func (t *turns) queue(by holder) (come chan struct{}, waits bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken < t.most {
		t.taken++
		return nil, false
	}
	come = make(chan struct{})
	if t.waiting[by] == nil {
		t.next = append(t.next, by)
	}
	t.waiting[by] = append(t.waiting[by], come)
	return come, true
}

// leaveQueue reports whether the turn had not come yet.
func (t *turns) leaveQueue(by holder, come chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[by], come)
	if i < 0 {
		return false
	}
	t.waiting[by] = slices.Delete(t.waiting[by], i, i+1)
	if len(t.waiting[by]) == 0 {
		delete(t.waiting, by)
		i = slices.Index(t.next, by)
		t.next = slices.Delete(t.next, i, i+1)
	}
	return true
}

// leave ends a turn that lasted as long.
func (t *turns) leave(lasted time.Duration) {
	if t.nobodyWaits() {
		t.free()
		return
	}
	time.AfterFunc(turnRest*lasted, t.free)
}

func (t *turns) nobodyWaits() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.next) == 0
}

// free gives a turn that has ended to who is next.
func (t *turns) free() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.next) == 0 {
		t.taken--
		return
	}
	by := t.next[0]
	t.next = t.next[1:]
	close(t.waiting[by][0])
	if t.waiting[by] = t.waiting[by][1:]; len(t.waiting[by]) > 0 {
		t.next = append(t.next, by)
	} else {
		delete(t.waiting, by)
	}
}
