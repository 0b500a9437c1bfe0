package engram

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// gatherTime is how long a leader waits for writers that were in the last
	// group and are on their way back: a twentieth of a flush that takes a
	// millisecond, and with 8 to 64 writers half as much throughput again.
	gatherTime = 50 * time.Microsecond
	// maxQueueBytes bounds what waits in one space's queue.
	maxQueueBytes = 8 << 20
)

// groupLog is where the frames of all spaces become durable together. The
// registry's journal is one; a replicated log can be another. append returns
// when the frames are as durable as the registry promises. After ErrUnknownOutcome and
// ErrStopped nothing more will be appended; any other error means that nothing was.
type groupLog interface {
	append(frames []groupFrame) error
}

// committed is what a queue belongs to: a space, as the group commit sees it.
// The committer calls take and commit in turn, never both at a time: a space
// gives its next frame only after its last one is applied, so that no check
// runs against a stale state.
type committed interface {
	// take checks, numbers and encodes the writes. It returns the frame of those
	// it accepts, which are the first n of kept; the rest of kept waits for the
	// next frame. Writes that are not in kept are finished, their result set.
	take(writes []*write) (f groupFrame, kept []*write, n int)
	// commit appends and applies the frame that take made, whose group is durable.
	commit(writes []*write)
}

// write is one caller's operations on their way.
type write struct {
	operations []operation
	records    [][]byte
	bytes      int // of the records
	options    writeOptions
	hash       uint64

	// The result, set before the write is done.
	err       error
	seq       uint64 // of the first operation
	forgotten int
	replayed  requestRecord // of the request that this one repeats; seq 0: none

	frame      *batch    // of which this is the first write: its commit is this writer's
	signal     chan step // capacity 2: a withdrawn lead may still stand in it
	queued     bool      // guarded by committer.mu, as are:
	designated bool      // to lead the next group
	summoned   bool      // a stepLead is on its way
}

// step tells a waiting writer what to do.
type step uint8

const (
	stepLead   step = iota // lead a group
	stepCommit             // your frame is durable: append, apply and wake the others
	stepDone               // the result is set
)

// queue holds the writes of one space that no group has taken.
type queue struct {
	space  committed
	writes []*write // guarded by committer.mu, as are the fields below
	bytes  int
	ready  bool          // in committer.ready
	busy   bool          // a frame is taken and not yet applied
	held   bool          // nothing is taken until release or close
	closed error         // why no write is admitted
	room   chan struct{} // closed when writes were taken; nil if nobody waits
	idle   chan struct{} // closed when busy ends; nil if nobody waits
}

// batch is what a group takes from one queue.
type batch struct {
	queue  *queue
	writes []*write // in the frame, the first of them commits it
}

// committer makes groups of what waits. No goroutine is its own: the first
// waiter leads one group and hands over, and each frame's first waiter commits
// it, in parallel with the next group's flush.
type committer struct {
	log    groupLog
	gather bool // groups wait for a flush, so company pays

	mu      sync.Mutex // guards the queues; nothing is locked while it is held
	ready   []*queue   // have writes and are not busy, in turn
	leading bool
	broken  error        // a leader panicked; only leaders touch it
	waiting atomic.Int64 // writes in ready queues
	last    atomic.Int64 // writes in the last group
}

// submit queues w and returns when it is finished. ctx ends the wait for room,
// and withdraws a write that no group has taken; after that the outcome counts.
func (c *committer) submit(ctx context.Context, q *queue, w *write) error {
	if err := c.enqueue(ctx, q, w); err != nil {
		return err
	}
	done := ctx.Done()
	for {
		select {
		case s := <-w.signal:
			switch s {
			case stepLead:
				c.lead(w)
			case stepCommit:
				c.commitBatch(w.frame)
				return w.err
			case stepDone:
				return w.err
			}
		case <-done:
			if c.withdraw(q, w) {
				return ctx.Err()
			}
			done = nil
		}
	}
}

// enqueue waits for room and adds w. If nobody leads, w is designated.
func (c *committer) enqueue(ctx context.Context, q *queue, w *write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	for q.closed == nil && len(q.writes) > 0 && q.bytes+w.bytes > maxQueueBytes {
		if w.options.failFast {
			c.mu.Unlock()
			return ErrBusy
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	q.writes = append(q.writes, w)
	q.bytes += w.bytes
	w.queued = true
	if q.ready {
		c.waiting.Add(1)
	}
	c.scheduleLocked(q)
	c.designateLocked()
	return nil
}

// scheduleLocked puts q in turn if it has something to take.
func (c *committer) scheduleLocked(q *queue) {
	if q.ready || q.busy || q.held || len(q.writes) == 0 {
		return
	}
	q.ready = true
	c.ready = append(c.ready, q)
	c.waiting.Add(int64(len(q.writes)))
}

// designateLocked makes the first waiter the leader if there is none.
func (c *committer) designateLocked() {
	if c.leading || len(c.ready) == 0 {
		return
	}
	c.leading = true
	w := c.ready[0].writes[0]
	w.designated = true
	if !w.summoned { // or the one that was withdrawn counts again
		w.summoned = true
		w.signal <- stepLead
	}
}

// withdraw takes w out of its queue, if no group has taken it.
func (c *committer) withdraw(q *queue, w *write) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.queued {
		return false
	}
	i := slices.Index(q.writes, w)
	q.writes = slices.Delete(q.writes, i, i+1)
	q.bytes -= w.bytes
	q.wakeRoomLocked()
	c.leftLocked(q, w)
	return true
}

// leftLocked keeps the turn and the lead right after w left the queue untaken.
func (c *committer) leftLocked(q *queue, w *write) {
	w.queued = false
	if q.ready {
		c.waiting.Add(-1)
	}
	if q.ready && len(q.writes) == 0 {
		q.ready = false
		c.ready = slices.DeleteFunc(c.ready, func(other *queue) bool { return other == q })
	}
	c.undesignateLocked(w)
}

// undesignateLocked has another writer lead, if w was to.
func (c *committer) undesignateLocked(w *write) {
	if w.designated {
		w.designated = false
		c.leading = false
		c.designateLocked()
	}
}

// hold has the writes that no group has taken, and those that come, wait, and
// returns nil when a frame that is under way is applied. If ctx ends before, nothing is
// held, and it returns the error.
func (c *committer) hold(ctx context.Context, q *queue) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	q.held = true
	c.unreadyLocked(q)
	err := c.awaitIdleLocked(ctx, q)
	if err != nil {
		c.releaseLocked(q)
	}
	return err
}

// inTurn does something in q's turn, in which no frame of it is under way, and returns its
// error. Where one is, nothing is done, and what is returned is closed when it ends. Nor
// is anything done where q is held or closed: those who write are told.
func (c *committer) inTurn(q *queue, do func() error) (idle <-chan struct{}, err error) {
	c.mu.Lock()
	if q.busy {
		defer c.mu.Unlock()
		return q.idleLocked(), nil
	}
	if q.held || q.closed != nil {
		c.mu.Unlock()
		return nil, nil
	}
	c.unreadyLocked(q)
	q.busy = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.freeLocked(q)
		c.designateLocked()
	}()
	return nil, do()
}

// unreadyLocked takes q out of turn, and the lead from its writers.
func (c *committer) unreadyLocked(q *queue) {
	if q.ready {
		q.ready = false
		c.ready = slices.DeleteFunc(c.ready, func(other *queue) bool { return other == q })
		c.waiting.Add(-int64(len(q.writes)))
	}
	for _, w := range q.writes {
		c.undesignateLocked(w)
	}
}

// release ends what hold began.
func (c *committer) release(q *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked(q)
}

func (c *committer) releaseLocked(q *queue) {
	q.held = false
	c.scheduleLocked(q)
	c.designateLocked()
}

// close refuses further writes with err, finishes those that no group has
// taken with it, and returns when a frame that is under way is applied.
func (c *committer) close(q *queue, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q.closed = err
	q.wakeRoomLocked()
	for {
		for len(q.writes) > 0 {
			w := q.writes[0]
			q.writes = q.writes[1:]
			q.bytes -= w.bytes
			c.leftLocked(q, w)
			w.err = err
			w.signal <- stepDone
		}
		if !q.busy {
			return
		}
		// The frame may give writes back that it did not take.
		_ = c.awaitIdleLocked(context.Background(), q) // which never ends
	}
}

// awaitIdleLocked returns nil when no frame of q is under way, or the error of ctx. It
// gives up mu meanwhile.
func (c *committer) awaitIdleLocked(ctx context.Context, q *queue) error {
	for q.busy && ctx.Err() == nil {
		idle := q.idleLocked()
		c.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		c.mu.Lock()
	}
	if q.busy {
		return ctx.Err()
	}
	return nil
}

// idle returns what is closed when no frame of q is under way: nothing waits for the
// one behind it.
func (c *committer) idle(q *queue) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.busy {
		return q.idleLocked()
	}
	idle := make(chan struct{})
	close(idle)
	return idle
}

// idleLocked returns what is closed when busy, which is set, ends.
func (q *queue) idleLocked() <-chan struct{} {
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	return q.idle
}

func (q *queue) wakeRoomLocked() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// lead makes one group, unless the lead was withdrawn meanwhile, and hands over.
// It ignores the leader's context: others wait for it.
func (c *committer) lead(w *write) {
	c.mu.Lock()
	mine := w.designated
	w.designated, w.summoned = false, false
	c.mu.Unlock()
	if !mine {
		return
	}
	c.gatherOthers()
	batches := c.takeTurns()
	frames, err := c.makeGroup(batches)
	c.mu.Lock()
	for _, b := range batches {
		if len(b.writes) == 0 || err != nil {
			c.freeLocked(b.queue)
		}
	}
	c.leading = false
	c.designateLocked()
	c.mu.Unlock()
	committing := 0
	for _, b := range batches {
		switch {
		case len(b.writes) == 0:
		case err != nil:
			for _, w := range b.writes {
				w.err = err
				w.signal <- stepDone
			}
		default:
			committing += len(b.writes)
			c.hand(b)
		}
	}
	if len(frames) > 0 {
		c.last.Store(int64(committing))
	}
}

// gatherOthers waits a little while fewer writes wait than the last group had.
func (c *committer) gatherOthers() {
	want := c.last.Load()
	if !c.gather || c.waiting.Load() >= want {
		return
	}
	for start := monotonic(); c.waiting.Load() < want && monotonic().Sub(start) < gatherTime; {
		runtime.Gosched()
	}
}

// takeTurns takes writes from the waiting spaces in turn, up to a group's size.
func (c *committer) takeTurns() []*batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	var batches []*batch
	large := false
	total := 0
	var later []*queue // in an array of its own: the old one would keep spaces that fall asleep
	for i, q := range c.ready {
		if total >= maxGroupBytes {
			later = append(later, c.ready[i:]...)
			break
		}
		if q.writes[0].bytes > softFrameBytes {
			if large { // one that needs a frame of its own in each group
				later = append(later, q)
				continue
			}
			large = true
		}
		n, size := 1, q.writes[0].bytes
		for n < len(q.writes) && size+q.writes[n].bytes <= softFrameBytes {
			size += q.writes[n].bytes
			n++
		}
		batches = append(batches, &batch{queue: q, writes: q.takeLocked(n, size)})
		c.waiting.Add(-int64(n + len(q.writes)))
		total += size + frameHeaderBytes + groupEntryBytes + maxSpaceIDBytes
	}
	c.ready = later
	return batches
}

func (q *queue) takeLocked(n, size int) []*write {
	taken := slices.Clone(q.writes[:n])
	for _, w := range taken {
		w.queued = false
	}
	q.writes = slices.Delete(q.writes, 0, n)
	q.bytes -= size
	q.ready, q.busy = false, true
	q.wakeRoomLocked()
	return taken
}

// makeGroup has each space make its frame and appends them. Afterwards a
// batch's writes are those of its frame.
func (c *committer) makeGroup(batches []*batch) (frames []groupFrame, err error) {
	if c.broken != nil {
		return nil, c.broken
	}
	defer func() {
		if p := recover(); p != nil {
			c.broken = fmt.Errorf("%w: panic in group commit: %v", ErrStopped, p)
			err = fmt.Errorf("%w: %w", ErrUnknownOutcome, c.broken)
		}
	}()
	for _, b := range batches {
		f, kept, n := b.queue.space.take(b.writes)
		c.settleBatch(b, kept, n)
		if n > 0 {
			frames = append(frames, f)
		}
	}
	if len(frames) == 0 {
		return nil, nil
	}
	return frames, c.log.append(frames)
}

// settleBatch keeps the first n of kept in the batch, puts the others back in
// front of the queue, and wakes those that take finished.
func (c *committer) settleBatch(b *batch, kept []*write, n int) {
	all := b.writes
	b.writes = kept[:n]
	if n == len(all) {
		return
	}
	c.mu.Lock()
	b.queue.writes = slices.Concat(kept[n:], b.queue.writes)
	for _, w := range kept[n:] {
		w.queued = true
		b.queue.bytes += w.bytes
	}
	c.mu.Unlock()
	for _, w := range all {
		if !slices.Contains(kept, w) {
			w.signal <- stepDone
		}
	}
}

// hand has the batch's first writer commit it.
func (c *committer) hand(b *batch) {
	b.writes[0].frame = b
	b.writes[0].signal <- stepCommit
}

// commitBatch appends and applies a durable frame, lets the space give its next
// one and wakes the writers but the first, who is the caller.
func (c *committer) commitBatch(b *batch) {
	defer func() {
		c.mu.Lock()
		c.freeLocked(b.queue)
		c.designateLocked()
		c.mu.Unlock()
		for _, w := range b.writes[1:] {
			w.signal <- stepDone
		}
	}()
	b.queue.space.commit(b.writes)
}

// freeLocked lets q's space give its next frame.
func (c *committer) freeLocked(q *queue) {
	q.busy = false
	if q.idle != nil {
		close(q.idle)
		q.idle = nil
	}
	c.scheduleLocked(q)
}
