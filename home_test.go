package engram

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Frames of a space that is not there, and was not deleted, stay in the journal
// until it is back.
func TestHomelessFramesWait(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	create(t, r, "beta")
	remember(t, create(t, r, "alpha"), Memory{ID: "m", Content: "in the journal"})
	killed := m.clone()
	require.NoError(t, r.Close())

	killed.copy("alpha", "elsewhere!") // no space id
	killed.put("alpha", nil)
	for range 2 { // it is reported by each opening
		r = openMemory(t, killed, Options{})
		require.ErrorIs(t, r.Settle(background), ErrCorrupt)
		require.ErrorIs(t, r.Close(), ErrCorrupt)
	}
	killed.move("elsewhere!", "alpha")
	r = openMemory(t, killed, Options{})
	require.Equal(t, []string{"m"}, idsOf(list(t, get(t, r, "alpha"), Filter{})))
	require.NoError(t, r.Settle(background))
	require.NoError(t, r.Close())
}

// A space that was renamed is found by its incarnation, though the journal knows
// it by an id that another space has taken.
func TestFramesFollowARename(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{Content: "of the first"})
	renamed := s.awake.Load().identity.incarnation
	require.NoError(t, r.Rename(background, "alpha", "beta"))
	other := create(t, r, "alpha")
	for range 5 {
		remember(t, other, Memory{Content: "of the second"})
	}
	seq := infoOf(t, s).Seq
	asleep(t, s)
	asleep(t, other)
	settled, err := r.settleSpace(renamed, "alpha")
	require.NoError(t, err)
	require.Equal(t, seq, settled)
	require.NoError(t, r.Close())
}
