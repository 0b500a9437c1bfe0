package engram

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// routingSpaces are ids that a prefix, a missing separator or a cut would mix up.
var routingSpaces = []SpaceID{"aaa", "aaab", "aaa-b", "aaa_b", "aaaa", "aa0"}

// FuzzRouting decodes the input into operations over spaces with ambiguous ids
// and equal memory ids, two bytes each: what is asked of one space must only ever
// be answered by that space. Each content names its space's incarnation.
func FuzzRouting(f *testing.F) {
	opts := Options{JournalBytes: minJournalBytes, Durability: None}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = 2000, 6000
	empty := newMemoryFS() // copying an empty registry is quicker than making one
	require.NoError(f, openMemory(f, empty, opts).Close())
	f.Fuzz(func(t *testing.T, input []byte) {
		const most = 200 // operations: longer inputs find nothing that these do not
		w := &routing{t: t, opts: opts, fs: empty.clone()}
		w.open()
		for i := 0; i+1 < min(len(input), 2*most); i += 2 {
			w.do(input[i], input[i+1])
		}
		w.checkAll()
		require.NoError(t, w.r.Close())
	})
}

type routing struct {
	t    *testing.T
	opts Options
	fs   *memoryFS
	r    *Registry
}

func (w *routing) open() {
	w.r = openMemory(w.t, w.fs, w.opts)
	tinyJournal(w.r)
}

// do does what the bytes say: the high bits of a choose the operation, the low
// ones the space, b the memory or the other space.
func (w *routing) do(a, b byte) {
	id := routingSpaces[int(a&7)%len(routingSpaces)]
	key := fmt.Sprintf("m%d", b%16)
	if a>>3 == 0 {
		require.NoError(w.t, w.r.Close())
		w.open()
		return
	}
	s, err := w.r.GetOrCreate(background, id, SpaceConfig{})
	require.NoError(w.t, err)
	require.Equal(w.t, id, s.ID())
	switch a >> 3 {
	case 1:
		require.NoError(w.t, w.r.Delete(background, id))
	case 2:
		to := routingSpaces[int(b)%len(routingSpaces)]
		if err := w.r.Rename(background, id, to); err != nil {
			require.ErrorIs(w.t, err, ErrSpaceExists)
		}
	case 3:
		require.NoError(w.t, s.Checkpoint(background))
	case 4:
		s.sleep()
	case 5:
		forget(w.t, s, key)
	case 6:
		_, err := s.ForgetWhere(background, Filter{Episode: "e" + key})
		require.NoError(w.t, err)
	case 7:
		require.NoError(w.t, w.r.Settle(background))
	case 8, 9, 10, 11:
		w.check(s)
	case 12:
		// A memory that was read from one space does not go into another.
		other, err := w.r.GetOrCreate(background, routingSpaces[int(b)%len(routingSpaces)], SpaceConfig{})
		require.NoError(w.t, err)
		m, err := s.Lookup(background, key)
		if err == nil && other != s {
			_, err = other.Remember(background, m)
			require.ErrorIs(w.t, err, ErrWrongSpace)
		}
	default:
		remember(w.t, s, w.memory(s, key))
	}
}

// memory is what the space remembers under the key.
func (w *routing) memory(s *Space, key string) Memory {
	_, err := s.Lookup(background, key) // wakes it: the incarnation is known then
	require.True(w.t, err == nil || errors.Is(err, ErrMemoryNotFound), "%v", err)
	return Memory{ID: key, Content: "canary " + s.Info().Incarnation, Episode: "e" + key}
}

// check asks the space in every way that there is.
func (w *routing) check(s *Space) {
	own := func(m Memory) {
		require.Equal(w.t, s.ID(), m.Space)
		require.Equal(w.t, "canary "+s.Info().Incarnation, m.Content)
		require.Equal(w.t, "e"+m.ID, m.Episode)
	}
	for _, m := range list(w.t, s, Filter{}) {
		own(m)
		found, err := s.Lookup(background, m.ID)
		require.NoError(w.t, err)
		require.Equal(w.t, m, found)
	}
	for _, cue := range []Cue{{}, {Text: "canary"}, {IDs: []string{"m1", "m2"}}, {Filter: Filter{Episode: "em3"}}} {
		for _, r := range recall(w.t, s, cue) {
			own(r.Memory)
		}
	}
}

func (w *routing) checkAll() {
	for id := range w.r.Spaces("") {
		s := get(w.t, w.r, id)
		require.Equal(w.t, id, s.ID())
		w.check(s)
	}
}
