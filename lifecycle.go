package engram

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/engramdb/engram/internal/vfs"
)

// Create makes a space. When it returns nil the space survives a power loss,
// under every durability: creation does not wait in the journal. An id that is
// taken is [ErrSpaceExists], one that no space can have [ErrInvalidSpaceID], a
// configuration out of its range [ErrInvalid] or [ErrLimit]; with these and with
// [ErrDiskFull] there is no new space. After [ErrUnknownOutcome] the next Open finds it
// or not, and until then its id is taken and its handle returns that error. It costs
// five flushes; spaces of other ids do not wait for them.
func (r *Registry) Create(ctx context.Context, id SpaceID, cfg SpaceConfig) (*Space, error) {
	s, created, err := r.create(ctx, id, cfg)
	if err == nil && !created {
		return nil, fmt.Errorf("create %q: %w", string(id), ErrSpaceExists)
	}
	return s, err
}

// GetOrCreate returns the space of that id and creates it, as Create does, if
// there is none; cfg, which must be valid, matters only then. A read-only registry
// creates none: [ErrReadOnly]. Concurrent callers for one id get the same *Space.
func (r *Registry) GetOrCreate(ctx context.Context, id SpaceID, cfg SpaceConfig) (*Space, error) {
	s, _, err := r.create(ctx, id, cfg)
	return s, err
}

// create returns the space of that id, and whether this call created it.
func (r *Registry) create(ctx context.Context, id SpaceID, cfg SpaceConfig) (*Space, bool, error) {
	if err := id.Validate(); err != nil {
		return nil, false, err
	}
	if err := cfg.validate(); err != nil {
		return nil, false, err
	}
	return r.createWith(ctx, id, func(s *Space) error {
		err := r.build(s, cfg, func(*awake) error { return nil })
		if err != nil {
			return fmt.Errorf("create %q: %w", string(id), err)
		}
		return nil
	})
}

// createWith returns the space of that id, and whether this call created it,
// which build does.
func (r *Registry) createWith(ctx context.Context, id SpaceID, build func(*Space) error) (*Space, bool, error) {
	if err := id.Validate(); err != nil {
		return nil, false, err
	}
	for {
		if err := r.usable(ctx); err != nil {
			return nil, false, err
		}
		s := newSpace(r, id)
		s.creating = make(chan struct{})
		if other := r.claim(s); other != nil {
			if err := other.awaitCreation(ctx); errors.Is(err, errNotCreated) {
				continue // its creator failed: this caller tries for itself
			} else if err != nil {
				return nil, false, err
			}
			return other, false, nil
		}
		if err := r.createClaimed(ctx, s, build); err != nil {
			return nil, false, err
		}
		r.makeRoom()
		return s, true, nil
	}
}

// createClaimed has build create the space that has claimed its id, and gives the
// id back where it does not, unless build has ended the space.
func (r *Registry) createClaimed(ctx context.Context, s *Space, build func(*Space) error) (err error) {
	err = errNotCreated // unless build returns: what it reads from may panic
	defer func() {
		if err != nil && s.gone() == nil {
			s.end(errNotCreated)
			r.spaces.Delete(s.ID())
		}
		close(s.creating)
	}()
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.work.Done()
	return build(s)
}

// claim takes s's id, or returns the space that has it.
func (r *Registry) claim(s *Space) *Space {
	if other, taken := r.spaces.LoadOrStore(s.ID(), s); taken {
		return other.(*Space)
	}
	return nil
}

// build makes the space's files under .tmp, whole and flushed, has fill add to
// them, and then gives the directory its name: from then on the absence of any
// of them is damage.
func (r *Registry) build(s *Space, cfg SpaceConfig, fill func(*awake) error) (err error) {
	id, err := r.options.seams.newIdentity()
	if err != nil {
		return err
	}
	id.created = nanosOf(r.options.Clock)
	temporary := path.Join(tmpDir, id.incarnation.String())
	a, err := r.buildFiles(s, temporary, id, cfg)
	if err != nil {
		return errors.Join(diskFull(err), removeTree(r.root, temporary))
	}
	err = errNotCreated // unless fill returns
	defer func() {
		if err != nil {
			r.unload(a) // a checkpoint of what fill added has counted it
			err = errors.Join(err, a.log.close(), removeTree(r.root, temporary))
		}
	}()
	if err := fill(a); err != nil {
		return diskFull(err)
	}
	if err := r.root.Rename(temporary, string(s.ID())); err != nil {
		return diskFull(err)
	}
	if err := r.root.Sync("."); err != nil {
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		s.end(err) // the next Open finds it or not: until then nobody else may have the id
		return err
	}
	a.uses.Add(1) // it is counted before it may fall asleep
	defer a.done()
	s.awake.Store(a)
	r.mu.Lock()
	r.catalogue.ReplaceOrInsert(row{s.ID(), s})
	r.life.addLocked(SpaceEvent{Kind: SpaceCreated, Space: s.ID()})
	r.awake[id.incarnation] = a
	closed := r.closed.Load()
	r.mu.Unlock()
	if closed { // too late for Close to retire it with the others; it is created all the same
		a.retire(ErrClosed)
	}
	a.count()
	return nil
}

// buildFiles makes the files of a new space in the directory and returns its
// loaded state. Its first operation is its configuration.
func (r *Registry) buildFiles(s *Space, name string, id identity, cfg SpaceConfig) (*awake, error) {
	r.leaveDescriptors()
	if err := r.root.Mkdir(name); err != nil {
		return nil, err
	}
	dir, err := r.root.OpenDir(name)
	if err != nil {
		return nil, err
	}
	cfg = cfg.canonical()
	op := operation{kind: opConfigure, seq: 1, storedAt: id.created, config: cfg}
	record := encodeOperation(&op)
	sealOperation(record, id.key, op.seq, "", false)
	f := frame{count: 1, firstSeq: 1, epoch: r.epoch, kind: kindLog}
	frameBytes := sealFrame(append(make([]byte, frameHeaderBytes), record...), id.key, &f)
	header := segmentHeader{kind: kindLog, identity: id, number: 1, firstSeq: 1}
	content := append(encodeSegmentHeader(header), frameBytes...)

	store := newStore()
	op.record = locator{segment: 1, offset: segmentHeaderBytes + frameHeaderBytes, length: len(record)}
	store.apply(&op)
	store.publish()
	at := store.position()
	at.segment, at.offset, at.sum = 1, int64(len(content)), f.checksum
	state := &stateFile{dir: dir, identity: id, vouched: true, state: spaceState{
		counter: 2, id: s.ID(), mark: at.mark, config: cfg,
	}}
	err = dir.Mkdir(walDir)
	if err == nil {
		err = writeNewFile(dir, segmentPath(1), content)
	}
	if err == nil {
		err = writeNewFile(dir, spaceFile, encodeSpaceFile(id, state.state))
	}
	if err == nil {
		err = dir.Sync(walDir)
	}
	if err == nil {
		err = dir.Sync(".")
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	segments := []*segment{{
		number: 1, kind: kindLog, header: header, last: lastFrame{offset: segmentHeaderBytes, sum: f.checksum},
	}}
	a := r.newAwake(s, id, store, newLog(dir, state, r.options.seams.segmentBytes, segments, at, 1))
	a.report = RecoveryReport{Space: s.ID(), LastSeq: 1, MarkSeq: 1, Verdict: Clean}
	a.maintenance.logged, a.maintenance.frames = int64(len(frameBytes)), 1
	s.feed.begin(store.seq, nil)
	return a, nil
}

func (r *Registry) newAwake(s *Space, id identity, store *store, l *log) *awake {
	a := &awake{space: s, registry: r, identity: id, store: store, log: l, analyzer: store.config.Analyzer}
	a.turn.Store(r.occupancy.turn.Add(1))
	a.queue = &queue{space: a}
	a.recalls = make(chan struct{}, recallsPerProcessor*runtime.GOMAXPROCS(0))
	return a
}

// Delete deletes a space with all it holds. When it returns nil the space stays
// deleted; after an error it is there as before, but for [ErrUnknownOutcome]: then the
// next Open finds it or not, and until then its handle returns that error. It
// costs two flushes and, after that, the removal of its files; on a full disk it uses
// a reserve. It works on damaged spaces, and on sleeping ones without waking them.
// Writes that no group had taken, and every later use of the handle, get
// [ErrSpaceDeleted]. An unknown id is a [SpaceNotFoundError].
func (r *Registry) Delete(ctx context.Context, id SpaceID) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.work.Done()
	s, err := r.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := s.mu.LockContext(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if err := s.missing(id); err != nil {
		return err
	}
	a := s.awake.Load()
	if a != nil {
		if err := r.commits.hold(ctx, a.queue); err != nil {
			return err
		}
		if err := a.maintenance.running.LockContext(ctx); err != nil {
			r.commits.release(a.queue)
			return err
		}
		defer a.maintenance.running.Unlock()
	}
	incarnation, err := r.incarnationOf(s, a)
	if err == nil {
		err = r.trash(s.ID(), incarnation)
		if errors.Is(err, ErrDiskFull) && r.giveUpReserve() {
			err = r.trash(s.ID(), incarnation)
		}
	}
	if err != nil {
		err = fmt.Errorf("delete %q: %w", string(id), err)
		if errors.Is(err, ErrUnknownOutcome) {
			s.end(err) // the next Open finds it or not: until then nothing may rest on it
			if a != nil {
				r.commits.close(a.queue, err)
			}
		} else if a != nil {
			r.commits.release(a.queue)
		}
		return err
	}
	s.end(ErrSpaceDeleted)
	if a != nil {
		r.commits.close(a.queue, ErrSpaceDeleted)
	}
	r.deleted(s, incarnation)
	if a != nil {
		r.unload(a)
		s.awake.Store(nil)
		err = a.log.close()
	}
	// The deletion holds, whatever becomes of the files: the next Open removes them.
	err = errors.Join(err, removeChildren(r.root, path.Join(trashDir, incarnation.String()), false), r.sweepAfter(incarnation))
	if err != nil {
		r.options.Logger.Warn("files of a deleted space are left", zap.String("space", string(id)), zap.Error(err))
	}
	return nil
}

// deleted takes a space that was deleted out of the catalogue and the journal.
func (r *Registry) deleted(s *Space, incarnation incarnation) {
	r.mu.Lock()
	r.catalogue.Delete(row{id: s.ID()})
	r.life.addLocked(SpaceEvent{Kind: SpaceDeleted, Space: s.ID()})
	r.tombstones[incarnation] = true
	r.mu.Unlock()
	r.spaces.Delete(s.ID())
	r.journal.drop(incarnation)
}

// trash moves the space's directory; the flushed rename is the deletion.
func (r *Registry) trash(id SpaceID, inc incarnation) error {
	if err := r.root.Rename(string(id), path.Join(trashDir, inc.String())); err != nil {
		return diskFull(err)
	}
	if err := errors.Join(r.root.Sync(trashDir), r.root.Sync(".")); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return nil
}

// incarnationOf finds out which incarnation the space is: the tombstone must
// name it. A SPACE that is damaged, unreadable, or that names another space, says
// nothing; then the tombstone gets a name of its own.
func (r *Registry) incarnationOf(s *Space, a *awake) (incarnation, error) {
	if a != nil {
		return a.identity.incarnation, nil
	}
	dir, err := r.root.OpenDir(string(s.ID()))
	if err != nil {
		return incarnation{}, err
	}
	b, err := readFile(dir, spaceFile, spaceFileBytes)
	if err = errors.Join(err, dir.Close()); err == nil {
		id, state, err := decodeSpaceFile(b)
		if err == nil && (state.id == s.ID() || state.next == s.ID()) {
			return id.incarnation, nil
		}
	} else if outOfDescriptors(err) {
		return incarnation{}, err // it can be read a little later
	}
	id, err := randomIdentity()
	return id.incarnation, err
}

// sweepAfter is sweepTombstones behind a deletion. Of the tombstones of others, of
// which there may be as many as a generation names spaces, none can go that could not
// before, unless one has ended since.
func (r *Registry) sweepAfter(deleted incarnation) error {
	oldest := r.journal.oldest()
	r.mu.Lock()
	swept := r.swept == oldest
	r.mu.Unlock()
	if swept {
		return r.removeUnnamed([]incarnation{deleted})
	}
	return r.sweepTombstones()
}

// sweepTombstones removes those that no generation of the journal names.
func (r *Registry) sweepTombstones() error {
	oldest := r.journal.oldest()
	r.mu.Lock()
	all := slices.Collect(maps.Keys(r.tombstones))
	r.mu.Unlock()
	if err := r.removeUnnamed(all); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swept = oldest
	return nil
}

// removeUnnamed removes the tombstones of those that no generation names.
func (r *Registry) removeUnnamed(tombstones []incarnation) error {
	removed := false
	for _, inc := range tombstones {
		if r.journal.names(inc) {
			continue
		}
		if err := removeTree(r.root, path.Join(trashDir, inc.String())); err != nil {
			return err
		}
		removed = true
		r.mu.Lock()
		delete(r.tombstones, inc)
		r.mu.Unlock()
	}
	if !removed {
		return nil
	}
	return r.root.Sync(trashDir)
}

// Rename gives a space another id. Handles stay valid and follow it. When it
// returns nil the new id survives a power loss; after a crash before that the
// space has one of the two. It wakes and settles the space. An id that is taken is
// [ErrSpaceExists], unless the space has it itself: then nothing is done. One that no
// space can have is [ErrInvalidSpaceID], an unknown space a [SpaceNotFoundError], a
// damaged one a [CorruptionError]. After an error the space has its old id, unless that
// matches [ErrUnknownOutcome]. After that, and where the files failed, not only for want
// of room ([ErrDiskFull]) or of a descriptor, the space's writes are stopped.
func (r *Registry) Rename(ctx context.Context, from, to SpaceID) error {
	if err := to.Validate(); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.work.Done()
	s, err := r.Get(ctx, from)
	if err != nil || from == to {
		return err
	}
	a, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer a.done()
	if a.state() == Quarantined {
		return a.unwritable()
	}
	to = SpaceID(strings.Clone(string(to)))
	release, err := r.hold(ctx, to) // before it locks the space: a creation may take long
	if err != nil {
		if gone := s.missing(from); gone != nil { // perhaps it has that id meanwhile
			return gone
		}
		return fmt.Errorf("rename %q to %q: %w", string(from), string(to), err)
	}
	defer release()
	err = s.mu.LockContext(ctx)
	if err == nil {
		defer s.mu.Unlock()
		err = s.missing(from)
	}
	if err != nil {
		r.spaces.Delete(to)
		return err
	}
	from = s.ID() // whose text is not the caller's
	moved, err := a.log.rename(r.root, from, to)
	s.feed.flush(a.log.settledState().mark.seq)
	if err != nil {
		err = fmt.Errorf("rename %q to %q: %w", string(from), string(to), err)
		if errors.Is(err, ErrUnknownOutcome) || !noRoom(err) {
			a.stop(err)
		}
	}
	if !moved {
		r.spaces.Delete(to)
		return err
	}
	r.renamed(s, from, to)
	if errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	return nil // the name is durable; a state that still has both ids is as good
}

// hold claims the id for a space that is renamed, where nobody has it or a creation
// that has it fails. Until release whoever wants the id waits, and then looks again.
func (r *Registry) hold(ctx context.Context, id SpaceID) (release func(), err error) {
	claim := newSpace(r, id)
	claim.creating = make(chan struct{})
	for other := r.claim(claim); other != nil; other = r.claim(claim) {
		if err := other.awaitCreation(ctx); err == nil {
			return nil, ErrSpaceExists
		} else if !errors.Is(err, errNotCreated) {
			return nil, err
		}
	}
	claim.end(errNotCreated)
	return func() { close(claim.creating) }, nil
}

// renamed gives the space its new id in the catalogue.
func (r *Registry) renamed(s *Space, from, to SpaceID) {
	r.mu.Lock()
	r.catalogue.Delete(row{id: from})
	s.name.Store(&to)
	r.catalogue.ReplaceOrInsert(row{to, s})
	r.life.addLocked(SpaceEvent{Kind: SpaceRenamed, Space: to, From: from})
	r.mu.Unlock()
	r.spaces.Store(to, s)
	r.spaces.Delete(from)
}

// rename settles the space and moves its directory, with both ids in SPACE
// while it may have either. It returns whether the directory has the new name;
// unless the error is ErrUnknownOutcome, it then keeps it.
func (l *log) rename(root vfs.Dir, from, to SpaceID) (moved bool, err error) {
	l.files.Lock()
	defer l.files.Unlock()
	if _, err := l.settleLocked(func(s *spaceState) { s.id, s.next = from, to }); err != nil {
		return false, err
	}
	if err := root.Rename(string(from), string(to)); err != nil {
		_, undo := l.settleLocked(func(s *spaceState) { s.next = "" })
		return false, errors.Join(diskFull(err), undo)
	}
	if err := root.Sync("."); err != nil {
		return true, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	// The directory's name decides between the two from here on.
	_, err = l.settleLocked(func(s *spaceState) { s.id, s.next = to, "" })
	return true, err
}

// RecoverAll wakes every space, two for each processor at a time, so that what a
// crash left is recovered now, and returns a report of each in id order. Spaces that
// slept sleep again. A damaged space has the verdict Refused and does not stop the
// others. The error is for spaces that could not be read at all, and ctx's, which ends
// it: where nobody knows what is in a space, its report has no verdict. One that is
// deleted or renamed meanwhile has no report.
func (r *Registry) RecoverAll(ctx context.Context) ([]RecoveryReport, error) {
	if err := r.usable(ctx); err != nil {
		return nil, err
	}
	var ids []SpaceID
	for id := range r.Spaces("") {
		ids = append(ids, id)
	}
	reports := make([]RecoveryReport, len(ids))
	errs := make([]error, len(ids))
	slots := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	var work sync.WaitGroup
	for i, id := range ids {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			reports[i], errs[i] = r.recoverOne(ctx, id)
		})
	}
	work.Wait()
	var cancelled error
	kept, failed := reports[:0], errs[:0]
	for i, err := range errs {
		switch {
		case errors.Is(err, ErrSpaceNotFound) || errors.Is(err, ErrSpaceDeleted):
			continue
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			cancelled = err // of many spaces, but said once
		default:
			failed = append(failed, err)
		}
		kept = append(kept, reports[i])
	}
	return kept, errors.Join(append(failed, cancelled)...)
}

func (r *Registry) recoverOne(ctx context.Context, id SpaceID) (RecoveryReport, error) {
	s, err := r.Get(ctx, id)
	if err != nil {
		return RecoveryReport{Space: id}, err
	}
	slept := s.awake.Load() == nil
	a, err := s.use(ctx)
	if errors.Is(err, ErrCorrupt) {
		return RecoveryReport{Space: id, Verdict: Refused, Damage: err.Error()}, err
	}
	if err != nil {
		return RecoveryReport{Space: id}, err
	}
	report := a.recovery()
	a.done()
	if slept {
		s.sleep()
	}
	return report, nil
}

func parseIncarnation(name string) (incarnation, bool) {
	var inc incarnation
	n, err := hex.Decode(inc[:], []byte(name[:min(len(name), 2*len(inc))]))
	return inc, err == nil && n == len(inc) && len(name) == 2*len(inc)
}
