package engram

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/engramdb/engram/internal/vfs"
)

const (
	walDir      = "wal"
	walSuffix   = ".wal"
	zeroPadding = 8 // digits of a segment's file name

	// defaultSegmentBytes rotates a log: small enough that rewriting a segment
	// whose memories were forgotten is quick, large enough that a space of
	// ordinary size is one file.
	defaultSegmentBytes = 16 << 20
	maxSegmentBytes     = 1<<32 - 1 // what a locator can say
)

// errUnwritten says that frames are held in memory because the log's file
// could not take them. They are durable in the journal.
var errUnwritten = errors.New("log could not be written")

// log is a space's own history: numbered segments, of which the last is
// appended to, unflushed. Settling flushes it and records the mark.
//
// append and rotate have one caller at a time (who holds awake.commits), install
// another (who holds maintenance.running); settle, pin and read are concurrent with
// them and each other.
type log struct {
	dir          vfs.Dir // the space's
	identity     identity
	segmentBytes int64

	// files serialises flushes, rotations and marks of this log: Linux reports a
	// failed flush to only one of two callers. Order: files > mu > segment.mu.
	files sync.Mutex
	state *stateFile // SPACE; guarded by files
	dirty bool       // the active segment holds unflushed bytes; guarded by mu
	begun bool       // a rotation has failed, and what it made may be there; guarded by files

	waits atomic.Bool // frames are unwritten; set while mu is held

	mu        sync.Mutex // guards the fields below
	active    *segment
	end       int64    // where the next frame goes
	lastSum   uint32   // of the last frame
	unwritten []byte   // the frames before end that active does not hold yet: if any, waits is set where somebody writes
	applied   position // what a mark may say
	number    uint64   // of the last segment or reserved number
	failed    error    // first failure of a flush, write or mark: nothing more is written

	// removing is held while doomed segments are removed: close waits for that.
	// Order: removing > pins > segment.mu.
	removing sync.Mutex
	closed   bool       // guarded by removing, as are
	unpinned []*segment // the doomed ones that no reader pins any more, until they are removed

	pins sync.Mutex    // guards sets
	sets []*segmentSet // oldest first, those that are pinned; the last is the current one
}

// position is the state of a space behind one of its frames.
type position struct {
	mark
	config    SpaceConfig
	dimension int
	memories  int64
	bytes     int64
}

// segment is one file of the log. It is opened when it is first read.
type segment struct {
	number  uint64
	kind    uint16
	end     int64        // where its frames end; of the active one, unset
	last    lastFrame    // of the active one, guarded by log.mu
	written atomic.Int64 // bytes up to here are in the file, the rest in log.unwritten
	header  segmentHeader

	readOnly bool // nothing is ever written to it, so its file need not be writable

	mu     sync.Mutex // guards the fields below
	file   vfs.File
	closed bool // for good
}

// lastFrame is where the last frame of a segment stands, and its checksum. The
// frames of a segment are a chain, so the last one stands for all of them.
type lastFrame struct {
	offset int64 // 0: there is none
	sum    uint32
}

// segmentSet is the files that readers of one time need.
type segmentSet struct {
	byNumber map[uint64]*segment
	refs     int
	doomed   []*segment // of byNumber: no set behind this one has them
}

func segmentPath(number uint64) string {
	return path.Join(walDir, fmt.Sprintf("%0*d%s", zeroPadding, number, walSuffix))
}

// segmentNumber is the inverse of segmentPath's base name.
func segmentNumber(name string) (uint64, bool) {
	digits, found := strings.CutSuffix(name, walSuffix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return n, found && err == nil && n > 0 && path.Base(segmentPath(n)) == name
}

// newLog returns a log over segments, in number order, whose last is appended
// to at the position. number is the highest that is taken.
func newLog(dir vfs.Dir, state *stateFile, segmentBytes int64, segments []*segment, at position, number uint64) *log {
	l := &log{
		dir: dir, identity: state.identity, segmentBytes: segmentBytes, state: state,
		end: at.offset, lastSum: at.sum, applied: at, number: number,
	}
	set := &segmentSet{byNumber: make(map[uint64]*segment, len(segments))}
	for _, s := range segments {
		s.written.Store(math.MaxInt64)
		set.byNumber[s.number] = s
	}
	l.active = segments[len(segments)-1]
	l.active.written.Store(at.offset)
	l.sets = []*segmentSet{set}
	return l
}

// append writes a whole frame behind the last one and returns where it stands.
// It always takes the frame: what the file cannot hold is served from memory
// and written by a later append or settle. The error, which matches
// errUnwritten, says so; unless it is also noRoom, the log has failed.
func (l *log) append(b []byte, f *frame) (segment uint64, offset int64, err error) {
	if l.full(len(b)) {
		err = l.rotate(f.firstSeq)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	segment, offset = l.active.number, l.end
	l.end += int64(len(b))
	l.lastSum = f.checksum
	l.active.last = lastFrame{offset: offset, sum: f.checksum}
	if err == nil && l.failed == nil && len(l.unwritten) == 0 {
		if err = l.writeLocked(b, offset); err == nil {
			return segment, offset, nil
		}
	}
	l.unwritten = append(l.unwritten, b...)
	l.waits.Store(true)
	if err == nil {
		err = l.flushUnwrittenLocked()
	}
	if err != nil {
		err = errors.Join(errUnwritten, err)
	}
	return segment, offset, err
}

// full reports whether a frame of n bytes is due in the next segment.
func (l *log) full(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end+int64(n) > l.segmentBytes && l.end > segmentHeaderBytes
}

// last returns the number of the active segment, and whether no frame is in it.
func (l *log) last() (number uint64, empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active.number, l.end == segmentHeaderBytes
}

// writeLocked writes b at offset of the active segment, which holds everything
// before it.
func (l *log) writeLocked(b []byte, offset int64) error {
	file, err := l.active.open(l.dir)
	if err == nil {
		_, err = file.WriteAt(b, offset)
	}
	if err != nil {
		return l.failLocked(fmt.Errorf("append to %s: %w", segmentPath(l.active.number), err))
	}
	l.dirty = true
	l.active.written.Store(offset + int64(len(b)))
	return nil
}

// failLocked makes err the log's failure, unless there is only no room.
func (l *log) failLocked(err error) error {
	if err = diskFull(err); !noRoom(err) && l.failed == nil {
		l.failed = err
	}
	return err
}

func (l *log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failLocked(err)
}

// flush flushes the segment, the active one, which counts as clean already. A flush
// that fails is the log's failure, whatever its cause: the pages that it has lost, on a
// full disk too, count as clean afterwards, and another flush would vouch for them.
// A file that cannot be opened has lost nothing: this process has not written to it.
func (l *log) flush(s *segment) error {
	file, err := s.open(l.dir)
	if err != nil {
		return l.fail(fmt.Errorf("flush %s: %w", segmentPath(s.number), err))
	}
	if err = file.Sync(); err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = fmt.Errorf("flush %s: %w", segmentPath(s.number), err)
	if l.failed == nil {
		l.failed = err
	}
	return err
}

// flushUnwritten writes what memory holds for the file. It returns nil when
// nothing is left.
func (l *log) flushUnwritten() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushUnwrittenLocked()
}

func (l *log) flushUnwrittenLocked() error {
	if l.failed != nil {
		return l.failed
	}
	if len(l.unwritten) == 0 {
		return nil
	}
	if err := l.writeLocked(l.unwritten, l.end-int64(len(l.unwritten))); err != nil {
		return err
	}
	l.unwritten = nil
	l.waits.Store(false)
	return nil
}

// advance says that the frames up to p are applied: a mark may cover them.
func (l *log) advance(p position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.segment, p.offset, p.sum = l.active.number, l.end, l.lastSum
	l.applied = p
}

// settle flushes the log and records as its mark what was applied before. It
// returns the seq of the mark that this process has flushed, also with an error.
func (l *log) settle() (uint64, error) {
	l.files.Lock()
	defer l.files.Unlock()
	return l.settleLocked(nil)
}

// settleLocked is settle for a holder of files; change alters the state that is
// written, which is then written even where the mark stands.
func (l *log) settleLocked(change func(*spaceState)) (uint64, error) {
	l.mu.Lock()
	if err := l.flushUnwrittenLocked(); err != nil {
		l.mu.Unlock()
		return l.state.settledSeq(), err
	}
	at, active, dirty := l.applied, l.active, l.dirty
	l.dirty = false
	l.mu.Unlock()
	if dirty {
		if err := l.flush(active); err != nil {
			return l.state.settledSeq(), err
		}
	}
	next := l.state.state
	if at.mark == next.mark && change == nil {
		if err := l.state.vouch(); err != nil {
			return l.state.settledSeq(), l.fail(err)
		}
		return at.seq, nil
	}
	next.mark, next.config, next.dimension = at.mark, at.config, at.dimension
	next.memories, next.bytes = at.memories, at.bytes
	if change != nil {
		change(&next)
	}
	if err := l.state.write(next); err != nil {
		return l.state.settledSeq(), l.fail(err)
	}
	return at.seq, nil
}

// rotate flushes the active segment and begins the next one, which starts with
// operation firstSeq.
func (l *log) rotate(firstSeq uint64) error {
	l.files.Lock()
	defer l.files.Unlock()
	if err := l.flushUnwritten(); err != nil {
		return err
	}
	l.mu.Lock()
	full, end, sum := l.active, l.end, l.lastSum
	l.dirty = false
	number := l.number + 1
	l.mu.Unlock()
	if err := l.flush(full); err != nil {
		return err
	}
	if l.begun {
		if err := removeIfExists(l.dir, segmentPath(number)); err != nil {
			return l.fail(err)
		}
	}
	next, err := createSegment(l.dir, segmentHeader{
		kind: kindLog, identity: l.identity, number: number, firstSeq: firstSeq,
		prevNumber: full.number, prevEnd: end, prevSum: sum,
	})
	if l.begun = err != nil; l.begun {
		return l.fail(err)
	}
	next.written.Store(segmentHeaderBytes)
	l.mu.Lock()
	full.end = end
	full.written.Store(math.MaxInt64)
	l.active, l.end, l.number, l.dirty = next, segmentHeaderBytes, number, true
	if l.applied.segment == full.number && l.applied.offset == end {
		l.applied.segment, l.applied.offset = number, segmentHeaderBytes
	}
	l.mu.Unlock()
	l.publish(nil, []*segment{next}, nil)
	return nil
}

// createSegment makes the file with its header and makes its name durable; the
// header itself is flushed with the first frames.
func createSegment(dir vfs.Dir, h segmentHeader) (*segment, error) {
	name := segmentPath(h.number)
	file, err := dir.Create(name)
	if err != nil {
		return nil, diskFull(fmt.Errorf("create %s: %w", name, err))
	}
	s := &segment{number: h.number, kind: h.kind, header: h, file: file}
	_, err = file.WriteAt(encodeSegmentHeader(h), 0)
	if err == nil {
		err = dir.Sync(walDir)
	}
	if err != nil {
		// A later attempt creates the same number: the name must be free.
		err = errors.Join(err, file.Close(), dir.Remove(name))
		return nil, diskFull(fmt.Errorf("begin %s: %w", name, err))
	}
	return s, nil
}

// reserve takes n numbers for segments that a checkpoint will write and returns
// the first.
func (l *log) reserve(n int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.number + 1
	l.number += uint64(n)
	return first
}

// publish makes a new current set: added files in it, doomed ones not; those
// are removed when no reader can need them. Nobody pins the new set before
// move, if not nil, has run.
func (l *log) publish(doomed, added []*segment, move func()) {
	l.pins.Lock()
	defer l.pins.Unlock()
	current := l.sets[len(l.sets)-1]
	next := &segmentSet{byNumber: make(map[uint64]*segment, len(current.byNumber)+len(added))}
	for n, s := range current.byNumber {
		if !slices.Contains(doomed, s) {
			next.byNumber[n] = s
		}
	}
	for _, s := range added {
		next.byNumber[s.number] = s
	}
	current.doomed = append(current.doomed, doomed...)
	l.sets = append(l.sets, next)
	if move != nil {
		move()
	}
}

// pin keeps the present segments until unpin.
func (l *log) pin() *segmentSet {
	l.pins.Lock()
	defer l.pins.Unlock()
	set := l.sets[len(l.sets)-1]
	set.refs++
	return set
}

// current reports whether nothing was added or doomed since the set was pinned.
func (l *log) current(set *segmentSet) bool {
	l.pins.Lock()
	defer l.pins.Unlock()
	return set == l.sets[len(l.sets)-1]
}

// unpin releases a pinned set.
func (l *log) unpin(set *segmentSet) {
	l.pins.Lock()
	defer l.pins.Unlock()
	set.refs--
}

// collect removes the doomed segments that no reader pins any more. It does
// nothing that a failure could undo: what stays for want of room is removed
// at the next call, anything else at the next wake.
func (l *log) collect() error {
	l.removing.Lock()
	defer l.removing.Unlock()
	if l.closed {
		return nil
	}
	l.pins.Lock()
	l.dropUnpinnedLocked()
	l.pins.Unlock()
	if len(l.unpinned) == 0 {
		return nil
	}
	var errs []error
	for _, s := range l.unpinned {
		errs = append(errs, s.close(), removeIfExists(l.dir, segmentPath(s.number)))
	}
	err := diskFull(errors.Join(append(errs, l.dir.Sync(walDir))...))
	if !noRoom(err) {
		l.unpinned = nil
	}
	return err
}

// dropUnpinnedLocked drops the sets that no reader pins, but for the current one. A
// reader that takes long keeps what is in its own set: what came later and is doomed
// must not wait for it.
func (l *log) dropUnpinnedLocked() {
	kept := l.sets[:0]
	for i, set := range l.sets {
		if set.refs > 0 || i == len(l.sets)-1 {
			kept = append(kept, set)
			continue
		}
		for _, s := range set.doomed {
			if heir := lastWith(kept, s); heir != nil {
				heir.doomed = append(heir.doomed, s)
			} else {
				l.unpinned = append(l.unpinned, s)
			}
		}
	}
	clear(l.sets[len(kept):])
	l.sets = kept
}

// lastWith returns the last of the sets that has the segment, or nil.
func lastWith(sets []*segmentSet, s *segment) *segmentSet {
	for _, set := range slices.Backward(sets) {
		if set.byNumber[s.number] == s {
			return set
		}
	}
	return nil
}

// read returns the record at loc, unverified. The caller has pinned a set.
func (l *log) read(loc locator) ([]byte, error) {
	b := make([]byte, loc.length)
	if err := l.readTo(b, loc); err != nil {
		return nil, err
	}
	return b, nil
}

// readTo is read to b, which is as long as the record. With nil it has filled b.
func (l *log) readTo(b []byte, loc locator) error {
	s := l.find(loc.segment)
	if s == nil {
		return fmt.Errorf("%s: %w", segmentPath(loc.segment), fs.ErrNotExist)
	}
	err := l.readAt(s, b, loc.offset)
	if errors.Is(err, errNotFrame) {
		return errNotOperation
	}
	return err
}

// find returns the segment. A record may move while its reader is on the way, but
// not out of the set that the reader has pinned.
func (l *log) find(number uint64) *segment {
	l.pins.Lock()
	defer l.pins.Unlock()
	for _, set := range slices.Backward(l.sets) {
		if s := set.byNumber[number]; s != nil {
			return s
		}
	}
	return nil
}

// readUnwritten fills b from memory, if it is still there.
func (l *log) readUnwritten(s *segment, b []byte, offset int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := l.end - int64(len(l.unwritten))
	if s != l.active || offset < start || offset+int64(len(b)) > l.end {
		return false
	}
	copy(b, l.unwritten[offset-start:])
	return true
}

// size returns the number of files in the log and their bytes.
func (l *log) size() (files int, bytes int64) {
	l.pins.Lock()
	current := l.sets[len(l.sets)-1]
	segments := make([]*segment, 0, len(current.byNumber))
	for _, s := range current.byNumber {
		segments = append(segments, s)
	}
	l.pins.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range segments {
		if s == l.active {
			bytes += l.end
		} else {
			bytes += s.end
		}
	}
	return len(segments), bytes
}

// sealed returns the current segments but the active one, in number order.
func (l *log) sealed() []*segment {
	l.mu.Lock()
	active := l.active
	l.mu.Unlock()
	l.pins.Lock()
	defer l.pins.Unlock()
	var sealed []*segment
	for _, s := range l.sets[len(l.sets)-1].byNumber {
		if s != active {
			sealed = append(sealed, s)
		}
	}
	slices.SortFunc(sealed, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	return sealed
}

// short reports whether the sealed segment is a small part of a full one.
func (l *log) short(s *segment) bool { return s.end < l.segmentBytes/shortShare }

// position returns the place behind the last applied frame.
func (l *log) position() mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.applied.mark
}

// settledState returns the last state written.
func (l *log) settledState() spaceState {
	l.files.Lock()
	defer l.files.Unlock()
	return l.state.state
}

// stuck reports whether frames wait in memory for the file. It waits for nobody who
// writes to that.
func (l *log) stuck() bool { return l.waits.Load() }

// close closes every file. Readers that come later get fs.ErrClosed.
func (l *log) close() error {
	l.removing.Lock()
	defer l.removing.Unlock()
	l.closed = true
	l.pins.Lock()
	defer l.pins.Unlock()
	var errs []error
	closed := make(map[*segment]bool)
	for _, set := range l.sets {
		for _, s := range set.byNumber {
			if !closed[s] {
				closed[s] = true
				errs = append(errs, s.close())
			}
		}
	}
	return errors.Join(append(errs, l.dir.Close())...)
}

// open returns the segment's file.
func (s *segment) open(dir vfs.Dir) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fs.ErrClosed
	}
	if s.file == nil {
		file, err := dir.Open(segmentPath(s.number), s.kind == kindLog && !s.readOnly)
		if err != nil {
			return nil, err
		}
		s.file = file
	}
	return s.file, nil
}

func (s *segment) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.file == nil {
		return nil
	}
	file := s.file
	s.file = nil
	return file.Close()
}
