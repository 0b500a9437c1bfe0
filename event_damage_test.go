package engram

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of a space whose only segment of operations is damaged, with records that a
// checkpoint has moved beside it, a subscriber is told what is damaged.
func TestSubscribeWithoutAnySegmentOfOperations(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "one", Content: "one"}, Memory{ID: "two", Content: "two"})
	forget(t, s, "one")
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, r.Close())
	var segments []string
	for _, name := range slices.Sorted(maps.Keys(m.files("."))) {
		if strings.HasSuffix(name, walSuffix) {
			segments = append(segments, name)
		}
	}
	damaged := 0
	for _, name := range segments {
		again := m.clone()
		again.flip(name, 20)
		r := openMemory(t, again, Options{})
		for _, after := range []uint64{0, 3} {
			for _, err := range get(t, r, "alpha").Subscribe(&noWait{Context: background}, after) {
				if err != nil {
					require.ErrorIs(t, err, ErrCorrupt)
					damaged++
				}
			}
		}
		_ = r.Close() // damaged
	}
	require.Equal(t, 2*len(segments), damaged)
}

// Whatever position a subscriber of a damaged space has, behind what is whole it is
// told what is damaged.
func TestSubscribeBehindDamage(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "one", Content: "one"})
	end := s.awake.Load().log.position().offset
	remember(t, s, Memory{ID: "two", Content: "two"})
	require.NoError(t, r.Close())
	m.flip("alpha/"+segmentPath(1), int(end)+frameHeaderBytes)
	r = openMemory(t, m, Options{})
	for _, after := range []uint64{2, 3, 4, math.MaxUint64} {
		var failed error
		for _, err := range get(t, r, "alpha").Subscribe(&noWait{Context: background}, after) {
			failed = err
		}
		require.ErrorIs(t, failed, ErrCorrupt, after)
	}
	_ = r.Close() // damaged
}
