package engram

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
	"github.com/engramdb/engram/internal/vfs"
)

// fallAsleep waits for those who put spaces to sleep because others have grown.
func (r *Registry) fallAsleep() { r.keepFromSleep()() }

// awakeIDs are the spaces that are awake, of those that the registry has.
func awakeIDs(t *testing.T, r *Registry) (ids []SpaceID) {
	t.Helper()
	for id := range r.Spaces("") {
		if get(t, r, id).awake.Load() != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// numbered makes that many spaces with a memory each.
func numbered(t *testing.T, r *Registry, n int) []*Space {
	t.Helper()
	spaces := make([]*Space, n)
	for i := range spaces {
		spaces[i] = create(t, r, SpaceID(fmt.Sprintf("space-%02d", i)))
		remember(t, spaces[i], Memory{ID: "m", Content: fmt.Sprint("what is remembered in space ", i)})
	}
	return spaces
}

// Those that were used last stay awake, in the order of their use and not of their
// waking, as many as the budget has room for.
func TestMemoryBudget(t *testing.T) {
	t.Parallel()
	r, m := newRegistry(t, Options{})
	spaces := numbered(t, r, 20)
	each := r.Stats().AwakeBytes / 20
	require.Positive(t, each)
	require.NoError(t, r.Close())

	r = openMemory(t, m, Options{MemoryBudget: 9 * each / 2})
	for i := range 20 {
		_, err := get(t, r, spaces[i].ID()).Lookup(background, "m")
		require.NoError(t, err)
		_, err = get(t, r, "space-01").Lookup(background, "m")
		require.NoError(t, err)
		r.fallAsleep()
		require.LessOrEqual(t, r.Stats().AwakeBytes, 9*each/2)
	}
	require.Equal(t, []SpaceID{"space-01", "space-17", "space-18", "space-19"}, awakeIDs(t, r))
	require.Equal(t, 4, r.Stats().Awake)
	require.NoError(t, r.Close())
}

// What is written counts, too, and with the memory of a space goes its share.
func TestMemoryBudgetOfWhatGrows(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{MemoryBudget: 1 << 19})
	spaces := numbered(t, r, 10)
	require.Len(t, awakeIDs(t, r), 10)
	before := r.Stats().AwakeBytes
	for i := range 40 {
		batch := make([]Memory, 100)
		for j := range batch {
			batch[j] = Memory{Content: fmt.Sprint("what is remembered as number ", i, " of ", j)}
		}
		remember(t, spaces[3], batch...)
		r.fallAsleep()
	}
	require.Equal(t, []SpaceID{"space-03"}, awakeIDs(t, r), "all others had to make room")
	require.Greater(t, r.Stats().AwakeBytes, before)
	require.NoError(t, spaces[3].Checkpoint(background))
	compact := r.Stats().AwakeBytes
	require.NoError(t, r.Delete(background, "space-03"))
	require.Less(t, r.Stats().AwakeBytes, compact/10)
	for _, s := range spaces[:3] {
		_, err := s.Lookup(background, "m")
		require.NoError(t, err)
		asleep(t, s)
	}
	require.Zero(t, r.Stats().AwakeBytes)
}

// A space that takes more than all may stays awake between its uses, and one that is in
// use until it is not.
func TestMemoryBudgetLeavesWhatIsUsed(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{MemoryBudget: 1})
	spaces := numbered(t, r, 3)
	r.fallAsleep()
	require.Equal(t, []SpaceID{"space-02"}, awakeIDs(t, r))
	last := spaces[2].awake.Load()
	for range 3 {
		_, err := spaces[2].Lookup(background, "m")
		require.NoError(t, err)
		remember(t, spaces[2], Memory{ID: "n", Content: "grows"})
		r.fallAsleep()
		require.Same(t, last, spaces[2].awake.Load())
	}
	first, _, end := beginReading(t, spaces[0])
	require.Equal(t, "m", first.ID)
	for _, s := range spaces[1:] {
		_, err := s.Lookup(background, "m")
		require.NoError(t, err)
		r.fallAsleep()
	}
	require.Equal(t, []SpaceID{"space-00", "space-02"}, awakeIDs(t, r))
	end()
	_, err := spaces[1].Lookup(background, "m")
	require.NoError(t, err)
	r.fallAsleep()
	require.Equal(t, []SpaceID{"space-01"}, awakeIDs(t, r))
}

// A device that hangs under a space that is to fall asleep keeps others from waking and
// falling asleep no longer than it may take to settle, and the space itself not from being
// read; and Close goes by it.
func TestMemoryBudgetOverASpaceThatHangs(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	opts := Options{MemoryBudget: 1}
	opts.seams.settleHang = 20 * time.Millisecond
	r := openMemory(t, f, opts)
	spaces := numbered(t, r, 4)
	r.fallAsleep()
	hanging, release := hangAt(f, func(c crashfs.Call) bool {
		return c.Op == crashfs.OpSync && c.Name == "space-00/"+segmentPath(1)
	})
	remember(t, spaces[0], Memory{ID: "o", Content: "is to be settled"})
	remember(t, spaces[1], Memory{ID: "n", Content: "takes its place"})
	<-hanging
	for range 3 {
		for _, s := range spaces[1:] {
			require.Eventually(t, func() bool { // unless this machine, too, takes its time
				remember(t, s, Memory{ID: "o", Content: "is stored meanwhile"})
				r.fallAsleep()
				return slices.Equal([]SpaceID{"space-00", s.ID()}, awakeIDs(t, r))
			}, time.Minute, time.Millisecond)
		}
		_, err := spaces[0].Lookup(background, "o")
		require.NoError(t, err)
	}
	closeHanging(t, r, f, release, "space-00")
	r = openMemory(t, f, Options{})
	for _, s := range spaces {
		_, err := get(t, r, s.ID()).Lookup(background, "o")
		require.NoError(t, err)
	}
	require.NoError(t, r.Close())
}

// Close knows of a space that hangs while it is to fall asleep, also where the journal
// holds nothing of it: nobody else gets the directory as long as it does.
func TestMemoryBudgetOverASettledSpaceThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		numbered(t, r, 2)
		require.NoError(t, r.Close())
		r = openMemory(t, f, Options{MemoryBudget: 1, seams: seams{settleHang: time.Second}})
		hanging, release := hangAt(f, func(c crashfs.Call) bool {
			return c.Op == crashfs.OpWrite && c.Name == "space-00/"+spaceFile
		})
		for _, id := range []SpaceID{"space-00", "space-01"} {
			_, err := get(t, r, id).Lookup(background, "m")
			require.NoError(t, err)
		}
		<-hanging
		require.NoError(t, r.Close(), "nothing is left to be settled")
		_, err := Open("", Options{seams: seams{fs: f}})
		require.ErrorIs(t, err, ErrLocked)
		release()
		synctest.Wait()
		require.Empty(t, f.Handles())
	})
}

// keepFromSleep takes the places of those who put spaces to sleep, until release.
func (r *Registry) keepFromSleep() (release func()) {
	for range sleepersAtOnce {
		r.occupancy.sleepers <- struct{}{}
	}
	return func() {
		for range sleepersAtOnce {
			<-r.occupancy.sleepers
		}
	}
}

// Who wakes or makes a space puts others to sleep, whatever those do who do it for writers.
func TestMemoryBudgetWithoutSleepers(t *testing.T) {
	t.Parallel()
	r, m := newRegistry(t, Options{})
	spaces := numbered(t, r, 20)
	each := r.Stats().AwakeBytes / 20
	require.NoError(t, r.Close())

	r = openMemory(t, m, Options{MemoryBudget: 9 * each / 2})
	defer r.keepFromSleep()()
	for i, s := range spaces {
		remember(t, get(t, r, s.ID()), Memory{ID: "m", Content: fmt.Sprint("is remembered anew in ", i)})
		require.LessOrEqual(t, r.Stats().Awake, 4)
	}
	require.Subset(t, awakeIDs(t, r), []SpaceID{"space-16", "space-17", "space-18", "space-19"})
	for i := range 20 {
		create(t, r, SpaceID(fmt.Sprintf("another-%02d", i)))
		require.LessOrEqual(t, r.Stats().Awake, 4)
	}
	for i, s := range spaces {
		m, err := get(t, r, s.ID()).Lookup(background, "m")
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("is remembered anew in ", i), m.Content)
	}
}

// Where the device hangs under all spaces, who wakes one waits for one of them only.
func TestMemoryBudgetOverADeviceThatHangs(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	opts := Options{MemoryBudget: 1 << 30}
	opts.seams.settleHang = 20 * time.Millisecond
	r := openMemory(t, f, opts)
	spaces := numbered(t, r, 6)
	asleep(t, spaces[0])
	defer r.keepFromSleep()()
	r.options.MemoryBudget = 1
	var flushes atomic.Int64
	_, release := hangAt(f, func(c crashfs.Call) bool {
		hangs := c.Op == crashfs.OpSync && strings.HasSuffix(c.Name, segmentPath(1))
		if hangs {
			flushes.Add(1)
		}
		return hangs
	})
	defer release()
	_, err := spaces[0].Lookup(background, "m")
	require.NoError(t, err)
	require.Equal(t, int64(1), flushes.Load())
}

// Whatever wakes, grows, is replaced and deleted at once, every answer is right, and
// nothing of what slept is counted at the end.
func TestMemoryBudgetConcurrently(t *testing.T) {
	t.Parallel()
	const spaces = 12
	for _, budget := range []int64{1, 60 << 10} {
		r, _ := newRegistry(t, Options{MemoryBudget: budget})
		var work sync.WaitGroup
		for i := range 8 {
			work.Go(func() {
				random := rand.New(rand.NewPCG(uint64(budget), uint64(i)))
				for j := range 150 {
					id := SpaceID(fmt.Sprintf("space-%02d", random.IntN(spaces)))
					s, err := r.GetOrCreate(background, id, SpaceConfig{})
					if err != nil {
						t.Error(err)
						return
					}
					mine := fmt.Sprint(i, " ", j)
					if _, err := s.Remember(background, Memory{ID: mine, Content: string(id)}); err != nil {
						t.Error(err)
						return
					}
					if m, err := s.Lookup(background, mine); err != nil || m.Content != string(id) {
						t.Error(err, m.Content)
						return
					}
				}
			})
		}
		work.Wait()
		r.fallAsleep()
		for id := range r.Spaces("") {
			asleep(t, get(t, r, id))
		}
		require.Zero(t, r.Stats().AwakeBytes)
	}
}

// Who is used while it waits for its turn to fall asleep is left out, and has another one
// behind those that were not.
func TestUsedInTheMeantime(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{})
	spaces := numbered(t, r, 5)
	require.True(t, r.sleepLongestIdle((*awake).settleInTime))
	_, err := spaces[1].Lookup(background, "m")
	require.NoError(t, err)
	for _, left := range [][]SpaceID{
		{"space-01", "space-03", "space-04"}, {"space-01", "space-04"}, {"space-01"},
	} {
		require.True(t, r.sleepLongestIdle((*awake).settleInTime))
		require.Equal(t, left, awakeIDs(t, r))
	}
	require.False(t, r.sleepLongestIdle((*awake).settleInTime), "the last one stays")
}

// Those that nobody has used for the longest give up their descriptors.
func TestDescriptorsOfTheLongestIdle(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{})
	spaces := numbered(t, r, sleepAtOnce+3)
	_, err := spaces[0].Lookup(background, "m")
	require.NoError(t, err)
	require.True(t, r.freeDescriptors())
	require.Equal(t, []SpaceID{"space-00", "space-17", "space-18"}, awakeIDs(t, r))
}

func TestDefaultMemoryBudget(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(math.MaxInt64)
	require.Equal(t, int64(1<<30), memoryBudget())
	debug.SetMemoryLimit(6 << 30)
	require.Equal(t, int64(3<<30), memoryBudget())
	_, err := Open(t.TempDir(), Options{MemoryBudget: -1})
	require.ErrorIs(t, err, ErrInvalid)
}

// Who is used while it is made ready to sleep stays awake.
func TestUsedWhileItSettles(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{})
	spaces := numbered(t, r, 3)
	require.True(t, r.sleepLongestIdle(func(a *awake) error {
		if a.space == spaces[0] {
			remember(t, spaces[0], Memory{ID: "n", Content: "comes meanwhile"})
		}
		return nil
	}))
	require.Equal(t, []SpaceID{"space-00", "space-02"}, awakeIDs(t, r))
}

// Those that were all in use fall asleep when they are not, though nothing wakes or grows.
func TestMemoryBudgetAfterUses(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{MemoryBudget: 1})
	var ends []func()
	for _, s := range numbered(t, r, 3) {
		_, _, end := beginReading(t, s)
		ends = append(ends, end)
		r.fallAsleep()
	}
	require.Len(t, awakeIDs(t, r), 3)
	for _, end := range ends {
		end()
	}
	r.fallAsleep()
	require.Equal(t, []SpaceID{"space-02"}, awakeIDs(t, r))
}

// What cannot be settled falls asleep, too: a quarantined space, and those of a read-only
// registry, where nothing is written for it.
func TestMemoryBudgetOfWhatDoesNotSettle(t *testing.T) {
	t.Parallel()
	r, m := newRegistry(t, Options{})
	spaces := numbered(t, r, 3)
	killed := m.clone()
	require.NoError(t, r.Settle(background))
	settled, hurt := m.clone(), m.clone()
	hurt.flip("space-00/"+segmentPath(1), segmentHeaderBytes+40)
	for name, left := range map[string]vfs.FS{
		"killed": readOnlyFS{killed}, "settled": readOnlyFS{settled}, "damaged": hurt,
	} {
		t.Run(name, func(t *testing.T) {
			r := openMemory(t, left, Options{ReadOnly: name != "damaged", MemoryBudget: 1})
			defer func() { require.NoError(t, r.Close()) }()
			for _, s := range spaces {
				_, err := get(t, r, s.ID()).Lookup(background, "m")
				if name != "damaged" || s != spaces[0] {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, ErrCorrupt)
				}
				r.fallAsleep()
			}
			require.Equal(t, []SpaceID{"space-02"}, awakeIDs(t, r))
			require.Empty(t, get(t, r, "space-02").Stats().Operator.Stopped)
		})
	}
}

// A space that a checkpoint keeps awake falls asleep when that has ended.
func TestMemoryBudgetAfterACheckpoint(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	opts := Options{MemoryBudget: 1}
	opts.seams.checkpointBytes = 1 << 10
	r := openMemory(t, f, opts)
	spaces := numbered(t, r, 2)
	require.NoError(t, spaces[0].Checkpoint(background))
	hanging, release := hangAt(f, func(c crashfs.Call) bool {
		return c.Op == crashfs.OpRemove && strings.Contains(c.Name, "/"+checkpointPrefix) // of the one before
	})
	remember(t, spaces[0], Memory{Content: strings.Repeat("makes a checkpoint due ", 50)})
	<-hanging
	r.fallAsleep()
	_, err := spaces[1].Lookup(background, "m")
	require.NoError(t, err)
	r.fallAsleep()
	require.Equal(t, []SpaceID{"space-00", "space-01"}, awakeIDs(t, r))
	release()
	r.work.Wait()
	require.Equal(t, []SpaceID{"space-01"}, awakeIDs(t, r))
	require.NoError(t, r.Close())
}
