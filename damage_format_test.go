package engram

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Damage that no checksum finds, as what was written is whole: only that it
// contradicts itself.

// A HEAD that gives two generations to one file, or one to two, would let a
// generation be read twice or overwritten by another.
func TestDamageHeadNamesAFileTwice(t *testing.T) {
	h := exampleHead()
	first := h.files[0]
	other := headFile{number: 3, generation: 1}
	for name, c := range map[string]struct {
		files  []headFile
		intact bool
	}{
		"as it was":           {h.files, true},
		"two that are free":   {append(slices.Clone(h.files), headFile{number: 3}), true},
		"an older generation": {append(slices.Clone(h.files), other), true},
		"a file twice":        {append(slices.Clone(h.files), first), false},
		"under another generation": {
			append(slices.Clone(h.files), headFile{number: first.number, generation: 1}), false,
		},
		"a generation twice": {append(slices.Clone(h.files), headFile{number: 3, generation: first.generation}), false},
	} {
		t.Run(name, func(t *testing.T) {
			changed := h
			changed.files = c.files
			page := encodeHead(changed)
			decoded, err := decodeHead(page)
			if c.intact {
				require.NoError(t, err)
				require.Equal(t, changed, decoded)
				return
			}
			require.ErrorIs(t, err, errBlock)
			file, _ := fuzzGroups(fuzzOperations())
			m := fuzzedJournal(slices.Concat(page, page), file)
			m.put(journalFilePath(3), make([]byte, minJournalBytes))
			requireJournalDamaged(t, m)
		})
	}
}

// Of a section, or of a segment in the list, that stands there twice nobody
// could say which one holds.
func TestDamageCheckpointSaysSomethingTwice(t *testing.T) {
	intact := exampleCheckpoint()
	entries := checkpointHeaderBytes
	twice := withSection(intact, sectionRequests, 0) // and with the same bytes:
	last := entries + 5*sectionEntryBytes
	copy(twice[last+sectionEntryBytes:][:sectionEntryBytes], twice[last:][:sectionEntryBytes])

	segments := intact[sectionBegin(intact, sectionSegments):][:13]
	require.EqualValues(t, 1, segments[0])
	listedTwice := replaceSection(intact, sectionSegments, slices.Concat([]byte{2}, segments[1:], segments[1:]))
	later := slices.Clone(segments[1:])
	later[0]++
	for name, c := range map[string]struct {
		checkpoint []byte
		damaged    bool
	}{
		"as it was":              {intact, false},
		"optional section":       {withSection(intact, 99, sectionOptional), false},
		"another segment":        {replaceSection(intact, sectionSegments, slices.Concat([]byte{2}, segments[1:], later)), false},
		"a section twice":        {sealCheckpoint(twice), true},
		"optional section twice": {withSection(withSection(intact, 99, sectionOptional), 99, sectionOptional), true},
		"a segment twice":        {listedTwice, true},
		"a byte behind":          {replaceSection(intact, sectionSegments, append(slices.Clone(segments), 0)), true},
	} {
		_, err := decodeCheckpoint(c.checkpoint, exampleIdentity())
		if c.damaged {
			require.ErrorIs(t, err, errCheckpoint, name)
		} else {
			require.NoError(t, err, name)
		}
	}
}

// replaceSection is the checkpoint with another body in the section.
func replaceSection(checkpoint []byte, kind int, body []byte) []byte {
	b := bytes.Clone(checkpoint)
	count := int(binary.LittleEndian.Uint32(b[12:]))
	entry := checkpointHeaderBytes + (kind-1)*sectionEntryBytes
	from, old := sectionBegin(b, kind), int(binary.LittleEndian.Uint64(b[entry+16:]))
	b = slices.Replace(b, from, from+old, body...)
	binary.LittleEndian.PutUint64(b[entry+16:], uint64(len(body)))
	for i := range count {
		at := checkpointHeaderBytes + i*sectionEntryBytes + 8
		if begin := int(binary.LittleEndian.Uint64(b[at:])); begin > from {
			binary.LittleEndian.PutUint64(b[at:], uint64(begin+len(body)-old))
		}
	}
	return sealCheckpoint(b)
}

// Of a listed segment whose end is right, another history in its middle is found
// by who reads it: Check follows the whole chain.
func TestDamageSegmentSpliced(t *testing.T) {
	key := exampleIdentity().key
	segment, ends := fuzzSegment(fuzzOperations())
	n := len(ends)
	last := lastFrame{offset: ends[n-2].offset, sum: ends[n-1].sum}
	_, reason := verifySegment(segment, key, last)
	require.Empty(t, reason)

	between := func(i int) []byte { return segment[ends[i-1].offset:ends[i].offset] }
	for name, spliced := range map[string][]byte{
		"two frames exchanged": slices.Concat(segment[:ends[2].offset], between(4), between(3), segment[ends[4].offset:]),
		"a frame of another history": slices.Concat(
			segment[:ends[2].offset], strayFrame(4), segment[ends[3].offset:]),
		"damaged header": append([]byte("XX"), segment[2:]...),
		"damaged frame":  slices.Replace(slices.Clone(segment), 200, 201, segment[200]^1),
		"an end missing": segment[:ends[n-2].offset],
	} {
		_, reason := verifySegment(spliced, key, last)
		require.NotEmpty(t, reason, name)
	}
}
