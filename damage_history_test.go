package engram

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two futures of one space differ in nothing but what was written since: a file
// of the one among those of the other is found out by the mark, the checkpoint's
// sum, what the checkpoint says of the segments below it, or the chain.
func TestDamageOtherFuture(t *testing.T) {
	t.Parallel()
	s := killedRegistry(t)
	for _, c := range []struct {
		name    string
		before  int // operations before the last checkpoint that differ
		noticed int
	}{
		{"before the checkpoint", 3, 4}, // SPACE, the checkpoint, a segment below it, the log's last one
		{"behind the checkpoint", 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, two := atRest(t, "one future", s.future(t, "black", c.before), s.history), s.future(t, "white", c.before)
			noticed := 0
			for _, file := range one.targets() {
				theirs, ours := two.files(".")[file], one.fs.files(".")[file]
				if strings.HasPrefix(file, journalDir) || bytes.Equal(theirs, ours) {
					continue
				}
				require.Len(t, theirs, len(ours), file)
				damaged := one.fs.clone()
				damaged.put(file, theirs)
				v := one.judge(t, damaged, file+" of another future", damagedSpace)
				require.ErrorIs(t, v.spaces[damagedSpace], ErrCorrupt, file)
				noticed++
			}
			require.Equal(t, c.noticed, noticed)
		})
	}
}

// future is the registry after writes that contain the word: some before its
// spaces' last checkpoints, one behind.
func (s *storedRegistry) future(t *testing.T, word string, before int) *memoryFS {
	t.Helper()
	m := s.fs.clone()
	r, err := Open("", damageOptions(m, false))
	require.NoError(t, err)
	for _, id := range []SpaceID{damagedSpace, otherSpace} {
		space, err := r.Get(t.Context(), id)
		require.NoError(t, err)
		write := func(i int, content string) {
			_, err := space.Remember(t.Context(), Memory{ID: fmt.Sprint("m", 40+i), Content: content})
			require.NoError(t, err)
		}
		require.NoError(t, space.Checkpoint(t.Context()))
		for i := range before {
			write(i, word)
		}
		write(4, "the same in both")
		require.NoError(t, space.Checkpoint(t.Context()))
		write(5, word)
	}
	require.NoError(t, r.Close())
	return m
}

// A header is believed where its checksum is right, but not that the log goes
// round in a circle.
func TestDamageSegmentContinuesItself(t *testing.T) {
	segment, ends := fuzzSegment(fuzzOperations())
	for _, continued := range []uint64{2, 3} {
		settled := ends[1]
		settled.segment = 2
		m := segmentSpace(segment, settled)
		for _, number := range []uint64{2, 3} {
			header := encodeSegmentHeader(segmentHeader{
				kind: kindLog, identity: exampleIdentity(), number: number, firstSeq: 1,
				prevNumber: min(continued, number+1), prevEnd: ends[1].offset, prevSum: 0,
			})
			m.put(path.Join(string(exampleID), segmentPath(number)), append(header, segment[segmentHeaderBytes:]...))
		}
		r := inspectSegment(t, m, nil)
		require.NotNil(t, r.damage)
		require.Equal(t, segmentPath(2), r.damage.File)
	}
}

// While a space is being renamed its directory may have either name, and no other.
func TestDamageRenameCutShort(t *testing.T) {
	s := closedRegistry(t)
	files := s.fs.files(string(damagedSpace))
	id, state, err := decodeSpaceFile(files[spaceFile])
	require.NoError(t, err)
	state.next = "renamed"
	s.fs.put(path.Join(string(damagedSpace), spaceFile), encodeSpaceFile(id, state))
	for _, to := range []SpaceID{damagedSpace, "renamed", "elsewhere"} {
		m := s.fs.clone()
		m.move(string(damagedSpace), string(to))
		r := openMemory(t, m, damageOptions(m, false))
		if to == "elsewhere" {
			requireForeignSpace(t, r, to)
		} else {
			memory, err := get(t, r, to).Lookup(t.Context(), "m0")
			require.NoError(t, err)
			require.Equal(t, to, memory.Space)
		}
		require.NoError(t, r.Close())
	}
}

// A frame of an opening that HEAD does not know of says that HEAD is an older one.
func TestDamageLaterEpoch(t *testing.T) {
	segment, ends := fuzzSegment(fuzzOperations())
	op := fuzzOperations()[2]
	f := frame{prev: ends[1].sum, count: 1, firstSeq: op.seq, epoch: exampleEpoch + 1, kind: kindLog}
	later := sealFrame(append(make([]byte, frameHeaderBytes), exampleRecord(&op)...), exampleIdentity().key, &f)
	segment = append(segment[:ends[1].offset:ends[1].offset], later...)
	settled := mark{seq: op.seq, segment: 1, offset: int64(len(segment)), sum: f.checksum}
	for _, at := range []mark{ends[1], settled} {
		r := inspectSegment(t, segmentSpace(segment, at), nil)
		require.NotNil(t, r.damage)
		require.EqualValues(t, 2, r.store.seq)
	}
}
