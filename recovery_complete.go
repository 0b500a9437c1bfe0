package engram

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// complete makes the log end where the space does and returns it, ready to be
// appended to. Cut at any of its calls, it is done again from the same frames:
// nothing refers to what it wrote before the state slot does.
func (r *recovery) complete(segmentBytes int64) (*log, error) {
	highest := r.highest()
	at := r.at
	if r.mustRewrite() {
		s, err := r.beginTail(highest + 1)
		if err != nil {
			return nil, errors.Join(err, r.dropCut())
		}
		r.segments = append(r.segments, s)
		if n := len(r.tailAt); n > 0 {
			t := r.tailAt[n-1]
			s.last = lastFrame{offset: segmentHeaderBytes + int64(t.offset), sum: t.frame.checksum}
		}
		at.segment, at.offset = s.number, segmentHeaderBytes+int64(len(r.tail))
		highest++
		next := r.state.state
		next.mark, next.config, next.dimension = at.mark, at.config, at.dimension
		next.memories, next.bytes = at.memories, at.bytes
		if err := r.state.write(next); err != nil {
			return nil, err
		}
	}
	if r.state.state.id != r.id || r.state.state.next != "" {
		next := r.state.state // the directory's name decides a rename that was cut short
		next.id, next.next = r.id, ""
		if err := r.state.write(next); err != nil {
			return nil, err
		}
	}
	if err := r.removeStale(); err != nil {
		return nil, err
	}
	return newLog(r.dir, r.state, segmentBytes, r.segments, at, highest), nil
}

// beginTail keeps what is cut and makes the segment that the log goes on in, with
// the frames above the mark.
func (r *recovery) beginTail(number uint64) (*segment, error) {
	if err := r.keepCut(); err != nil {
		return nil, err
	}
	m := r.state.state.mark
	s, err := createSegment(r.dir, segmentHeader{
		kind: kindLog, identity: r.state.identity, number: number, firstSeq: m.seq + 1,
		prevNumber: m.segment, prevEnd: m.offset, prevSum: m.sum,
	})
	if err != nil {
		return nil, err
	}
	if err := r.writeTail(s); err != nil {
		// Until the state names it nothing does, and each attempt makes another.
		return nil, errors.Join(err, s.close(), removeIfExists(r.dir, segmentPath(number)))
	}
	return s, nil
}

func (r *recovery) writeTail(s *segment) error {
	if len(r.tail) > 0 {
		if _, err := s.file.WriteAt(r.tail, segmentHeaderBytes); err != nil {
			return diskFull(fmt.Errorf("write %s: %w", segmentPath(s.number), err))
		}
	}
	if err := s.file.Sync(); err != nil {
		return diskFull(fmt.Errorf("flush %s: %w", segmentPath(s.number), err))
	}
	return nil
}

// keepCut copies what is about to be cut from the log to quarantine/, flushed, as
// its segment may be removed, for whoever wants to look at it; the next checkpoint
// removes it.
func (r *recovery) keepCut() error {
	if len(r.cutFrom) == 0 {
		return nil
	}
	for _, c := range r.cutFrom {
		b, err := r.readSegment(c.segment, c.from, c.to)
		if err != nil {
			return err
		}
		if err := r.dir.Mkdir(quarantineDir); err != nil && !errors.Is(err, fs.ErrExist) {
			return diskFull(fmt.Errorf("make %s: %w", quarantineDir, err))
		}
		name := c.kept()
		if err := removeIfExists(r.dir, name); err != nil {
			return err
		}
		if err := writeNewFile(r.dir, name, b); err != nil {
			return err
		}
	}
	if err := errors.Join(r.dir.Sync(quarantineDir), r.dir.Sync(".")); err != nil {
		return diskFull(fmt.Errorf("flush %s: %w", quarantineDir, err))
	}
	return nil
}

// kept is the file that keeps what is cut.
func (c cutRange) kept() string {
	return path.Join(quarantineDir, fmt.Sprintf("%d-%d", c.segment, c.from))
}

// dropCut gives back the room of what keepCut has copied, where nothing is cut.
func (r *recovery) dropCut() error {
	for _, c := range r.cutFrom {
		if err := removeIfExists(r.dir, c.kept()); err != nil {
			return err
		}
	}
	return nil
}

// removeStale removes the files that neither the state nor the journal can
// need: segments outside the chain, other checkpoints, what was temporary. They
// go only on the word of a state that this process has flushed.
func (r *recovery) removeStale() error {
	needed := make(map[uint64]bool)
	for _, s := range r.segments {
		needed[s.number] = true
	}
	for number := range r.sizes {
		if !needed[number] {
			r.stale = append(r.stale, segmentPath(number))
		}
	}
	entries, err := r.dir.ReadDir(".")
	if err != nil {
		return fmt.Errorf("list the space: %w", err)
	}
	for _, e := range entries {
		if (strings.HasPrefix(e.Name(), checkpointPrefix) || e.Name() == checkpointTemporary) && e.Name() != r.state.state.checkpoint.name() {
			r.stale = append(r.stale, e.Name())
		}
	}
	if len(r.stale) == 0 {
		return nil
	}
	if err := r.state.vouch(); err != nil {
		return err
	}
	for _, name := range r.stale {
		if err := removeIfExists(r.dir, name); err != nil {
			return err
		}
	}
	return errors.Join(r.dir.Sync(walDir), r.dir.Sync("."))
}

// overlay returns a log for reading only, with the tail in memory.
func (r *recovery) overlay(segmentBytes int64) *log {
	at := r.at
	if len(r.segments) == 0 { // damaged before its log was found
		r.segments = []*segment{{kind: kindLog}}
	}
	if len(r.tailAt) > 0 {
		at.segment, at.offset = r.tailPlace()
		m := r.state.state.mark
		header := segmentHeader{firstSeq: m.seq + 1, prevSum: m.sum} // without a number: there is no file
		r.segments = append(r.segments, &segment{number: at.segment, kind: kindLog, header: header})
	}
	for _, s := range r.segments {
		s.readOnly = true
	}
	l := newLog(r.dir, r.state, segmentBytes, r.segments, at, at.segment)
	l.unwritten, l.end = r.tail, at.offset+int64(len(r.tail))
	return l
}
