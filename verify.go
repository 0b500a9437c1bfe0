package engram

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// VerifyReport says what a verification of a space has read.
type VerifyReport struct {
	Space         SpaceID `json:"space"`
	Seq           uint64  `json:"seq"`            // of the state that was verified
	CheckpointSeq uint64  `json:"checkpoint_seq"` // of the checkpoint; 0: there is none
	Segments      int     `json:"segments"`
	Frames        int     `json:"frames"`
	Operations    int     `json:"operations"` // records in them
	Memories      int64   `json:"memories"`   // found where the index has them
	Bytes         int64   `json:"bytes"`      // read, of all files
	// Digest of the state at Seq, rebuilt from the files: that of two spaces, or
	// of one at two times, is equal where their memories, associations, indexes,
	// configuration and kept requests are.
	Digest string `json:"digest"`
	// Spare names copies in SPACE that are damaged and not needed, because
	// another one holds. A crash may leave one.
	Spare []string `json:"spare,omitempty"`
	// Damage is what was found, with file and byte: of the frames of a segment the first
	// place.
	Damage []string `json:"damage,omitempty"`
}

// Verify reads every byte of the space's files that belongs to it, SPACE, the
// checkpoint, and all segments with every frame and record, and holds it against
// checksums and chains. Then it rebuilds the state from them and compares it
// with the loaded one. What a segment has behind its end, and quarantine/, are
// not the space's any more.
//
// Damage is in the report, all that was found, and the first is the error, a
// [CorruptionError]: the space's writes stop, as where a read finds it. Of a space that
// waking found damaged it says that and reads nothing: see [Check]. Another error says
// nothing of the space. Writes go on meanwhile; those behind report.Seq are read, but not
// compared. It takes as much memory as the loaded space once more, so one that is called
// meanwhile waits for it.
func (s *Space) Verify(ctx context.Context) (VerifyReport, error) {
	a, err := s.use(ctx)
	if err != nil {
		return VerifyReport{Space: s.ID()}, err
	}
	defer a.done()
	v := &verification{awake: a, report: VerifyReport{Space: s.ID()}}
	if a.damage != nil {
		v.report.Damage = []string{a.damage.Error()}
		return v.report, a.damage
	}
	if err := a.verifying.LockContext(ctx); err != nil {
		return v.report, err
	}
	defer a.verifying.Unlock()
	if err := a.maintenance.running.LockContext(ctx); err != nil {
		return v.report, err
	}
	err = v.begin()
	a.maintenance.running.Unlock()
	defer a.unpin(v.pins)
	for _, step := range []func(context.Context) error{v.verifyState, v.loadCheckpoint, v.verifySegments, v.compare} {
		if err == nil {
			err = v.judge(step(ctx))
		}
	}
	if err == nil {
		err = v.failure
	}
	return v.report, err
}

// verification is one Verify at work.
type verification struct {
	*awake
	report  VerifyReport
	failure error // the first damage

	// What was loaded at one moment.
	pins       *segmentSet
	extents    []extent
	loaded     stateDigest
	places     map[uint64]locator // of the living records, by seq
	vectors    int64              // derived ones among them that were not found yet
	reference  checkpointRef
	checkpoint []byte

	// What the files say.
	rebuilt *store
	start   mark // from where on the log is replayed
	at      mark // behind the last frame of the log that was read
}

// begin fixes the moment. Its caller holds maintenance.running: no checkpoint moves
// records or removes files meanwhile; those that follow leave what is pinned.
func (v *verification) begin() error {
	a := v.awake
	v.loaded = a.store.digested()
	v.pins = a.log.pin()
	v.extents = a.log.extents(v.pins)
	v.reference = a.log.settledState().checkpoint
	v.places = make(map[uint64]locator, v.loaded.view.live)
	for _, d := range v.loaded.living {
		v.loaded.view.records(d, func(m movedRecord) {
			loc, seq := v.loaded.view.recordOf(m)
			v.places[seq] = loc
			if m.kind != recordMemory {
				v.vectors++
			}
		})
	}
	v.report.Seq = v.loaded.view.seq
	if v.reference.seq == 0 {
		return nil
	}
	var err error
	v.checkpoint, err = readCheckpoint(a.log.dir, v.reference)
	return v.judge(err)
}

// judge notes damage, which stops the space's writes and lets the verification
// go on; other errors end it.
func (v *verification) judge(err error) error {
	if err == nil {
		return nil
	}
	if gone := v.space.gone(); gone != nil {
		return gone
	}
	err = inSpace(v.space.ID(), err)
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	v.report.Damage = append(v.report.Damage, err.Error())
	if v.failure == nil {
		v.failure = err
		v.stop(err)
	}
	return nil
}

// verifyState reads SPACE.
func (v *verification) verifyState(context.Context) error {
	b, state, err := v.log.readState()
	if err != nil {
		return damageOrError(err, spaceFile)
	}
	v.report.Bytes += int64(len(b))
	id, found, err := decodeSpaceFile(b)
	if err != nil {
		return err
	}
	if id != v.identity || !state.mayHold(found) {
		return &CorruptionError{File: spaceFile, Offset: pageBytes, Reason: "does not hold the state that was written"}
	}
	for i, magic := range []string{spaceMagic, slotMagic, slotMagic, spaceMagic} {
		if openBlock(b[i*pageBytes:][:pageBytes], magic) != nil {
			v.report.Spare = append(v.report.Spare, fmt.Sprintf("%s at byte %d", spaceFile, i*pageBytes))
		}
	}
	return nil
}

// readState returns the content of SPACE and what is known of it. Nobody writes it
// meanwhile.
func (l *log) readState() ([]byte, stateFile, error) {
	l.files.Lock()
	defer l.files.Unlock()
	b, err := readFile(l.dir, spaceFile, spaceFileBytes)
	return b, *l.state, err
}

func (v *verification) loadCheckpoint(context.Context) error {
	v.rebuilt = newStore()
	if v.failure != nil || v.reference.seq == 0 {
		return nil
	}
	v.report.Bytes += int64(len(v.checkpoint))
	v.report.CheckpointSeq = v.reference.seq
	c, err := openCheckpoint(v.checkpoint, v.reference, v.identity)
	if err != nil {
		return err
	}
	v.rebuilt.load(c)
	v.start = c.start
	return nil
}

func (v *verification) verifySegments(ctx context.Context) error {
	for _, e := range v.extents {
		if err := v.judge(v.verifySegment(ctx, e)); err != nil {
			return err
		}
		v.report.Segments++
	}
	return nil
}

// verifySegment reads one segment, as far as it is intact.
func (v *verification) verifySegment(ctx context.Context, e extent) error {
	if err := v.verifyHeader(e); err != nil {
		return err
	}
	sum := e.header.prevSum
	if e.kind == kindLog {
		if v.at.seq+1 == e.header.firstSeq && v.at.sum != sum {
			return v.broken(e, 80, "does not continue the segment before it")
		}
		v.at.seq, v.at.sum = e.header.firstSeq-1, sum
	}
	reader := frameReader{log: v.log, at: e, key: v.identity.key, offset: segmentHeaderBytes}
	for last := e.last; ; {
		offset := reader.offset
		f, n, err := reader.next()
		switch {
		case errors.Is(err, io.EOF) && e.last != last && e.last != (lastFrame{}):
			return v.broken(e, last.offset, "does not end with the frame that was written last")
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errNotFrame):
			return v.broken(e, offset, "a frame is damaged")
		case err != nil:
			return damageOrError(err, segmentPath(e.number))
		case f.kind != e.kind || f.prev != sum || f.epoch > v.registry.epoch || f.kind == kindLog && f.firstSeq != v.at.seq+1:
			return v.broken(e, offset, "a frame does not continue the segment")
		}
		if err := v.verifyFrame(&f, e, offset); err != nil {
			return err
		}
		sum = f.checksum
		last = lastFrame{offset: offset, sum: sum}
		if f.kind == kindLog {
			v.at.seq, v.at.sum = f.lastSeq(), sum
		}
		v.report.Frames++
		v.report.Bytes += int64(n)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (v *verification) broken(e extent, offset int64, reason string) error {
	return &CorruptionError{File: segmentPath(e.number), Offset: offset, Reason: reason}
}

// verifyHeader reads the segment's header. A read-only registry has frames in a
// segment that is in memory only.
func (v *verification) verifyHeader(e extent) error {
	if v.registry.options.ReadOnly && e.header.number == 0 {
		return nil
	}
	b := make([]byte, segmentHeaderBytes)
	if err := v.log.readAt(e.segment, b, 0); errors.Is(err, errNotFrame) {
		return v.broken(e, 0, "is cut short: acknowledged data is missing")
	} else if err != nil {
		return damageOrError(err, segmentPath(e.number))
	}
	v.report.Bytes += segmentHeaderBytes
	if h, err := decodeSegmentHeader(b); err != nil || h != e.header {
		return v.broken(e, 0, "its header is damaged")
	}
	return nil
}

// verifyFrame decodes the records of the frame at offset, finds those that the
// loaded documents point to, and applies those of the log behind the checkpoint.
func (v *verification) verifyFrame(f *frame, e extent, offset int64) error {
	records, at := f.payload, offset+frameHeaderBytes
	for i := range uint64(f.count) {
		seq := f.firstSeq + i
		if f.kind == kindBodies {
			if len(records) < 8 {
				return v.broken(e, at, "a frame holds fewer records than it says")
			}
			seq, records, at = binary.LittleEndian.Uint64(records), records[8:], at+8
		}
		n, err := splitRecord(records)
		if err != nil {
			return v.broken(e, at, "a frame holds fewer records than it says")
		}
		op, err := decodeOperation(records[:n], v.identity.key, seq)
		if errors.Is(err, errUnknownVersion) {
			return &VersionError{File: segmentPath(e.number), Version: formatVersion}
		}
		if err != nil {
			return v.broken(e, at, "an operation is damaged")
		}
		op.record = locator{segment: e.number, offset: at, length: n}
		if v.places[seq] == op.record {
			v.found(&op)
		}
		if f.kind == kindLog && seq == v.rebuilt.seq+1 && seq > v.start.seq && seq <= v.report.Seq {
			op.analysis = v.rebuilt.config.Analyzer.analyzeMemory(op.memory.Content)
			v.rebuilt.apply(&op)
		}
		v.report.Operations++
		records, at = records[n:], at+int64(n)
	}
	if len(records) > 0 {
		return v.broken(e, at, "a frame holds more than its records")
	}
	return nil
}

// found counts a record that stands where the index has it.
func (v *verification) found(op *operation) {
	if op.kind == opEmbed {
		v.vectors--
	} else {
		v.report.Memories++
	}
}

// compare compares the rebuilt state with the loaded one.
func (v *verification) compare(context.Context) error {
	if v.failure != nil {
		return nil
	}
	missing := func(reason string) error { return &CorruptionError{File: walDir, Offset: -1, Reason: reason} }
	if v.rebuilt.seq != v.report.Seq {
		return missing(fmt.Sprintf("operation %d is missing", v.rebuilt.seq+1))
	}
	if v.report.Memories != v.loaded.view.live {
		return missing(fmt.Sprintf("%d memories are not where the index has them", v.loaded.view.live-v.report.Memories))
	}
	if v.vectors != 0 {
		return missing(fmt.Sprintf("%d vectors are not where the index has them", v.vectors))
	}
	v.rebuilt.publish()
	rebuilt := v.rebuilt.digested()
	v.report.Digest = rebuilt.sum()
	if v.report.Digest != v.loaded.sum() {
		return missing("the loaded state is not what the files say")
	}
	return nil
}
