package engram

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Space is one tenant's memory. Its methods may be called concurrently. A
// *Space stays valid while the space sleeps, wakes and is renamed; after the
// space is deleted every method that has an error returns [ErrSpaceDeleted], also
// when another space of that id exists.
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
	drowsy   atomic.Pointer[awake]   // while it falls asleep: its files do not say yet what it is
	feed     feed
	cues     breaker     // before the embedder
	reported atomic.Bool // as quarantined

	// mu serialises waking, sleeping, renaming and deleting. Order: Space.mu >
	// maintenance.running > awake.commits > log.files > journal.mu > Registry.mu, feed.mu.
	mu contextMutex
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
			a, err := s.wake(ctx, false)
			s.registry.makeRoom()
			return a, err
		}
		a.uses.Add(1)
		if s.awake.Load() == a {
			a.touch()
			return a, nil
		}
		a.done() // it fell asleep in between
	}
}

// wake loads the space for the caller, who counts uses down when it is done. ctx ends the
// wait for who wakes it already. Close waits for that, but where the journal's settler
// wakes it, also while the registry closes: it may hang.
func (s *Space) wake(ctx context.Context, settling bool) (*awake, error) {
	if err := s.mu.LockContext(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if a := s.awake.Load(); a != nil {
		a.uses.Add(1)
		a.touch()
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
		s.quarantined(err)
		return nil, fmt.Errorf("wake %q: %w", string(s.ID()), err)
	}
	s.registry.occupancy.wakings.Add(1)
	s.registry.mu.Lock()
	s.registry.awake[a.identity.incarnation] = a
	closed := s.registry.closed.Load()
	s.registry.mu.Unlock()
	if closed { // too late for Close to retire it with the others
		a.retire(ErrClosed)
	}
	a.wantVectors() // as long as nobody can write to it
	a.uses.Add(1)
	s.awake.Store(a)
	a.count()
	return a, nil
}

// recover loads the space from its files and the journal.
func (s *Space) recover() (*awake, error) {
	r, id, began := s.registry, s.ID(), monotonic()
	r.leaveDescriptors()
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
	a.maintenance.logged, a.maintenance.frames = rec.replayed, rec.report.Frames
	a.maintenance.size.Store(rec.state.state.checkpoint.size)
	s.feed.begin(a.store.seq, a.damage)
	if a.damage != nil {
		s.quarantined(a.damage)
	}
	a.report.Duration = monotonic().Sub(began)
	log := r.options.Logger.Info
	switch {
	case a.damage != nil:
		log = r.options.Logger.Error
	case a.report.Verdict == Clean:
		log = r.options.Logger.Debug // of many tenants, hundreds may wake in a second
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
	if a == nil || !a.idle() || a.stopped.Load() != nil {
		return
	}
	s.drowsy.Store(a)
	defer s.drowsy.Store(nil)
	s.awake.Store(nil)
	if !a.idle() {
		s.awake.Store(a)
		return
	}
	if !a.maintenance.running.TryLock() {
		s.awake.Store(a) // a checkpoint keeps it busy
		return
	}
	defer a.maintenance.running.Unlock()
	if a.settles() {
		seq, err := a.settle()
		if err != nil {
			s.awake.Store(a)
			return
		}
		s.registry.journal.settled(a.identity.incarnation, seq)
	}
	s.registry.unload(a)
	if err := a.log.close(); err != nil {
		s.registry.options.Logger.Warn("files of a sleeping space", zap.String("space", string(s.ID())), zap.Error(err))
	}
}

// ID returns the space's present id.
func (s *Space) ID() SpaceID { return *s.name.Load() }

// Info describes the space without waking it: of a sleeping space it reads SPACE, 16
// KiB, whose figures are those of the mark. Where that cannot be read, and after the
// space was deleted or the registry closed, only the id and the state are filled in;
// [Registry.Info] tells why.
func (s *Space) Info() SpaceInfo {
	info, err := s.info()
	if err != nil || s.gone() != nil {
		return SpaceInfo{ID: s.ID(), State: Asleep}
	}
	return info
}

func (s *Space) info() (SpaceInfo, error) {
	for {
		if a := cmp.Or(s.awake.Load(), s.drowsy.Load()); a != nil {
			return a.info(), nil
		}
		id := s.ID()
		info, err := s.registry.infoAsleep(id)
		if s.awake.Load() == nil && s.ID() == id {
			return info, err
		}
		// It woke meanwhile, maybe to be renamed: what was read may be another space's.
	}
}

// infoAsleep describes the sleeping space of that id by its SPACE.
func (r *Registry) infoAsleep(id SpaceID) (SpaceInfo, error) {
	file, err := r.readState(id)
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
	defer a.done()
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
		defer a.done()
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
// go on meanwhile. Where another checkpoint of the space is under way, this one waits for
// the end of that, or of ctx; once begun, it does not look at ctx.
//
// It writes all indexes, and of the segments that hold anything forgotten or
// replaced, and of short ones where there are many, what is left. Where there is no
// room for that it is [ErrDiskFull], where descriptors have run out the system's error,
// and the space is as it was; any other failure of its files stops its writes.
func (s *Space) Checkpoint(ctx context.Context) error {
	if err := s.registry.begin(ctx); err != nil {
		return err
	}
	defer s.registry.work.Done()
	a, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer a.done()
	return a.checkpoint(ctx)
}

// Recall answers the cue from one snapshot: the memories that it brings to
// mind, the most activated first, no more than its limit. If that many satisfy
// the filter and match the cue, that many are returned. An embedding matches if its
// angle to the cue's is less than a right one; of those so nearly right that their
// codes cannot tell, some may be left out. The same state and cue give the same
// answer. Of a cue of several kinds (Text, Embedding, IDs) the best by each are
// compared, 50 or four times the limit if that is more: a larger limit may bring up what
// each kind has farther behind. Of what only associations bring to mind, a cue with an
// Embedding is compared with the 50 most activated.
//
// It holds no lock that a write waits for, and keeps nothing of cue; ctx ends it with
// its error. Of a space's recalls four for each processor are computed at a time, and
// the others wait. Bad input is [ErrInvalid] or [ErrLimit]. It costs in proportion to the
// memories that have terms of the text, or to all that have an embedding, and reads the
// bodies of what it returns. Of a quarantined space the answer is of what precedes the
// damage, and comes with the [CorruptionError].
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
	defer a.done()
	if err := takeRoom(ctx, a.recalls); err != nil {
		return Recall{}, err
	}
	defer func() { <-a.recalls }()
	r := a.read()
	defer r.close()
	answer, err := r.recall(ctx, &cue, asked)
	if err != nil {
		return Recall{}, err
	}
	return answer, a.damaged()
}
