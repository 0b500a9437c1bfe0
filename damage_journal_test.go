package engram

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// groupPlace is where a group stands in a journal file.
type groupPlace struct {
	file       string
	start, end int
	entries    []groupEntry
}

// groupsOf returns the groups of the journal's last generation that has any.
func (s *storedRegistry) groupsOf(t *testing.T) []groupPlace {
	t.Helper()
	files := s.fs.files(journalDir)
	var h head
	for at := range 2 {
		slot, err := decodeHead(files[headName][at*pageBytes:])
		require.NoError(t, err)
		if slot.counter > h.counter {
			h = slot
		}
	}
	var places []groupPlace
	last := uint64(0)
	for _, f := range h.files {
		if f.generation < last {
			continue
		}
		content := files[journalPath(f.number)]
		var found []groupPlace
		for at := 0; ; {
			g, ok := decodeGroup(content[at:], f.tag)
			if !ok {
				break
			}
			found = append(found, groupPlace{journalFilePath(f.number), at, at + g.total, g.entries})
			at += g.total
		}
		if len(found) > 0 {
			places, last = found, f.generation
		}
	}
	require.Greater(t, len(places), 5)
	return places
}

// Where only the journal has an operation, damage to it is noticed wherever a
// later group vouches for the damaged one: it is never taken for a torn end.
func TestDamageJournalAlone(t *testing.T) {
	t.Parallel()
	s := unpoweredRegistry(t)
	groups := s.groupsOf(t)
	last := groups[len(groups)-1]
	content := s.fs.files(".")[last.file]
	all := mutations()
	registry, spaces := 0, 0
	step := damageStep(23)
	for i, at := 0, 0; at < last.start; i, at = i+1, at+step {
		for _, way := range []mutation{all[1+i%(len(all)-1)], all[1+(i*3+1)%3]} { // truncating takes away who vouches
			damaged := s.fs.clone()
			damaged.put(last.file, way.apply(content, at))
			if content[at] == 0xff && way.name == "byte 0xff" {
				continue
			}
			what := fmt.Sprintf("%s: %s at %d", last.file, way.name, at)
			v := s.judge(t, damaged, what, damagedSpace, otherSpace)
			require.True(t, v.noticed(), what)
			if v.registry != nil {
				registry++
			} else {
				spaces++
				require.Len(t, v.spaces, 1, "a frame is one space's")
			}
		}
	}
	require.Positive(t, registry)
	require.Positive(t, spaces)
}

// The journal's end may be torn by a crash while a group is written, so its last
// group counts only if it is whole. No damage makes anything else of it.
func TestDamageJournalEnd(t *testing.T) {
	t.Parallel()
	s := unpoweredRegistry(t)
	groups := s.groupsOf(t)
	last := groups[len(groups)-1]
	content := s.fs.files(".")[last.file]
	before := s.without(t, last)
	all := mutations()
	step := damageStep(7)
	used := len(bytes.TrimRight(content, "\x00"))
	for i, at := 0, last.start; at < used; i, at = i+1, at+step {
		torn := s.fs.clone()
		zeroed := append(append([]byte(nil), content[:at]...), make([]byte, len(content)-at)...)
		torn.put(last.file, zeroed)
		require.False(t, before.judge(t, torn, fmt.Sprintf("torn at %d", at)).noticed())

		way := all[1+i%(len(all)-1)]
		if content[at] == 0xff {
			continue
		}
		damaged := s.fs.clone()
		damaged.put(last.file, way.apply(content, at))
		before.judge(t, damaged, fmt.Sprintf("%s at %d", way.name, at), damagedSpace, otherSpace)
	}
}

// without is the registry as it was before the group was written.
func (s *storedRegistry) without(t *testing.T, last groupPlace) *storedRegistry {
	t.Helper()
	require.Len(t, last.entries, 1)
	m := s.fs.clone()
	content := s.fs.files(".")[last.file]
	m.put(last.file, append(append([]byte(nil), content[:last.start]...), make([]byte, len(content)-last.start)...))
	before := atRest(t, "unpowered", m, append(slices.Clone(s.history), s.fs))
	require.NotEqual(t, s.answers[last.entries[0].id], before.answers[last.entries[0].id])
	return before
}

// An operation that neither the log nor the journal has, while the journal has
// a later one, was acknowledged and is lost.
func TestDamageGapBeforeJournal(t *testing.T) {
	segment, ends := fuzzSegment(fuzzOperations())
	_, frames := fuzzGroups(fuzzOperations())
	inJournal := func(seqs ...uint64) (list []journalFrame) {
		for _, seq := range seqs {
			list = append(list, journalFrame{firstSeq: seq, lastSeq: seq, bytes: frames[seq-1]})
		}
		return list
	}
	for _, c := range []struct {
		name    string
		inLog   uint64 // whole frames in the log; the mark is at 2
		journal []journalFrame
		seq     uint64
		damaged bool
	}{
		{"nothing above the mark", 2, nil, 2, false},
		{"settled frames still there", 2, inJournal(1, 2), 2, false},
		{"continued by the journal", 2, inJournal(3, 4), 4, false},
		{"in both", 4, inJournal(3, 4), 4, false},
		{"continued by the log", 4, inJournal(3), 4, false},
		{"between by the log", 3, inJournal(4), 4, false},
		{"a gap", 2, inJournal(4), 2, true},
		{"a gap later", 3, inJournal(3, 5), 2, true},
		{"of another history", 2, []journalFrame{{firstSeq: 3, lastSeq: 3, bytes: strayFrame(3)}}, 2, true},
		{"under another's seq", 2, []journalFrame{{firstSeq: 3, lastSeq: 3, bytes: frames[3]}}, 2, true},
		{"a frame that was not read", 3, []journalFrame{{firstSeq: 3, lastSeq: 3}}, 2, true},
	} {
		r := inspectSegment(t, segmentSpace(segment[:ends[c.inLog-1].offset], ends[1]), c.journal)
		require.Equal(t, c.damaged, r.damage != nil, "%s: %v", c.name, r.damage)
		require.Equal(t, c.seq, r.store.seq, c.name)
	}
}

// strayFrame is an intact frame of the space that continues another log than its own.
func strayFrame(seq uint64) []byte {
	op := fuzzOperations()[seq-1]
	f := frame{prev: 1234, count: 1, firstSeq: seq, epoch: exampleEpoch, kind: kindLog}
	return sealFrame(append(make([]byte, frameHeaderBytes), exampleRecord(&op)...), exampleIdentity().key, &f)
}

// A damaged journal stops writing, and no reading: what is left of it is shown,
// each time with the word that there may have been more.
func TestDamageJournalReadOnly(t *testing.T) {
	s := unpoweredRegistry(t)
	groups := s.groupsOf(t)
	last := groups[len(groups)-1]
	head := path.Join(journalDir, headName)
	for name, c := range map[string]struct {
		damage func(m *memoryFS)
		all    bool // memories are still there
	}{
		"HEAD missing":   {func(m *memoryFS) { m.put(head, nil) }, true},
		"HEAD destroyed": {func(m *memoryFS) { m.put(head, make([]byte, headBytes)) }, true},
		"HEAD missing, a link and a stray file beside": {func(m *memoryFS) {
			m.put(head, nil)
			m.put(path.Join(journalDir, "00000077", "x"), []byte{1})
			m.put(path.Join(journalDir, "88"), []byte("short"))
			m.put(path.Join(journalDir, "00000088"), []byte("short"))
		}, true},
		"no journal": {func(m *memoryFS) { m.put(journalDir, nil) }, false},
		"file missing": {func(m *memoryFS) {
			m.put(last.file, nil)
		}, false},
		"file too long": {func(m *memoryFS) { m.extend(last.file, 1<<50) }, true},
		"file cut": {func(m *memoryFS) {
			m.put(last.file, s.fs.files(".")[last.file][:groups[2].start+10])
		}, false},
		"first table": {func(m *memoryFS) { m.flip(last.file, groups[0].start+groupHeaderBytes) }, false},
		"last table but one": {func(m *memoryFS) {
			m.flip(last.file, groups[len(groups)-2].start+groupHeaderBytes)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := s.fs.clone()
			c.damage(damaged)
			s.judge(t, damaged, name, damagedSpace, otherSpace)
			r, err := Open("", damageOptions(damaged, true))
			require.NoError(t, err)
			for id := range s.answers {
				got := readAnswers(t, r, id)
				require.Error(t, requireSameOrDamaged(t, s, id, got, name))
				want := s.answers[id]["memories"].memories
				if c.all {
					require.Equal(t, want, got["memories"].memories)
				} else {
					require.NotEmpty(t, got["memories"].memories)
				}
			}
			require.NoError(t, r.Close())
		})
	}
}

// requireJournalDamaged requires that the journal opens read-only, and knows
// that it is damaged.
func requireJournalDamaged(t *testing.T, m *memoryFS) {
	t.Helper()
	_, err := openJournalIn(t, m, false)
	require.ErrorIs(t, err, ErrCorrupt)
	require.True(t, isDamage("", err), err)
	j, err := openJournalIn(t, m, true)
	require.NoError(t, err)
	require.True(t, isDamage("", j.damage), j.damage)
	require.NoError(t, j.close())
}

// The first group of a generation vouches for the generation before, also for
// one whose every group is gone.
func TestDamageOlderGeneration(t *testing.T) {
	seed := journalSeeds()["intact"]
	m := fuzzedJournal(seed[0].([]byte), seed[1].([]byte))
	j, err := openJournalIn(t, m, false)
	require.NoError(t, err)
	require.NoError(t, j.close())

	file := journalFilePath(1)
	content := m.files(".")[file]
	m.put(file, make([]byte, len(content)))
	requireJournalDamaged(t, m)
	m.put(file, content)
	j, err = openJournalIn(t, m, false)
	require.NoError(t, err)
	frames, err := j.collect(exampleIdentity().incarnation)
	require.NoError(t, err)
	require.Len(t, sortJournalFrames(frames), len(fuzzOperations()))
	require.NoError(t, j.close())
}
