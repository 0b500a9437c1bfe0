package engram

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// A state whose write the power cut tears leaves the one before it, and that
// still has its checkpoint and its segments.
func TestCrashTornSlot(t *testing.T) {
	for settles := range 2 { // so that each slot is the torn one
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "aaa")
		remember(t, s, Memory{ID: "m0", Content: "forgotten"}, Memory{ID: "m1", Content: "moved by the checkpoint"})
		forget(t, s, "m0")
		require.NoError(t, s.Checkpoint(background))
		for range settles {
			remember(t, s, Memory{ID: "m1", Content: "replaced"})
			require.NoError(t, r.Settle(background))
		}
		remember(t, s, Memory{ID: "m2", Content: "above the mark"})
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpSync && path.Base(c.Name) == spaceFile {
				return crashfs.ErrCut
			}
			return nil
		})
		require.ErrorIs(t, r.Settle(background), crashfs.ErrCut)
		for seed := range uint64(16) {
			recovered := openMemory(t, f.Crash(seed), Options{})
			require.Equal(t, []string{"m1", "m2"}, idsOf(list(t, get(t, recovered, "aaa"), Filter{})), "seed %d", seed)
			require.NoError(t, recovered.Close())
		}
		_ = r.Close() // its process has ended
	}
}
