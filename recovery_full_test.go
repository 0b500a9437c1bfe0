package engram

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// A recovery that finds no room gives back what it took, however often it is tried.
func TestRecoveryOnAFullDiskLeavesNothing(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
	after := f.Kill()
	_ = r.Close() // its process has ended
	before := filesOf(t, after, "aaa")
	after.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpWrite && strings.HasSuffix(c.Name, walSuffix) && c.Size != segmentHeaderBytes {
			return syscall.ENOSPC
		}
		return nil
	})
	r = openMemory(t, after, Options{})
	require.ErrorIs(t, r.Settle(background), ErrDiskFull) // what recovers in the background has ended
	for range 3 {
		_, err := get(t, r, "aaa").Lookup(background, "m")
		require.ErrorIs(t, err, ErrDiskFull)
		require.Equal(t, before, filesOf(t, after, "aaa"))
	}
	after.SetHook(nil)
	require.Equal(t, []string{"m"}, idsOf(list(t, get(t, r, "aaa"), Filter{})))
	require.NoError(t, r.Close())
}
