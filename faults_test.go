package engram

import (
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// How often the tests of faults do what they do. docs/durability.md has the table.
//
//	ENGRAM_FAULTS=n       n times each row of it; without it one part in 40, with
//	                      -short in 400
//	ENGRAM_FAULTS_FROM=n  begins with seed n, not 1
//	ENGRAM_FAULTS_SEED=n  this seed alone, with everything that it can do
const (
	faultsEnv     = "ENGRAM_FAULTS"
	faultsFromEnv = "ENGRAM_FAULTS_FROM"
	faultsSeedEnv = "ENGRAM_FAULTS_SEED"

	faultSample      = 40
	faultSampleShort = 400
)

// faultRow is one row of the table.
type faultRow struct {
	fault  string
	unit   string // what is counted
	column int    // how many a full run counts, at least
}

// faultRun is a row while it runs. Seeds run in parallel.
type faultRun struct {
	t      *testing.T
	share  float64 // of what a seed could do, done
	target int64
	done   atomic.Int64
	seed   atomic.Uint64 // the last one begun
}

// run runs seeds, each as a test of its own, until the row is complete. Each
// counts in the faultRun what it has done.
func (row faultRow) run(t *testing.T, seed func(t *testing.T, r *faultRun, seed uint64)) {
	t.Helper()
	// The registries of one case are garbage when the next one begins.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	r := &faultRun{t: t, share: 1}
	if only := faultsNumber(t, faultsSeedEnv); only > 0 {
		seed(t, r, only)
		t.Logf("faults: %s: %d %s of seed %d", row.fault, r.done.Load(), row.unit, only)
		return
	}
	switch times := faultsNumber(t, faultsEnv); {
	case times > 0:
		r.target = int64(times) * int64(row.column)
	case testing.Short():
		r.share = 1.0 / faultSampleShort
	default:
		r.share = 1.0 / faultSample
	}
	if r.target == 0 {
		r.target = max(int64(float64(row.column)*r.share), 1)
	}
	if from := faultsNumber(t, faultsFromEnv); from > 0 {
		r.seed.Store(from - 1)
	}
	began := time.Now()
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for r.done.Load() < r.target && !t.Failed() {
				n := r.seed.Add(1)
				t.Run(strconv.FormatUint(n, 10), func(t *testing.T) { seed(t, r, n) })
			}
		})
	}
	workers.Wait()
	if t.Failed() {
		return
	}
	require.GreaterOrEqual(t, r.done.Load(), r.target)
	t.Logf("faults: %s: %d %s in %.0f s", row.fault, r.done.Load(), row.unit, time.Since(began).Seconds())
}

// picks reports whether a case of a seed, chosen by its own random numbers, is
// among those that this run does.
func (r *faultRun) picks(random *rand.Rand) bool { return r.share == 1 || random.Float64() < r.share }

// count says that n cases have been done.
func (r *faultRun) count(n int) { r.done.Add(int64(n)) }

func faultsNumber(t *testing.T, name string) uint64 {
	value := os.Getenv(name)
	if value == "" {
		return 0
	}
	n, err := strconv.ParseUint(value, 10, 63)
	require.NoError(t, err, name)
	return n
}

// reproduceFault is the line that runs the seed of a test again, alone.
func reproduceFault(t *testing.T, seed uint64) string {
	name := strings.TrimSuffix(t.Name(), "/"+strconv.FormatUint(seed, 10))
	return faultsSeedEnv + "=" + strconv.FormatUint(seed, 10) +
		" go test -count=1 -run '^" + strings.ReplaceAll(name, "/", "$/^") + "$' ."
}
