package engram

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A space gives its next frame only after its last one is applied: what is
// checked and numbered later builds on it.
func TestNextFrameWaitsForTheLast(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "alpha")
	a := s.awake.Load()
	a.commits.Lock() // as the beginning of a checkpoint does
	frames := func() uint64 { return r.Stats().Frames }
	var receipts [3]Receipt
	var work sync.WaitGroup
	for i := range receipts {
		before := frames()
		work.Go(func() { receipts[i] = remember(t, s, Memory{Content: "one of three"})[0] })
		queued := func() bool {
			r.commits.mu.Lock()
			defer r.commits.mu.Unlock()
			return len(a.queue.writes) == i
		}
		require.Eventually(t, func() bool { return frames() > before || i > 0 && queued() }, time.Minute, time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond) // in which nothing should happen
	waits := frames()
	a.commits.Unlock()
	work.Wait()
	require.EqualValues(t, 1, waits, "frames were made before the first was applied")
	require.ElementsMatch(t, []uint64{2, 3, 4}, []uint64{receipts[0].Seq, receipts[1].Seq, receipts[2].Seq})
	require.NoError(t, r.Close())
	r = openMemory(t, m, Options{})
	require.Len(t, list(t, get(t, r, "alpha"), Filter{}), 3)
	require.NoError(t, r.Close())
}
