package engram

import (
	"encoding/binary"
	"hash/crc32"
	"path"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A checkpoint that says of itself what cannot be is refused, before anything is
// taken from it.
func TestDamageCheckpointSaysWhatCannotBe(t *testing.T) {
	intact := exampleCheckpoint()
	section := func(kind int) []byte {
		entry := checkpointHeaderBytes + (kind-1)*sectionEntryBytes
		return slices.Clone(intact[sectionBegin(intact, kind):][:binary.LittleEndian.Uint64(intact[entry+16:])])
	}
	cut := func(kind, n int) []byte { return replaceSection(intact, kind, section(kind)[:len(section(kind))-n]) }
	segment := func(end, last uint64) []byte {
		b := binary.AppendUvarint([]byte{1, 3, 2}, end)
		b = binary.AppendUvarint(b, last)
		return replaceSection(intact, sectionSegments, append(b, 1, 2, 3, 4, 118, 0))
	}
	requests := binary.AppendUvarint(nil, keptRequests+1)
	for range keptRequests + 1 {
		requests = append(requests, section(sectionRequests)[1:]...)
	}
	for name, checkpoint := range map[string][]byte{
		"the log begins in a segment":    sealCheckpoint(putU32(slices.Clone(intact), 64, segmentHeaderBytes+8)),
		"state cut":                      cut(sectionState, 4),
		"state empty":                    replaceSection(intact, sectionState, nil),
		"segment ends before its header": segment(100, 50),
		"last frame in the header":       segment(288, 100),
		"last frame behind the end":      segment(288, 300),
		"last frame too close":           segment(288, 280),
		"segment too long":               segment(1<<33, 128),
		"segments cut":                   cut(sectionSegments, 1),
		"requests cut":                   cut(sectionRequests, 5),
		"too many requests":              replaceSection(intact, sectionRequests, requests),
	} {
		_, err := decodeCheckpoint(checkpoint, exampleIdentity())
		require.ErrorIs(t, err, errCheckpoint, name)
	}
	_, err := decodeCheckpoint(segment(288, 128), exampleIdentity())
	require.NoError(t, err)
}

// checkpointedSpace is the example's directory with that checkpoint installed.
func checkpointedSpace(checkpoint []byte) *memoryFS {
	m := newMemoryFS()
	state := exampleState()
	state.checkpoint.size, state.checkpoint.sum = int64(len(checkpoint)), crc32.Checksum(checkpoint, castagnoli)
	m.put(path.Join(string(exampleID), spaceFile), encodeSpaceFile(exampleIdentity(), state))
	m.put(path.Join(string(exampleID), state.checkpoint.name()), checkpoint)
	m.put(path.Join(string(exampleID), segmentPath(3)), exampleBodies())
	frames, _ := exampleFrames()
	m.put(path.Join(string(exampleID), segmentPath(2)), encodeSegmentHeader(segmentHeader{
		kind: kindLog, identity: exampleIdentity(), number: 2, firstSeq: 3,
		prevNumber: 1, prevEnd: int64(len(exampleSegment())), prevSum: frames[1].checksum,
	}))
	return m
}

// What is installed whole, and is not this space's checkpoint or not of this
// version, is named as what it is. So are the segments.
func TestDamageInstalledCheckpoint(t *testing.T) {
	intact := exampleCheckpoint()
	later := sealBlock(putU32(slices.Clone(intact[:checkpointHeaderBytes]), 8, formatVersion+1))
	theirs := sealBlock(putU32(slices.Clone(intact[:checkpointHeaderBytes]), 16, 7))
	segment := path.Join(string(exampleID), segmentPath(2))
	for name, c := range map[string]struct {
		m       *memoryFS
		change  func(m *memoryFS)
		version bool
		foreign bool
		damaged bool
	}{
		"intact":          {m: checkpointedSpace(intact)},
		"later version":   {m: checkpointedSpace(append(later, intact[checkpointHeaderBytes:]...)), version: true},
		"another's":       {m: checkpointedSpace(append(theirs, intact[checkpointHeaderBytes:]...)), foreign: true, damaged: true},
		"contradictory":   {m: checkpointedSpace(replaceSection(intact, sectionEpisodes, nil)), damaged: true},
		"short":           {m: checkpointedSpace(intact[:40]), damaged: true},
		"unknown section": {m: checkpointedSpace(withSection(intact, 99, 0)), version: true},
		"segment of a later version": {m: checkpointedSpace(intact), version: true, change: func(m *memoryFS) {
			m.put(segment, sealBlock(putU32(slices.Clone(m.files(".")[segment]), 8, formatVersion+1)))
		}},
		"bodies in place of the log": {m: checkpointedSpace(intact), damaged: true, change: func(m *memoryFS) {
			m.put(segment, sealBlock(putU32(slices.Clone(m.files(".")[segment]), 12, uint32(kindBodies))))
		}},
		"segment of no kind": {m: checkpointedSpace(intact), damaged: true, change: func(m *memoryFS) {
			m.put(segment, sealBlock(putU32(slices.Clone(m.files(".")[segment]), 12, 9)))
		}},
	} {
		if c.change != nil {
			c.change(c.m)
		}
		r := inspectSegment(t, c.m, nil)
		require.Equal(t, c.version, r == nil, name)
		if r == nil {
			continue
		}
		require.Equal(t, c.damaged, r.damage != nil, "%s: %v", name, r.damage)
		if c.damaged {
			require.Equal(t, c.foreign, r.damage.Foreign, name)
		} else {
			require.EqualValues(t, 1, r.store.view().live, name)
		}
	}
}

// sealedSegment is the segment with one frame of these records, and its mark.
func sealedSegment(kind uint16, flags uint16, count uint32, records ...[]byte) ([]byte, mark) {
	b := encodeSegmentHeader(segmentHeader{kind: kindLog, identity: exampleIdentity(), number: 1, firstSeq: 1})
	f := frame{count: count, firstSeq: 1, epoch: exampleEpoch, kind: kind}
	encoded := sealFrame(append(make([]byte, frameHeaderBytes), slices.Concat(records...)...), exampleIdentity().key, &f)
	if flags != 0 {
		binary.LittleEndian.PutUint16(encoded[30:], flags)
		f.checksum = sumExcept(keyedSum(exampleIdentity().key), encoded)
		putU32(encoded, 4, f.checksum)
	}
	b = append(b, encoded...)
	return b, mark{seq: uint64(count), segment: 1, offset: int64(len(b)), sum: f.checksum}
}

// A frame whose checksum is right, and which holds something else than it says,
// is damage where it is settled. Nothing of it is taken as memories.
func TestDamageFrameSaysWhatCannotBe(t *testing.T) {
	operations := exampleOperations()
	first, second := exampleRecord(&operations[0]), exampleRecord(&operations[1])
	damagedRecord := slices.Clone(second)
	damagedRecord[20] ^= 1
	unknown := slices.Clone(second)
	unknown[8] = 99
	putU32(unknown, 4, operationSum(unknown, exampleIdentity().key, 2))
	for name, c := range map[string]struct {
		kind, flags uint16
		count       uint32
		records     [][]byte
		damaged     bool
		version     bool
	}{
		"as it says":          {kindLog, 0, 2, [][]byte{first, second}, false, false},
		"fewer operations":    {kindLog, 0, 3, [][]byte{first, second}, true, false},
		"more operations":     {kindLog, 0, 1, [][]byte{first, second}, true, false},
		"a damaged operation": {kindLog, 0, 2, [][]byte{first, damagedRecord}, true, false},
		"an unknown one":      {kindLog, 0, 2, [][]byte{first, unknown}, false, true},
		"unknown flags":       {kindLog, 8, 2, [][]byte{first, second}, true, false},
		"unknown kind":        {9, 0, 2, [][]byte{first, second}, true, false},
		"of kind bodies":      {kindBodies, 0, 2, [][]byte{first, second}, true, false},
	} {
		segment, at := sealedSegment(c.kind, c.flags, c.count, c.records...)
		r := inspectSegment(t, segmentSpace(segment, at), nil)
		require.Equal(t, c.version, r == nil, name)
		if r != nil {
			require.Equal(t, c.damaged, r.damage != nil, "%s: %v", name, r.damage)
		}
	}
	segment, at := sealedSegment(kindLog, 0, 2, first, second)
	at.seq++
	r := inspectSegment(t, segmentSpace(segment, at), nil)
	require.NotNil(t, r.damage, "the mark says more than the log holds")
}

// A later version's HEAD stops a registry in both ways, and is no damage.
func TestDamageHeadOfLaterVersion(t *testing.T) {
	file, _ := fuzzGroups(fuzzOperations())
	page := sealBlock(putU32(encodeHead(exampleHead()), 8, formatVersion+1))
	for _, readOnly := range []bool{true, false} {
		_, err := openFuzzedJournal(t, slices.Concat(page, page), file, readOnly)
		require.ErrorIs(t, err, ErrVersion)
	}
}

// Openings that are killed before their spaces settle leave a generation each;
// they do not add up, and none loses what it took.
func TestJournalManyKilledOpenings(t *testing.T) {
	_, frames := fuzzGroups(fuzzOperations())
	seed := journalSeeds()["no-groups"]
	m := fuzzedJournal(seed[0].([]byte), seed[1].([]byte))
	space := exampleIdentity().incarnation
	for i := range 3 * maxFoundGenerations {
		j, err := openJournalIn(t, m, false)
		require.NoError(t, err)
		require.LessOrEqual(t, len(j.old), maxFoundGenerations)
		seq := uint64(i + 1)
		require.NoError(t, j.append([]groupFrame{{space: space, id: exampleID, firstSeq: seq, count: 1, bytes: frames[i%len(frames)]}}))
		killed := m.clone()
		require.NoError(t, j.close())
		m = killed
	}
	j, err := openJournalIn(t, m, false)
	require.NoError(t, err)
	held, err := j.collect(space)
	require.NoError(t, err)
	held = sortJournalFrames(held)
	require.Len(t, held, 3*maxFoundGenerations)
	for i, f := range held {
		require.EqualValues(t, i+1, f.firstSeq)
		require.Equal(t, frames[i%len(frames)], f.bytes)
	}
	require.NoError(t, j.close())
}

// However many generations wait for their spaces, an opening takes the memory of
// one of their files.
func TestJournalOpensOneFileAtATime(t *testing.T) {
	_, frames := fuzzGroups(fuzzOperations())
	seed := journalSeeds()["no-groups"]
	m := fuzzedJournal(seed[0].([]byte), seed[1].([]byte))
	for i := range maxFoundGenerations {
		j, err := openJournalIn(t, m, false)
		require.NoError(t, err)
		f := groupFrame{space: exampleIdentity().incarnation, id: exampleID, firstSeq: uint64(i + 1), count: 1, bytes: frames[0]}
		require.NoError(t, j.append([]groupFrame{f}))
		killed := m.clone()
		require.NoError(t, j.close())
		m = killed
	}
	const longest = 4 << 20
	for name := range m.files(journalDir) {
		if name != headName {
			m.extend(path.Join(journalDir, name), longest-minJournalBytes)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	j, err := openJournalIn(t, m, true)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, j.old, maxFoundGenerations)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(maxFoundGenerations*longest/2))
	require.NoError(t, j.close())
}

// A journal file that changes under a registry is found out when its frames are
// carried: they stay where they are.
func TestJournalDamagedWhileOpen(t *testing.T) {
	seed := journalSeeds()["intact"]
	m := fuzzedJournal(seed[0].([]byte), seed[1].([]byte))
	j, err := openJournalIn(t, m, false)
	require.NoError(t, err)
	root, err := m.OpenDir("", false)
	require.NoError(t, err)
	file, err := root.Open(journalFilePath(1), true)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte{0xee}, groupHeaderBytes+3)
	require.NoError(t, err)
	err = j.settle(background)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NotEmpty(t, j.old, "they are not let go of")
	require.NoError(t, j.close())
}

// A first opening that was cut short leaves nothing to read, and no damage.
func TestOpenReadOnlyBeforeFirstOpening(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, damageOptions(m, true))
	require.Empty(t, spaceIDs(r, ""))
	require.Nil(t, r.journal.damage)
	require.Zero(t, r.Stats().JournalFiles)
	require.NoError(t, r.Close())
}

// Damage that a read finds in a space that is awake is named by each read that meets
// it, by writes and by what describes the space; other reads are as before.
func TestDamageFoundByAReader(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "first", Content: "first word"}, Memory{ID: "second", Content: "second word"})
	v := s.awake.Load().store.view()
	d, _ := v.lookup("second")
	record := v.locator(d)
	m.flipOpen("alpha/"+segmentPath(record.segment), int(record.offset)+record.length-1)
	named := func(err error) {
		t.Helper()
		var damage *CorruptionError
		require.ErrorAs(t, err, &damage)
		require.Equal(t, CorruptionError{Space: "alpha", File: segmentPath(record.segment), Offset: record.offset, Reason: damage.Reason}, *damage)
	}
	for range 2 {
		_, err := s.Lookup(background, "second")
		named(err)
		_, err = s.Recall(background, Cue{Text: "word"})
		named(err)
		_, err = s.Lookup(background, "first")
		require.NoError(t, err)
		require.Equal(t, []string{"first"}, recalledIDs(recall(t, s, Cue{Text: "first"})))
		_, err = s.Lookup(background, "third")
		require.ErrorIs(t, err, ErrMemoryNotFound)
		_, err = s.Forget(background, []string{"first"})
		named(err)
		require.ErrorIs(t, err, ErrStopped)
		require.Equal(t, Quarantined, infoOf(t, s).State)
		require.Contains(t, s.Stats().Operator.Stopped, "a memory's record is damaged")
		require.NotContains(t, err.Error(), "device", "which has not failed")
	}
}
