package metrics

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/engramdb/engram"
)

// otherSpaces is the label of all spaces that have none of their own. It is the
// id of no space: ids begin with a letter or digit.
const otherSpaces = "_other"

// candidatesPerLabel is how many spaces are counted for each that has a label,
// to find out who is busy.
const candidatesPerLabel = 8

var (
	spaceRequests = prometheus.NewDesc("engram_space_requests_total", "Requests about a space; the less busy ones are summed as _other.", []string{"space"}, nil)
	spaceProblems = prometheus.NewDesc("engram_space_problems_total", "Requests about a space that were answered with a problem.", []string{"space"}, nil)
	spaceSeconds  = prometheus.NewDesc("engram_space_request_seconds_total", "Time that requests about a space took, streams aside.", []string{"space"}, nil)
)

// busiest counts by space, with labels for the busiest and one for all others.
// Memory and labels are bounded whatever spaces there are, and no counter ever
// falls: a space that gets a label starts there with what comes from then on,
// and what a label has counted goes to the others when the space loses it.
//
// Who is busy is found by Misra and Gries's algorithm ("Finding repeated
// elements", 1982) between two scrapes: with m counters, every space with more
// than one in m+1 requests has one.
type busiest struct {
	max int // labels

	mu       sync.Mutex // guards the fields below
	labelled map[engram.SpaceID]*spaceCounts
	others   spaceCounts
	recent   map[engram.SpaceID]uint64 // since the last scrape, at most max*candidatesPerLabel
}

type spaceCounts struct {
	requests, problems uint64
	seconds            float64
}

func newBusiest(labels int) *busiest {
	return &busiest{max: labels, labelled: map[engram.SpaceID]*spaceCounts{}, recent: map[engram.SpaceID]uint64{}}
}

func (b *busiest) observe(space engram.SpaceID, problem bool, duration time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noteLocked(space)
	counts := b.labelled[space]
	if counts == nil {
		counts = &b.others
	}
	counts.requests++
	counts.seconds += duration.Seconds()
	if problem {
		counts.problems++
	}
}

func (b *busiest) noteLocked(space engram.SpaceID) {
	if _, known := b.recent[space]; known || len(b.recent) < b.max*candidatesPerLabel {
		b.recent[space]++
		return
	}
	for other, n := range b.recent {
		if n == 1 {
			delete(b.recent, other)
			continue
		}
		b.recent[other] = n - 1
	}
}

// relabelLocked gives the labels to the busiest since the last scrape. One that
// has a label keeps it against one that is less than twice as busy: labels that
// change all the time are of no use.
func (b *busiest) relabelLocked() {
	weight := func(space engram.SpaceID) uint64 {
		if b.labelled[space] != nil {
			return 2*b.recent[space] + 1
		}
		return b.recent[space]
	}
	candidates := map[engram.SpaceID]struct{}{}
	for space := range b.recent {
		candidates[space] = struct{}{}
	}
	for space := range b.labelled {
		candidates[space] = struct{}{}
	}
	ranked := slices.SortedFunc(maps.Keys(candidates), func(x, y engram.SpaceID) int {
		return cmp.Or(cmp.Compare(weight(y), weight(x)), cmp.Compare(x, y))
	})
	for i, space := range ranked {
		counts := b.labelled[space]
		switch {
		case i < b.max && counts == nil:
			b.labelled[space] = &spaceCounts{}
		case i >= b.max && counts != nil:
			b.others.requests += counts.requests
			b.others.problems += counts.problems
			b.others.seconds += counts.seconds
			delete(b.labelled, space)
		}
	}
	clear(b.recent)
}

// Describe implements [prometheus.Collector].
func (b *busiest) Describe(out chan<- *prometheus.Desc) {
	out <- spaceRequests
	out <- spaceProblems
	out <- spaceSeconds
}

// Collect implements [prometheus.Collector].
func (b *busiest) Collect(out chan<- prometheus.Metric) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for space, counts := range b.labelled {
		counts.collect(out, string(space))
	}
	b.others.collect(out, otherSpaces)
	b.relabelLocked()
}

func (c *spaceCounts) collect(out chan<- prometheus.Metric, label string) {
	out <- prometheus.MustNewConstMetric(spaceRequests, prometheus.CounterValue, float64(c.requests), label)
	out <- prometheus.MustNewConstMetric(spaceProblems, prometheus.CounterValue, float64(c.problems), label)
	out <- prometheus.MustNewConstMetric(spaceSeconds, prometheus.CounterValue, c.seconds, label)
}
