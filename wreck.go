package engram

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/engramdb/engram/internal/vfs"
)

// wreck is what is left of a space. Recovery stops at the first damage, because
// it must not guess; a wreck is what may be guessed from the rest: each record
// carries its seq in its checksum, so whatever verifies was written, and where.
type wreck struct {
	dir       vfs.Dir
	identity  identity
	records   map[uint64]salvaged // by seq
	store     *store
	dimension int // of the embeddings that callers gave last
}

// salvaged is where the record of an operation was found.
type salvaged struct {
	locator
	bytes []byte // where it was found in the journal
}

// openWreck reads what is left of the space. ctx ends it between two segments, and
// at each place in one where a frame may be.
func (r *Registry) openWreck(ctx context.Context, id SpaceID, s *SpaceSalvage) (*wreck, error) {
	dir, err := r.root.OpenDir(string(id))
	if err != nil {
		return nil, inSpace(id, damageOrError(err, string(id)))
	}
	w := &wreck{dir: dir, records: make(map[uint64]salvaged), store: newStore()}
	if err := w.read(ctx, r, id, s); err != nil {
		return nil, errors.Join(inSpace(id, err), dir.Close())
	}
	return w, nil
}

func (w *wreck) config() SpaceConfig { return w.store.config }

func (w *wreck) living() []uint32 { return w.store.view().living() }

func (w *wreck) id(d uint32) string { return string(w.store.view().id(d)) }

func (w *wreck) close() error { return w.dir.Close() }

func (w *wreck) read(ctx context.Context, r *Registry, id SpaceID, s *SpaceSalvage) error {
	state, err := w.identify(ctx, r, id)
	if err != nil {
		return err
	}
	if err := w.readLog(ctx); err != nil {
		return err
	}
	frames, err := r.journal.collect(w.identity.incarnation)
	if err != nil {
		return err
	}
	end := uint64(0) // the last seq that the space is known to have had
	if state != nil {
		end = state.mark.seq
	}
	s.OpenEnd = state == nil || r.journal.damage != nil
	for _, f := range frames {
		end = max(end, f.lastSeq)
		if f.bytes == nil {
			continue
		}
		if err := w.take(ctx, f.bytes, locator{}, f.bytes, math.MaxUint64); err != nil {
			return err
		}
	}
	if err := w.loadCheckpoint(state, s); err != nil {
		return err
	}
	return w.replay(end, state, s)
}

// identify finds out which space the directory is: by its SPACE, or where that
// is damaged, by what its segments say of themselves. It returns the state if
// there is one.
func (w *wreck) identify(ctx context.Context, r *Registry, id SpaceID) (*spaceState, error) {
	b, err := readFile(w.dir, spaceFile, spaceFileBytes)
	if err == nil {
		var state spaceState
		w.identity, state, err = decodeSpaceFile(b)
		if err == nil && state.id != id && state.next != id {
			return nil, &CorruptionError{File: spaceFile, Offset: pageBytes, Reason: fmt.Sprintf(
				"names another space: if its directory was renamed, rename it back to %q", string(state.id)), Foreign: true}
		}
		if err == nil {
			return &state, nil
		}
		if w.identity != (identity{}) {
			return nil, w.checkUnique(r, id)
		}
	} else {
		err = damageOrError(err, spaceFile)
	}
	if !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	damage := err
	headers, err := w.headers(ctx)
	if err != nil {
		return nil, err
	}
	for i, h := range headers {
		if i > 0 && h.identity != w.identity {
			return nil, &CorruptionError{File: walDir, Offset: -1, Reason: "holds segments of several spaces, and SPACE does not say which it is"}
		}
		w.identity = h.identity
	}
	if len(headers) == 0 {
		return nil, damage
	}
	return nil, w.checkUnique(r, id)
}

// checkUnique refuses a directory that does not say its id and may be a copy of
// another space's.
func (w *wreck) checkUnique(r *Registry, id SpaceID) error {
	for other := range r.Spaces("") {
		if other == id {
			continue
		}
		found, err := r.readIncarnation(other)
		switch {
		case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion):
		case err != nil:
			return err
		case found == w.identity.incarnation:
			return &CorruptionError{File: walDir, Offset: -1, Reason: "is that of another space", Foreign: true}
		}
	}
	return nil
}

// segments lists the numbers of the segment files.
func (w *wreck) segments() ([]uint64, error) {
	entries, err := w.dir.ReadDir(walDir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrUnsafe) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", walDir, err)
	}
	var numbers []uint64
	for _, e := range entries {
		if n, ok := segmentNumber(e.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

func (w *wreck) headers(ctx context.Context) ([]segmentHeader, error) {
	numbers, err := w.segments()
	if err != nil {
		return nil, err
	}
	var list []segmentHeader
	for _, n := range numbers {
		b, err := w.readSegment(ctx, n)
		if err != nil {
			return nil, err
		}
		if h, err := decodeSegmentHeader(b); err == nil {
			list = append(list, h)
		}
	}
	return list, nil
}

// readSegment returns the file's bytes, nil where it is no file to be read.
func (w *wreck) readSegment(ctx context.Context, number uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := readFile(w.dir, segmentPath(number), maxSegmentBytes)
	if errors.Is(err, vfs.ErrUnsafe) || errors.Is(err, errLength) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", segmentPath(number), err)
	}
	return b, nil
}

// readLog looks for records in every segment. A segment of another space has
// none: its key is another.
func (w *wreck) readLog(ctx context.Context) error {
	headers, err := w.headers(ctx)
	if err != nil {
		return err
	}
	// What a segment holds from where a later one goes on was given up: it was
	// never acknowledged, and its seqs may have been used again.
	continued := make(map[uint64]uint64)
	for _, h := range headers {
		if h.kind == kindLog && h.identity == w.identity {
			continued[h.prevNumber] = h.firstSeq
		}
	}
	numbers, err := w.segments()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		b, err := w.readSegment(ctx, n)
		if err != nil {
			return err
		}
		before, found := continued[n]
		if !found {
			before = math.MaxUint64
		}
		if err := w.take(ctx, b, locator{segment: n}, nil, before); err != nil {
			return err
		}
	}
	return nil
}

// wildRecords that fail to verify, one behind the other, end the walk through what
// looks like a frame, once more have failed in all than the bytes have room for.
const wildRecords = 16

// recordSearch is what records are looked for in, and how many failed to verify.
type recordSearch struct {
	*rangeSums
	held   []byte // the bytes, where they have to be kept
	before uint64 // records from this seq on are left out
	failed int
}

// take files the records below the seq of the frames in b, which stands at the
// place. Behind damage it looks for the next frame at every byte. held is b where
// it has to be kept.
func (w *wreck) take(ctx context.Context, b []byte, at locator, held []byte, before uint64) error {
	s := &recordSearch{rangeSums: sumRanges(b), held: held, before: before}
	for i := 0; i+frameHeaderBytes <= len(b); {
		n, ok := looksLikeFrame(b[i:])
		if !ok {
			i++
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		w.takeRecords(s, i, min(i+n, len(b)), at)
		if _, _, err := s.frame(i, w.identity.key); err != nil {
			i++
			continue
		}
		i += n
	}
	return nil
}

// looksLikeFrame reports whether a frame may begin at b, and its length: what
// looks for frames at every byte must not compute a checksum at each.
func looksLikeFrame(b []byte) (int, bool) {
	n, err := frameLen(b)
	if err != nil {
		return 0, false
	}
	kind := binary.LittleEndian.Uint32(b[28:]) // and the flags, which are 0
	return n, kind == uint32(kindLog) || kind == uint32(kindBodies)
}

// takeRecords files the records of the frame in bytes[from:end]; place is that of
// the first byte. Each is verified for itself: the frame may be damaged in another
// place. Frames do not overlap, and together have no more records than the bytes have
// room for. Contents that are full of headers may have each lead through the same
// bytes again: so it is only among those that a frame is left before its end.
func (w *wreck) takeRecords(s *recordSearch, from, end int, place locator) {
	header := s.bytes[from:][:frameHeaderBytes]
	seq := binary.LittleEndian.Uint64(header[16:])
	bodies := binary.LittleEndian.Uint16(header[28:]) == kindBodies
	inRow := 0 // that failed
	for at := from + frameHeaderBytes; ; seq++ {
		if bodies {
			if end-at < 8 {
				return
			}
			seq = binary.LittleEndian.Uint64(s.bytes[at:])
			at += 8
		}
		n, err := splitRecord(s.bytes[at:end])
		if err != nil {
			return
		}
		if seq < s.before && s.except(sumNumber(keyedSum(w.identity.key), seq), at, at+n) == binary.LittleEndian.Uint32(s.bytes[at+4:]) {
			found := salvaged{locator: place}
			found.offset += int64(at)
			found.length = n
			if s.held != nil {
				found.bytes = s.held[at:][:n]
			}
			w.records[seq] = found
			inRow = 0
		} else if s.failed, inRow = s.failed+1, inRow+1; inRow >= wildRecords && s.failed > len(s.bytes)/operationHeaderBytes {
			return
		}
		at += n
	}
}

// loadCheckpoint fills the store from the checkpoint that the state names, or
// where there is no state, from the newest that is whole.
func (w *wreck) loadCheckpoint(state *spaceState, s *SpaceSalvage) error {
	entries, err := w.dir.ReadDir(".")
	if err != nil {
		return fmt.Errorf("list the space: %w", err)
	}
	wanted := ""
	if state != nil && state.checkpoint.seq != 0 {
		wanted = state.checkpoint.name()
		s.Returned = true // until it is loaded
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, checkpointPrefix) || state != nil && name != wanted {
			continue
		}
		b, err := readFile(w.dir, name, maxSegmentBytes)
		if err != nil {
			if err = damageOrError(err, name); !errors.Is(err, ErrCorrupt) {
				return err
			}
			continue
		}
		c, err := decodeCheckpoint(b, w.identity)
		if errors.Is(err, errUnknownVersion) {
			return &VersionError{File: name, Version: blockVersion(b)}
		}
		if err == nil && c.start.seq >= w.store.seq {
			w.store, s.Returned = newStore(), false
			w.store.load(c)
		}
	}
	// Without a state nobody knows whether there was a checkpoint; a log that
	// does not begin with the first operation says so.
	if _, first := w.records[1]; state == nil && w.store.seq == 0 && !first {
		s.Returned = true
	}
	return nil
}

// replay applies the operations above the checkpoint, up to the last one found,
// and notes those that are missing before end. The configuration as of the mark,
// whose operation may be among these, stands in the state too.
func (w *wreck) replay(end uint64, state *spaceState, s *SpaceSalvage) error {
	seqs := make([]uint64, 0, len(w.records))
	for seq := range w.records {
		if seq > w.store.seq {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	w.dimension = w.store.dimension
	configured := uint64(0) // seq of the last operation that did
	for _, seq := range seqs {
		op, err := w.operation(seq)
		switch {
		case errors.Is(err, errNotOperation):
			continue
		case errors.Is(err, errUnknownVersion):
			return &VersionError{File: segmentPath(w.records[seq].segment), Version: formatVersion}
		case err != nil:
			return err
		}
		w.missing(seq-1, s)
		w.store.apply(op)
		switch n := len(op.memory.Embedding); {
		case op.kind == opConfigure:
			configured = seq
		case op.kind == opRemember && n > 0:
			w.dimension = n
		}
	}
	if state != nil && configured <= state.mark.seq {
		w.store.config = state.config
	}
	w.store.publish()
	s.LastSeq = w.store.seq
	w.missing(end, s)
	return nil
}

// missing notes that what is between the store and seq, included, is lost.
// Where the checkpoint is lost nobody knows what of that was still needed.
func (w *wreck) missing(seq uint64, s *SpaceSalvage) {
	if w.store.seq < seq && !(s.Returned && w.store.seq == 0) {
		s.Missing = append(s.Missing, SeqRange{First: w.store.seq + 1, Last: seq})
	}
}

// operation reads a record that was found, again.
func (w *wreck) operation(seq uint64) (*operation, error) {
	found := w.records[seq]
	b := found.bytes
	if b == nil {
		name := segmentPath(found.segment)
		file, err := w.dir.Open(name, false)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		b, err = readRange(file, found.offset, found.offset+int64(found.length))
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	op, err := decodeOperation(b, w.identity.key, seq)
	if err != nil {
		return nil, err
	}
	op.record = found.locator
	return &op, nil
}

// memory returns the document's memory as it can be remembered again, nil where
// its record is lost. An embedding of another dimension than the last ones is left
// out: before those came, the space had none like it.
func (w *wreck) memory(d uint32) (*Memory, error) {
	v := w.store.view()
	if _, found := w.records[v.seqOf(d)]; !found {
		return nil, nil
	}
	op, err := w.operation(v.seqOf(d))
	if errors.Is(err, errNotOperation) || err == nil && op.memory.ID != string(v.id(d)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &op.memory
	if n := len(m.Embedding); n > 0 && n != w.dimension {
		m.Embedding = nil
		if m.Content == "" {
			return nil, nil
		}
	}
	return m, nil
}

func (w *wreck) associations(id string) []Association { return w.store.view().graph.associations(id) }
