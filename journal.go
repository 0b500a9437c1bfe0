package engram

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/engramdb/engram/internal/vfs"
)

const (
	journalDir = ".journal"
	headName   = "HEAD"

	// defaultExtentBytes are zeroed ahead of the writes at a time.
	defaultExtentBytes = 1 << 20
)

// journal is where the frames of all spaces become durable: one write and one
// flush for each group. Its files are recycled: a generation is one use of a
// file, and ends when each space it names has settled.
type journal struct {
	dir         vfs.Dir
	fileBytes   int64
	extentBytes int64
	settleHang  time.Duration
	durability  Durability
	spaces      settler
	logger      *zap.Logger

	// mu serialises groups, changes of file and releases; it is held over a
	// group's write and flush. Nothing but a feed is locked while it is held and,
	// where descriptors run out, what freeDescriptors locks.
	mu        sync.Mutex
	changed   *sync.Cond // a file was freed, an extent was zeroed, a generation ended, a space has settled or not, or the journal failed
	head      head
	current   *generation
	old       []*generation // oldest first: they wait for their spaces to settle
	free      []*journalFile
	frames    map[incarnation][]frameRef // what Open found, or was carried, and no mark covers yet
	unflushed map[*feed]uint64           // last seqs of what was written and not flushed, for who waits to hear of it
	carried   map[incarnation]error      // why frames were carried forward, of spaces whose marks do not cover them
	damage    *CorruptionError           // why what a read-only registry reads of it may be incomplete
	failed    error
	broken    chan struct{}       // closed when failed is set; not guarded by mu
	stuck     error               // why the settler could not free the oldest file
	hanging   map[incarnation]int // how many wait for the space to settle
	settling  bool                // the settler runs
	flushing  func() bool         // stops the timer of a due flush; nil if none is due
	idling    func() bool         // stops the timer of a due zeroing; nil if none is due
	closed    bool
	buf       []byte

	told sync.Map // incarnation -> seq: what settled has not filed yet; not guarded by mu

	groups, frameCount, flushes uint64

	work sync.WaitGroup // settler, extents, timers
}

// generation is one use of a journal file. It is the current one while groups go into
// it, and old then until each space that it names has settled, or what some still owe
// has been carried into the current one. Then it ends, oldest first, and its file is
// free.
type generation struct {
	number  uint64
	tag     generationTag
	file    *journalFile
	end     int64 // of the last group
	flushed int64 // up to here it is durable
	brought int64 // bytes of it that were carried here, from older ones
	groups  uint64
	first   promise                // what its first group promises
	owed    map[incarnation]*owing // spaces that have frames here, and are not settled for them
	named   map[incarnation]bool   // every space that has frames here
	found   bool                   // by Open: its spaces may have to be recovered first
	ended   bool                   // released: its bytes mean nothing
}

type owing struct {
	id      SpaceID
	lastSeq uint64
}

// journalFile is one file. It is allocated, and was zeroed once, up to extent.
type journalFile struct {
	number  uint64
	file    vfs.File
	extent  int64
	used    int64 // bytes up to here may not be zero
	growing bool  // a goroutine zeroes from extent on

	// zeroing says that somebody has given up mu to zero the file, which is free.
	// Until that has ended nobody begins a generation in it, and nobody else zeroes
	// it; who waited for the end looks again whether the file is free.
	zeroing bool
}

// frameRef is where a frame stands in the journal.
type frameRef struct {
	generation *generation
	offset     int64
	entry      groupEntry
	damaged    bool // below a promise, and not what was written
}

func journalPath(number uint64) string { return fmt.Sprintf("%08d", number) }

// journalFilePath is where the file stands in the registry's directory.
func journalFilePath(number uint64) string { return path.Join(journalDir, journalPath(number)) }

// append makes a group of the frames durable, or with a durability that does
// not wait, hands it to the operating system. ErrUnknownOutcome and ErrStopped mean
// that nothing more is written; any other error that nothing happened.
func (j *journal) append(frames []groupFrame) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	size := int64(groupLen(frames))
	for j.failed == nil {
		if j.fullLocked(size) {
			if err := j.switchLocked(context.Background()); err != nil {
				return err
			}
		} else if !j.awaitExtentLocked(size) {
			break
		}
	}
	return j.appendLocked(frames, j.durability == Sync)
}

// fullLocked reports whether a group of that size is due in the next file. What was
// carried into this one does not count, or it alone could fill one file after another.
func (j *journal) fullLocked(size int64) bool {
	g := j.current
	return g.end > 0 && (g.end-g.brought+size > j.fileBytes || g.end+size > maxJournalFileBytes)
}

func (j *journal) appendLocked(frames []groupFrame, wait bool) error {
	if j.failed != nil {
		return fmt.Errorf("%w: %w", ErrStopped, j.failed)
	}
	g := j.current
	p := promise{generation: g.number, offset: g.flushed}
	if g.groups == 0 {
		p = g.first
	}
	j.buf = appendGroup(j.buf[:0], g.tag, g.groups, p, frames)
	end := g.end + int64(len(j.buf))
	j.extendLocked(g.file, end)
	written, err := g.file.file.WriteAt(j.buf, g.end)
	g.file.used = max(g.file.used, g.end+int64(written))
	if err != nil {
		err = diskFull(fmt.Errorf("write journal: %w", err))
		if errors.Is(err, ErrDiskFull) {
			return err
		}
		return j.failLocked(err)
	}
	g.end, g.groups = end, g.groups+1
	g.file.extent = max(g.file.extent, end)
	j.groups, j.frameCount = j.groups+1, j.frameCount+uint64(len(frames))
	for i := range frames {
		g.owe(frames[i].space, frames[i].id, frames[i].lastSeq())
	}
	if wait {
		return j.flushLocked()
	}
	for i := range frames {
		if f := &frames[i]; f.feed != nil {
			j.unflushed[f.feed] = f.lastSeq()
		}
	}
	j.flushLaterLocked()
	return nil
}

func (g *generation) owe(space incarnation, id SpaceID, lastSeq uint64) {
	g.named[space] = true
	if o := g.owed[space]; o != nil {
		o.id, o.lastSeq = id, max(o.lastSeq, lastSeq)
		return
	}
	g.owed[space] = &owing{id: id, lastSeq: lastSeq}
}

// flushLocked flushes the current file. A flush that failed is not retried:
// what the device then holds is unknown.
func (j *journal) flushLocked() error {
	g := j.current
	if g.flushed == g.end {
		return nil
	}
	j.flushes++
	if err := g.file.file.Sync(); err != nil {
		return j.failLocked(fmt.Errorf("flush journal: %w", err))
	}
	g.flushed = g.end
	for feed, seq := range j.unflushed {
		feed.flush(seq)
	}
	clear(j.unflushed)
	return nil
}

// failLocked stops the registry's writes.
func (j *journal) failLocked(err error) error {
	if j.failed == nil {
		j.failed = err
		j.logger.Error("journal failed, writes are stopped", zap.Error(err))
		j.changed.Broadcast()
		close(j.broken)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// failure is why the journal takes no more writes, or nil.
func (j *journal) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrStopped, j.failed)
}

// flushLaterLocked arms the timer of an Interval durability.
func (j *journal) flushLaterLocked() {
	if j.durability <= 0 || j.flushing != nil || j.closed {
		return
	}
	j.work.Add(1)
	j.flushing = afterFunc(time.Duration(j.durability), func() {
		defer j.work.Done()
		j.mu.Lock()
		defer j.mu.Unlock()
		j.flushing = nil
		if j.failed == nil {
			// The failure is the journal's: the next write reports it.
			_ = j.flushLocked()
		}
	})
}

// awaitExtentLocked waits while a goroutine writes zeros to where size bytes
// would go, and returns whether it waited: mu was given up meanwhile.
func (j *journal) awaitExtentLocked(size int64) bool {
	if f := j.current.file; !f.growing || j.current.end+size <= f.extent {
		return false
	}
	j.changed.Wait()
	return true
}

// extendLocked keeps zeros ahead of the writes, of which the next ends at end:
// flushing a file whose extent is written is half as expensive. The goroutine
// only writes. A flush of its own could be told of an error in place of the
// group's flush, which would then acknowledge what was lost.
func (j *journal) extendLocked(f *journalFile, end int64) {
	if f.growing || end <= f.extent-j.extentBytes/2 || f.extent >= j.fileBytes || end > j.fileBytes || j.closed {
		return
	}
	from := max(f.extent, end)
	to := min(from+j.extentBytes, j.fileBytes)
	f.extent, f.growing = from, true
	j.work.Add(1)
	go func() {
		defer j.work.Done()
		err := writeZeros(f.file, from, to)
		j.mu.Lock()
		defer j.mu.Unlock()
		f.growing = false
		if err == nil {
			f.extent = to
		} else {
			// Only speed is lost: a write that does not fit reports it.
			j.logger.Warn("journal file could not be extended", zap.Error(err))
		}
		j.changed.Broadcast()
	}()
}

// writeZeros overwrites the range.
func writeZeros(f vfs.File, from, to int64) error {
	for from < to {
		n, err := f.WriteAt(zeros[:min(to-from, int64(len(zeros)))], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// switchLocked ends the current generation and begins the next in a free file;
// while there is none, it waits, until ctx is done and changed is broadcast. mu
// is given up meanwhile, so that frames can be carried forward into the file
// that is full.
func (j *journal) switchLocked(ctx context.Context) error {
	old := j.current
	if len(j.free) == 0 && !slices.ContainsFunc(j.old, func(g *generation) bool { return !g.found }) {
		if err := j.createFileLocked(); err != nil {
			return err
		}
	}
	j.stuck = nil
	for j.nextFileLocked() == nil && j.failed == nil && j.stuck == nil && !j.closed && ctx.Err() == nil {
		j.startSettlerLocked()
		j.changed.Wait()
		if j.current != old {
			return nil // another caller has switched
		}
	}
	switch {
	case j.failed != nil:
		return fmt.Errorf("%w: %w", ErrStopped, j.failed)
	case j.closed:
		return ErrClosed
	case j.nextFileLocked() == nil:
		return cmp.Or(j.stuck, ctx.Err())
	}
	if err := j.flushLocked(); err != nil {
		return err
	}
	next, err := j.beginLocked(append(slices.Clone(j.old), old), promise{generation: old.number, offset: old.end})
	if err != nil {
		return err
	}
	j.old, j.current = append(j.old, old), next
	j.startSettlerLocked()
	return nil
}

// nextFileLocked returns the first free file that nobody zeroes, or nil.
func (j *journal) nextFileLocked() *journalFile {
	for _, f := range j.free {
		if !f.zeroing {
			return f
		}
	}
	return nil
}

// beginLocked makes a generation in the next free file, beside the old ones,
// and says so in HEAD before anything is written to it.
func (j *journal) beginLocked(old []*generation, first promise) (*generation, error) {
	tag, err := randomTag()
	if err != nil {
		return nil, err
	}
	file := j.nextFileLocked()
	if err := file.makeExtent(j.extentBytes); err != nil {
		return nil, diskFull(err)
	}
	j.head.generation++
	g := &generation{
		number: j.head.generation, tag: tag, file: file, first: first,
		owed: make(map[incarnation]*owing), named: make(map[incarnation]bool),
	}
	free := slices.DeleteFunc(slices.Clone(j.free), func(f *journalFile) bool { return f == file })
	if err := j.writeHeadLocked(append(old, g), free); err != nil {
		return nil, err
	}
	j.free = free
	return g, nil
}

// writeHeadLocked writes HEAD with these generations in use and these files
// free, in both slots, one after the other. An error that is noRoom means no more:
// HEAD says this or what it said before, which is as good, and can be written again.
// After any other error nothing more is written.
func (j *journal) writeHeadLocked(inUse []*generation, free []*journalFile) error {
	if j.failed != nil {
		return j.failed
	}
	j.head.files = j.head.files[:0]
	for _, g := range inUse {
		j.head.files = append(j.head.files, headFile{number: g.file.number, generation: g.number, tag: g.tag})
	}
	for _, f := range free {
		j.head.files = append(j.head.files, headFile{number: f.number})
	}
	if len(j.head.files) > maxHeadFiles {
		return j.failLocked(fmt.Errorf("%d journal files wait for spaces to settle, at most %d can", len(j.head.files), maxHeadFiles))
	}
	err := j.writeHeadSlots(j.head.counter+1, j.head.counter+2)
	if err != nil && !noRoom(err) {
		return j.failLocked(err)
	}
	return err
}

// writeHeadSlots writes the present head with each of these counters to its
// slot, one after the other, flushed each. The slot of a write that failed may be torn:
// the head keeps the counter of the last one that did not, which is all there is, so
// that the next write goes to the torn one first.
func (j *journal) writeHeadSlots(first, last uint64) error {
	file, err := j.dir.Open(headName, true)
	if err != nil {
		return diskFull(fmt.Errorf("open journal head: %w", err))
	}
	for counter := first; counter <= last; counter++ {
		h := j.head
		h.counter = counter
		if _, err = file.WriteAt(encodeHead(h), int64(counter%2)*pageBytes); err != nil {
			break
		}
		if err = file.Sync(); err != nil {
			break
		}
		j.head.counter = counter
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return diskFull(fmt.Errorf("write journal head: %w", err))
	}
	return nil
}

// createFileLocked adds a free file.
func (j *journal) createFileLocked() error {
	number := uint64(1)
	for _, f := range j.head.files {
		number = max(number, f.number+1)
	}
	for _, f := range j.free {
		number = max(number, f.number+1)
	}
	name := journalPath(number)
	// A crash between creating a file and naming it in HEAD leaves one that
	// nothing refers to.
	if err := removeIfExists(j.dir, name); err != nil {
		return err
	}
	file, err := j.dir.Create(name)
	if err != nil {
		return diskFull(fmt.Errorf("create journal file: %w", err))
	}
	f := &journalFile{number: number, file: file}
	err = f.makeExtent(j.extentBytes)
	if err == nil {
		err = j.dir.Sync(".")
	}
	if err != nil {
		return diskFull(fmt.Errorf("create journal file: %w", errors.Join(err, file.Close(), removeIfExists(j.dir, name))))
	}
	j.free = append(j.free, f)
	return nil
}

// makeExtent sees to it that the file has the extent that every generation
// begins with: a shorter one was damaged.
func (f *journalFile) makeExtent(bytes int64) error {
	if f.extent >= bytes {
		return nil
	}
	if err := writeZeros(f.file, f.extent, bytes); err != nil {
		return fmt.Errorf("extend journal file: %w", err)
	}
	if err := f.file.Sync(); err != nil {
		return fmt.Errorf("extend journal file: %w", err)
	}
	f.extent = bytes
	return nil
}

// close joins the journal's goroutines and closes its files.
func (j *journal) close() error {
	j.mu.Lock()
	j.closed = true
	var errs []error
	if j.failed == nil && j.current != nil {
		errs = append(errs, j.flushLocked())
	}
	for _, stop := range []func() bool{j.flushing, j.idling} {
		if stop != nil && stop() {
			j.work.Done()
		}
	}
	j.changed.Broadcast()
	j.mu.Unlock()
	j.work.Wait()
	return errors.Join(append(errs, j.closeFiles())...)
}

// drop forgets the frames of a deleted space. Its tombstone stays while names
// reports true.
func (j *journal) drop(space incarnation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dropLocked(space)
}

// names reports whether the tables of any generation name the space, settled
// or not: read again after a crash, they would still name it.
func (j *journal) names(space incarnation) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.generationsLocked(), func(g *generation) bool { return g.named[space] })
}

// oldest returns the number of the oldest generation that has not ended.
func (j *journal) oldest() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.oldestLocked()
}

func (j *journal) oldestLocked() uint64 { return j.generationsLocked()[0].number }

// generationsLocked returns those that have not ended.
func (j *journal) generationsLocked() []*generation {
	if j.current == nil { // read-only
		return j.old
	}
	return append(slices.Clone(j.old), j.current)
}

// recover starts to settle what earlier openings left, in the background.
func (j *journal) recover() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.startSettlerLocked()
}

func (j *journal) stats(s *RegistryStats) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Groups, s.Frames, s.Flushes = j.groups, j.frameCount, j.flushes
	s.JournalFiles = len(j.free) + len(j.old)
	if j.current != nil {
		s.JournalFiles++
		s.JournalBytes, s.JournalGeneration = j.current.end, j.current.number
	}
	if j.failed != nil {
		s.Stopped = j.failed.Error()
	}
}

// collect returns the frames of the space that no mark of this process covers
// yet. A frame below a promise that is not what was written has no bytes.
func (j *journal) collect(space incarnation) ([]journalFrame, error) {
	for {
		frames, err := j.readAll(j.framesOf(space))
		if !errors.Is(err, errMoved) {
			return frames, err
		}
	}
}

func (j *journal) readAll(refs []frameRef) ([]journalFrame, error) {
	frames := make([]journalFrame, 0, len(refs))
	for _, ref := range refs {
		f := journalFrame{firstSeq: ref.entry.firstSeq, lastSeq: ref.entry.lastSeq()}
		if !ref.damaged {
			b, err := j.read(ref)
			if err != nil {
				return nil, err
			}
			f.bytes = b
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// framesOf returns where the journal holds frames of the space that no mark of
// this process covers yet.
func (j *journal) framesOf(space incarnation) []frameRef {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.frames[space])
}

// read returns the bytes of a frame. They may have been carried elsewhere since
// the reference was taken; that is an error that says to take it again.
func (j *journal) read(ref frameRef) ([]byte, error) {
	b, err := readRange(ref.generation.file.file, ref.offset, ref.offset+int64(ref.entry.length))
	j.mu.Lock()
	defer j.mu.Unlock()
	if ref.generation.ended {
		return nil, errMoved
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", journalFilePath(ref.generation.file.number), err)
	}
	return b, nil
}

var errMoved = errors.New("journal frame has moved")
