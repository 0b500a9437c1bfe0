package engram

import (
	"path"
	"strings"
	"syscall"
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

// What settles without success says of the mark no more than this process has
// flushed: the journal lets go of frames on its word.
func TestMarkThatWasOnlyReadCoversNothing(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "content"})
	_, err := s.awake.Load().settle()
	require.NoError(t, err)
	after := f.Kill()
	_ = r.Close() // its process has ended
	after.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpWrite && strings.HasPrefix(c.Name, "aaa/") {
			return syscall.ENOSPC
		}
		return nil
	})
	r = openMemory(t, after, Options{})
	s = get(t, r, "aaa")
	remember(t, s, Memory{ID: "n", Content: "waits in memory for room in the log"})
	seq, err := s.awake.Load().log.settle()
	require.ErrorIs(t, err, ErrDiskFull)
	require.Zero(t, seq)
	after.SetHook(nil)
	seq, err = s.awake.Load().log.settle()
	require.NoError(t, err)
	require.Equal(t, uint64(3), seq)
	require.NoError(t, r.Close())
}
