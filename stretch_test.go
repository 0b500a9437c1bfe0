package engram

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/vfs"
)

// conversation remembers n memories that lie in a row, of which every second
// one has the word river, and returns where the records of those stand.
func conversation(t *testing.T, s *Space, n int) []locator {
	t.Helper()
	for i := range n {
		content := "nothing of note"
		if i%2 == 0 {
			content = "at the river"
		}
		at := time.Date(2025, 1, 1, 0, 0, i, 0, time.UTC)
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: content, Time: at, Embedding: []float32{1, float32(i)}})
	}
	a, err := s.use(t.Context())
	require.NoError(t, err)
	defer a.uses.Add(-1)
	v := a.store.view()
	var places []locator
	for i := 0; i < n; i += 2 {
		d, found := v.lookup(fmt.Sprint("m", i))
		require.True(t, found)
		places = append(places, v.locator(d))
	}
	return places
}

// Records that lie near each other are read with one call, and the answer is
// that of reading each alone.
func TestRecallReadsTogether(t *testing.T) {
	m := newMemoryFS()
	c := newCountingFS(m)
	r := openMemory(t, c, Options{})
	s := create(t, r, "river")
	conversation(t, s, 12)
	cue := Cue{Text: "river", Limit: 6}
	recall(t, s, cue) // opens the segment
	c.touched()
	found := recall(t, s, cue)
	calls := 0
	for _, n := range c.calls {
		calls += n
	}
	require.Len(t, found, 6)
	require.Equal(t, 1, calls)
	for _, x := range found {
		alone, err := s.Lookup(t.Context(), x.Memory.ID)
		require.NoError(t, err)
		require.Equal(t, alone, x.Memory)
	}
}

// What is held for one answer has a bound; records beyond it are read alone.
func TestRecallHoldsLittle(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	const n = 10
	for i := range n {
		long := fmt.Sprint("river ", i, strings.Repeat(" x", maxStretchesBytes/8))
		remember(t, s, Memory{ID: fmt.Sprint(i), Content: long, Embedding: []float32{1, float32(i)}})
	}
	for _, cue := range []Cue{{Text: "river"}, {Embedding: []float32{1, 2}}, {Text: "river", Embedding: []float32{1, 2}}} {
		found := recall(t, s, cue)
		require.Len(t, found, n)
		for _, x := range found {
			alone, err := s.Lookup(t.Context(), x.Memory.ID)
			require.NoError(t, err)
			require.Equal(t, alone, x.Memory)
		}
	}
	a := s.awake.Load()
	v := a.store.view()
	var places []locator
	for d := range v.documents() {
		places = append(places, v.locator(d))
	}
	var held stretches
	_, err := held.read(a.log, places)
	require.NoError(t, err)
	require.NotEmpty(t, held.record(v.locator(0)))
	require.Empty(t, held.record(v.locator(n-1)))
	require.LessOrEqual(t, len(held.memory), maxStretchesBytes)
}

// What is read only because it lies between is not judged, and of what is
// recalled the damaged record is named, whatever else was read with it.
func TestRecallTogetherNamesTheDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, file vfs.File, places []locator)
		broken int // which of the places; -1: none
	}{
		{"between two", func(t *testing.T, file vfs.File, places []locator) {
			spoil(t, file, places[0].offset+int64(places[0].length)+operationHeaderBytes)
		}, -1},
		{"in one", func(t *testing.T, file vfs.File, places []locator) {
			spoil(t, file, places[2].offset+operationHeaderBytes)
		}, 2},
		{"cut off", func(t *testing.T, file vfs.File, places []locator) {
			require.NoError(t, file.Truncate(places[3].offset+operationHeaderBytes))
		}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := newTestSpace(t, Options{})
			places := conversation(t, s, 8)
			a := s.awake.Load()
			file, err := a.log.find(places[0].segment).open(a.log.dir)
			require.NoError(t, err)
			test.damage(t, file, places)
			answer, err := s.Recall(t.Context(), Cue{Text: "river", Limit: 4})
			if test.broken < 0 {
				require.NoError(t, err)
				require.Len(t, answer.Recollections, 4)
				return
			}
			var damage *CorruptionError
			require.ErrorAs(t, err, &damage)
			require.Equal(t, places[test.broken].offset, damage.Offset)
		})
	}
}

// spoil changes the byte at the offset.
func spoil(t *testing.T, file vfs.File, offset int64) {
	t.Helper()
	b := make([]byte, 1)
	_, err := file.ReadAt(b, offset)
	require.NoError(t, err)
	b[0] ^= 1
	_, err = file.WriteAt(b, offset)
	require.NoError(t, err)
}

func TestStretches(t *testing.T) {
	at := func(segment uint64, offset int64, length int) locator {
		return locator{segment: segment, offset: offset, length: length}
	}
	for _, test := range []struct {
		name   string
		places []locator
		want   int
	}{
		{"alone", []locator{at(1, 128, 10)}, 1},
		{"a gap", []locator{at(1, 128, 10), at(1, 138+maxStretchGap, 10), at(1, 149+2*maxStretchGap, 10)}, 2},
		{"another segment", []locator{at(1, 128, 10), at(2, 138, 10)}, 1},
		{"too long", []locator{at(1, 0, 10), at(1, 10, maxStretchBytes-10), at(1, maxStretchBytes, 1)}, 2},
	} {
		require.Equal(t, test.want, together(test.places), test.name)
	}
}
