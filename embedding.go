package engram

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
)

// embedding has the registry's embedder make the vectors that its spaces lack.
// Which those are is not queued anywhere: each space's store says it. Only which
// spaces lack any is kept here, so nothing is lost with it; a space that wakes
// says so again.
//
// One goroutine serves the spaces in turn, a call of the embedder for each, and
// ends when none waits. After a failure a space pauses, until a timer puts it in
// turn again: the others do not wait with it.
type embedding struct {
	registry *Registry
	all      context.Context // of every call of the embedder
	cancel   context.CancelFunc

	mu      sync.Mutex // guards the fields below; nothing else is locked while it is held, but Registry.mu
	waiting []*embeddingSpace
	known   map[*Space]*embeddingSpace
	running bool
	closed  bool
}

// embeddingSpace is a space that lacks vectors.
type embeddingSpace struct {
	space *Space
	texts int             // in its next call
	skip  map[uint64]bool // versions that failed alone: they wait for the others
	known embeddedRange   // what need not be looked at
	again bool            // more was stored since it was served last; guarded by embedding.mu, as are:
	pause time.Duration   // the last one; 0 after a success
	stop  func() bool     // ends the pause; nil: there is none
}

func newEmbedding(r *Registry) *embedding {
	all, cancel := context.WithCancel(context.Background())
	return &embedding{registry: r, all: all, cancel: cancel, known: make(map[*Space]*embeddingSpace)}
}

// context returns one that ends with ctx, with the registry, and after d.
func (x *embedding) context(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithTimeout(ctx, d)
	stopAll := context.AfterFunc(x.all, cancel)
	return limited, func() {
		stopAll()
		cancel()
	}
}

// wantVectors has the vectors made that the space lacks, if the embedder can.
// Only who applies operations may call it.
func (a *awake) wantVectors() {
	e, s := a.registry.options.Embedder, a.store
	switch {
	case e == nil || a.damage != nil:
	case s.vectors < s.live && (s.dimension == 0 || s.isOf(e)), s.next.isOf(e):
		a.registry.embedding.want(a.space)
	}
}

// want says that the space may lack vectors.
func (x *embedding) want(s *Space) {
	if x.registry.options.ReadOnly {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.known[s]; e != nil {
		e.again = true
		return
	}
	if x.closed {
		return
	}
	e := &embeddingSpace{space: s, texts: embedTexts}
	x.known[s] = e
	x.waiting = append(x.waiting, e)
	x.startLocked()
}

// startLocked starts the goroutine, if it does not run and the registry is open.
func (x *embedding) startLocked() {
	if x.running || len(x.waiting) == 0 || x.registry.begin(x.all) != nil {
		return
	}
	x.running = true
	go func() {
		defer x.registry.work.Done()
		x.run()
	}()
}

// run serves the spaces until none waits.
func (x *embedding) run() {
	for {
		x.mu.Lock()
		if x.closed || len(x.waiting) == 0 {
			x.running = false
			x.mu.Unlock()
			return
		}
		e := x.waiting[0]
		x.waiting = x.waiting[1:]
		e.again = false
		x.mu.Unlock()
		more, err := x.serve(e)
		x.served(e, more, err)
	}
}

// serve makes one call for the space. more says that it may lack vectors still.
func (x *embedding) serve(e *embeddingSpace) (more bool, err error) {
	s, embedder := e.space, x.registry.options.Embedder
	t, err := s.withoutVector(x.all, embedder, e.texts, e.skip, e.known)
	if err != nil {
		return false, err
	}
	switch {
	case t.generation == 0 && t.view.dimension > 0:
		return false, nil // another embedder or callers give its vectors: recalls say so
	case len(t.texts) == 0 && t.next() && t.view.given() == 0 && (len(e.skip) == 0 || s.takesOthers(x.all, embedder)):
		return true, s.switchVectors(x.all, t.view)
	case len(t.texts) == 0 && len(e.skip) > 0:
		e.skip, e.known = nil, embeddedRange{}
		return true, errSkipped
	case len(t.texts) == 0:
		return false, nil
	case t.generation == 0:
		return true, s.adopt(x.all, embedder)
	}
	err = s.embed(x.all, embedder, &t)
	var failure *embedderFailure
	switch {
	case err == nil:
		e.texts, e.known = min(2*e.texts, embedTexts), t.embedded(e.known)
	case errors.As(err, &failure) && len(t.texts) > 1:
		e.texts = max(len(t.texts)/2, 1)
	case errors.As(err, &failure):
		// It may be this text that the embedder does not take.
		if e.skip == nil {
			e.skip = make(map[uint64]bool)
		}
		e.skip[t.versions[0]] = true
	}
	return true, err
}

// errSkipped says that only memories are left that failed before.
var errSkipped = errors.New("every text that is left failed before")

// served puts the space in turn again, and pauses after a failure.
func (x *embedding) served(e *embeddingSpace, more bool, err error) {
	var failure *embedderFailure
	failed := errors.As(err, &failure) || noRoom(err) || errors.Is(err, errSkipped)
	if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrSpaceDeleted) && x.all.Err() == nil {
		x.registry.options.Logger.Warn("memories of a space have no vectors yet",
			zap.String("space", string(e.space.ID())), zap.Error(err))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case failed && !x.closed:
		e.pause = longerPause(e.pause)
		e.stop = afterFunc(e.pause, func() { x.resume(e) })
	case e.again || err == nil && more:
		e.pause = 0
		x.waiting = append(x.waiting, e)
	default:
		delete(x.known, e.space)
	}
}

// resume ends a space's pause.
func (x *embedding) resume(e *embeddingSpace) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e.stop = nil
	x.waiting = append(x.waiting, e)
	if !x.closed {
		x.startLocked()
	}
}

// close ends the calls that are under way. Whoever calls it waits for
// Registry.work then.
func (x *embedding) close() {
	x.cancel()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for _, e := range x.known {
		if e.stop != nil {
			e.stop()
		}
	}
}

// breaker keeps a space's cues from waiting for an embedder that has failed one of
// them: none asks it during a pause, and after that one does, without the others. Each
// space has its own: an embedder may refuse a text that it is given and no other, which
// would show in the answers of all.
type breaker struct {
	mu    sync.Mutex    // guards the fields below; nothing else is locked while it is held
	pause time.Duration // the last one; 0 after a success
	since time.Time     // when the last failure was known
	until time.Time     // nobody asks before
}

// admit reports whether a cue may ask now.
func (b *breaker) admit(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pause == 0:
		return true
	case now.Before(b.until):
		return false
	}
	b.until = now.Add(queryTime) // by then it is told, unless its caller goes
	return true
}

// failed says that a call has failed which began then. One that was under way at an
// earlier failure is part of that.
func (b *breaker) failed(began, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause > 0 && !began.After(b.since) {
		return
	}
	b.pause = longerPause(b.pause)
	b.since, b.until = now, now.Add(b.pause)
}

// succeeded lets all ask.
func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = 0
}

// longerPause returns how long the embedder is left alone after another failure.
func longerPause(last time.Duration) time.Duration {
	return min(max(embedPause, 2*last), maxEmbedPause)
}
