package engram

import (
	"cmp"
	"context"
	"math"
	"slices"

	"go.uber.org/zap"

	"github.com/engramdb/engram/internal/rabitq"
)

// Training of a partition: beside reads and writes, behind a checkpoint, which has
// all codes in one place.
const (
	// A scan of all codes of fewer vectors takes hardly more than what else a recall does.
	defaultPartitionRows = 1 << 13
	// A partition is made anew when the space has so many times the vectors that it
	// was trained on.
	partitionGrowth = 4

	leavesPerRoot = 4       // of the rows: fewer hold more that is far, more take longer to compare
	maxLeafBytes  = 2 << 20 // of centroids, in one operation
	rowsPerLeaf   = 32      // of the sample

	// Where the nearest ones of so many cues lie says up to which gap leaves are probed:
	// those that hold this share of them, and some more. Each cue is the middle of two
	// rows, for cues are not like memories: they may lie between them. It pays if those
	// leaves have no more than a share of the rows. How many rows are ahead of the nearest
	// ones by binary codes says how deep the scan is.
	probeQueries = 200
	probeNearest = 10
	probeRecall  = 0.99
	fewRecall    = 0.998 // of no more than scanRows vectors, which gain less: they are to lose nothing
	slackMargin  = 1.05
	maxSlack     = 4 // gaps are those of cosines, as codes estimate them
	depthMargin  = 2
	probeShare   = 0.25

	columnRows = 1 << 16 // are given leaves before it is asked whether to go on
)

// partitionDue reports whether the space is to be partitioned, or anew.
func (s *store) partitionDue(least int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next.generation == 0 && s.vectors >= least &&
		(s.partition == nil || s.vectors >= partitionGrowth*s.partition.trained)
}

// partitionIfDue begins to partition the space, behind others that are due: a training
// takes a core. Its caller has made a checkpoint and is counted in Registry.work.
func (a *awake) partitionIfDue() {
	if !a.store.partitionDue(a.registry.options.seams.partitionRows) || !a.maintenance.partitioning.CompareAndSwap(false, true) {
		return
	}
	a.registry.work.Add(1)
	go func() {
		defer a.registry.work.Done()
		defer a.maintenance.partitioning.Store(false)
		a.registry.training.Lock() // asleep meanwhile, it is due again at another checkpoint
		defer a.registry.training.Unlock()
		a.uses.Add(1)
		defer a.done()
		if a.space.awake.Load() != a {
			return // it fell asleep in between
		}
		if err := a.partition(); err != nil && a.going() {
			a.registry.options.Logger.Warn("vectors of a space are not partitioned", zap.String("space", string(a.space.ID())), zap.Error(err))
		}
	}()
}

// going reports whether background work for the space is of use.
func (a *awake) going() bool { return a.space.gone() == nil && a.stopped.Load() == nil }

// partition trains a partition, logs it, and makes a checkpoint by its leaves.
func (a *awake) partition() error {
	p, err := a.logPartition()
	if err != nil || !p.pays() {
		return err
	}
	return a.runCheckpoint(context.Background(), false)
}

// logPartition trains a partition of the present vectors and makes it the space's. It
// returns nil if the training was to end.
func (a *awake) logPartition() (*partition, error) {
	v := a.store.view()
	p := v.train(a.store.rotations.of(v.dimension), a.going)
	if p == nil {
		return nil, nil
	}
	return p, a.space.divide(v, p)
}

// divide logs the partition of the view's vectors.
func (s *Space) divide(v *view, p *partition) error {
	op := operation{
		kind: opPartition, generation: v.generation, dimension: v.dimension, partition: *p,
		storedAt: nanosOf(s.registry.options.Clock),
	}
	_, err := s.write(context.Background(), []operation{op}, payloadHash{}, writeOptions{})
	return err
}

// train makes a partition of the vectors in the view's image, nil if it is to end, or
// most of them came after the image. It is a pure function of them.
func (v *view) train(r *rabitq.Rotation, going func() bool) *partition {
	x := &v.image.of(v.generation).vectors
	rows := x.documents.len()
	if 2*int64(rows) < v.vectors {
		return nil
	}
	leaves := min(int(leavesPerRoot*math.Sqrt(float64(rows))), maxLeafBytes/r.FineBytes())
	step := max(rows/max(leaves*rowsPerLeaf, 1), 1)
	var sample []uint8
	for row := 0; row < rows; row += step {
		if v.visible(x.documents.at(uint32(row))) {
			sample = append(sample, x.codes.Fine[row*r.FineBytes():][:r.FineBytes()]...)
		}
	}
	p := &partition{trained: v.vectors, leaves: rabitq.Train(r, sample, leaves, going)}
	if p.leaves == nil || !p.measure(v, r, going) {
		p = &partition{trained: v.vectors}
	}
	if !going() {
		return nil
	}
	return p
}

// measure finds out which leaves of the view's vectors a recall has to probe, and how
// deep. It reports whether the partition pays.
func (p *partition) measure(v *view, r *rabitq.Rotation, going func() bool) (pays bool) {
	x := &v.image.of(v.generation).vectors
	rows := x.documents.len()
	for end := 0; end < rows; {
		end = min(end+columnRows, rows)
		if x.leaves.under(p, x.codes.Slice(0, end)); !going() {
			return false
		}
	}
	leafOf, sizes := x.leaves.under(p, &x.codes), make([]int, p.leaves.Leaves())
	live := appendLive(nil, rows, func(row int) bool { return v.visible(x.documents.at(uint32(row))) })
	for _, leaf := range leafOf {
		sizes[leaf]++
	}
	query, search, deepest := rabitq.NewQuery(r, rabitq.TwoBits), new(rabitq.Search), deepestOf(v.vectors)
	var m measured
	var found []rabitq.Candidate
	code := func(row int) []uint8 { return x.codes.Fine[row*r.FineBytes():][:r.FineBytes()] }
	step := max(rows/probeQueries, 1)
	for row := step / 2; row < rows && going(); row += step {
		other := (row + rows/3) % rows
		query.SetCode(code(row), code(other))
		found = search.All(found[:0], []rabitq.Part{rabitq.WholePart(&x.codes, live)}, query, deepest, probeNearest+2)
		gapOf := m.ask(p.leaves, query)
		for _, c := range found[:min(len(found), probeNearest+2)] {
			if int(c.Row) != row && int(c.Row) != other {
				m.near, m.ahead = append(m.near, gapOf[leafOf[c.Row]]), append(m.ahead, search.Ahead(c.Row))
			}
		}
	}
	if len(m.near) == 0 {
		return false
	}
	share := probeRecall
	if p.trained <= scanRows {
		share = fewRecall
	}
	p.slack = slackMargin * float64(mostOf(m.near, share))
	within := m.within(p.slack, sizes) / float64(rows)
	p.scanned = min(max(int(within*float64(p.trained)), deepest), int(p.trained))
	p.depth = min(depthMargin*(mostOf(m.ahead, share)+1), deepest, int(p.trained))
	return within <= probeShare
}

// measured is what the cues of a training found.
type measured struct {
	gaps  []float32 // of each leaf, cue by cue
	near  []float32 // of the leaf of each near row
	ahead []int     // rows, of each near one, by their binary codes
}

// ask returns the gap of each leaf.
func (m *measured) ask(leaves *rabitq.Partition, query *rabitq.Query) []float32 {
	m.gaps = append(m.gaps, make([]float32, leaves.Leaves())...)
	gapOf := m.gaps[len(m.gaps)-leaves.Leaves():]
	for leaf, gap := range leaves.Nearest(query, maxSlack) {
		gapOf[leaf] = gap
	}
	return gapOf
}

// within returns how many rows the leaves up to a gap have on average.
func (m *measured) within(slack float64, sizes []int) float64 {
	rows := 0
	for i, gap := range m.gaps {
		if float64(gap) <= slack {
			rows += sizes[i%len(sizes)]
		}
	}
	return float64(rows) * float64(len(sizes)) / float64(len(m.gaps))
}

// mostOf returns what so large a share of the numbers, which it sorts, do not exceed.
func mostOf[N cmp.Ordered](list []N, share float64) N {
	slices.Sort(list)
	return list[int(share*float64(len(list)-1))]
}
