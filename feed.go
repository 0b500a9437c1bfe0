package engram

import (
	"context"
	"sync"
)

// feed tells those who wait for a space's operations how far they may read: to
// what is both applied and durable. It belongs to the space, not to its loaded
// state, so that waiting neither wakes a space nor keeps it awake. Its mutex is
// taken last, with nothing locked behind it.
type feed struct {
	mu      sync.Mutex // guards the fields below
	applied uint64     // seq of the last operation applied
	durable uint64     // seq up to which stable storage has them
	failed  error      // why nothing more will become readable
	changed chan struct{}
}

// begin says where a space stands that was loaded, or made: recovery leaves
// nothing that is not durable. Behind damage nothing follows.
func (f *feed) begin(seq uint64, damage *CorruptionError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied, f.durable, f.failed = seq, seq, nil
	if damage != nil {
		f.failed = damage
	}
	f.wakeLocked()
}

// apply says that the operations up to seq are in the log and applied, and
// under Sync durable too.
func (f *feed) apply(seq uint64, durable bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = seq
	if durable {
		f.durable = seq
	}
	f.wakeLocked()
}

// flush says that the operations up to seq are durable. They need not be
// applied yet.
func (f *feed) flush(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq > f.durable {
		f.durable = seq
		f.wakeLocked()
	}
}

// fail says that nothing more will become readable.
func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = err
	f.wakeLocked()
}

// wake has those who wait look again at why they wait.
func (f *feed) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakeLocked()
}

func (f *feed) wakeLocked() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// appliedSeq is the seq of the last operation applied.
func (f *feed) appliedSeq() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}

// look returns whether the operation seq may be read and, if not, what is
// closed when that may have changed.
func (f *feed) look(seq uint64) (readable bool, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case seq <= min(f.applied, f.durable):
		return true, nil, nil
	case f.failed != nil:
		return false, nil, f.failed
	case f.changed == nil:
		f.changed = make(chan struct{})
	}
	return false, f.changed, nil
}

// await returns when the operation seq of the space is applied and durable.
// Nothing is held meanwhile: no goroutine, no file, not the space's state.
func (s *Space) await(ctx context.Context, seq uint64) error {
	broken := s.registry.journal.broken
	var stopped error // the registry's writes
	for {
		readable, changed, err := s.feed.look(seq)
		if readable || err != nil {
			return err
		}
		// Looked at behind the feed: whoever ends the space wakes it after that.
		if err := s.gone(); err != nil {
			return err
		}
		if stopped != nil {
			return stopped
		}
		select {
		case <-changed:
		case <-broken:
			// A frame of the space that was durable before is about to be applied.
			if err := s.awaitFrame(ctx); err != nil {
				return err
			}
			stopped = s.registry.journal.failure()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitFrame returns when a frame of the space that is under way is applied.
func (s *Space) awaitFrame(ctx context.Context) error {
	a := s.awake.Load()
	if a == nil {
		return nil // it would not sleep
	}
	select {
	case <-s.registry.commits.idle(a.queue):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
