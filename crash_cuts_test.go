package engram

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/engramdb/engram/internal/crashfs"
)

// A run is cut before each of its calls without being run again: while it goes
// on, a snapshot of the disk and of what is known is kept from before each call.

// cutOutcomes are followed of each cut by a power loss; one more is of a kill,
// after which the next process serves on what it finds, until the power goes.
const cutOutcomes = 10

// crashWatch collects the cuts of a run.
type crashWatch struct {
	known atomic.Pointer[crashRun] // the model of which nothing changes any more

	mu   sync.Mutex // guards cuts
	cuts []crashCut
}

// crashCut is what a cut before a call leaves.
type crashCut struct {
	call     crashfs.Call
	outcomes []uint64 // to be followed
	fs       *crashfs.FS
	known    *crashRun
}

// watchCalls keeps snapshots from now on.
func (x *crashRun) watchCalls() {
	watch, disk, row := &crashWatch{}, x.fs, x.row
	x.watch = watch
	x.publish()
	disk.SetHook(func(c crashfs.Call) error {
		if !c.Op.Mutates() {
			return nil // a cut before it leaves what the next one leaves
		}
		cut := crashCut{call: c}
		random := x.randomAt(c, cutOutcomes+1)
		volatile := disk.Volatile()
		for outcome := range uint64(cutOutcomes + 1) {
			// Where nothing is volatile the outcomes are one.
			if (volatile || outcome == 0 || outcome == cutOutcomes) && row.picks(random) {
				cut.outcomes = append(cut.outcomes, outcome)
			}
		}
		if len(cut.outcomes) == 0 {
			return nil
		}
		// What is known must be of the same moment as the disk: the call may be the
		// background's, and the script goes on meanwhile.
		for cut.fs == nil || cut.known != watch.known.Load() {
			cut.known = watch.known.Load()
			cut.fs = disk.Snapshot()
		}
		watch.mu.Lock()
		defer watch.mu.Unlock()
		watch.cuts = append(watch.cuts, cut)
		return nil
	})
}

// publish makes what is known now what cuts are judged by. The changes of the
// catalogue that are about to be tried may have happened or not.
func (x *crashRun) publish(tried ...intent) {
	if x.watch == nil {
		return
	}
	undecided := x.intent
	x.intent = slices.Concat(x.intent, tried)
	x.watch.known.Store(x.fork())
	x.intent = undecided
}

// follow judges what was kept so far, and forgets it.
func (x *crashRun) follow() {
	x.t.Helper()
	x.watch.mu.Lock()
	cuts := x.watch.cuts
	x.watch.cuts = nil
	x.watch.mu.Unlock()
	for _, cut := range cuts {
		for _, outcome := range cut.outcomes {
			y := cut.known.fork()
			y.random = x.randomAt(cut.call, outcome)
			if outcome == cutOutcomes {
				y.log("\nkill before call %d, %s %s", cut.call.N, cut.call.Op, cut.call.Name)
				y.fs = cut.fs.Kill()
				// Before a flush the next process finds most that is not durable.
				if cut.call.Op == crashfs.OpSync && x.killed == 0 && y.random.IntN(16) == 0 {
					y.killed = cut.call.N
					y.watched(y.recover)
				} else {
					y.serve()
				}
			} else {
				y.log("\npower cut before call %d, %s %s, outcome %d", cut.call.N, cut.call.Op, cut.call.Name, outcome)
				y.fs = cut.fs.Crash(y.random.Uint64())
				y.power = true
				y.survive()
			}
			x.row.count(1)
		}
	}
}

// randomAt returns the random numbers of one outcome of a cut.
func (x *crashRun) randomAt(c crashfs.Call, outcome uint64) *rand.Rand {
	return rand.New(rand.NewPCG(x.seed, uint64(x.killed)<<40|uint64(c.N)<<8|outcome))
}

// watched cuts what is done, and what that starts in the background, before each
// of its calls.
func (x *crashRun) watched(do func()) {
	x.t.Helper()
	x.watchCalls()
	do()
	x.publish()
	x.quiet()
	x.follow()
	x.fs.SetHook(nil)
	x.end(false)
}

// recover opens what the last life left.
func (x *crashRun) recover() {
	x.t.Helper()
	if err := x.begin(); err != nil {
		x.fatal("open: %v", err)
	}
	x.check()
}

// serve opens what a kill left, goes on with the script, until the power goes at
// any call, and judges what that leaves.
func (x *crashRun) serve() {
	x.t.Helper()
	if x.random.IntN(2) == 0 {
		x.cut(x.random.IntN(120))
	}
	if err := x.begin(); err != nil {
		if x.alive(err) {
			x.fatal("open: %v", err)
		}
	} else if x.check() {
		for range x.random.IntN(6) {
			if !x.step() {
				break
			}
		}
	}
	x.log("power cut")
	x.end(true)
	x.survive()
}

// survive opens what a cut left, now and then cut short itself, judges it, and
// requires that a further write survives a further power cut.
func (x *crashRun) survive() {
	x.t.Helper()
	if x.random.IntN(4) == 0 {
		x.cut(x.random.IntN(40))
		if err := x.begin(); err != nil {
			if x.alive(err) {
				x.fatal("open: %v", err)
			}
		} else {
			x.check()
			x.quiet()
		}
		power := x.random.IntN(2) == 0
		x.log("cut again while it recovers, power cut %v", power)
		x.end(power)
	}
	if x.random.IntN(16) == 0 {
		x.conclude()
		return
	}
	for last := range 2 {
		if err := x.begin(); err != nil {
			x.fatal("open: %v", err)
		}
		x.check()
		if x.power = false; last == 0 {
			x.rememberEverywhere()
		}
		x.end(last == 0)
	}
}

// script makes a registry and takes steps, each of which is followed by judging
// what a cut before any of its calls leaves.
func (x *crashRun) script(steps int) {
	x.t.Helper()
	x.options()
	x.watchCalls()
	if err := x.begin(); err != nil {
		x.fatal("open: %v", err)
	}
	x.quiet()
	for range steps {
		x.follow()
		x.step()
	}
	x.log("close")
	if err := x.r.Close(); err != nil {
		x.fatal("close: %v", err)
	}
	x.follow()
}

// The power goes before any call of a workload over several spaces, or the
// process is killed there, and the next one serves until the power goes: nothing
// acknowledged is lost, nothing else appears.
func TestCrashBeforeEveryCall(t *testing.T) {
	t.Parallel()
	row := faultRow{"power cut or kill before every call", "states", 275_000}
	forCrashSeeds(t, row, func(x *crashRun) { x.script(60) })
}

// Each operation on a space or its name is cut before each of its own calls, in
// the same ways.
func TestCrashWithin(t *testing.T) {
	t.Parallel()
	for _, op := range []struct {
		name string
		do   func(x *crashRun)
	}{
		{"recover", (*crashRun).recover},
		{"settle", func(x *crashRun) { x.settle() }},
		{"rename", func(x *crashRun) { x.renameTo("aaa", "fresh", x.spaces["aaa"]) }},
		{"create", func(x *crashRun) { x.create("fresh") }},
		{"delete", func(x *crashRun) { x.delete("aaa", x.spaces["aaa"]) }},
		{"checkpoint", func(x *crashRun) { x.checkpoint("aaa", x.spaces["aaa"]) }},
		{"sleep", func(x *crashRun) { x.sleep("aaa", x.spaces["aaa"]) }},
		{"write", func(x *crashRun) { x.remember("aaa", x.spaces["aaa"], 3) }},
	} {
		t.Run(op.name, func(t *testing.T) {
			row := faultRow{op.name + " cut at each of its calls", "states", 1_800}
			forCrashSeeds(t, row, func(x *crashRun) {
				x.prepare()
				if op.name == "recover" {
					x.end(x.seed%3 > 0)
				}
				x.watched(func() { op.do(x) })
			})
		})
	}
}

// prepare makes a registry with two spaces in which something is written and
// forgotten, some of it since they were settled.
func (x *crashRun) prepare() {
	x.t.Helper()
	x.options()
	if err := x.begin(); err != nil {
		x.fatal("open: %v", err)
	}
	for _, id := range crashNames[:2] {
		x.create(id)
	}
	for range 5 + x.random.IntN(20) {
		id := crashNames[x.random.IntN(2)]
		x.remember(id, x.spaces[id], 1+x.random.IntN(3))
		x.forget(id, x.spaces[id])
		x.quiet()
	}
}
