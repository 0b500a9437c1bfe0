package engram

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The tests whose subject is when things happen: kills of a process, histories
// of concurrent callers, the same script under other options, and operations
// that meet inside each other. Each has three sizes: what an ordinary go test
// can afford, the full number, and that of a night. ENGRAM_SCHEDULES chooses
// (full, nightly), ENGRAM_SCHEDULE_SEED runs one of them again.

// runCounts are how many runs a test makes, by the value of ENGRAM_SCHEDULES.
type runCounts struct{ sampled, full, nightly int }

func (c runCounts) chosen() int {
	switch os.Getenv("ENGRAM_SCHEDULES") {
	case "full":
		return c.full
	case "nightly":
		return c.nightly
	}
	if testing.Short() {
		return max(c.sampled/4, 1)
	}
	return c.sampled
}

// schedule is one run of such a test: what happens in it is up to its seed.
type schedule struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	steps  []string
}

// hangsAfter is more than any run takes: one that takes longer hangs, and all
// that is left to do is to say which one it was.
const hangsAfter = 5 * time.Minute

// forSchedules runs the test once for each seed.
func forSchedules(t *testing.T, c runCounts, run func(x *schedule)) {
	t.Helper()
	n := c.chosen()
	seeds := make([]uint64, 0, n)
	if seed, err := strconv.ParseUint(os.Getenv("ENGRAM_SCHEDULE_SEED"), 10, 64); err == nil {
		seeds = append(seeds, seed)
	} else {
		for i := range n {
			seeds = append(seeds, uint64(i+1))
		}
	}
	for _, seed := range seeds {
		x := &schedule{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1))}
		hangs := time.AfterFunc(hangsAfter, func() { panic("hangs: " + x.reproduce()) })
		run(x)
		hangs.Stop()
	}
	t.Logf("%d runs", len(seeds))
}

func (x *schedule) log(format string, args ...any) {
	x.steps = append(x.steps, fmt.Sprintf(format, args...))
}

func (x *schedule) reproduce() string {
	return fmt.Sprintf("ENGRAM_SCHEDULE_SEED=%d go test -count=1 -run '^%s$' .", x.seed, x.t.Name())
}

// fatal ends the test with what happened and the line that makes it happen again.
func (x *schedule) fatal(format string, args ...any) {
	x.t.Helper()
	x.t.Fatalf("%s\nafter %s\nreproduce with: %s", fmt.Sprintf(format, args...), strings.Join(x.steps, "\n      "), x.reproduce())
}

// must ends the test if there is an error.
func (x *schedule) must(err error) {
	x.t.Helper()
	if err != nil {
		x.fatal("%v", err)
	}
}

// one of the values, by chance.
func one[T any](random *rand.Rand, values ...T) T { return values[random.IntN(len(values))] }
