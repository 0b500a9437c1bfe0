package engram

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"slices"
	"sync/atomic"
)

// maintenance is what a space does now and then to its files. One checkpoint
// runs at a time, and nothing closes the files meanwhile.
type maintenance struct {
	running contextMutex
	logged  int64        // bytes appended since the last checkpoint began; guarded by awake.commits
	frames  int          // that they are; guarded by awake.commits
	size    atomic.Int64 // of the last checkpoint; that which is under way is no shorter
	left    []string     // files of a checkpoint that was abandoned; guarded by running
	old     []string     // checkpoints that were replaced, until they are removed; guarded by running

	partitioning atomic.Bool // a partition is being made
}

// Waking replays what was logged since the last checkpoint, and in memory that takes
// several times what an image does: so that is bounded by defaultCheckpointBytes or, where
// that is more, half of the last checkpoint's length. In a small space that would be all
// there is. So where at least smallFrames were logged, the first checkpoint comes after a
// smallShare-th of that, and another when as much was logged again, or as much as the last
// is long. The flushes of a checkpoint are few beside those of so many frames; who stores
// many memories at a time would wait for them.
const (
	defaultCheckpointBytes = 1 << 20
	smallFrames            = 256
	smallShare             = 16
)

// Where more than maxShortSegments hold something alive, a checkpoint makes one of all
// of them: or a space that keeps a little of what it writes between two checkpoints
// would come to have a file for each. Short is less than a shortShare-th of a full
// segment, which is what a space that only grows writes between two.
const (
	maxShortSegments = 16
	shortShare       = 16
)

// checkpointJob is a checkpoint that has begun: its image is fixed, the rest
// runs beside the writes. Its holder holds maintenance.running.
type checkpointJob struct {
	checkpoint checkpoint
	view       *view
	moved      map[movedRecord]locator // records that documents of the view need, where they were rewritten
	victims    []*segment              // to be rewritten or, with nothing alive in them, dropped
	outputs    []bodiesOutput          // what they are rewritten to
	rewritten  []segmentEntry          // those that are written
	first      uint64                  // number of the first of them
}

// bodiesOutput is a segment in which a checkpoint gathers what is alive of victims,
// which are in number order.
type bodiesOutput struct {
	victims []*segment
	live    int64 // bytes in them
}

// checkpointDue reports whether so much was logged since the last checkpoint, in so many
// frames, that another is due. It counts the space's own bytes only, so that its files
// do not depend on what other spaces do. The caller holds commits, or is the only one that
// knows the space.
func (a *awake) checkpointDue(frames int) bool {
	limit, size := a.registry.options.seams.checkpointBytes, a.maintenance.size.Load()
	if frames >= smallFrames {
		limit = min(limit, max(limit/smallShare, size))
	}
	return a.maintenance.logged >= max(limit, size/2)
}

// checkpointIfDue begins a checkpoint behind the frame that crossed the limit; if the
// last checkpoint still runs, and might be so short that another is due, the writer waits
// for it.
func (a *awake) checkpointIfDue() {
	a.maintenance.running.Lock()
	var job *checkpointJob
	var err error
	a.commits.Lock()
	if a.checkpointDue(a.maintenance.frames) && a.stopped.Load() == nil {
		job, err = a.beginCheckpoint(false)
	}
	a.commits.Unlock()
	if job == nil {
		a.maintenance.running.Unlock()
		a.checkpointFailed(err)
		return
	}
	a.registry.work.Add(1)
	a.uses.Add(1)
	go func() {
		defer a.registry.work.Done()
		defer a.done()
		defer a.maintenance.running.Unlock()
		err := a.finishCheckpoint(job)
		a.checkpointFailed(err)
		if err == nil {
			a.partitionIfDue()
		}
	}()
}

// checkpointFailed judges why a checkpoint was abandoned: one that finds no room leaves
// the space as it was, a failure of its files stops its writes.
func (a *awake) checkpointFailed(err error) {
	if err != nil && !noRoom(err) {
		a.stop(err)
	}
}

// checkpoint is an explicit one: it also rewrites segments in which anything
// was forgotten.
func (a *awake) checkpoint(ctx context.Context) error {
	err := a.runCheckpoint(ctx, true)
	if err == nil {
		a.partitionIfDue()
		return nil
	}
	if gone := a.space.gone(); gone != nil {
		return gone
	}
	return fmt.Errorf("checkpoint of space %q: %w", string(a.space.ID()), err)
}

// runCheckpoint makes one and returns when it is there. ctx ends the wait for one that
// runs, beside which writes go on.
func (a *awake) runCheckpoint(ctx context.Context, explicit bool) error {
	if err := a.maintenance.running.LockContext(ctx); err != nil {
		return err
	}
	defer a.maintenance.running.Unlock()
	a.commits.Lock()
	job, err := a.beginCheckpoint(explicit)
	a.commits.Unlock()
	switch {
	case err != nil:
	case job != nil:
		err = a.finishCheckpoint(job)
	default:
		err = a.removeReplaced()
	}
	if err == nil && explicit {
		err = a.emptyQuarantine()
	}
	if a.space.gone() == nil { // else its files were closed or removed meanwhile
		a.checkpointFailed(err)
	}
	return err
}

// beginCheckpoint begins a segment and fixes the image. Explicit, it returns nil
// if the present checkpoint is as good. The caller holds commits and running.
func (a *awake) beginCheckpoint(explicit bool) (*checkpointJob, error) {
	if err := a.refusalToMaintain(); err != nil {
		return nil, err
	}
	current := a.log.settledState().checkpoint
	if explicit && current.seq == a.store.seq && !a.store.wasteful() {
		return nil, nil
	}
	// An abandoned checkpoint has begun a segment for this one, unless SPACE may name
	// a checkpoint that was begun with it.
	if active, empty := a.log.last(); !empty || active == current.segment || len(a.maintenance.left) > 0 {
		if err := a.log.rotate(a.store.seq + 1); err != nil {
			return nil, err
		}
	}
	v := a.store.view()
	a.maintenance.logged, a.maintenance.frames = 0, 0
	a.maintenance.size.Store(v.leastCheckpointBytes())
	job := &checkpointJob{view: v, moved: make(map[movedRecord]locator), checkpoint: checkpoint{
		identity: a.identity, start: a.log.position(),
		config: v.config, dimension: v.dimension, requests: a.store.requestList(),
	}}
	sealed := a.log.sealed()
	gather := a.shortSegments(sealed) > maxShortSegments
	for _, s := range sealed {
		use := *a.store.use(s.number)
		if s.end == segmentHeaderBytes || explicit && use.dead > 0 || use.dead > use.live || gather && a.log.short(s) {
			job.addVictim(s, use.live, a.log.segmentBytes)
			continue
		}
		job.checkpoint.segments = append(job.checkpoint.segments, segmentEntry{
			number: s.number, kind: s.kind, end: s.end, last: s.last, use: use,
		})
	}
	job.first = a.log.reserve(len(job.outputs))
	return job, nil
}

// shortSegments counts those that are short and hold anything that is alive.
func (a *awake) shortSegments(sealed []*segment) (n int) {
	for _, s := range sealed {
		if a.log.short(s) && a.store.use(s.number).live > 0 {
			n++
		}
	}
	return n
}

// addVictim has the segment, whose records that are alive take so many bytes, be
// rewritten with those before it, as far as they fit into one.
func (job *checkpointJob) addVictim(s *segment, live, segmentBytes int64) {
	job.victims = append(job.victims, s)
	if live == 0 {
		return
	}
	last := len(job.outputs) - 1
	if last < 0 || job.outputs[last].live+live > segmentBytes {
		job.outputs = append(job.outputs, bodiesOutput{})
		last++
	}
	job.outputs[last].victims = append(job.outputs[last].victims, s)
	job.outputs[last].live += live
}

// refusalToMaintain returns why the space's files must be left as they are.
func (a *awake) refusalToMaintain() error {
	if gone := a.space.gone(); gone != nil {
		return gone
	}
	if a.damage != nil {
		return a.damage
	}
	if stopped := a.stopped.Load(); stopped != nil {
		return *stopped
	}
	return nil
}

// finishCheckpoint rewrites the victims, writes the checkpoint, installs it and
// only then removes what it replaced.
func (a *awake) finishCheckpoint(job *checkpointJob) error {
	defer func() { a.maintenance.size.Store(a.log.settledState().checkpoint.size) }()
	if _, err := a.settle(); err != nil {
		return err
	}
	// The rotation has moved the mark: the slot that may have named them is written.
	if err := a.removeLeft(); err != nil {
		return err
	}
	rewritten, err := a.rewrite(job)
	var ref checkpointRef
	if err == nil {
		ref, err = a.writeCheckpoint(job)
	}
	if err != nil {
		return errors.Join(err, a.abandon(rewritten, ref, false))
	}
	old, named, err := a.log.install(ref)
	if err != nil {
		return errors.Join(err, a.abandon(rewritten, ref, named))
	}
	next := a.store.prepare(job.checkpoint.image)
	a.log.publish(job.victims, rewritten, func() { a.move(job, next) })
	a.grow()
	a.space.feed.flush(a.log.settledState().mark.seq) // which covers what came since settling, too
	if old.seq != 0 {
		a.maintenance.old = append(a.maintenance.old, old.name())
	}
	return a.removeReplaced()
}

// removeReplaced removes what checkpoints have replaced and no reader needs. Where that
// fails for want of room, the next one does it.
func (a *awake) removeReplaced() error {
	if err := a.log.collect(); err != nil || len(a.maintenance.old) == 0 {
		return err
	}
	for _, name := range a.maintenance.old {
		if err := removeIfExists(a.log.dir, name); err != nil {
			return err
		}
	}
	if err := a.log.dir.Sync("."); err != nil {
		return diskFull(err)
	}
	a.maintenance.old = nil
	return nil
}

// abandon gives up the files that a checkpoint has written. Where SPACE may name
// them, they stay until the next checkpoint.
func (a *awake) abandon(written []*segment, ref checkpointRef, named bool) error {
	a.maintenance.left = []string{checkpointTemporary, ref.name()}
	for _, s := range written {
		a.maintenance.left = append(a.maintenance.left, segmentPath(s.number))
	}
	err := closeAll(written)
	if named {
		return err
	}
	return errors.Join(err, a.removeLeft())
}

// removeLeft removes what a checkpoint that was abandoned has left.
func (a *awake) removeLeft() error {
	for _, name := range a.maintenance.left {
		if err := removeIfExists(a.log.dir, name); err != nil {
			return err
		}
	}
	a.maintenance.left = nil
	return nil
}

// rewrite copies the living records of the victims to segments of kind bodies.
// With an error it returns what it has begun.
func (a *awake) rewrite(job *checkpointJob) ([]*segment, error) {
	outputs := make(map[uint64]int) // by the number of a victim
	for i, o := range job.outputs {
		for _, s := range o.victims {
			outputs[s.number] = i
		}
	}
	place := func(m movedRecord) locator {
		loc, _ := job.view.recordOf(m)
		return loc
	}
	living := make([][]movedRecord, len(job.outputs))
	for d := range job.view.documents() {
		if !job.view.visible(d) {
			continue
		}
		job.view.records(d, func(m movedRecord) {
			if i, found := outputs[place(m).segment]; found {
				living[i] = append(living[i], m)
			}
		})
	}
	var written []*segment
	for i, list := range living {
		if len(list) == 0 {
			continue
		}
		slices.SortFunc(list, func(x, y movedRecord) int { return cmp.Compare(place(x).place(), place(y).place()) })
		s, err := a.writeBodies(job, job.outputs[i].victims[0], job.first+uint64(i), list)
		if s != nil {
			written = append(written, s)
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// writeBodies makes the segment that replaces first and the victims behind it. A frame's
// payload is, for each record, its seq and the record, unchanged: its checksum still holds.
func (a *awake) writeBodies(job *checkpointJob, first *segment, number uint64, living []movedRecord) (*segment, error) {
	_, firstSeq := job.view.recordOf(living[0])
	s, err := createSegment(a.log.dir, segmentHeader{
		kind: kindBodies, identity: a.identity, number: number, firstSeq: firstSeq,
		prevNumber: first.number, prevEnd: first.end,
	})
	if err != nil {
		return nil, err
	}
	s.written.Store(math.MaxInt64)
	s.end = segmentHeaderBytes
	pins := a.log.pin()
	defer a.unpin(pins)
	var live int64
	var sum uint32
	for len(living) > 0 {
		b := make([]byte, frameHeaderBytes, softFrameBytes)
		f := frame{prev: sum, epoch: a.registry.epoch, kind: kindBodies}
		for len(living) > 0 {
			loc, seq := job.view.recordOf(living[0])
			if f.count > 0 && len(b)+loc.length > softFrameBytes {
				break
			}
			if f.count == 0 {
				f.firstSeq = seq
			}
			record, err := a.log.read(loc)
			if err == nil {
				_, err = decodeOperation(record, a.identity.key, seq)
			}
			if err != nil {
				return s, a.unreadable(loc, err)
			}
			b = binary.LittleEndian.AppendUint64(b, seq)
			job.moved[living[0]] = locator{segment: number, offset: s.end + int64(len(b)), length: len(record)}
			b = append(b, record...)
			live += int64(len(record))
			f.count++
			living = living[1:]
		}
		b = sealFrame(b, a.identity.key, &f)
		sum = f.checksum
		s.last = lastFrame{offset: s.end, sum: sum}
		if _, err := s.file.WriteAt(b, s.end); err != nil {
			return s, diskFull(fmt.Errorf("write %s: %w", segmentPath(number), err))
		}
		s.end += int64(len(b))
	}
	if err := s.file.Sync(); err != nil {
		return s, diskFull(fmt.Errorf("flush %s: %w", segmentPath(number), err))
	}
	job.rewritten = append(job.rewritten, segmentEntry{
		number: number, kind: kindBodies, end: s.end, last: s.last, use: segmentUse{live: live},
	})
	return s, nil
}

// writeCheckpoint writes the checkpoint under its final name, whole and flushed,
// and reads its image in what it has written.
func (a *awake) writeCheckpoint(job *checkpointJob) (checkpointRef, error) {
	c := &job.checkpoint
	c.segments = append(c.segments, job.rewritten...)
	b, err := c.encode(job.view, job.moved)
	if err != nil {
		return checkpointRef{}, err
	}
	loaded, err := decodeCheckpoint(b, a.identity)
	if err != nil {
		return checkpointRef{}, err // a defect of ours: better no checkpoint than this one
	}
	c.image = loaded.image
	if job.view.image.forward.Load() != nil {
		c.image.byDocument() // here, rather than in the first recall that needs it
	}
	ref := checkpointRef{
		seq: c.start.seq, segment: c.start.segment, size: int64(len(b)), sum: crc32.Checksum(b, castagnoli),
	}
	dir := a.log.dir
	if err := removeIfExists(dir, checkpointTemporary); err != nil {
		return ref, err
	}
	if err := writeNewFile(dir, checkpointTemporary, b); err != nil {
		return ref, err
	}
	if err := dir.Rename(checkpointTemporary, ref.name()); err != nil {
		return ref, diskFull(fmt.Errorf("rename %s: %w", ref.name(), err))
	}
	return ref, diskFull(dir.Sync("."))
}

// install makes ref the space's checkpoint, with a mark that covers it, and
// returns the one before. With an error, named says whether the state that names
// ref was being written: what then becomes of it is not known until the slot is
// written again.
func (l *log) install(ref checkpointRef) (old checkpointRef, named bool, err error) {
	l.files.Lock()
	defer l.files.Unlock()
	old = l.state.state.checkpoint
	_, err = l.settleLocked(func(s *spaceState) { s.checkpoint, named = ref, true })
	return old, named, err
}

// move puts the successor in place of what it is an image of.
func (a *awake) move(job *checkpointJob, next *successor) {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	a.store.rebase(next, job.rewritten, job.victims)
}

// emptyQuarantine removes what recoveries cut from the log.
func (a *awake) emptyQuarantine() error {
	dir := a.log.dir
	entries, err := dir.ReadDir(quarantineDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", quarantineDir, err)
	}
	for _, e := range entries {
		if err := removeIfExists(dir, quarantineDir+"/"+e.Name()); err != nil {
			return err
		}
	}
	// Before the directory goes: without it nobody knows that there is something to flush.
	if err := dir.Sync(quarantineDir); err != nil {
		return diskFull(err)
	}
	return diskFull(errors.Join(dir.Remove(quarantineDir), dir.Sync(".")))
}

func closeAll(segments []*segment) error {
	var errs []error
	for _, s := range segments {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
