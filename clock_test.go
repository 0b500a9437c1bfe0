package engram

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// jumpingClock tells any time, with no regard to what it told before.
type jumpingClock struct {
	mu     sync.Mutex
	random *rand.Rand
	times  []time.Time // to choose from; nil: within two centuries
}

func (c *jumpingClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times != nil {
		return one(c.random, c.times...)
	}
	return time.Date(1970+c.random.IntN(200), 1, 1, 0, 0, c.random.IntN(1<<24), 0, time.UTC)
}

// Whatever the clock says, by years backwards and forwards from one call to the
// next: operations are ordered by seq, ids are unique, a listing is in the order
// of the memories' own times, and nothing of that changes by a checkpoint, by
// sleeping, by a kill or by a restart.
func TestClockJumps(t *testing.T) {
	edges := []time.Time{
		{},
		time.Unix(0, 0), time.Unix(0, -1), time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64),
		time.Date(-1000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for name, times := range map[string][]time.Time{"centuries": nil, "edges": edges} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 1))
			opts := Options{Clock: &jumpingClock{random: random, times: times}, JournalBytes: minJournalBytes}
			opts.seams.segmentBytes = 2 << 10
			m := newMemoryFS()
			r := openMemory(t, m, opts)
			create(t, r, "alpha")
			seq, ids := uint64(1), make(map[string]bool)
			for round := range 60 {
				s := get(t, r, "alpha")
				for _, receipt := range remember(t, s, Memory{Content: "no id and no time"}, Memory{Content: "neither"}) {
					seq++
					require.Equal(t, seq, receipt.Seq)
					require.False(t, ids[receipt.ID], "id %q was given before", receipt.ID)
					ids[receipt.ID] = true
				}
				before := list(t, s, Filter{})
				require.Len(t, before, len(ids))
				require.True(t, slices.IsSortedFunc(before, compareMemories))
				switch random.IntN(8) {
				case 0:
					require.NoError(t, s.Checkpoint(background))
				case 1:
					asleep(t, s)
				case 2:
					require.NoError(t, r.Close())
					r = openMemory(t, m, opts)
				case 3:
					killed := m.clone()
					require.NoError(t, r.Close())
					m = killed
					r = openMemory(t, m, opts)
				}
				require.Equal(t, before, list(t, get(t, r, "alpha"), Filter{}), fmt.Sprint("round ", round))
			}
			require.Equal(t, seq, infoOf(t, get(t, r, "alpha")).Seq)
			require.NoError(t, r.Close())
		})
	}
}

// What a clock beyond the times of memories stamps is the nearest of them, which can
// be given, listed from and imported again.
func TestClockOutOfRange(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for now, want := range map[time.Time]time.Time{
		{}:                             earliestTime,
		time.Unix(0, math.MinInt64):    earliestTime,
		time.Unix(0, math.MaxInt64):    latestTime,
		time.Unix(math.MaxInt64>>1, 0): latestTime,
		latestTime:                     latestTime,
	} {
		s, _ := newTestSpace(t, Options{Clock: &jumpingClock{random: random, times: []time.Time{now}}})
		remember(t, s, Memory{ID: "m", Content: "x"})
		m := list(t, s, Filter{})[0]
		require.Equal(t, want, m.Time)
		require.Equal(t, want, m.StoredAt)
		require.Equal(t, want, infoOf(t, s).Created)
		remember(t, s, m)
		require.Len(t, list(t, s, Filter{After: m.Time}), 1)
	}
}
