package engram

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ni "github.com/engramdb/engram/internal/noninterference"
)

// Whatever other spaces do, A observes the same: docs/isolation.md.
func TestNoninterference(t *testing.T) {
	checkNoninterference(t, libraryLayer())
}

// isolationBudget is how many seconds 10,000 pairs may take on two cores of their own.
const isolationBudget = 60

// pairsPerSeed are those of A's script and one of others'.
const pairsPerSeed = 3

// isolationPairs is how many pairs a layer is tested with: the full number where
// ENGRAM_ISOLATION says so, and a sample of it in an ordinary go test.
func isolationPairs(sampled, full int) int {
	switch os.Getenv("ENGRAM_ISOLATION") {
	case "full":
		return full
	case "nightly":
		return 10 * full
	case "merge":
		return full / 10
	case "leaks": // of which each is to show in the first few
		return 300
	}
	if testing.Short() {
		return sampled / 4
	}
	return sampled
}

func checkNoninterference(t *testing.T, layer ni.Layer) {
	t.Helper()
	first, last := uint64(1), uint64(isolationPairs(120, 10_000)+pairsPerSeed-1)/pairsPerSeed
	if seed, err := strconv.ParseUint(os.Getenv("ENGRAM_ISOLATION_SEED"), 10, 64); err == nil {
		first, last = seed, seed
	}
	reproduce := func(seed uint64) string {
		return fmt.Sprintf("ENGRAM_ISOLATION_SEED=%d go test -count=1 -run '^%s$' .", seed, t.Name())
	}
	began := time.Now()
	var (
		work  sync.WaitGroup
		mu    sync.Mutex
		total ni.Tally
		next  atomic.Uint64
	)
	next.Store(first - 1)
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for seed := next.Add(1); seed <= last && !t.Failed(); seed = next.Add(1) {
				hangs := time.AfterFunc(hangsAfter, func() { panic("hangs: " + reproduce(seed)) })
				tally, err := layer.Check(seed)
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
	t.Logf("%s: %d pairs in %.1f s, for 10,000 there are %d s; %d operations; compared: %d answers, %d events, %d files",
		layer.Name, total.Pairs, time.Since(began).Seconds(), isolationBudget,
		total.Operations, total.Answers, total.Events, total.Files)
}
