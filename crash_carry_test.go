package engram

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// What a space that cannot be settled has in the journal is carried forward
// before its file is used again: durable where it then is.
func TestCrashCarriedFrames(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	sick, well := create(t, r, "sick"), create(t, r, "well")
	remember(t, sick, Memory{ID: "m", Content: "carried"})
	remember(t, well, Memory{ID: "m", Content: "settled"})
	sicken(f, sick)
	generation := r.Stats().JournalGeneration
	require.ErrorIs(t, r.Settle(background), syscall.EIO)
	require.Greater(t, r.Stats().JournalGeneration, generation)
	require.Empty(t, r.journal.old, "the file is free")
	for seed := range uint64(8) {
		after := f.Crash(seed)
		recovered := openMemory(t, after, Options{})
		for _, id := range []SpaceID{"sick", "well"} {
			require.Equal(t, []string{"m"}, idsOf(list(t, get(t, recovered, id), Filter{})), "%s, seed %d", id, seed)
		}
		require.NoError(t, recovered.Close())
	}
	require.Error(t, r.Close())
}
