package engram

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/engramdb/engram/internal/vfs"
)

const quarantineDir = "quarantine"

// recovery finds out what a space holds. It has two parts: inspect reads and
// writes nothing; complete then makes the log end where the space does.
//
// The mark divides. Up to it checkpoint and segments must be whole, or
// acknowledged data is missing. Above it the log is not trusted, its pages may
// never have reached the disk: there the journal's frames count, and the log's
// only where the journal has none.
type recovery struct {
	dir     vfs.Dir
	id      SpaceID
	epoch   uint32
	journal []journalFrame // frames of this incarnation, in seq order

	state    *stateFile
	store    *store
	headers  map[uint64]segmentHeader // of every segment that has an intact one
	sizes    map[uint64]int64         // of every segment file
	segments []*segment               // whose records are needed, in number order
	at       position                 // behind the last good frame
	tail     []byte                   // the frames above the mark
	tailAt   []pieceFrame             // in it
	cut      int64                    // bytes of the log above the mark that are no frames
	cutFrom  []cutRange
	above    bool     // the log does not end at the mark
	stale    []string // files that nothing refers to
	damage   *CorruptionError
	report   RecoveryReport
	replayed int64 // bytes of the frames behind the checkpoint

	unidentified bool // SPACE does not say who this is
}

type journalFrame struct {
	firstSeq, lastSeq uint64
	bytes             []byte // nil: below a promise, and not what was written
}

// pieceFrame is a frame of a piece of the log.
type pieceFrame struct {
	frame  frame
	offset int // in the piece
}

type cutRange struct {
	segment uint64
	from    int64
	to      int64
}

// run inspects the space and, where it may and need, completes its log.
func (r *recovery) run(reg *Registry) (*log, error) {
	if err := r.identify(); err != nil {
		return nil, err
	}
	if r.damage == nil {
		journal, err := reg.journal.collect(r.state.identity.incarnation)
		if err != nil {
			return nil, err
		}
		r.journal = sortJournalFrames(journal)
		if err := r.inspect(); err != nil {
			return nil, err
		}
	}
	if r.damage == nil && reg.journal.damage != nil { // which opens read-only
		r.damage = reg.journal.damage.in(r.id)
		r.report.Verdict = r.verdict()
	}
	if r.damage != nil || reg.options.ReadOnly {
		return r.overlay(reg.options.seams.segmentBytes), nil
	}
	l, err := r.complete(reg.options.seams.segmentBytes)
	if err != nil {
		return nil, errors.Join(err, closeAll(r.segments))
	}
	if r.state.vouched {
		reg.journal.settled(r.state.identity.incarnation, r.state.state.mark.seq)
	}
	return l, nil
}

// identify reads SPACE. Where that is damaged nothing else can be verified, and
// the space is empty but for its damage.
func (r *recovery) identify() error {
	state, err := readStateFile(r.dir)
	var damage *CorruptionError
	if err != nil && !errors.As(err, &damage) {
		return inSpace(r.id, err)
	}
	if err == nil {
		r.state = state
		return nil
	}
	r.store = newStore()
	r.damage = damage.in(r.id)
	r.report = RecoveryReport{Space: r.id, Verdict: Refused, Damage: r.damage.Error()}
	return r.disown()
}

// disown gives a space whose SPACE is damaged or another space's an identity
// that is nobody's: nothing of that other space may be touched on its account.
func (r *recovery) disown() error {
	id, err := randomIdentity()
	r.state = &stateFile{dir: r.dir, identity: id}
	r.unidentified = true
	return err
}

// inspect reads the space. An error says nothing about the space (it could not
// be read, or is of another version); damage is in r.damage, and what precedes
// it in r.store.
func (r *recovery) inspect() error {
	r.store = newStore()
	r.report.Space = r.id
	for _, step := range []func() error{r.checkName, r.list, r.replaySettled, r.assembleTail, r.replayTail} {
		err := step()
		var damage *CorruptionError
		switch {
		case errors.As(err, &damage):
			r.damage = damage.in(r.id)
		case err != nil:
			return inSpace(r.id, err)
		}
		if r.damage != nil {
			break
		}
	}
	r.store.publish()
	r.report.LastSeq = r.store.seq
	r.report.CutBytes = r.cut
	r.report.Verdict = r.verdict()
	return nil
}

func (r *recovery) verdict() Verdict {
	switch {
	case r.damage != nil:
		r.report.Damage = r.damage.Error()
		return Refused
	case r.cut > 0:
		return TornTail
	case len(r.tailAt) > 0:
		return Completed
	}
	return Clean
}

// checkName checks that the directory is this space's.
func (r *recovery) checkName() error {
	if err := r.state.state.names(r.id); err != nil {
		return errors.Join(err, r.disown())
	}
	r.report.MarkSeq = r.state.state.mark.seq
	return nil
}

// list reads the names and headers of the segments. A header that is not intact
// matters only if the segment turns out to be needed.
func (r *recovery) list() error {
	entries, err := r.dir.ReadDir(walDir)
	if err != nil {
		return damageOrError(err, walDir)
	}
	r.headers = make(map[uint64]segmentHeader)
	r.sizes = make(map[uint64]int64)
	for _, e := range entries {
		if number, ok := segmentNumber(e.Name()); ok {
			if err := r.readHeader(number); err != nil {
				return err
			}
		}
	}
	return r.checkCheckpoints()
}

// checkCheckpoints looks for a checkpoint of another space, which may be the
// only copy of what that one needs: it must not be removed as stale.
func (r *recovery) checkCheckpoints() error {
	entries, err := r.dir.ReadDir(".")
	if err != nil {
		return fmt.Errorf("list the space: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), checkpointPrefix) {
			continue
		}
		file, err := r.dir.Open(e.Name(), false)
		if err != nil {
			return damageOrError(err, e.Name())
		}
		b, err := readRange(file, 0, checkpointHeaderBytes)
		if err = errors.Join(err, file.Close()); errors.Is(err, io.ErrUnexpectedEOF) {
			continue // whether it is needed, and then damaged, shows when it is loaded
		} else if err != nil {
			return fmt.Errorf("read %s: %w", e.Name(), err)
		}
		if openBlock(b, checkpointMagic) == nil && decodeIdentity(b[16:]) != r.state.identity {
			return &CorruptionError{File: e.Name(), Offset: 16, Reason: "belongs to another space", Foreign: true}
		}
	}
	return nil
}

func (r *recovery) readHeader(number uint64) error {
	name := segmentPath(number)
	file, err := r.dir.Open(name, false)
	if err != nil {
		return damageOrError(err, name)
	}
	size, err := file.Size()
	var b []byte
	if err == nil {
		b, err = readRange(file, 0, min(size, segmentHeaderBytes))
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if size > maxSegmentBytes {
		return &CorruptionError{File: name, Offset: maxSegmentBytes, Reason: "is too long"}
	}
	r.sizes[number] = size
	h, err := decodeSegmentHeader(b)
	switch {
	case errors.Is(err, errUnknownVersion):
		return &VersionError{File: name, Version: blockVersion(b)}
	case err != nil:
		return nil
	case h.identity != r.state.identity:
		return &CorruptionError{File: name, Offset: 0, Reason: "belongs to another space", Foreign: true}
	case h.number != number:
		return &CorruptionError{File: name, Offset: 48, Reason: fmt.Sprintf("is segment %d under another name", h.number)}
	}
	r.headers[number] = h
	return nil
}

// header returns the header of a segment that the space needs.
func (r *recovery) header(number uint64) (segmentHeader, error) {
	h, found := r.headers[number]
	if found {
		return h, nil
	}
	reason := "is missing: acknowledged data is lost"
	if _, exists := r.sizes[number]; exists {
		reason = "its header is damaged"
	}
	return h, &CorruptionError{File: segmentPath(number), Offset: 0, Reason: reason}
}

// loadCheckpoint fills the store from the installed checkpoint, lists the
// segments that it needs, and returns where the log goes on. Without a
// checkpoint that is the log's beginning.
func (r *recovery) loadCheckpoint() (mark, error) {
	ref := r.state.state.checkpoint
	if ref.seq == 0 {
		return mark{segment: 1, offset: segmentHeaderBytes}, nil
	}
	b, err := readCheckpoint(r.dir, ref)
	if err != nil {
		return mark{}, err
	}
	c, err := openCheckpoint(b, ref, r.state.identity)
	if err != nil {
		return mark{}, err
	}
	r.store.load(c)
	r.report.CheckpointSeq = c.start.seq
	for _, s := range c.segments {
		h, err := r.header(s.number)
		if err != nil {
			return mark{}, err
		}
		if size := r.sizes[s.number]; size < s.end {
			return mark{}, &CorruptionError{File: segmentPath(s.number), Offset: size, Reason: "is cut short: acknowledged data is missing"}
		}
		if err := r.checkLastFrame(&s); err != nil {
			return mark{}, err
		}
		r.segments = append(r.segments, &segment{number: s.number, kind: s.kind, end: s.end, last: s.last, header: h})
	}
	return c.start, nil
}

// readCheckpoint returns the bytes of the checkpoint that ref names.
func readCheckpoint(dir vfs.Dir, ref checkpointRef) ([]byte, error) {
	name := ref.name()
	b, err := readFile(dir, name, ref.size)
	if err != nil {
		return nil, damageOrError(err, name)
	}
	if int64(len(b)) != ref.size || crc32.Checksum(b, castagnoli) != ref.sum {
		return nil, &CorruptionError{File: name, Offset: 0, Reason: "is not the checkpoint that was written"}
	}
	return b, nil
}

// openCheckpoint decodes the bytes of a checkpoint, and says what is wrong with
// them as damage or an unknown version.
func openCheckpoint(b []byte, ref checkpointRef, id identity) (*checkpoint, error) {
	c, err := decodeCheckpoint(b, id)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, errUnknownVersion):
		return nil, &VersionError{File: ref.name(), Version: blockVersion(b)}
	case errors.Is(err, errForeignSlot):
		return nil, &CorruptionError{File: ref.name(), Offset: 16, Reason: "belongs to another space", Foreign: true}
	}
	return nil, &CorruptionError{File: ref.name(), Offset: 0, Reason: err.Error()}
}

// checkLastFrame looks whether the segment ends with the frame that it ended
// with when it was listed. The same segment of another history of the space has
// the right identity, number and maybe length, and its records verify: only the
// chain of its frames is another, and the last one's checksum says which it is.
// What is between is verified when it is read.
func (r *recovery) checkLastFrame(s *segmentEntry) error {
	b, err := r.readSegment(s.number, s.last.offset, s.last.offset+frameHeaderBytes)
	if err != nil {
		return err
	}
	n, err := frameLen(b)
	if err != nil || s.last.offset+int64(n) != s.end || binary.LittleEndian.Uint32(b[4:]) != s.last.sum {
		return &CorruptionError{
			File: segmentPath(s.number), Offset: s.last.offset,
			Reason: "does not end with the frame that the checkpoint says",
		}
	}
	return nil
}

// replaySettled loads the checkpoint and replays the log from there to the mark.
func (r *recovery) replaySettled() error {
	start, err := r.loadCheckpoint()
	if err != nil {
		return err
	}
	chain, err := r.chain(start.segment)
	if err != nil {
		return err
	}
	for i, s := range chain {
		from := int64(segmentHeaderBytes)
		if i == 0 {
			from = start.offset
		}
		r.segments = append(r.segments, s)
		sum := r.state.state.mark.sum
		if i+1 < len(chain) {
			sum = r.headers[chain[i+1].number].prevSum
		}
		if err := r.replaySegment(s, from, sum, &start); err != nil {
			return err
		}
	}
	if m := r.state.state.mark; start != m {
		return &CorruptionError{
			File: segmentPath(m.segment), Offset: m.offset,
			Reason: fmt.Sprintf("does not reach seq %d as its mark says: acknowledged data is missing", m.seq),
		}
	}
	r.at = r.store.position()
	r.at.mark = start
	return nil
}

// chain returns the log's segments from start to the mark's, with their ends.
// It goes backwards: each header names the one before.
func (r *recovery) chain(start uint64) ([]*segment, error) {
	var chain []*segment
	m := r.state.state.mark
	for number, end := m.segment, m.offset; ; {
		h, err := r.header(number)
		if err != nil {
			return nil, err
		}
		if h.kind != kindLog || number < start {
			return nil, &CorruptionError{File: segmentPath(number), Offset: 0, Reason: "is not part of the log"}
		}
		if r.sizes[number] < end {
			return nil, &CorruptionError{
				File: segmentPath(number), Offset: r.sizes[number],
				Reason: fmt.Sprintf("ends before byte %d: acknowledged data is missing", end),
			}
		}
		chain = append(chain, &segment{number: number, kind: kindLog, end: end, header: h})
		r.store.use(number).dead += r.sizes[number] - end
		if number == start {
			slices.Reverse(chain)
			return chain, nil
		}
		if h.prevNumber >= number {
			return nil, &CorruptionError{File: segmentPath(number), Offset: 64, Reason: "continues a later segment"}
		}
		number, end = h.prevNumber, h.prevEnd
	}
}

// replaySegment applies the frames of a settled segment from the offset on, all
// of which must be whole, and moves at behind them. sum is the checksum of the
// last: where all are whole but lead to another, the segment is of another
// history, nobody knows from where on, and nothing of it is applied.
func (r *recovery) replaySegment(s *segment, from int64, sum uint32, at *mark) error {
	name := segmentPath(s.number)
	b, err := r.readSegment(s.number, from, s.end)
	if err != nil {
		return err
	}
	r.report.Segments++
	begin := *at
	begin.segment, begin.offset = s.number, from
	frames, end, damage := r.settledFrames(b, begin)
	if damage == nil && end.sum != sum {
		*at = begin
		return &CorruptionError{File: name, Offset: from, Reason: "does not lead to where the log goes on: it is of another history"}
	}
	*at = end
	for _, t := range frames {
		if err := r.replayFrame(&t.frame, s.number, from+int64(t.offset)); err != nil {
			return err
		}
		s.last = lastFrame{offset: from + int64(t.offset), sum: t.frame.checksum}
	}
	if damage != nil {
		return damage
	}
	return nil
}

// settledFrames returns the frames of b, which stands at the mark, as far as
// they continue it, where they end, and what is behind them if that is not b's end.
func (r *recovery) settledFrames(b []byte, at mark) (frames []pieceFrame, end mark, damage *CorruptionError) {
	for start := at.offset; len(b) > 0; {
		f, n, err := decodeFrame(b, r.state.identity.key)
		reason := ""
		switch {
		case err != nil:
			reason = "a settled frame is damaged"
		case f.kind != kindLog || f.prev != at.sum || f.firstSeq != at.seq+1 || f.epoch > r.epoch:
			reason = "a settled frame does not continue the log"
		}
		if reason != "" {
			return frames, at, &CorruptionError{File: segmentPath(at.segment), Offset: at.offset, Reason: reason}
		}
		frames = append(frames, pieceFrame{frame: f, offset: int(at.offset - start)})
		at.seq, at.sum, at.offset = f.lastSeq(), f.checksum, at.offset+int64(n)
		b = b[n:]
	}
	return frames, at, nil
}

func (r *recovery) readSegment(number uint64, from, to int64) ([]byte, error) {
	name := segmentPath(number)
	file, err := r.dir.Open(name, false)
	if err != nil {
		return nil, damageOrError(err, name)
	}
	b, err := readRange(file, from, to)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// replayFrame applies the operations of a verified frame that stands, or will
// stand, at the offset of the segment.
func (r *recovery) replayFrame(f *frame, segment uint64, offset int64) error {
	b := f.payload
	at := offset + frameHeaderBytes
	for seq := f.firstSeq; seq <= f.lastSeq(); seq++ {
		n, err := splitRecord(b)
		if err != nil {
			return &CorruptionError{File: segmentPath(segment), Offset: at, Reason: "a frame holds fewer operations than it says"}
		}
		op, err := decodeOperation(b[:n], r.state.identity.key, seq)
		switch {
		case errors.Is(err, errUnknownVersion):
			return &VersionError{File: segmentPath(segment), Version: formatVersion}
		case err != nil:
			return &CorruptionError{File: segmentPath(segment), Offset: at, Reason: "an operation is damaged"}
		}
		op.record = locator{segment: segment, offset: at, length: n}
		op.analysis = r.store.config.Analyzer.analyzeMemory(op.memory.Content)
		r.store.apply(&op)
		b, at = b[n:], at+int64(n)
		r.report.Operations++
	}
	r.report.Frames++
	r.replayed += int64(encodedLen(len(f.payload))) // as when it was logged: checkpoints fall due alike
	if len(b) > 0 {
		return &CorruptionError{File: segmentPath(segment), Offset: at, Reason: "a frame holds more than its operations"}
	}
	return nil
}

// assembleTail collects the frames above the mark: the journal's, and where it
// has none the log's, as long as they continue the chain.
func (r *recovery) assembleTail() error {
	fromLog, err := r.scanTail()
	if err != nil {
		return err
	}
	seq, sum := r.at.seq, r.at.sum
	journal := slices.DeleteFunc(slices.Clone(r.journal), func(f journalFrame) bool { return f.lastSeq <= seq })
	for {
		b := fromLog[seq+1]
		if len(journal) > 0 && journal[0].firstSeq == seq+1 {
			if b = journal[0].bytes; b == nil {
				return &CorruptionError{File: journalDir, Offset: -1, Reason: fmt.Sprintf("the frame of seq %d is damaged", seq+1)}
			}
			journal = journal[1:]
			r.report.FromJournal++
		}
		if b == nil {
			break
		}
		f, _, err := decodeFrame(b, r.state.identity.key)
		if err != nil || f.prev != sum || f.firstSeq != seq+1 || f.epoch > r.epoch || f.kind != kindLog {
			return &CorruptionError{File: journalDir, Offset: -1, Reason: fmt.Sprintf("the frame of seq %d does not continue the log", seq+1)}
		}
		r.tailAt = append(r.tailAt, pieceFrame{frame: f, offset: len(r.tail)})
		r.tail = append(r.tail, b...)
		seq, sum = f.lastSeq(), f.checksum
	}
	if len(journal) > 0 {
		return &CorruptionError{
			File: journalDir, Offset: -1,
			Reason: fmt.Sprintf("operations %d to %d are missing", seq+1, journal[0].firstSeq-1),
		}
	}
	return nil
}

// scanTail reads the log above the mark, as far as it verifies, and returns its
// frames by first seq.
func (r *recovery) scanTail() (map[uint64][]byte, error) {
	frames := make(map[uint64][]byte)
	at := r.at.mark
	for {
		b, err := r.readSegment(at.segment, at.offset, r.sizes[at.segment])
		if err != nil {
			return nil, err
		}
		r.above = r.above || len(b) > 0
		for {
			f, n, err := decodeFrame(b, r.state.identity.key)
			if err != nil || f.kind != kindLog || f.prev != at.sum || f.firstSeq != at.seq+1 {
				break
			}
			frames[f.firstSeq] = b[:n]
			at.seq, at.sum, at.offset = f.lastSeq(), f.checksum, at.offset+int64(n)
			b = b[n:]
		}
		if len(b) > 0 {
			r.cut += int64(len(b))
			r.cutFrom = append(r.cutFrom, cutRange{segment: at.segment, from: at.offset, to: r.sizes[at.segment]})
		}
		next, found := r.successor(at)
		if !found {
			return frames, nil
		}
		at.segment, at.offset = next, segmentHeaderBytes
	}
}

// successor returns the log segment that continues where at stands.
func (r *recovery) successor(at mark) (uint64, bool) {
	for _, number := range slices.Sorted(maps.Keys(r.headers)) {
		h := r.headers[number]
		if number > at.segment && h.kind == kindLog &&
			h.prevNumber == at.segment && h.prevEnd == at.offset && h.prevSum == at.sum {
			return number, true
		}
	}
	return 0, false
}

// replayTail applies the tail as it will stand: in a segment of its own, or
// read-only, in memory behind the mark.
func (r *recovery) replayTail() error {
	segment, offset := r.tailPlace()
	for _, t := range r.tailAt {
		if err := r.replayFrame(&t.frame, segment, offset+int64(t.offset)); err != nil {
			return err
		}
		r.at.seq, r.at.sum = t.frame.lastSeq(), t.frame.checksum
	}
	m := r.at.mark
	r.at = r.store.position()
	r.at.mark = m
	return nil
}

// tailPlace is where the tail will stand. Nothing is appended to an old tail,
// nor is a flush of one trusted: what is above the mark is written anew.
func (r *recovery) tailPlace() (segment uint64, offset int64) {
	if !r.mustRewrite() {
		return r.at.segment, r.at.offset
	}
	return r.highest() + 1, segmentHeaderBytes
}

func (r *recovery) mustRewrite() bool { return r.above || len(r.tailAt) > 0 }

// highest is the largest segment number that is taken, by whatever.
func (r *recovery) highest() uint64 {
	highest := r.state.state.mark.segment
	for number := range r.sizes {
		highest = max(highest, number)
	}
	return highest
}

// sortJournalFrames orders a space's journal frames and drops duplicates, of which an
// undamaged one stays.
func sortJournalFrames(frames []journalFrame) []journalFrame {
	slices.SortStableFunc(frames, func(a, b journalFrame) int {
		if c := cmp.Compare(a.firstSeq, b.firstSeq); c != 0 {
			return c
		}
		return cmp.Compare(len(b.bytes), len(a.bytes))
	})
	return slices.CompactFunc(frames, func(a, b journalFrame) bool { return a.firstSeq == b.firstSeq })
}
