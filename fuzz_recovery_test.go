package engram

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fuzzOperations are what the seeds of FuzzSegment and FuzzJournal hold, a frame each.
func fuzzOperations() []operation {
	list := exampleOperations()
	for i := range 4 {
		seq := uint64(len(list) + 1)
		list = append(list, operation{
			kind: opRemember, seq: seq, storedAt: int64(seq) * int64(time.Hour),
			memory: Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup number ", i), Time: unixTime(int64(i)), Confidence: 1, Episode: "tea"},
		})
	}
	for _, to := range []string{"m1", "m2"} { // the first one goes with its memory
		list = append(list, operation{
			kind: opAssociate, seq: uint64(len(list) + 1), storedAt: 6,
			association: Association{From: "m0", To: to, Kind: "next", Weight: 0.5},
		})
	}
	list = append(list, operation{kind: opForget, seq: uint64(len(list) + 1), storedAt: 7, ids: []string{"m1", "m3", "unknown"}})
	return append(list, operation{kind: opForget, seq: uint64(len(list) + 1), storedAt: 8, filter: &Filter{Episode: "none", After: unixTime(5)}})
}

// fuzzSegment is the segment with these operations, a frame each, and where
// each frame ends.
func fuzzSegment(operations []operation) (segment []byte, ends []mark) {
	b := encodeSegmentHeader(segmentHeader{kind: kindLog, identity: exampleIdentity(), number: 1, firstSeq: 1})
	sum := uint32(0)
	for i := range operations {
		op := &operations[i]
		f := frame{prev: sum, count: 1, firstSeq: op.seq, epoch: exampleEpoch, kind: kindLog}
		b = append(b, sealFrame(append(make([]byte, frameHeaderBytes), exampleRecord(op)...), exampleIdentity().key, &f)...)
		sum = f.checksum
		ends = append(ends, mark{seq: op.seq, segment: 1, offset: int64(len(b)), sum: sum})
	}
	return b, ends
}

// segmentSpace is a registry's directory with one space whose log is that
// segment, settled up to the mark.
func segmentSpace(segment []byte, settled mark) *memoryFS {
	m := newMemoryFS()
	state := spaceState{id: exampleID, mark: settled}
	m.put(string(exampleID)+"/"+spaceFile, encodeSpaceFile(exampleIdentity(), state))
	m.put(string(exampleID)+"/"+segmentPath(1), segment)
	return m
}

// inspectSegment finds out what the space holds, with these frames of it in the
// journal. It returns nil if it is of another version.
func inspectSegment(t tester, m *memoryFS, journal []journalFrame) *recovery {
	t.Helper()
	root, err := m.OpenDir("", false)
	require.NoError(t, err)
	dir, err := root.OpenDir(string(exampleID))
	require.NoError(t, err)
	r := &recovery{dir: dir, id: exampleID, epoch: exampleEpoch, journal: journal}
	require.NoError(t, r.identify())
	require.Nil(t, r.damage)
	if err := r.inspect(); err != nil {
		require.ErrorIs(t, err, ErrVersion)
		return nil
	}
	return r
}

// recoverSegment does so without a journal and, with complete, completes the log.
func recoverSegment(t tester, m *memoryFS, complete bool) *recovery {
	t.Helper()
	r := inspectSegment(t, m, nil)
	if r != nil && complete && r.damage == nil {
		l, err := r.complete(defaultSegmentBytes)
		require.NoError(t, err)
		require.NoError(t, l.close())
	}
	return r
}

// digest is what a store holds, as text.
func digest(t tester, s *store) string {
	t.Helper()
	type row struct {
		ID, Episode         string
		Seq                 uint64
		Time                int64
		Size, Length, Terms uint32
		Associations        []Association
	}
	var rows []row
	v := s.view()
	v.scan(&Filter{}, func(d uint32) bool {
		r := row{ID: string(v.id(d)), Seq: v.seqOf(d), Time: v.timeOf(d), Size: v.sizeOf(d), Length: v.lengthOf(d), Associations: v.graph.associations(string(v.id(d)))}
		if v.episodeOf(d) != 0 {
			r.Episode = v.episodeName(d)
		}
		rows = append(rows, r)
		return true
	})
	b, err := json.Marshal([]any{s.seq, s.config, s.dimension, rows})
	require.NoError(t, err)
	return string(b)
}

// FuzzSegment recovers a space whose only segment is the input: settled up to
// the frame that the second argument names, the rest is a tail that nothing
// vouches for. What it finds is a beginning of what was written; if that does
// not reach the mark, the space is damaged.
func FuzzSegment(f *testing.F) {
	operations := fuzzOperations()
	written, ends := fuzzSegment(operations)
	digests := make([]string, len(operations)+1) // by the number of operations
	for i := range digests {
		end := int64(segmentHeaderBytes)
		if i > 0 {
			end = ends[i-1].offset
		}
		begun := mark{segment: 1, offset: segmentHeaderBytes}
		digests[i] = digest(f, recoverSegment(f, segmentSpace(written[:end], begun), false).store)
	}
	f.Fuzz(func(t *testing.T, segment []byte, settled byte) {
		at := ends[int(settled)%len(ends)]
		requireProportional(t, len(segment), func() {
			r := recoverSegment(t, segmentSpace(segment, at), false)
			if r == nil {
				return // of another version
			}
			require.LessOrEqual(t, r.store.seq, uint64(len(operations)), "an operation that was not written")
			require.Equal(t, digests[r.store.seq], digest(t, r.store))
			if r.damage == nil {
				require.GreaterOrEqual(t, r.store.seq, at.seq)
			}
			requireRecoveredTwice(t, segment, at, r)
		})
		requireProportional(t, len(segment), func() {
			recoverSegment(t, segmentSpace(sealSegment(segment), at), true)
		})
	})
}

// requireRecoveredTwice requires that recovering for writing finds the same,
// and leaves a log that is clean and has the same.
func requireRecoveredTwice(t *testing.T, segment []byte, at mark, want *recovery) {
	t.Helper()
	m := segmentSpace(segment, at)
	first := recoverSegment(t, m, true)
	require.Equal(t, want.damage, first.damage)
	if first.damage != nil {
		return
	}
	again := recoverSegment(t, m, true)
	require.Nil(t, again.damage)
	require.Equal(t, Clean, again.report.Verdict)
	require.Equal(t, digest(t, want.store), digest(t, again.store))
}

// sealSegment makes the checksums of the header, the frames and their
// operations right, and chains the frames, as far as their lengths lead.
func sealSegment(segment []byte) []byte {
	b := bytes.Clone(segment)
	if len(b) < segmentHeaderBytes {
		return b
	}
	sealBlock(b[:segmentHeaderBytes])
	key := exampleIdentity().key
	sum := uint32(0)
	for at := segmentHeaderBytes; ; {
		n, err := frameLen(b[at:])
		if err != nil || n > len(b)-at {
			return b
		}
		fr := b[at:][:n]
		binary.LittleEndian.PutUint32(fr[8:], sum)
		records := fr[frameHeaderBytes:][:binary.LittleEndian.Uint32(fr)]
		for seq := binary.LittleEndian.Uint64(fr[16:]); ; seq++ {
			n, err := splitRecord(records)
			if err != nil {
				break
			}
			binary.LittleEndian.PutUint32(records[4:], operationSum(records[:n], key, seq))
			records = records[n:]
		}
		sum = sumExcept(keyedSum(key), fr)
		binary.LittleEndian.PutUint32(fr[4:], sum)
		at += n
	}
}

// fuzzGroups is a journal file of the example's generation, with a group for
// each of the frames, in pairs.
func fuzzGroups(operations []operation) (file []byte, frames [][]byte) {
	segment, ends := fuzzSegment(operations)
	from := int64(segmentHeaderBytes)
	number := uint64(0)
	var waiting []groupFrame
	for i, end := range ends {
		frames = append(frames, segment[from:end.offset])
		waiting = append(waiting, groupFrame{
			space: exampleIdentity().incarnation, id: exampleID, firstSeq: end.seq, count: 1, bytes: segment[from:end.offset],
		})
		from = end.offset
		if i%2 == 1 {
			p := promise{generation: exampleHead().generation, offset: int64(len(file))}
			if number == 0 {
				p = promise{generation: 1, offset: 0}
			}
			file = append(file, appendGroup(nil, exampleTag(), number, p, waiting)...)
			waiting, number = nil, number+1
		}
	}
	return file, frames
}

// homelessSpaces is a settler that has none of the spaces.
type homelessSpaces struct{}

func (homelessSpaces) settleSpace(incarnation, SpaceID) (uint64, error) { return 0, errHomeless }

// fuzzedJournal is a directory with a journal of HEAD and one file.
func fuzzedJournal(headBytes, file []byte) *memoryFS {
	m := newMemoryFS()
	m.put(journalDir+"/"+headName, headBytes)
	padded := file
	if len(padded) < minJournalBytes {
		padded = append(bytes.Clone(file), make([]byte, minJournalBytes-len(file))...)
	}
	m.put(journalDir+"/"+journalPath(1), padded)
	m.put(journalDir+"/"+journalPath(2), make([]byte, minJournalBytes))
	return m
}

// openJournalIn opens the journal of a registry that has spaces, none of which
// is there to settle.
func openJournalIn(t *testing.T, m *memoryFS, readOnly bool) (*journal, error) {
	t.Helper()
	root, err := m.OpenDir("", false)
	require.NoError(t, err)
	return openJournal(root, damageOptions(m, readOnly).withDefaults(), homelessSpaces{}, true)
}

func openFuzzedJournal(t *testing.T, headBytes, file []byte, readOnly bool) (*journal, error) {
	t.Helper()
	return openJournalIn(t, fuzzedJournal(headBytes, file), readOnly)
}

// FuzzJournal opens a journal whose HEAD and first file are the input. What it
// accepts was written; if it does not open, the journal is damaged.
func FuzzJournal(f *testing.F) {
	_, frames := fuzzGroups(fuzzOperations())
	written := make(map[string]bool)
	for _, b := range frames {
		written[string(b)] = true
	}
	f.Fuzz(func(t *testing.T, head, file []byte) {
		requireProportional(t, len(head)+len(file), func() {
			if _, err := decodeHead(head); err != nil {
				require.True(t, errors.Is(err, errBlock) || errors.Is(err, errUnknownVersion), err)
			}
			for _, b := range [][]byte{file, sealGroups(file)} {
				decodeGroup(b, exampleTag())
				promises(b, &generation{tag: exampleTag()})
			}
		})
		for _, readOnly := range []bool{true, false} {
			j, err := openFuzzedJournal(t, head, file, readOnly)
			if err != nil {
				requireJournalError(t, err)
				continue
			}
			accepted, err := j.collect(exampleIdentity().incarnation)
			require.NoError(t, err)
			for _, fr := range accepted {
				require.True(t, fr.bytes == nil || written[string(fr.bytes)], "a frame that was not written")
			}
			require.NoError(t, j.close())
		}
		j, err := openFuzzedJournal(t, sealHead(head), sealGroups(file), false)
		if err != nil {
			requireJournalError(t, err)
			return
		}
		_, err = j.collect(exampleIdentity().incarnation)
		require.NoError(t, err)
		require.NoError(t, j.close())
	})
}

func requireJournalError(t *testing.T, err error) {
	t.Helper()
	require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion), err)
	require.True(t, isDamage("", err), err)
}

// sealHead makes the checksums of both slots right.
func sealHead(head []byte) []byte {
	b := bytes.Clone(head)
	for at := 0; at+pageBytes <= len(b); at += pageBytes {
		sealBlock(b[at:][:pageBytes])
	}
	return b
}

// sealGroups makes the checksums of the groups right, as far as their lengths lead.
func sealGroups(file []byte) []byte {
	b := bytes.Clone(file)
	for at := 0; at+groupHeaderBytes <= len(b); {
		table := int(binary.LittleEndian.Uint32(b[at+44:]))
		total := binary.LittleEndian.Uint64(b[at+48:])
		if table < groupHeaderBytes || table > len(b)-at {
			break
		}
		binary.LittleEndian.PutUint32(b[at+56:], tableSum(b[at:][:table]))
		if total < uint64(table) || total > uint64(len(b)-at) {
			break
		}
		at += int(total)
	}
	return b
}
