package engram

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
)

// This file is how the journal lets go of frames: it settles the spaces that a
// generation names, carries forward what cannot be settled, and frees the file.
//
// What the journal knows of a space, each for itself:
//
//	generation.owed  the generation has frames of it that no mark is known to cover
//	hanging          it is asked to settle, and has not answered; it is not asked again
//	                 (others than the journal count when they have given up waiting)
//	told             it has said up to where its mark is, which is not filed yet
//	carried          why its frames were carried forward: settling failed or hangs
//
// settledLocked takes it from the generations that its mark covers, and once that covers
// what was carried, from carried; dropLocked, where it was deleted, from all of them.

const (
	settleParallel = 64
	// defaultSettleHang is how long one space may take to settle before its frames are
	// carried forward, so that one sick disk does not stop the others' writes. A busy one
	// flushes later than after a second now and then.
	defaultSettleHang = 5 * time.Second
	// closePatience times as long Close waits for spaces that hang, which stop nobody by
	// then: a busy disk has flushed what it was asked to.
	closePatience = 5
	// idleZero is how long nothing is written before freed files are zeroed.
	idleZero = time.Second
	// zeroStepBytes of a file that is in use are zeroed at a time.
	zeroStepBytes = 1 << 20
)

// settler is what the journal asks to take a space's frames over: it returns
// the seq that the space's flushed mark has reached. errHomeless says that no
// space of that incarnation exists, errDropped that it was deleted.
type settler interface {
	settleSpace(space incarnation, id SpaceID) (uint64, error)
}

var (
	errHomeless = &CorruptionError{File: journalDir, Offset: -1, Reason: "holds operations of a space that is not there"}
	errDropped  = errors.New("space was deleted")
	errHangs    = errors.New("its log hangs")
)

// startSettlerLocked sees to it that a goroutine settles the old generations.
func (j *journal) startSettlerLocked() {
	if j.settling || len(j.old) == 0 || j.failed != nil || j.closed {
		return
	}
	j.settling = true
	j.work.Add(1)
	go func() {
		defer j.work.Done()
		j.mu.Lock()
		defer j.mu.Unlock()
		for len(j.old) > 0 && j.failed == nil && j.settleOldestLocked() {
		}
		j.settling = false
		j.changed.Broadcast()
	}()
}

// settleOldestLocked settles the spaces of the oldest generation, carries
// forward what cannot be settled and releases the file. It gives up mu while
// spaces settle and returns whether the generation ended.
func (j *journal) settleOldestLocked() bool {
	j.fileToldLocked()
	g := j.old[0]
	owners := make(map[incarnation]SpaceID, len(g.owed))
	var settled []settlement
	for space, o := range g.owed {
		if j.hanging[space] > 0 {
			settled = append(settled, settlement{space: space, err: errHangs}) // since the last time
			continue
		}
		j.hanging[space]++ // until it returns
		owners[space] = o.id
	}
	j.mu.Unlock()
	settled = append(settled, j.settleAll(owners)...)
	j.mu.Lock()
	j.fileToldLocked()
	for _, r := range settled {
		if errors.Is(r.err, errDropped) {
			j.dropLocked(r.space)
			continue
		}
		j.settledLocked(r.space, r.seq)
		if o := g.owed[r.space]; o != nil && r.err != nil {
			j.carried[r.space] = fmt.Errorf("space %q: %w", string(o.id), r.err)
		}
	}
	if err := j.carryLocked(g); err != nil {
		j.stickLocked(fmt.Errorf("journal frames could not be carried forward: %w", err))
		return false
	}
	return j.releaseLocked(g) == nil
}

// stickLocked says why the oldest generation could not end. Who needs its file, or
// settles, tries again.
func (j *journal) stickLocked(err error) {
	j.stuck = err
	j.logger.Error("journal is stuck", zap.Error(err))
}

// settlement is what became of settling one space.
type settlement struct {
	space incarnation
	seq   uint64
	err   error
}

// settleAll settles the spaces, 64 at a time, and returns what became of each when all
// have settled, or when none has for settleHang. Then those that have not answered hang,
// also the ones that had to wait for them. Who hangs is not joined by close, but by
// awaitSettlers.
func (j *journal) settleAll(owners map[incarnation]SpaceID) []settlement {
	slots := make(chan struct{}, settleParallel)
	results := make(chan settlement, len(owners))
	hang := make(chan struct{})
	go func() {
		for space, id := range owners {
			select {
			case slots <- struct{}{}:
			case <-hang:
				j.returned(space)
				continue
			}
			go func() {
				seq, err := j.spaces.settleSpace(space, id)
				j.returned(space)
				results <- settlement{space, seq, err}
				<-slots
			}()
		}
	}()
	var settled []settlement
	silent := maps.Clone(owners)
	stop := afterFunc(j.settleHang, func() { close(hang) })
	for len(silent) > 0 {
		select {
		case r := <-results:
			settled = append(settled, r)
			delete(silent, r.space)
			if stop() {
				stop = afterFunc(j.settleHang, func() { close(hang) })
			}
		case <-hang:
			for space := range silent {
				settled = append(settled, settlement{space: space, err: errHangs})
			}
			return settled
		}
	}
	stop()
	return settled
}

// returned says that settling the space has ended.
func (j *journal) returned(space incarnation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.hanging[space]--; j.hanging[space] == 0 {
		delete(j.hanging, space)
	}
	j.changed.Broadcast()
}

// hangsUntil says that the space, which others than the journal have asked to settle,
// hangs until that is closed.
func (j *journal) hangsUntil(space incarnation, settled <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hanging[space]++
	go func() {
		<-settled
		j.returned(space)
	}()
}

// hangs reports whether a space is being settled: after close, one that hangs.
func (j *journal) hangs() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.hanging) > 0
}

// awaitSettlers returns when no space is being settled, or ctx ends.
func (j *journal) awaitSettlers(ctx context.Context) {
	defer j.changeAfter(ctx)()
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.hanging) > 0 && ctx.Err() == nil {
		j.changed.Wait()
	}
}

// changeAfter has who waits for a change look again when ctx ends, unless stop is
// called before.
func (j *journal) changeAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.changed.Broadcast()
	})
}

// settled says that the space's mark, flushed by this process, covers seq. It does
// not wait for mu: the space may fall asleep to make room for what the journal
// opens. Who settles next files what could not be filed at once.
func (j *journal) settled(space incarnation, seq uint64) {
	j.told.Store(space, seq)
	if j.mu.TryLock() {
		defer j.mu.Unlock()
		j.fileToldLocked()
	}
}

// fileToldLocked does what settled left undone.
func (j *journal) fileToldLocked() {
	j.told.Range(func(space, _ any) bool {
		if seq, left := j.told.LoadAndDelete(space); left {
			j.settledLocked(space.(incarnation), seq.(uint64))
		}
		return true
	})
}

func (j *journal) settledLocked(space incarnation, seq uint64) {
	for _, g := range j.generationsLocked() {
		if o := g.owed[space]; o != nil && o.lastSeq <= seq {
			delete(g.owed, space)
		}
	}
	// Generations that owe no more of it may end now: no reference leads there.
	left := slices.DeleteFunc(j.frames[space], func(r frameRef) bool { return r.entry.lastSeq() <= seq })
	if len(left) > 0 {
		j.frames[space] = left
		return
	}
	delete(j.frames, space)
	delete(j.carried, space)
}

// dropLocked forgets the frames of a deleted space.
func (j *journal) dropLocked(space incarnation) {
	for _, g := range j.generationsLocked() {
		delete(g.owed, space)
	}
	delete(j.frames, space)
	delete(j.carried, space)
}

// carryLocked writes the frames that g still owes again, flushed, into the
// current generation.
func (j *journal) carryLocked(g *generation) error {
	if len(g.owed) == 0 {
		return nil
	}
	name := journalFilePath(g.file.number)
	b, err := readRange(g.file.file, 0, g.end)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	var frames []groupFrame
	err = walkGroups(name, b, g.tag, func(at int64, gr group) error {
		for _, e := range gr.entries {
			if g.owed[e.space] == nil {
				continue
			}
			frames = append(frames, groupFrame{
				space: e.space, id: e.id, firstSeq: e.firstSeq, count: e.count,
				bytes: b[at+e.offset:][:e.length],
			})
		}
		return nil
	})
	if err == nil {
		err = j.carryFramesLocked(frames)
	}
	if err == nil {
		clear(g.owed) // the current one owes them, also where g cannot be released yet
	}
	return err
}

// carryFramesLocked appends the frames to the current generation, in groups,
// flushes them, and points the index to where they now are.
func (j *journal) carryFramesLocked(frames []groupFrame) error {
	moved := make(map[incarnation][]frameRef)
	for len(frames) > 0 {
		n, size := 1, frames[0].size()
		for n < len(frames) && size+frames[n].size() <= maxGroupBytes {
			size += frames[n].size()
			n++
		}
		for j.awaitExtentLocked(int64(groupLen(frames[:n]))) {
		}
		start := j.current.end
		if err := j.appendLocked(frames[:n], false); err != nil {
			return err
		}
		j.current.brought += j.current.end - start
		gr, ok := decodeGroup(j.buf, j.current.tag)
		if !ok {
			return errors.New("carried group does not decode")
		}
		for _, e := range gr.entries {
			moved[e.space] = append(moved[e.space], frameRef{generation: j.current, offset: start + e.offset, entry: e})
		}
		frames = frames[n:]
	}
	if err := j.flushLocked(); err != nil {
		return err
	}
	for space, refs := range moved {
		fresh := make(map[uint64]bool, len(refs)) // by first seq; there may be as many as a file holds
		for _, r := range refs {
			fresh[r.entry.firstSeq] = true
		}
		kept := slices.DeleteFunc(slices.Clone(j.frames[space]), func(r frameRef) bool {
			return fresh[r.entry.firstSeq] && !r.damaged
		})
		j.frames[space] = append(kept, refs...)
	}
	return nil
}

// releaseLocked ends the oldest generation: HEAD no longer names it, then its
// file is free.
func (j *journal) releaseLocked(g *generation) error {
	i := slices.Index(j.old, g)
	left := slices.Delete(slices.Clone(j.old), i, i+1)
	free := append(slices.Clone(j.free), g.file)
	if err := j.writeHeadLocked(append(slices.Clone(left), j.current), free); err != nil {
		j.stickLocked(err) // it keeps its file until there is room
		return err
	}
	j.old, j.free, g.ended = left, free, true
	j.changed.Broadcast()
	j.zeroLaterLocked()
	return nil
}

// zeroLaterLocked zeroes the free files once nothing has been written for a while.
func (j *journal) zeroLaterLocked() {
	if j.idling != nil || j.closed {
		return
	}
	groups := j.groups
	j.work.Add(1)
	j.idling = afterFunc(idleZero, func() {
		defer j.work.Done()
		j.mu.Lock()
		defer j.mu.Unlock()
		j.idling = nil
		switch {
		case j.closed || j.failed != nil:
		case j.groups != groups:
			j.zeroLaterLocked()
		default:
			if err := j.zeroLocked(context.Background()); err != nil {
				j.logger.Warn("journal file could not be zeroed", zap.Error(err))
			}
		}
	})
}

// zeroLocked overwrites what generations that ended left in the files that are not
// in use, and behind the last group of the current one. When ctx is done, and changed
// is broadcast where it waits, it ends and returns ctx's error.
func (j *journal) zeroLocked(ctx context.Context) error {
	if err := j.zeroFreeLocked(ctx); err != nil {
		return err
	}
	return j.zeroCurrentLocked(ctx)
}

// zeroFreeLocked zeroes the files that are free now. It gives up mu meanwhile: no
// writer has a use for them, and one that comes to need the next file waits.
func (j *journal) zeroFreeLocked(ctx context.Context) error {
	for _, f := range slices.Clone(j.free) {
		for f.zeroing && ctx.Err() == nil {
			j.changed.Wait()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !slices.Contains(j.free, f) {
			continue
		}
		f.zeroing = true
		j.mu.Unlock()
		err := f.zero(0)
		j.mu.Lock()
		f.zeroing = false
		j.changed.Broadcast()
		if err != nil {
			return err
		}
	}
	return nil
}

// zeroCurrentLocked zeroes the rest of the current file, behind its last group. It is
// flushed with mu held, as a group is, so it goes backwards in steps, between which
// groups have their turn.
func (j *journal) zeroCurrentLocked(ctx context.Context) error {
	for j.failed == nil && ctx.Err() == nil {
		f, end := j.current.file, j.current.end
		switch {
		case f.growing:
			j.changed.Wait()
			continue
		case f.used <= end:
			return nil
		}
		err := f.zero(max(end, f.used-zeroStepBytes))
		switch {
		case errors.Is(err, ErrDiskFull):
			return err
		case err != nil:
			return j.failLocked(err) // its flush may have been told of a group's loss
		}
		j.mu.Unlock() // who waits for it has a turn
		j.mu.Lock()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStopped, j.failed)
}

// zero overwrites what is used of the file from there on. ErrDiskFull means that
// this found no room, and that nothing was flushed.
func (f *journalFile) zero(from int64) error {
	if f.used <= from {
		return nil
	}
	if err := writeZeros(f.file, from, f.used); err != nil {
		return diskFull(fmt.Errorf("zero journal file: %w", err))
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	f.used = from
	return nil
}

// settle empties and zeroes the journal. It returns an error that names what
// could not be settled; those frames stay in the journal.
func (j *journal) settle(ctx context.Context) error {
	defer j.changeAfter(ctx)()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return fmt.Errorf("%w: %w", ErrStopped, j.failed)
	}
	// So that the next file is not zeroed in use. What fails does so again below.
	_ = j.zeroFreeLocked(ctx)
	if j.current.end > 0 {
		if err := j.switchLocked(ctx); err != nil {
			return err
		}
	}
	j.stuck = nil
	// Of what is written meanwhile the settler may not see the end. Who needs a file may
	// forget why it got stuck before this hears of it: then it tries again.
	for first := j.current.number; j.oldestLocked() < first && j.stuck == nil && j.failed == nil && ctx.Err() == nil; {
		j.startSettlerLocked()
		j.changed.Wait()
	}
	errs := []error{j.stuck}
	for _, err := range j.carried {
		errs = append(errs, err)
	}
	if j.failed != nil {
		errs = append(errs, ctx.Err(), j.failed)
	} else {
		errs = append(errs, j.zeroLocked(ctx))
	}
	return errors.Join(errs...)
}
