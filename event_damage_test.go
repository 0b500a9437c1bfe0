package engram

import (
	"maps"
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
