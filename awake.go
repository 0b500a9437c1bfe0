package engram

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// maxKeptFrameBytes bounds the buffer that a space keeps between its commits: one large
// batch must not cost memory for good.
const maxKeptFrameBytes = 256 << 10

// awake is the loaded state of a space: its store, its log and its queue. What the
// store says changes only in commit, which one writer at a time calls: take reads it
// without a lock. The end of a checkpoint changes how the store holds it.
type awake struct {
	space    *Space
	registry *Registry
	identity identity
	log      *log
	store    *store
	queue    *queue
	report   RecoveryReport
	analyzer Analyzer // the space's, for good

	damage  *CorruptionError // found when waking: quarantined
	unknown bool             // the identity is not the space's: its SPACE is damaged
	stopped atomic.Pointer[error]
	uses    atomic.Int64  // operations that use it: it does not fall asleep
	turn    atomic.Uint64 // of the registry's occupancy, in which it was used last
	passed  atomic.Bool   // over, when it was looked for who may sleep, as it was in use
	bytes   atomic.Int64  // of memory that it takes, as it has counted last
	kept    atomic.Int64  // bytes of buf, between commits

	// commits guards append, apply and publish against the beginning of a
	// checkpoint. Order: maintenance.running > commits > log.files.
	commits sync.Mutex
	buf     []byte // the frame that take made; used again when it is applied, but for a large one
	frame   frame
	offsets []int // of the records in buf

	maintenance maintenance
	scratch     sync.Pool     // of *scratch
	recalls     chan struct{} // has room for as many as are computed at a time
	verifying   contextMutex  // held by a Verify
}

// take implements committed: it checks the writes against the state, gives
// their operations their seqs and encodes them as one frame.
func (a *awake) take(writes []*write) (groupFrame, []*write, int) {
	a.buf = append(a.buf[:0], make([]byte, frameHeaderBytes)...)
	a.offsets = a.offsets[:0]
	first := a.store.seq + 1
	t := taking{next: first, dimension: a.store.dimension}
	kept := writes[:0:0]
	for i, w := range writes {
		switch again, err := a.admit(w, &t); {
		case again: // it is checked against the state that this frame leaves
			kept = append(kept, writes[i:]...)
		case err != nil:
			w.err = err
			continue
		case w.replayed.seq != 0:
			continue
		default:
			a.number(w, &t)
			kept = append(kept, w)
			t.writes++
			continue
		}
		break
	}
	if t.writes == 0 {
		return groupFrame{}, kept, 0
	}
	a.frame = frame{
		prev: a.log.lastSum, count: uint32(t.next - first), firstSeq: first,
		epoch: a.registry.epoch, kind: kindLog,
	}
	a.buf = sealFrame(a.buf, a.identity.key, &a.frame)
	return groupFrame{
		space: a.identity.incarnation, id: a.space.ID(), firstSeq: first, count: a.frame.count, bytes: a.buf,
		feed: &a.space.feed,
	}, kept, t.writes
}

// taking is what the writes taken into a frame so far do to the checks of those
// behind them.
type taking struct {
	next      uint64 // seq of the next operation
	dimension int
	writes    int
	requests  []string
	probe     document        // to look an id up with
	firstID   string          // that the frame remembers, as are
	laterIDs  map[string]bool // nil while there are none
	closed    bool            // no further write goes into the frame
	edges     int             // made, at most
	memories  int64           // remembered, at most
	bytes     int64
}

// admit decides whether w may be part of the frame. again says that it has to
// wait for the next one.
func (a *awake) admit(w *write, t *taking) (again bool, err error) {
	if t.closed {
		return true, nil
	}
	if err := a.unwritable(); err != nil {
		return false, err
	}
	if again, err := a.admitRequest(w, t); again || err != nil || w.replayed.seq != 0 {
		return again, err
	}
	if a.log.stuck() && w.operations[0].kind != opForget { // whose frame has room in the journal and, if need be, in memory
		return false, errFramesWait
	}
	dimension, err := w.fits(t)
	if err != nil && t.writes > 0 {
		return true, nil // the writes that it does not fit may never become durable
	}
	if err != nil {
		return false, err
	}
	if op := &w.operations[0]; op.kind == opConfigure && op.config.Analyzer.number() != a.store.config.Analyzer.number() {
		return false, &InvalidError{Field: "analyzer", Reason: "is fixed since the space was created"}
	}
	if w.operations[0].kind == opAssociate {
		return a.admitAssociation(w, t)
	}
	if w.operations[0].kind == opEmbed {
		return false, nil // whether it fits the memory shows when it is applied
	}
	if w.operations[0].kind != opRemember {
		if err := a.refuseVectors(&w.operations[0]); err != nil && t.writes == 0 {
			return false, err
		}
		// What it changes counts for the checks of the writes behind it.
		t.closed = t.writes == 0
		return t.writes > 0, nil
	}
	if again, err := a.admitQuota(w, t); again || err != nil {
		return again, err
	}
	t.dimension = dimension
	return false, nil
}

// fits checks the seq that w expects and the dimension of its embeddings against
// what precedes it, and returns the dimension behind it.
func (w *write) fits(t *taking) (dimension int, err error) {
	if last := t.next - 1; w.options.expects && w.options.expectSeq != last {
		return 0, &ConflictError{Expected: w.options.expectSeq, Actual: last}
	}
	dimension = t.dimension
	for i := range w.operations {
		n := len(w.operations[i].memory.Embedding)
		if w.operations[i].kind == opEmbed {
			n = 0 // its generation says which dimension it is to have
		}
		if n != 0 && dimension != 0 && n != dimension {
			return 0, wrongDimension(n, dimension)
		}
		dimension = max(dimension, n)
	}
	return dimension, nil
}

func wrongDimension(got, want int) error {
	return &InvalidError{
		Field:  "embedding",
		Reason: fmt.Sprintf("has dimension %d, the space has dimension %d", got, want),
	}
}

// errFramesWait says that frames wait in memory for the log's file: those come first.
var errFramesWait = errors.New("frames wait for the log's file")

// submit commits w. Where frames wait in memory for the log's file, it writes them, and
// w only after them, unless it forgets. That is the caller's to do: while take looks,
// all spaces wait.
func (a *awake) submit(ctx context.Context, w *write) error {
	if w.operations[0].kind == opForget && a.log.stuck() && errors.Is(a.writeWaiting(ctx), ErrDiskFull) {
		a.registry.giveUpReserve()
	}
	for {
		err := a.registry.commits.submit(ctx, a.queue, w)
		if !errors.Is(err, errFramesWait) {
			return err
		}
		if err := a.writeWaiting(ctx); err != nil {
			return err
		}
		w.err = nil
	}
}

// writeWaiting writes the frames that wait in memory for the log's file, in a turn of the
// space's: no frame is under way meanwhile, and who retires the space waits. ctx ends the
// wait for it.
func (a *awake) writeWaiting(ctx context.Context) error {
	for {
		idle, err := a.registry.commits.inTurn(a.queue, func() error {
			err := a.log.flushUnwritten()
			if err == nil || noRoom(err) {
				return err
			}
			a.stop(err)
			return *a.stopped.Load()
		})
		if idle == nil {
			return err
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *awake) admitRequest(w *write, t *taking) (again bool, err error) {
	id := w.options.requestID
	if id == "" {
		return false, nil
	}
	if done, found := a.store.requests[id]; found {
		if done.hash != w.hash {
			return false, ErrRequestReused
		}
		w.replayed = done
		return false, nil
	}
	for _, other := range t.requests {
		if other == id {
			return true, nil
		}
	}
	t.requests = append(t.requests, id)
	return false, nil
}

// admitQuota checks the quotas exactly where w is alone in its frame, and lets
// it be alone where it could matter.
func (a *awake) admitQuota(w *write, t *taking) (again bool, err error) {
	t.memories += int64(len(w.operations))
	t.bytes += int64(w.bytes)
	c, x := a.store.config, a.store.counts
	within := func(memories, bytes int64) bool {
		return (c.MaxMemories == 0 || x.live+memories <= c.MaxMemories) && (c.MaxBytes == 0 || x.bytes+bytes <= c.MaxBytes)
	}
	if within(t.memories, t.bytes) {
		return false, nil
	}
	if t.writes > 0 {
		return true, nil
	}
	sizes := make(map[string]int) // of the versions that stay
	for i := range w.operations {
		id := w.operations[i].memory.ID
		if id == "" {
			id = fmt.Sprint("\x00", i) // no id contains a control character
		}
		sizes[id] = len(w.records[i])
	}
	var memories, bytes int64
	for id, size := range sizes {
		memories, bytes = memories+1, bytes+int64(size)
		if old, found := a.store.sizeOf(id); found {
			memories, bytes = memories-1, bytes-old
		}
	}
	switch {
	case within(memories, bytes):
		return false, nil
	case c.MaxMemories > 0 && memories > 0 && x.live+memories > c.MaxMemories:
		return false, &QuotaError{Space: a.space.ID(), Quota: "memories", Used: x.live, Max: c.MaxMemories}
	case c.MaxBytes > 0 && bytes > 0 && x.bytes+bytes > c.MaxBytes:
		return false, &QuotaError{Space: a.space.ID(), Quota: "bytes", Used: x.bytes, Max: c.MaxBytes}
	}
	return false, nil // it does not grow the space, which was over a lowered quota before
}

// number gives w's operations their seqs and appends their records to the frame.
func (a *awake) number(w *write, t *taking) {
	a.stamp(w, t)
	w.seq = t.next
	for i := range w.operations {
		op := &w.operations[i]
		op.seq = t.next
		id := ""
		switch {
		case op.kind != opRemember:
		case op.memory.ID == "":
			id = generatedID(op.storedAt, op.seq)
			op.memory.ID = id
			t.note(id)
		default:
			op.replaced = a.knows(op.memory.ID, t)
			t.note(op.memory.ID)
		}
		if op.resolve() {
			w.records[i], id = encodeOperation(op), "" // as long as before
		}
		t.edges += 2 * len(op.links)
		sealOperation(w.records[i], a.identity.key, op.seq, id, op.replaced)
		a.offsets = append(a.offsets, len(a.buf))
		a.buf = append(a.buf, w.records[i]...)
		t.next++
	}
}

// stamp has w stored later, first by a millisecond, until the ids that its memories
// are to be given are nobody's: callers may have chosen any, and so many that all
// spaces would wait for the next free one. By how much later nobody foresees. Where
// no memory can have such a time, it is earlier.
func (a *awake) stamp(w *write, t *taking) {
	for most := int64(1); a.clashes(w, t); most *= 2 {
		step := (1 + rand.Int64N(most)) * int64(time.Millisecond)
		if w.operations[0].storedAt > latestTime.UnixNano()-step { // all of w have one time
			step = -step
		}
		for i := range w.operations {
			op := &w.operations[i]
			op.storedAt = max(op.storedAt, 0) + step
			w.records[i] = encodeOperation(op) // as long as before
		}
	}
}

// clashes reports whether an id that one of w's memories is to be given is that of
// another memory, also of w.
func (a *awake) clashes(w *write, t *taking) bool {
	var chosen map[string]bool
	for i := range w.operations {
		if id := w.operations[i].memory.ID; len(id) == generatedIDBytes {
			if chosen == nil {
				chosen = make(map[string]bool)
			}
			chosen[id] = true
		}
	}
	for i := range w.operations {
		op := &w.operations[i]
		if op.kind != opRemember || op.memory.ID != "" {
			continue
		}
		if id := generatedID(op.storedAt, t.next+uint64(i)); chosen[id] || a.knows(id, t) {
			return true
		}
	}
	return false
}

// knows reports whether the space holds a memory of that id when the next
// operation of the frame is applied.
func (a *awake) knows(id string, t *taking) bool {
	t.probe.id = id
	version, _ := a.store.versionOf(&t.probe)
	return version != 0 || t.firstID == id || t.laterIDs[id]
}

// note says that the frame remembers the id.
func (t *taking) note(id string) {
	switch {
	case t.firstID == "":
		t.firstID = id // most frames have no second one
		return
	case t.laterIDs == nil:
		t.laterIDs = make(map[string]bool)
	}
	t.laterIDs[id] = true
}

// commit implements committed: the frame is durable, so whatever happens to the
// log's file now, it counts.
func (a *awake) commit(writes []*write) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("%w: panic in commit: %v", ErrUnknownOutcome, p)
			a.stop(err)
			for _, w := range writes {
				w.err = err
			}
		}
	}()
	if a.commitFrame(writes) {
		a.checkpointIfDue()
	}
}

// commitFrame logs the frame and applies it, and reports whether a checkpoint is due.
func (a *awake) commitFrame(writes []*write) (due bool) {
	a.commits.Lock()
	defer a.commits.Unlock()
	segment, offset, err := a.log.append(a.buf, &a.frame)
	switch {
	case noRoom(err):
		a.registry.options.Logger.Warn("frames wait in memory and journal", zap.String("space", string(a.space.ID())), zap.Error(err))
	case err != nil:
		a.stop(fmt.Errorf("space %q: %w", string(a.space.ID()), err))
	}
	a.apply(writes, segment, offset)
	a.maintenance.logged += int64(len(a.buf))
	a.maintenance.frames++
	if cap(a.buf) > maxKeptFrameBytes {
		a.buf = nil
	}
	a.kept.Store(int64(cap(a.buf)))
	a.grow()
	a.wantVectors()
	return a.checkpointDue(a.maintenance.frames)
}

// apply applies the frame, which stands at the offset of the segment.
func (a *awake) apply(writes []*write, segment uint64, offset int64) {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	n := 0
	for _, w := range writes {
		for i := range w.operations {
			op := &w.operations[i]
			op.record = locator{segment: segment, offset: offset + int64(a.offsets[n]), length: len(w.records[i])}
			w.forgotten += a.store.apply(op)
			n++
		}
	}
	a.log.advance(a.store.position())
	a.store.publish()
	a.space.feed.apply(a.store.seq, a.registry.options.Durability == Sync)
}

// stop refuses further writes: the space's files failed, its acknowledged
// frames are in the journal. Reopening the registry recovers. Of a space that has
// ended the files were closed or removed, which fails nobody but who still uses them.
func (a *awake) stop(cause error) {
	err := fmt.Errorf("%w: %w", ErrStopped, cause)
	if !a.stopped.CompareAndSwap(nil, &err) || a.space.gone() != nil {
		return
	}
	a.space.feed.fail(err)
	a.space.quarantined(cause)
	a.registry.options.Logger.Error("writes of a space are stopped",
		zap.String("space", string(a.space.ID())), zap.Error(cause))
}

// retire makes the space's handle useless with err, after the write that is under way.
func (a *awake) retire(err error) {
	a.space.end(err)
	a.registry.commits.close(a.queue, err)
}

// position is the store's part of what a mark says.
func (s *store) position() position {
	return position{
		mark: mark{seq: s.seq}, config: s.config, dimension: s.dimension,
		memories: s.live, bytes: s.bytes,
	}
}

// settles reports whether the space is settled before it sleeps.
func (a *awake) settles() bool { return a.damage == nil && !a.registry.options.ReadOnly }

// settle flushes the log and moves the mark.
func (a *awake) settle() (uint64, error) {
	if a.damage != nil {
		return 0, a.damage
	}
	seq, err := a.log.settle()
	if err != nil {
		if !noRoom(err) {
			a.stop(err)
		}
		return seq, err
	}
	a.space.feed.flush(seq)
	return seq, nil
}

// takeRoom waits until fewer than room has a place for do what it bounds. Who waits has
// no view: that may be the last that holds a former image.
func takeRoom(ctx context.Context, room chan<- struct{}) error {
	select {
	case room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reader is one consistent read: a snapshot, and the segments it needs.
type reader struct {
	awake *awake
	view  *view
	pins  *segmentSet
}

// read begins a read. The segments are those of the time at which the view is taken,
// so that whatever the view shows is in them.
func (a *awake) read() *reader {
	for {
		pins := a.log.pin()
		v := a.store.view()
		if a.log.current(pins) {
			return &reader{awake: a, view: v, pins: pins}
		}
		a.unpin(pins)
	}
}

func (r *reader) close() { r.awake.unpin(r.pins) }

// unpin releases the segments; the last reader of doomed ones removes them.
func (a *awake) unpin(pins *segmentSet) {
	a.log.unpin(pins)
	if err := a.log.collect(); err != nil {
		a.registry.options.Logger.Warn("segment could not be removed",
			zap.String("space", string(a.space.ID())), zap.Error(err))
	}
}

// memory reads and verifies the record of d.
func (r *reader) memory(d uint32) (m Memory, err error) {
	err = r.memoryTo(&m, d, new(stretches))
	return m, err
}

// record returns the record at loc, unverified, which near may hold.
func (r *reader) record(loc locator, near *stretches) ([]byte, error) {
	if record := near.record(loc); record != nil {
		return record, nil
	}
	return r.awake.log.read(loc)
}

// memoryTo is memory to m. A record that near holds is not read again.
func (r *reader) memoryTo(m *Memory, d uint32, near *stretches) error {
	a := r.awake
	loc, seq := r.view.locator(d), r.view.seqOf(d)
	record, err := r.record(loc, near)
	if err != nil {
		return a.unreadable(loc, err)
	}
	var op operation // in place: a copy would cost the stack as much again
	if err := op.decode(record, a.identity.key, seq); err != nil || op.memory.ID != string(r.view.id(d)) {
		return a.unreadable(loc, err)
	}
	op.memory.Space = a.space.ID()
	*m = op.memory
	return nil
}

// unreadable judges a record that did not read back: missing or altered bytes
// are damage, which stops the space's writes; another error says nothing about them.
func (a *awake) unreadable(loc locator, err error) error {
	if gone := a.space.gone(); gone != nil {
		return gone // its files were closed or removed under the reader
	}
	name := segmentPath(loc.segment)
	switch {
	case err == nil || errors.Is(err, errNotOperation):
		err = &CorruptionError{File: name, Offset: loc.offset, Reason: "a memory's record is damaged"}
	case errors.Is(err, errUnknownVersion):
		err = &VersionError{File: name, Version: formatVersion}
	default:
		err = damageOrError(err, name)
	}
	err = inSpace(a.space.ID(), err)
	if errors.Is(err, ErrCorrupt) {
		a.stop(err)
	}
	return err
}

// damaged is the error that every read of a quarantined space returns beside
// what it could read; nil where the space is whole.
func (a *awake) damaged() error {
	if a.damage == nil {
		return nil
	}
	return a.damage
}

// unwritable is why the space takes no writes until it is opened anew; nil where it does.
func (a *awake) unwritable() error {
	if stopped := a.stopped.Load(); a.damage == nil && stopped != nil {
		return *stopped
	}
	return a.damaged()
}

// state says whether the space is quarantined.
func (a *awake) state() SpaceState {
	stopped := a.stopped.Load()
	if a.damage != nil || stopped != nil && errors.Is(*stopped, ErrCorrupt) {
		return Quarantined
	}
	return Awake
}

// recovery is the report of the last wake, under the id that the space has now.
func (a *awake) recovery() RecoveryReport {
	report := a.report
	report.Space = a.space.ID()
	return report
}
