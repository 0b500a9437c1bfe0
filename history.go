package engram

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// readAheadBytes are read of a segment at a time: small, because every
// subscriber that lags holds as much.
const readAheadBytes = 16 << 10

// extent is what of a segment belongs to the log at one moment.
type extent struct {
	*segment
	end  int64
	last lastFrame // zero where it is not known
}

// extents returns what belongs to the log of the segments of the set, in number order.
func (l *log) extents(set *segmentSet) []extent {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]extent, 0, len(set.byNumber))
	for _, s := range set.byNumber {
		list = append(list, l.extentLocked(s))
	}
	slices.SortFunc(list, func(a, b extent) int { return cmp.Compare(a.number, b.number) })
	return list
}

// extentLocked returns what belongs to the log of the segment.
func (l *log) extentLocked(s *segment) extent {
	e := extent{segment: s, end: s.end, last: s.last}
	if s == l.active {
		e.end = max(e.end, l.end) // of a damaged log the end is not known, where it should be is
	}
	return e
}

// extentOf is extents for one segment of the set, which the holder of the set has met
// before. It costs the same however many there are; found says whether it is there.
func (l *log) extentOf(set *segmentSet, s *segment) (e extent, found bool) {
	if set.byNumber[s.number] != s {
		return extent{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.extentLocked(s), true
}

// readAt fills b from the segment's file or, what the file does not hold yet,
// from memory. The caller has pinned a set with it.
func (l *log) readAt(s *segment, b []byte, offset int64) error {
	if offset+int64(len(b)) > s.written.Load() && l.readUnwritten(s, b, offset) {
		return nil
	}
	file, err := s.open(l.dir)
	if err != nil {
		return err
	}
	err = readFull(file, b, offset)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errNotFrame
	}
	return err
}

// frameReader reads the frames of one segment in order. Its buffer may be
// dropped at any time.
type frameReader struct {
	log    *log
	at     extent
	key    uint64
	offset int64  // of the next frame
	ahead  []byte // read from there on
}

// next returns the next frame, verified by itself, with its length. It is valid
// until the next call. io.EOF is the end of the extent.
func (r *frameReader) next() (frame, int, error) {
	if r.offset >= r.at.end {
		return frame{}, 0, io.EOF
	}
	if err := r.fill(frameHeaderBytes); err != nil {
		return frame{}, 0, err
	}
	n, err := frameLen(r.ahead)
	if err == nil {
		err = r.fill(n)
	}
	if err != nil {
		return frame{}, 0, err
	}
	f, n, err := decodeFrame(r.ahead, r.key)
	if err != nil {
		return frame{}, 0, err
	}
	r.offset, r.ahead = r.offset+int64(n), r.ahead[n:]
	return f, n, nil
}

// fill sees to it that n bytes are read ahead.
func (r *frameReader) fill(n int) error {
	if len(r.ahead) >= n {
		return nil
	}
	left := r.at.end - r.offset
	if written := r.at.written.Load(); written > r.offset {
		left = min(left, written-r.offset) // what is behind is in memory, whole frames
	}
	if int64(n) > left {
		return errNotFrame
	}
	b := make([]byte, min(left, int64(max(n, readAheadBytes))))
	err := r.log.readAt(r.at.segment, b, r.offset)
	if err != nil {
		return err
	}
	r.ahead = b
	return nil
}

// historyReader is a place in a space's log from which its operations are read in
// order. Between two reads it holds no file: the segment may be gone when it
// goes on, and then it looks for its place again, by seq.
type historyReader struct {
	space  *Space
	next   uint64 // seq of the next operation
	reader frameReader
}

// read returns the frame that holds the next operation, valid until the next
// call. The operation was committed; a TrimmedError says that the log does not
// hold it any more.
func (h *historyReader) read(ctx context.Context) (frame, error) {
	a, err := h.space.use(ctx)
	if err != nil {
		return frame{}, err
	}
	defer a.done()
	pins := a.log.pin()
	defer a.unpin(pins)
	if err := h.locate(a, pins); err != nil {
		return frame{}, err
	}
	for {
		offset := h.reader.offset
		f, _, err := h.reader.next()
		switch {
		case errors.Is(err, io.EOF), err == nil && f.firstSeq > h.next:
			err = h.damage(offset, fmt.Sprintf("operation %d is not where it should be", h.next))
		case errors.Is(err, errNotFrame):
			err = h.damage(offset, "a frame is damaged")
		case err == nil && f.lastSeq() < h.next:
			continue
		case err == nil:
			return f, nil
		}
		return frame{}, a.unreadable(locator{segment: h.reader.at.number, offset: offset}, err)
	}
}

func (h *historyReader) damage(offset int64, reason string) error {
	return &CorruptionError{File: segmentPath(h.reader.at.number), Offset: offset, Reason: reason}
}

// locate puts the reader where it can read on: where it is, or at the beginning
// of the segment that holds the next operation.
func (h *historyReader) locate(a *awake, pins *segmentSet) error {
	r := &h.reader
	if r.log == a.log {
		if e, found := a.log.extentOf(pins, r.at.segment); found && r.offset < e.end {
			r.at = e
			return nil
		}
	}
	extents := slices.DeleteFunc(a.log.extents(pins), func(e extent) bool { return e.kind != kindLog })
	if len(extents) == 0 { // they are damaged, all of them
		return cmp.Or(a.damaged(), error(&CorruptionError{
			Space: h.space.ID(), File: walDir, Offset: -1, Reason: "holds no segment of operations",
		}))
	}
	i := len(extents) - 1
	for extents[i].header.firstSeq > h.next {
		if i == 0 {
			return h.trimmed(extents[i])
		}
		follows, err := a.log.follows(extents[i-1], extents[i], a.identity.key)
		if err != nil {
			return a.unreadable(locator{segment: extents[i-1].number, offset: -1}, err)
		}
		if !follows {
			return h.trimmed(extents[i])
		}
		i--
	}
	*r = frameReader{log: a.log, at: extents[i], key: a.identity.key, offset: segmentHeaderBytes}
	return nil
}

func (h *historyReader) trimmed(oldest extent) error {
	return &TrimmedError{Space: h.space.ID(), After: h.next - 1, Floor: oldest.header.firstSeq - 1}
}

// follows reports whether b, a segment of the log behind a, begins with the
// operation behind a's last one. There may have been one between them that was
// removed because it was empty.
func (l *log) follows(a, b extent, key uint64) (bool, error) {
	if b.header.prevNumber == a.number {
		return true, nil
	}
	if b.header.prevEnd != segmentHeaderBytes {
		return false, nil
	}
	last := a.header.firstSeq - 1
	for r := (frameReader{log: l, at: a, key: key, offset: segmentHeaderBytes}); ; {
		f, _, err := r.next()
		if errors.Is(err, io.EOF) {
			return last+1 == b.header.firstSeq, nil
		}
		if err != nil {
			return false, err
		}
		last = f.lastSeq()
	}
}
