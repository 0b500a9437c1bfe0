package engram

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// crashFailure is a way in which calls fail.
type crashFailure struct {
	err    error
	count  int  // how many calls; 0: from then on
	writes bool // of those only that change anything
}

// Any call may fail, once or from then on, a write after it has written a part:
// what is acknowledged survives, and other spaces do not notice. Calls that take
// long fail nothing.
func TestCrashFailingCalls(t *testing.T) {
	t.Parallel()
	failures := []crashFailure{
		{err: syscall.EIO, count: 1},
		{err: syscall.EIO},
		{err: syscall.ENOSPC, count: 1},
		{err: syscall.ENOSPC},
		{err: syscall.EDQUOT, count: 1, writes: true},
		{err: &crashfs.PartialWrite{Err: syscall.EIO, Share: 255}, count: 1, writes: true},
		{err: &crashfs.PartialWrite{Err: syscall.ENOSPC, Share: 200}, count: 5, writes: true},
		{count: 3, writes: true},
	}
	row := faultRow{"every call fails, once and from then on", "cases", 7_000}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.failEach(failures, func(crashfs.Call) bool { return true }, func(y *crashRun) {
			if y.random.IntN(2) == 0 && y.r != nil {
				y.close()
			}
			power := y.random.IntN(2) == 0
			y.log("%d calls have failed, power cut %v", len(y.fault.Hit()), power)
			y.recovered()
			y.end(power)
			y.survive()
		})
	})
}

// A flush that fails may have lost what it should have made durable, and the
// kernel takes it for clean: later flushes vouch for nothing, and it may be gone
// from the cache at any time. The next process reads what the cache has, serves
// it, and then the power goes.
func TestCrashFailingFlushes(t *testing.T) {
	failures := []crashFailure{
		{err: syscall.EIO, count: 1},
		{err: syscall.EIO},
		{err: syscall.ENOSPC, count: 1},
		{err: syscall.ENOSPC},
	}
	row := faultRow{"a flush fails, its pages count as clean, reopen, serve, power cut", "cases", 2_700}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.failEach(failures, func(c crashfs.Call) bool { return c.Op == crashfs.OpSync }, func(y *crashRun) {
			if y.evicted = y.random.IntN(3) == 0; y.evicted && y.r != nil {
				y.evict()
				for range 3 {
					y.step()
				}
			}
			if y.random.IntN(2) == 0 && y.r != nil {
				y.close()
			}
			y.log("kill")
			y.recovered()
			y.end(false)
			if y.random.IntN(2) == 0 {
				y.evict()
			}
			y.serve()
		})
	})
}

// Descriptors may run out in any call that needs one: that loses nothing, and stops no
// space but one that was renamed by nobody knows which name it has.
func TestCrashOutOfDescriptors(t *testing.T) {
	scarce := &fs.PathError{Op: "open", Path: "file", Err: syscall.EMFILE}
	failures := []crashFailure{{err: scarce, count: 2}, {err: scarce, count: 5}, {err: scarce}}
	opens := []crashfs.Op{
		crashfs.OpOpenDir, crashfs.OpReadDir, crashfs.OpMkdir, crashfs.OpCreate, crashfs.OpOpen, crashfs.OpRename,
		crashfs.OpRemove, crashfs.OpSyncDir, crashfs.OpLock,
	}
	row := faultRow{"no descriptors, once and from then on", "cases", 1_500}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.failEach(failures, func(c crashfs.Call) bool { return slices.Contains(opens, c.Op) }, func(y *crashRun) {
			y.recovered()
			if y.r != nil {
				y.nobodyStopped()
				y.quiet()
				for range 5 {
					y.step()
				}
			}
			y.end(y.random.IntN(2) == 0)
			y.survive()
		})
	})
}

// nobodyStopped requires that all take writes but those of whom nobody knows which name
// they have, or whether they are there.
func (x *crashRun) nobodyStopped() {
	if why := x.r.Stats().Stopped; why != "" {
		x.fatal("the registry is stopped: %s", why)
	}
	for id := range x.spaces {
		if slices.ContainsFunc(x.intent, func(in intent) bool { return in.id == id || in.to == id }) {
			continue
		}
		if why := x.space(id).Stats().Operator.Stopped; why != "" {
			x.fatal("%s is stopped: %s", id, why)
		}
	}
}

// evict drops some of what failed flushes have lost from the cache, which a write
// that was not acknowledged as durable does not survive.
func (x *crashRun) evict() {
	x.log("the cache forgets")
	x.fs.Evict(x.random.Uint64())
	x.power = true
}

// failEach runs the seed's script once for each of its calls that applies and
// each failure, which begins with that call, and then what is given.
func (x *crashRun) failEach(failures []crashFailure, applies func(crashfs.Call) bool, then func(y *crashRun)) {
	x.t.Helper()
	counted := x.fork()
	var calls []crashfs.Call
	var mu sync.Mutex
	counted.failingScript(func(c crashfs.Call) error {
		if applies(c) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, c)
		}
		return nil
	})
	counted.end(true)
	picks := rand.New(rand.NewPCG(x.seed, 6))
	for n, call := range calls {
		for i, failure := range failures {
			if failure.writes && !call.Op.Mutates() || !x.row.picks(picks) {
				continue
			}
			y := x.fork()
			y.fault = &crashfs.Fault{Applies: applies, First: n + 1, Count: failure.count, Err: failure.err}
			if y.failing = failure.err != nil; !y.failing {
				y.fault.Wait = func() { time.Sleep(100 * time.Microsecond) }
			}
			y.log("from call %d on %d calls (0: all) fail with %v", n+1, failure.count, failure.err)
			y.failingScript(y.fault.Hook)
			y.random = rand.New(rand.NewPCG(x.seed, uint64(n)<<8|uint64(i)))
			then(y)
			x.row.count(1)
		}
	}
}

// failingScript opens a registry and takes some steps, while calls may fail. The
// disk is empty, or there is a registry on it that has to recover. If it cannot
// be opened there is none afterwards.
func (x *crashRun) failingScript(hook crashfs.Hook) {
	x.t.Helper()
	x.fs, x.random = crashfs.New(), rand.New(rand.NewPCG(x.seed, 5))
	x.options()
	if x.seed%2 == 0 {
		failing, fault := x.failing, x.fault
		x.failing, x.fault = false, nil
		x.recover()
		for range 15 {
			x.step()
		}
		// Everything was acknowledged: what is there afterwards is known exactly.
		x.end(x.durable() && x.random.IntN(2) == 0)
		x.failing, x.fault, x.power = failing, fault, false
	}
	x.fs.SetHook(hook)
	for range 3 {
		err := x.begin()
		if err == nil {
			break
		}
		x.tolerate(err)
		if left := x.fs.Handles(); len(left) > 0 {
			x.fatal("a failed open leaves handles %q", left)
		}
	}
	if x.r == nil {
		return
	}
	x.quiet()
	for range 12 + x.random.IntN(12) {
		x.step()
	}
}

// recovered ends the failing of calls.
func (x *crashRun) recovered() {
	x.fs.SetHook(nil)
	x.failing, x.fault, x.evicted = false, nil, false
}

// close closes the registry, which may fail to settle.
func (x *crashRun) close() {
	x.log("close")
	x.tolerate(x.r.Close())
	if left := x.fs.Handles(); len(left) > 0 {
		x.fatal("closed with open handles %q", left)
	}
	x.r = nil
}

// A full disk refuses what does not fit, and nothing else: what was there is
// served, forgetting and deleting work, and with room everything goes on.
func TestCrashDiskFull(t *testing.T) {
	t.Parallel()
	row := faultRow{"disk full", "registries", 2_000}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.options()
		require.NoError(t, x.begin())
		for _, id := range crashNames {
			x.create(id)
		}
		for range x.random.IntN(30) {
			x.step()
		}
		x.failing = true
		x.fs.SetRoom(x.random.IntN(60))
		x.log("no room")
		for range 20 + x.random.IntN(60) {
			x.step()
		}
		x.forgetWithoutRoom()
		x.failing = false
		x.fs.SetRoom(-1)
		x.log("room")
		for _, id := range slices.Sorted(maps.Keys(x.spaces)) {
			x.remember(id, x.spaces[id], 1)
		}
		for range x.random.IntN(20) {
			x.step()
		}
		x.end(x.random.IntN(2) == 0)
		x.conclude()
		x.row.count(1)
	})
}

// forgetWithoutRoom fills the disk and frees some of it in the two ways that
// must work then.
func (x *crashRun) forgetWithoutRoom() {
	x.fs.SetRoom(0)
	ids := slices.Sorted(maps.Keys(x.spaces))
	if len(ids) < 2 || !x.r.reserved {
		return // the reserve has been used before
	}
	for i, id := range ids[:2] {
		h := x.spaces[id]
		for n := 0; ; n++ {
			writes := len(h.writes)
			x.remember(id, h, 6)
			if len(h.writes) == writes {
				break
			}
			if n > 10_000 {
				x.fatal("the disk does not fill")
			}
		}
		if i == 0 {
			continue
		}
		if x.random.IntN(2) == 0 {
			x.log("forget without room in %s", id)
			x.failing = false
			state, n := h.last().state.without(func(string, crashMemory) bool { return true })
			x.forgot(id, h, state, n, func(s *Space) (ForgetReceipt, error) {
				return s.ForgetWhere(background, Filter{Kind: Episodic})
			})
		} else {
			x.failing = false
			x.delete(id, h)
		}
		x.failing = true
	}
}

// A slot of SPACE or HEAD that a process has read may be in the cache only: a
// kill came before its flush. Before the other slot is written that one is
// flushed, or a power cut could tear both.
func TestCrashSlotsReadFromCache(t *testing.T) {
	const outcomes = 60
	opts := Options{seams: seams{extentBytes: 8 << 10}}
	// lives returns the disk after two lives, of which the first is killed before
	// its flush number first of that file and the second at its flush number second.
	lives := func(file string, first, second int) *crashfs.FS {
		f := crashfs.New()
		r := openMemory(t, f, opts)
		s := create(t, r, "aaa")
		remember(t, s, Memory{ID: "m", Content: "content"})
		cutBefore := func(flush int) {
			f.SetHook((&crashfs.Fault{
				Applies: func(c crashfs.Call) bool { return c.Op == crashfs.OpSync && path.Base(c.Name) == file },
				First:   flush, Err: crashfs.ErrCut,
			}).Hook)
		}
		cutBefore(first)
		require.Error(t, r.Settle(background))
		after := f.Kill()
		_ = r.Close() // its process has ended
		f = after
		cutBefore(second)
		again := opts
		again.seams.fs = f
		if r, err := Open("", again); err == nil {
			_, _ = get(t, r, "aaa").Remember(background, Memory{Content: "content"})
			_ = r.Settle(background)
			require.True(t, f.Ended())
			defer r.Close() //nolint:errcheck // its process has ended
		}
		return f
	}
	for _, file := range []string{spaceFile, headName} {
		for first := 1; first <= 2; first++ {
			for second := 1; second <= 2; second++ {
				if file == spaceFile && first == 2 {
					continue // settling writes one slot only
				}
				f := lives(file, first, second)
				for seed := range uint64(outcomes) {
					r := openMemory(t, f.Crash(seed), opts)
					_, err := get(t, r, "aaa").Lookup(background, "m")
					require.NoError(t, err, "%s, cut before flush %d and then %d, outcome %d", file, first, second, seed)
					require.NoError(t, r.Close())
				}
			}
		}
	}
}
