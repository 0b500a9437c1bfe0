package noninterference

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pairsPerSeed are those of A's script and one of others'.
const pairsPerSeed = ways - interleaved

// seedsPerProcessor are run at a time: who asks waits for who answers.
const seedsPerProcessor = 2

// Budget says how much of a layer is tested.
type Budget struct {
	Sampled int // pairs in an ordinary go test
	Merge   int // pairs before a merge
	Full    int // pairs that the claim stands on
	Leaks   int // pairs in which each seeded leak has to show
	Seconds int // that the full number may take on two cores of their own
	// Hangs is more than any seed takes: one that takes longer hangs, and ends the
	// process.
	Hangs time.Duration
}

// pairs is the full number where ENGRAM_ISOLATION says so, and a sample of it in
// an ordinary go test.
func (b Budget) pairs() int {
	switch os.Getenv("ENGRAM_ISOLATION") {
	case "full":
		return b.Full
	case "nightly":
		return 10 * b.Full
	case "merge":
		return b.Merge
	case "leaks":
		return b.Leaks
	}
	if testing.Short() {
		return b.Sampled / 4
	}
	return b.Sampled
}

// over reports whether the pairs, no fewer than the full number, took longer than
// they may.
func (b Budget) over(pairs int, took time.Duration) bool {
	return pairs >= b.Full && took > time.Duration(b.Seconds)*time.Second*time.Duration(pairs)/time.Duration(b.Full)
}

// Test checks a layer with as many seeds as the budget gives, or with the one of
// ENGRAM_ISOLATION_SEED. pkg is the directory of the test that calls it.
func Test(t *testing.T, l Layer, pkg string, b Budget) {
	t.Helper()
	first, last := uint64(1), uint64(b.pairs()+pairsPerSeed-1)/pairsPerSeed
	if seed, err := strconv.ParseUint(os.Getenv("ENGRAM_ISOLATION_SEED"), 10, 64); err == nil {
		first, last = seed, seed
	}
	reproduce := func(seed uint64) string {
		return fmt.Sprintf("ENGRAM_ISOLATION_SEED=%d go test -count=1 -run '^%s$' %s", seed, t.Name(), pkg)
	}
	began := time.Now()
	var (
		work  sync.WaitGroup
		mu    sync.Mutex
		total Tally
		next  atomic.Uint64
	)
	next.Store(first - 1)
	for range seedsPerProcessor * runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for seed := next.Add(1); seed <= last && !t.Failed(); seed = next.Add(1) {
				hangs := time.AfterFunc(b.Hangs, func() { panic("hangs: " + reproduce(seed)) })
				tally, err := l.Check(seed)
				hangs.Stop()
				mu.Lock()
				total.Add(tally)
				mu.Unlock()
				if err != nil {
					t.Errorf("%v\nreproduce with: %s", err, reproduce(seed))
				}
			}
		})
	}
	work.Wait()
	took, verdict := time.Since(began), ""
	if b.over(total.Pairs, took) {
		verdict = ": OVER BUDGET"
	}
	t.Logf("%s: %d pairs in %.1f s, for %d there are %d s%s; %d operations; compared: %d answers, %d events, %d files",
		l.Name, total.Pairs, took.Seconds(), b.Full, b.Seconds, verdict,
		total.Operations, total.Answers, total.Events, total.Files)
}
