package engram

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Space is one tenant's memory. Its methods may be called concurrently. A
// *Space stays valid while the space sleeps, wakes and is renamed; after the
// space is deleted every method returns [ErrSpaceDeleted], also when another
// space of that id exists.
//
// A damaged space is quarantined: it refuses writes with a [CorruptionError].
// Where waking found the damage, its reads return what precedes it together with that
// error. Where a read finds it, that one fails with the error, and so does each later
// one of the damaged bytes; others are as before.
type Space struct {
	registry *Registry
	name     atomic.Pointer[SpaceID] // Rename changes it
	creating chan struct{}           // closed when its creator has finished; nil if Open found it
	ended    atomic.Pointer[error]   // why the handle is no longer good
	awake    atomic.Pointer[awake]   // nil while it sleeps
	feed     feed
	reported atomic.Bool // as quarantined

	// mu serialises waking, sleeping, renaming and deleting. Order: Space.mu >
	// awake.commits > log.files > journal.mu, Registry.mu, feed.mu.
	mu sync.Mutex
}

var errNotCreated = errors.New("space was not created")

func newSpace(r *Registry, id SpaceID) *Space {
	s := &Space{registry: r}
	id = SpaceID(strings.Clone(string(id)))
	s.name.Store(&id)
	return s
}

// end makes the handle useless.
func (s *Space) end(err error) {
	s.ended.Store(&err)
	s.feed.wake()
}

// gone returns why the handle is no longer good, or nil.
func (s *Space) gone() error {
	if ended := s.ended.Load(); ended != nil {
		return *ended
	}
	return nil
}

// missing returns why the handle, which was found under the id, does not lead to its
// space any more, or nil. Of a deletion that may not hold nobody is told that it does.
func (s *Space) missing(id SpaceID) error {
	gone := s.gone()
	switch {
	case gone == nil && s.ID() == id:
		return nil
	case gone == nil || errors.Is(gone, ErrSpaceDeleted):
		return &SpaceNotFoundError{Space: id}
	}
	return gone
}

// awaitCreation returns when the space's creator has finished.
func (s *Space) awaitCreation(ctx context.Context) error {
	if s.creating != nil {
		select {
		case <-s.creating:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if errors.Is(s.gone(), errNotCreated) {
		return errNotCreated
	}
	return nil
}

// use returns the loaded state, waking the space if it sleeps. The caller
// counts uses down when it is done.
func (s *Space) use(ctx context.Context) (*awake, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		if err := s.gone(); err != nil {
			return nil, err
		}
		a := s.awake.Load()
		if a == nil {
			var err error
			if a, err = s.wake(false); err != nil {
				return nil, err
			}
		}
		a.uses.Add(1)
		if s.awake.Load() == a {
			return a, nil
		}
		a.uses.Add(-1) // it fell asleep in between
	}
}

// wake loads the space. Close waits for that, but where the journal's settler wakes
// it, also while the registry closes: it may hang.
func (s *Space) wake(settling bool) (*awake, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.awake.Load(); a != nil {
		return a, nil
	}
	if err := s.gone(); err != nil && !(settling && errors.Is(err, ErrClosed)) {
		return nil, err
	}
	if !settling {
		if err := s.registry.admit(); err != nil {
			return nil, err
		}
		defer s.registry.work.Done()
	}
	a, err := s.recover()
	if err != nil {
		return nil, fmt.Errorf("wake %q: %w", string(s.ID()), err)
	}
	s.registry.mu.Lock()
	s.registry.awake[a.identity.incarnation] = a
	closed := s.registry.closed.Load()
	s.registry.mu.Unlock()
	if closed { // too late for Close to retire it with the others
		a.retire(ErrClosed)
	}
	a.wantVectors() // as long as nobody can write to it
	s.awake.Store(a)
	return a, nil
}

// recover loads the space from its files and the journal.
func (s *Space) recover() (*awake, error) {
	r, id, began := s.registry, s.ID(), monotonic()
	dir, err := r.root.OpenDir(string(id))
	if err != nil {
		return nil, inSpace(id, damageOrError(err, string(id)))
	}
	rec := &recovery{dir: dir, id: id, epoch: r.epoch}
	l, err := rec.run(r)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	a := r.newAwake(s, rec.state.identity, rec.store, l)
	a.damage, a.unknown = rec.damage, rec.unidentified
	a.report = rec.report
	a.maintenance.logged, a.maintenance.size = rec.replayed, rec.state.state.checkpoint.size
	s.feed.begin(a.store.seq, a.damage)
	if a.damage != nil {
		s.quarantined(a.damage)
	}
	a.report.Duration = monotonic().Sub(began)
	log := r.logger.Info
	if a.damage != nil {
		log = r.logger.Error
	}
	log("space woken", zap.String("space", string(id)), zap.String("verdict", string(a.report.Verdict)),
		zap.Uint64("seq", a.report.LastSeq), zap.Int("frames", a.report.Frames),
		zap.Int("from_journal", a.report.FromJournal), zap.String("damage", a.report.Damage))
	return a, nil
}

// sleep settles the space and drops its loaded state, if nobody uses it.
func (s *Space) sleep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sleepLocked()
}

func (s *Space) sleepLocked() {
	a := s.awake.Load()
	if a == nil || a.stopped.Load() != nil {
		return
	}
	s.awake.Store(nil)
	if a.uses.Load() > 0 {
		s.awake.Store(a)
		return
	}
	if !a.maintenance.running.TryLock() {
		s.awake.Store(a) // a checkpoint keeps it busy
		return
	}
	defer a.maintenance.running.Unlock()
	if a.damage == nil && !s.registry.ReadOnly {
		seq, err := a.settle()
		if err != nil {
			s.awake.Store(a)
			return
		}
		s.registry.journal.settled(a.identity.incarnation, seq)
	}
	s.registry.mu.Lock()
	delete(s.registry.awake, a.identity.incarnation)
	s.registry.mu.Unlock()
	if err := a.log.close(); err != nil {
		s.registry.logger.Warn("files of a sleeping space", zap.String("space", string(s.ID())), zap.Error(err))
	}
}

// ID returns the space's present id.
func (s *Space) ID() SpaceID { return *s.name.Load() }

// Info describes the space without waking it: of a sleeping space it reads SPACE, 16
// KiB, whose figures are those of the mark. Where that cannot be read, and after the
// space was deleted, only the id and the state are filled in; [Registry.Info]
// tells why.
func (s *Space) Info() SpaceInfo {
	info, err := s.info()
	if err != nil || s.gone() != nil {
		return SpaceInfo{ID: s.ID(), State: Asleep}
	}
	return info
}

func (s *Space) info() (SpaceInfo, error) {
	if a := s.awake.Load(); a != nil {
		return a.info(), nil
	}
	id := s.ID()
	file, err := s.registry.readState(id)
	if err != nil {
		return SpaceInfo{}, err
	}
	state := file.state
	if err := state.names(id); err != nil {
		return SpaceInfo{}, err // the figures are another space's
	}
	return SpaceInfo{
		ID: id, Incarnation: file.identity.incarnation.String(), Created: unixTime(file.identity.created),
		Config: state.config, Dimension: state.dimension, Memories: state.memories, Bytes: state.bytes,
		Seq: state.mark.seq, State: Asleep,
	}, nil
}

func (a *awake) info() SpaceInfo {
	v := a.store.view()
	info := SpaceInfo{
		ID: a.space.ID(), Config: v.config, Dimension: v.dimension, Memories: v.live, Bytes: v.bytes, Seq: v.seq,
		State: a.state(),
	}
	if !a.unknown {
		info.Incarnation, info.Created = a.identity.incarnation.String(), unixTime(a.identity.created)
	}
	return info
}

// Stats returns the space's figures without waking it, and reads no file: those of
// a sleeping space are zero but for its state. While a flush or a mark of the
// space's log is under way, it waits for that.
func (s *Space) Stats() SpaceStats {
	a := s.awake.Load()
	if a == nil {
		return SpaceStats{Operator: OperatorStats{State: Asleep}}
	}
	v := a.store.view()
	files, bytes := a.log.size()
	settled := a.log.settledState()
	stats := SpaceStats{
		Content: ContentStats{
			Memories: v.live, Bytes: v.bytes, Episodes: v.episodes, Associations: v.graph.edges, Dimension: v.dimension, Seq: v.seq,
			Embedder: v.embedder,
		},
		Operator: OperatorStats{
			State: a.state(), Segments: files, LogBytes: bytes,
			MarkSeq: settled.mark.seq, CheckpointSeq: settled.checkpoint.seq, Recovery: a.recovery(),
		},
	}
	if v.generation > 0 {
		stats.Content.Unembedded = v.unembedded()
	}
	if why := a.unwritable(); why != nil {
		stats.Operator.Stopped = why.Error()
	}
	return stats
}

// Remember stores m, or replaces the memory of its id. When it returns nil the
// memory is recallable and, under the default durability, survives power loss.
// m is not kept and not changed; the receipt has the id.
//
// Bad input is [ErrInvalid], [ErrLimit] or [ErrWrongSpace], a used-up quota
// [ErrQuota], no room [ErrDiskFull], and what the options ask for [ErrConflict],
// [ErrRequestReused] or [ErrBusy]; damage of the space is a [CorruptionError], and
// [ErrStopped] says that its writes or the registry's have ended. With each of these
// nothing has changed. ctx cancels the write as long as no group has taken it; after
// that the outcome is known, or [ErrUnknownOutcome] says it is not.
//
// It costs a share of one flush with all writes of the registry that wait at the
// same time, and two writes of the record: to the journal and to the space's log.
func (s *Space) Remember(ctx context.Context, m Memory, opts ...WriteOption) (Receipt, error) {
	receipts, err := s.RememberBatch(ctx, []Memory{m}, opts...)
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// RememberBatch stores all of ms, at most MaxBatch and MaxBatchBytes, or none:
// also after a crash. No ms are ErrInvalid. Otherwise it is as Remember; receipts are
// in the order of ms. Of several memories with one id the last one stays.
func (s *Space) RememberBatch(ctx context.Context, ms []Memory, opts ...WriteOption) ([]Receipt, error) {
	o, err := batchOptions(ms, opts)
	if err != nil {
		return nil, err
	}
	a, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer a.uses.Add(-1)
	analyzer := a.analyzer
	hash := newPayloadHash(opRemember, o)
	operations, err := rememberOperations(s.ID(), ms, nanosOf(s.registry.Clock), hash)
	if err != nil {
		return nil, err
	}
	for i := range operations {
		op := &operations[i]
		op.analysis = analyzer.analyzeMemory(op.memory.Content)
		// Of another dimension, or the first, it may be refused: then nothing is made.
		if n := len(op.memory.Embedding); n > 0 && n == int(a.store.embeddingDimension.Load()) {
			op.codes = a.store.rotations.encode(op.memory.Embedding)
		}
	}
	a.linkSimilar(operations)
	w, err := s.write(ctx, operations, hash, o)
	if err != nil {
		return nil, err
	}
	return w.receipts(ms), nil
}

// ValidateBatch returns the error with which [Space.RememberBatch] refuses these
// memories and options in a space of that id whatever the space holds, and nil where
// only that could make it refuse them. Who makes a space for its first memories asks
// before. It costs about as much as encoding the memories.
func ValidateBatch(id SpaceID, ms []Memory, opts ...WriteOption) error {
	if err := id.Validate(); err != nil {
		return err
	}
	o, err := batchOptions(ms, opts)
	if err != nil {
		return err
	}
	operations, err := rememberOperations(id, ms, 0, payloadHash{})
	if err != nil {
		return err
	}
	_, _, err = encodeWrite(operations, o, 0)
	return err
}

// batchOptions returns how a batch is to be written, and refuses one that has no
// memories or too many.
func batchOptions(ms []Memory, opts []WriteOption) (writeOptions, error) {
	if len(ms) == 0 {
		return writeOptions{}, &InvalidError{Field: "memories", Reason: "is empty"}
	}
	if len(ms) > MaxBatch {
		return writeOptions{}, &LimitError{What: "memories in a batch", Got: int64(len(ms)), Max: MaxBatch}
	}
	return applyWriteOptions(opts)
}

// rememberOperations returns the operations that store ms, without what is derived
// from contents and embeddings, and refuses what no space of that id would store.
func rememberOperations(id SpaceID, ms []Memory, now int64, hash payloadHash) ([]operation, error) {
	dimension := 0
	operations := make([]operation, len(ms))
	for i := range ms {
		m := &ms[i]
		if m.Space != "" && m.Space != id {
			return nil, fmt.Errorf("memory %d: %w", i, ErrWrongSpace)
		}
		if err := m.validate(); err != nil {
			return nil, inBatch(err, i, len(ms))
		}
		if n := len(m.Embedding); n != 0 && dimension != 0 && n != dimension {
			return nil, inBatch(wrongDimension(n, dimension), i, len(ms))
		}
		dimension = max(dimension, len(m.Embedding))
		if hash.Hash64 != nil {
			hash.add(appendMemory(nil, m))
		}
		op := &operations[i]
		op.kind, op.storedAt, op.memory = opRemember, now, *m
		op.memory.ID = strings.Clone(m.ID)
		if m.Time.IsZero() {
			op.memory.Time = unixTime(now)
		}
		if m.Confidence == 0 {
			op.memory.Confidence = 1
		}
	}
	return operations, nil
}

func inBatch(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("memory %d: %w", i, err)
}

// receipts of a RememberBatch: of a replayed request, those of the first time.
func (w *write) receipts(ms []Memory) []Receipt {
	receipts := make([]Receipt, len(ms))
	for i := range ms {
		r := Receipt{ID: w.operations[i].memory.ID, Seq: w.seq + uint64(i)}
		if w.replayed.seq != 0 {
			r.Seq = w.replayed.seq + uint64(i)
			if r.ID == "" {
				r.ID = generatedID(w.replayed.storedAt, r.Seq)
			}
		}
		receipts[i] = r
	}
	return receipts
}

// Forget forgets the memories of these ids, 1 to MaxForgetIDs; unknown ones
// are not an error, and where there is none of them nothing is written, unless an
// option asks for it. When it returns they are in no recall, lookup or listing;
// their bytes are gone from the files after a Checkpoint and a Settle, once
// earlier readers have ended. What a large space keeps to find vectors, means of
// eight or more of them, is made anew when it has grown to four times. On a full disk
// it uses a reserve. Durability, errors and cancellation are as in Remember.
func (s *Space) Forget(ctx context.Context, ids []string, opts ...WriteOption) (ForgetReceipt, error) {
	if len(ids) == 0 {
		return ForgetReceipt{}, &InvalidError{Field: "ids", Reason: "is empty"}
	}
	if len(ids) > MaxForgetIDs {
		return ForgetReceipt{}, &LimitError{What: "ids", Got: int64(len(ids)), Max: MaxForgetIDs}
	}
	for _, id := range ids {
		if err := validateMemoryID("ids", id, false); err != nil {
			return ForgetReceipt{}, err
		}
	}
	return s.forget(ctx, operation{kind: opForget, ids: ids}, opts, func(v *view) bool {
		return slices.ContainsFunc(ids, func(id string) bool {
			_, found := v.lookup(id)
			return found
		})
	})
}

// ForgetWhere forgets the memories that satisfy f when the operation is
// committed, as one operation, however many they are. It costs in proportion to
// the memories that the filter has to look at, while the space's other writes wait.
// An empty filter is ErrInvalid: to forget everything, delete the space. Otherwise
// it is as Forget.
func (s *Space) ForgetWhere(ctx context.Context, f Filter, opts ...WriteOption) (ForgetReceipt, error) {
	if err := f.validate(); err != nil {
		return ForgetReceipt{}, err
	}
	if f.After.IsZero() && f.Before.IsZero() && f.Episode == "" && len(f.Attributes) == 0 && f.Kind == "" {
		return ForgetReceipt{}, &InvalidError{Field: "filter", Reason: "is empty"}
	}
	return s.forget(ctx, operation{kind: opForget, filter: &f}, opts, func(v *view) bool {
		any := false
		v.scan(&f, func(uint32) bool {
			any = true
			return false
		})
		return any
	})
}

// forget commits op unless nothing is there to forget and no option asks more
// of it.
func (s *Space) forget(ctx context.Context, op operation, opts []WriteOption, matches func(*view) bool) (ForgetReceipt, error) {
	o, err := applyWriteOptions(opts)
	if err != nil {
		return ForgetReceipt{}, err
	}
	if o.requestID == "" && !o.expects && !s.registry.ReadOnly {
		seq, skip, err := s.skips(ctx, matches)
		if errors.Is(err, ErrDiskFull) && s.registry.giveUpReserve() { // waking may need room
			seq, skip, err = s.skips(ctx, matches)
		}
		if err != nil || skip {
			return ForgetReceipt{Seq: seq}, err
		}
	}
	hash := newPayloadHash(opForget, o)
	hash.add(encodeOperation(&op))
	op.storedAt = nanosOf(s.registry.Clock)
	w, err := s.write(ctx, []operation{op}, hash, o)
	if errors.Is(err, ErrDiskFull) && s.registry.giveUpReserve() {
		w, err = s.write(ctx, []operation{op}, hash, o)
	}
	switch {
	case err != nil:
		return ForgetReceipt{}, err
	case w.replayed.seq != 0:
		return ForgetReceipt{Seq: w.replayed.seq, Forgotten: int(w.replayed.forgotten)}, nil
	}
	return ForgetReceipt{Seq: w.seq, Forgotten: w.forgotten}, nil
}

// skips reports whether an operation need not be written, as it would change
// nothing of what the space holds, and the seq at which that is so. A damaged space
// has the write say what is wrong.
func (s *Space) skips(ctx context.Context, changes func(*view) bool) (seq uint64, skip bool, err error) {
	a, err := s.use(ctx)
	if err != nil {
		return 0, false, err
	}
	defer a.uses.Add(-1)
	v := a.store.view()
	if a.damage != nil || changes(v) {
		return 0, false, nil
	}
	return v.seq, true, nil
}

// Configure replaces the space's configuration by cfg, as one logged operation: what
// is zero in cfg has its default again. A lowered quota forgets nothing; it refuses
// what would grow the space further. A field out of its range is ErrInvalid or
// ErrLimit, another Analyzer ErrInvalid. Otherwise it is as Remember; the receipt
// has the seq only.
func (s *Space) Configure(ctx context.Context, cfg SpaceConfig, opts ...WriteOption) (Receipt, error) {
	if err := cfg.validate(); err != nil {
		return Receipt{}, err
	}
	o, err := applyWriteOptions(opts)
	if err != nil {
		return Receipt{}, err
	}
	return s.writeOne(ctx, operation{kind: opConfigure, config: cfg.canonical()}, o)
}

// writeOne commits an operation whose receipt is a seq alone. A retry has it
// again, but for the time.
func (s *Space) writeOne(ctx context.Context, op operation, o writeOptions) (Receipt, error) {
	hash := newPayloadHash(op.kind, o)
	hash.add(encodeOperation(&op))
	op.storedAt = nanosOf(s.registry.Clock)
	w, err := s.write(ctx, []operation{op}, hash, o)
	switch {
	case err != nil:
		return Receipt{}, err
	case w.replayed.seq != 0:
		return Receipt{Seq: w.replayed.seq}, nil
	}
	return Receipt{Seq: w.seq}, nil
}

// write encodes the operations of one write and commits them.
func (s *Space) write(ctx context.Context, operations []operation, hash payloadHash, o writeOptions) (*write, error) {
	if s.registry.ReadOnly {
		return nil, ErrReadOnly
	}
	w := &write{operations: operations, options: o, hash: hash.sum(), signal: make(chan step, 2)}
	var err error
	if w.records, w.bytes, err = encodeWrite(operations, o, w.hash); err != nil {
		return nil, err
	}
	a, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer a.uses.Add(-1)
	if a.damage != nil {
		return nil, a.damage
	}
	if err := s.registry.commits.submit(ctx, a.queue, w); err != nil {
		return nil, err
	}
	return w, nil
}

// encodeWrite returns the records of the operations of one write, and how many bytes
// they have.
func encodeWrite(operations []operation, o writeOptions, hash uint64) (records [][]byte, bytes int, err error) {
	if o.requestID != "" {
		operations[0].request = request{id: strings.Clone(o.requestID), hash: hash, operations: uint32(len(operations))}
	}
	records = make([][]byte, len(operations))
	for i := range operations {
		records[i] = encodeOperation(&operations[i])
		bytes += len(records[i])
	}
	if bytes > MaxBatchBytes {
		return nil, 0, &LimitError{What: "bytes of a write, encoded", Got: int64(bytes), Max: MaxBatchBytes}
	}
	return records, bytes, nil
}

// payloadHash tells whether a repeated request id comes with the same payload.
// Defaults that the library fills in are not part of it. Without a request id
// there is nothing to tell: the hash is nil and stays zero.
type payloadHash struct{ hash.Hash64 }

func newPayloadHash(kind operationKind, o writeOptions) payloadHash {
	if o.requestID == "" {
		return payloadHash{}
	}
	p := payloadHash{fnv.New64a()}
	p.add([]byte{byte(kind)})
	return p
}

// add adds a piece with its length, so that no two lists of pieces look alike.
func (p payloadHash) add(b []byte) {
	if p.Hash64 == nil {
		return
	}
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(b)))
	_, _ = p.Write(n[:]) // a hash never fails
	_, _ = p.Write(b)
}

func (p payloadHash) sum() uint64 {
	if p.Hash64 == nil {
		return 0
	}
	return p.Sum64()
}

// Lookup returns the memory of that id, or [ErrMemoryNotFound]. It reads and verifies
// one record of the space's log. Where that is damaged the error is a
// [CorruptionError], and the space's writes stop.
func (s *Space) Lookup(ctx context.Context, id string) (Memory, error) {
	if err := validateMemoryID("id", id, false); err != nil {
		return Memory{}, err
	}
	a, err := s.use(ctx)
	if err != nil {
		return Memory{}, err
	}
	defer a.uses.Add(-1)
	r := a.read()
	defer r.close()
	d, found := r.view.lookup(id)
	if !found {
		if damaged := a.damaged(); damaged != nil {
			return Memory{}, damaged
		}
		return Memory{}, fmt.Errorf("memory %q: %w", id, ErrMemoryNotFound)
	}
	m, err := r.memory(d)
	if err != nil {
		return Memory{}, err
	}
	return m, a.damaged()
}

// Memories yields the memories that satisfy f in time order, those of one time
// in the order they were stored, from one snapshot, which is taken when the
// iteration begins. An error ends the listing and comes with a zero Memory; of a
// quarantined space it comes last. Each memory is read when it is yielded. Writes go
// on meanwhile, but the space stays awake, and the files that the snapshot needs
// stay on disk, until the iteration ends.
func (s *Space) Memories(ctx context.Context, f Filter) iter.Seq2[Memory, error] {
	return s.memoriesFrom(ctx, f, math.MinInt64, 0)
}

// MemoriesBehind is Memories without those up to the place of the memory with that
// Time and Seq, which need not be there any more: the next page of a listing whose
// last one ended with it. Those left out are not read. A time out of the range of a
// memory's is [ErrInvalid]; the zero time is before all.
func (s *Space) MemoriesBehind(ctx context.Context, f Filter, at time.Time, seq uint64) iter.Seq2[Memory, error] {
	if at.IsZero() {
		return s.Memories(ctx, f)
	}
	if err := validateTime("at", at); err != nil {
		return func(yield func(Memory, error) bool) { yield(Memory{}, err) }
	}
	if seq < math.MaxUint64 {
		seq++
	}
	return s.memoriesFrom(ctx, f, at.UnixNano(), seq)
}

// memoriesFrom is Memories without those before that time, and those of it whose seqs
// are lower.
func (s *Space) memoriesFrom(ctx context.Context, f Filter, at int64, seq uint64) iter.Seq2[Memory, error] {
	return func(yield func(Memory, error) bool) {
		if err := f.validate(); err != nil {
			yield(Memory{}, err)
			return
		}
		a, err := s.use(ctx)
		if err != nil {
			yield(Memory{}, err)
			return
		}
		defer a.uses.Add(-1)
		r := a.read()
		defer r.close()
		stopped := false
		r.view.scanFrom(&f, at, seq, func(d uint32) bool {
			m, err := r.memory(d)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				m = Memory{}
			}
			stopped = !yield(m, err) || err != nil
			return !stopped
		})
		if damaged := a.damaged(); damaged != nil && !stopped {
			yield(Memory{}, damaged)
		}
	}
}

// Checkpoint writes the space's indexes to disk, so that waking it loads them
// instead of replaying its log, and removes the bytes of forgotten and replaced
// memories from its own files, as soon as no earlier reader needs them. When it
// returns nil everything up to its call is durable, under every durability. Writes
// go on meanwhile; where another checkpoint of the space is under way, they and this
// one wait until that has ended. Once begun, it does not look at ctx.
//
// It writes all indexes, and of the segments that hold anything forgotten or
// replaced what is left. Where there is no room for that it is [ErrDiskFull], and the
// space is as it was; any other failure of its files stops its writes.
func (s *Space) Checkpoint(ctx context.Context) error {
	if err := s.registry.begin(ctx); err != nil {
		return err
	}
	defer s.registry.work.Done()
	a, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer a.uses.Add(-1)
	return a.checkpoint()
}

// Recall answers the cue from one snapshot: the memories that it brings to
// mind, the most activated first, no more than its limit. If that many satisfy
// the filter and match the cue, that many are returned. An embedding matches if its
// angle to the cue's is less than a right one; of those so nearly right that their
// codes cannot tell, some may be left out. The same state and cue give the same
// answer. It holds no lock that a write waits for, and keeps nothing of cue. Bad
// input is [ErrInvalid] or [ErrLimit]. It costs in proportion to the memories that
// have terms of the text, or to all that have an embedding, and reads the bodies of
// what it returns. Of a quarantined space the answer is of what precedes the damage,
// and comes with the [CorruptionError].
//
// With an [Options.Embedder], a cue with Text and no Embedding is also compared
// by meaning, with the memories that have a vector. While some have none, and
// where the embedder fails or takes longer than two seconds, the answer is from
// the text as far as needed, and Plan.Degraded says so. Vectors of another
// embedder than the registry's are an [EmbedderError].
func (s *Space) Recall(ctx context.Context, cue Cue) (Recall, error) {
	if err := cue.validate(); err != nil {
		return Recall{}, err
	}
	asked, err := s.ask(ctx, &cue)
	if err != nil {
		return Recall{}, err
	}
	a, err := s.use(ctx)
	if err != nil {
		return Recall{}, err
	}
	defer a.uses.Add(-1)
	r := a.read()
	defer r.close()
	answer, err := r.recall(ctx, &cue, asked)
	if err != nil {
		return Recall{}, err
	}
	return answer, a.damaged()
}
