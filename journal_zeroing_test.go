package engram

import (
	"path"
	"strings"
	"sync/atomic"
	"testing"

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
