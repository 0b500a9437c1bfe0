package engram

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// A recovery that finds no room gives back what it took, however often it is tried.
func TestRecoveryOnAFullDiskLeavesNothing(t *testing.T) {
	for _, op := range []crashfs.Op{crashfs.OpWrite, crashfs.OpSync} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
		after := f.Kill()
		_ = r.Close() // its process has ended
		before := filesOf(t, after, "aaa")
		after.SetHook(func(c crashfs.Call) error {
			if c.Op == op && strings.HasSuffix(c.Name, walSuffix) && c.Size != segmentHeaderBytes {
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
}

// Nor does it leave copies of what it would have cut from the log.
func TestRecoveryOnAFullDiskKeepsNothingOfItsCut(t *testing.T) {
	for _, full := range []string{quarantineDir, segmentPath(2)} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
		require.NoError(t, r.Close())
		root, err := f.OpenDir("", false)
		require.NoError(t, err)
		appendTo(t, f, "aaa/"+segmentPath(1), "torn")
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpWrite && strings.Contains(c.Name, full) {
				return syscall.ENOSPC
			}
			return nil
		})
		r = openMemory(t, f, Options{})
		_, err = get(t, r, "aaa").Lookup(background, "m")
		require.ErrorIs(t, err, ErrDiskFull)
		entries, err := root.ReadDir("aaa/" + quarantineDir)
		require.NoError(t, err)
		require.Empty(t, entries, full)
		f.SetHook(nil)
		require.Equal(t, []string{"m"}, idsOf(list(t, get(t, r, "aaa"), Filter{})))
		require.NoError(t, errors.Join(r.Close(), root.Close()))
	}
}
