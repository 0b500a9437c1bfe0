package engram

import (
	"bytes"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// Zeroing ahead of the writes flushes nothing: a flush beside a group's could be
// told of the loss of that group, and leave the group's own none the wiser.
func TestZeroingAheadFlushesNothing(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	before := r.Stats().Flushes
	var flushes atomic.Uint64
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpSync && c.Name == path.Join(journalDir, journalPath(1)) {
			flushes.Add(1)
		}
		return nil
	})
	for range 4 {
		remember(t, s, Memory{Content: strings.Repeat("a", defaultExtentBytes/2)})
	}
	r.journal.mu.Lock()
	for r.journal.current.file.growing {
		r.journal.changed.Wait()
	}
	require.Greater(t, r.journal.current.file.extent, int64(2*defaultExtentBytes))
	r.journal.mu.Unlock()
	require.Equal(t, r.Stats().Flushes-before, flushes.Load())
	require.NoError(t, r.Close())
}

// Settle leaves nothing of what the journal has let go of, also where the file that
// holds it is being extended: it waits until that is done.
func TestSettleZeroesAFileThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openMemory(t, newMemoryFS(), Options{Durability: None})
		j := r.journal
		f := j.current.file
		_, err := f.file.WriteAt([]byte("forgotten"), 4096)
		require.NoError(t, err)
		f.used, f.growing = 8192, true
		settled := make(chan error, 1)
		go func() { settled <- r.Settle(background) }()
		synctest.Wait()
		j.mu.Lock()
		f.growing = false
		j.changed.Broadcast()
		j.mu.Unlock()
		require.NoError(t, <-settled)
		b, err := readRange(f.file, 0, 8192)
		require.NoError(t, err)
		require.Empty(t, bytes.Trim(b, "\x00"))
		require.NoError(t, r.Close())
	})
}
