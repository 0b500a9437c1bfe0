package engram

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/engramdb/engram/internal/crashfs"
)

// A power cut or a kill before any call loses nothing acknowledged, also if
// the next process, and the one after it, ends while it recovers.
func TestCrashLives(t *testing.T) {
	t.Parallel()
	row := faultRow{"lives of one registry, each cut or killed", "registries", 4_000}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.options()
		for range 2 + x.random.IntN(4) {
			x.live(x.random.IntN([]int{5, 60}[x.random.IntN(2)]))
		}
		x.conclude()
		x.row.count(1)
	})
}

// live is one life: it opens, checks what the one before has left, takes steps
// until the process ends, and ends it.
func (x *crashRun) live(steps int) {
	x.t.Helper()
	if x.random.IntN(4) == 0 {
		x.readOnly()
	}
	x.log("\nopen")
	calls := -1
	counts := crashfs.Op.Mutates
	switch x.random.IntN(4) {
	case 0, 1:
		calls = x.random.IntN([]int{20, 80, 400}[x.random.IntN(3)])
	case 2: // before a flush most is at stake
		calls = x.random.IntN([]int{10, 30, 100}[x.random.IntN(3)])
		counts = func(op crashfs.Op) bool { return op == crashfs.OpSync || op == crashfs.OpSyncDir }
		if x.random.IntN(2) == 0 {
			counts = func(op crashfs.Op) bool { return op == crashfs.OpSyncDir }
		}
	}
	x.cutAfter(calls, counts)
	if err := x.begin(); err != nil {
		if x.alive(err) {
			x.fatal("open: %v", err)
		}
	} else if x.check() {
		x.power = false
		for id, h := range x.found {
			if seq := x.spaces[id].last().seq; seq != h.last().seq {
				x.fatal("space %q was at seq %d read-only and recovered to %d", id, h.last().seq, seq)
			}
		}
		for range steps {
			if !x.step() {
				break
			}
		}
	}
	power := x.random.IntN(3) > 0
	x.log("end after call %d of %d, power cut %v", x.fs.Calls(), calls, power)
	x.end(power)
	x.found = nil
}

// readOnly opens without changing anything, which shows what recovery will find.
func (x *crashRun) readOnly() {
	x.t.Helper()
	x.log("\nopen read-only")
	y := x.fork()
	y.opts.ReadOnly = true
	before := y.fs.MutatingCalls()
	err := y.begin()
	if errors.Is(err, fs.ErrNotExist) && before == 0 && len(y.spaces) == 0 {
		return // a cut left no registry at all
	}
	if err != nil {
		x.fatal("open read-only: %v", err)
	}
	y.check()
	if err := y.r.Close(); err != nil {
		x.fatal("close read-only: %v", err)
	}
	if n := y.fs.MutatingCalls(); n != before {
		x.fatal("%d changes by a read-only registry", n-before)
	}
	if left := y.fs.Handles(); len(left) > 0 {
		x.fatal("closed with open handles %q", left)
	}
	x.found = y.spaces
}

// conclude opens for good: everything settles, a closed registry has nothing to
// recover, and what it has survives a power cut.
func (x *crashRun) conclude() {
	x.t.Helper()
	x.log("\nopen for good")
	for last := range 3 {
		if err := x.begin(); err != nil {
			x.fatal("open: %v", err)
		}
		x.check()
		x.power = false
		if last < 2 {
			x.rememberEverywhere()
		}
		if last == 0 {
			x.end(true)
			continue
		}
		if err := x.r.Settle(background); err != nil {
			x.fatal("settle: %v", err)
		}
		if err := x.r.Close(); err != nil {
			x.fatal("close: %v", err)
		}
		if left := x.fs.Handles(); len(left) > 0 {
			x.fatal("closed with open handles %q", left)
		}
		for _, h := range x.spaces {
			h.settled()
		}
		x.r = nil
		x.end(true)
	}
}
