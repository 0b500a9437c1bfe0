package engram

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Limits and defaults of spreading.
const (
	DefaultSpreadHops  = 3
	DefaultSpreadNodes = 1_000
	DefaultSpreadEdges = 10_000
	MaxSpreadHops      = 8
	MaxSpreadNodes     = 100_000
	MaxSpreadEdges     = 1_000_000
)

const (
	// defaultSpreadActivation is the least that an edge passes on, by default.
	defaultSpreadActivation = 0.01
	// spreadDecay is the share of its activation that a memory passes on.
	spreadDecay = 0.7
	// associationShare is the share of what reaches a memory that it gets: what is
	// brought to mind comes below what brings it.
	associationShare = 0.6
	// spreadSeeds is how many of the memories that match a cue activation spreads
	// from: a long tail of weak matches would only use up the bounds.
	spreadSeeds = 32
)

// Spread says how far a recall spreads activation over associations, from the
// memories that match the cue itself: the 32 that match it best, whatever its limit,
// of those that satisfy its filter, or that it names. What lies between need not
// satisfy it.
// The zero value is the default.
//
// The most activated memory of those that were reached is taken first, once
// each. It passes on to each memory that it has associations to
//
//	activation x weight x 0.7 / (1 + ln fan)
//
// where fan is how many memories those are: the more a memory brings to mind,
// the less it brings any of them (the fan effect: Anderson 1974; ACT-R's
// logarithmic form: Anderson 1983). Of several associations to one memory the
// heaviest counts. A memory that was reached, and is not one of those that it began
// at, passes on to its two neighbours on either side in its episode, too, as they stand
// in time: activation x 0.7 x 0.45, and 0.3 for the farther ones. What reaches a memory
// from several adds up as 1 - (1-a)(1-b), so that it stays below 1. The best match
// begins with 1, the others in proportion. Ties are broken by Seq, the newer
// first: the same state and cue give the same answer.
type Spread struct {
	Off bool `json:"off,omitempty"` // nothing spreads
	// Hops is the most associations from a match to what it brings to mind, 1 to
	// MaxSpreadHops; 0 means DefaultSpreadHops.
	Hops int `json:"hops,omitempty"`
	// Nodes is the most memories that pass activation on, 1 to MaxSpreadNodes; 0
	// means DefaultSpreadNodes. It and Edges bound the time.
	Nodes int `json:"nodes,omitempty"`
	// Edges is the most associations and neighbours that activation passes over,
	// 1 to MaxSpreadEdges; 0 means DefaultSpreadEdges. Of those of a memory that
	// are too many the heaviest are kept, of equal ones those to newer memories.
	Edges int `json:"edges,omitempty"`
	// MinActivation in [0,1]: less than that is not passed on; 0 means 0.01.
	MinActivation float64 `json:"min_activation,omitempty"`
}

// Spreading says what spreading did.
type Spreading struct {
	Seeds int  `json:"seeds"`         // memories that it began at
	Nodes int  `json:"nodes"`         // memories that passed on, the seeds among them
	Edges int  `json:"edges"`         // that activation passed over
	Cut   bool `json:"cut,omitempty"` // a bound on nodes or edges ended it
}

func (s *Spread) validate() error {
	for _, f := range []struct {
		name     string
		got, max int
	}{
		{"spread.hops", s.Hops, MaxSpreadHops}, {"spread.nodes", s.Nodes, MaxSpreadNodes}, {"spread.edges", s.Edges, MaxSpreadEdges},
	} {
		if f.got < 0 {
			return &InvalidError{Field: f.name, Reason: "is negative"}
		}
		if f.got > f.max {
			return &LimitError{What: f.name, Got: int64(f.got), Max: int64(f.max)}
		}
	}
	if !(s.MinActivation >= 0 && s.MinActivation <= 1) {
		return &InvalidError{Field: "spread.min_activation", Reason: "must be in [0,1]"}
	}
	return nil
}

func (s Spread) withDefaults() Spread {
	s.Hops = cmp.Or(s.Hops, DefaultSpreadHops)
	s.Nodes = cmp.Or(s.Nodes, DefaultSpreadNodes)
	s.Edges = cmp.Or(s.Edges, DefaultSpreadEdges)
	s.MinActivation = cmp.Or(s.MinActivation, defaultSpreadActivation)
	return s
}

// seed is a memory that activation spreads from.
type seed struct {
	document   uint32
	activation float64 // in (0,1]
}

// reach is a memory that activation has reached.
type reach struct {
	document uint32
	node     *node   // nil: not known to be one
	seed     float64 // what it began with; 0: it is no seed
	received float64 // from others
	best     float64 // the most that one of them passed
	parent   int32   // which one: its place in reached; -1: none
	queued   int32   // its place in the queue; -1: not there
	hops     uint8   // of the path by parents, 0 for a seed
	settled  bool    // it has passed on, and receives no more
}

func (r *reach) activation() float64 { return r.seed + float64(r.received*(1-r.seed)) }

// spreading is activation at work over one snapshot.
type spreading struct {
	view    *view
	bounds  Spread
	did     Spreading
	reached []reach
	places  map[uint32]int32 // in reached, by document
	nodes   map[uint32]int32 // in reached, by number in the graph
	queue   []int32          // those not settled, a heap: the most activated on top
	out     []edge           // of the memory that passes on
	dead    deadRuns
}

// spread spreads the activation of the seeds within the bounds, which have no
// defaults to fill in. It is a pure function of the snapshot; ctx ends it with
// its error.
func (v *view) spread(ctx context.Context, seeds []seed, bounds Spread) (*spreading, error) {
	s := &spreading{view: v, bounds: bounds, places: make(map[uint32]int32), nodes: make(map[uint32]int32)}
	for _, from := range seeds {
		r := &s.reached[s.place(from.document)]
		r.seed = max(r.seed, from.activation)
	}
	s.did.Seeds = len(s.reached)
	for i := range s.reached {
		s.enqueue(int32(i))
	}
	for len(s.queue) > 0 && !s.did.Cut {
		if s.did.Nodes%64 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if s.did.Nodes == bounds.Nodes {
			s.did.Cut = true
			break
		}
		s.did.Nodes++
		s.settle(s.dequeue())
	}
	return s, nil
}

// settle lets the memory of that place pass on what it has.
func (s *spreading) settle(place int32) {
	r := &s.reached[place]
	r.settled = true
	if int(r.hops) == s.bounds.Hops {
		return
	}
	document, n, seed, passing := r.document, r.node, r.seed, r.activation()*spreadDecay
	if n == nil {
		n = s.view.graph.of(string(s.view.id(document)))
	}
	if n != nil && passing >= s.bounds.MinActivation {
		s.passAlong(place, n, passing)
	}
	// What stands beside a match by words, or a named memory, has its share of that.
	if seed == 0 && passing*nearShare >= s.bounds.MinActivation {
		s.passBeside(place, document, passing)
	}
}

// passAlong passes on over the associations of n.
func (s *spreading) passAlong(place int32, n *node, passing float64) {
	s.out = s.out[:0]
	for _, e := range n.out {
		if last := len(s.out) - 1; last >= 0 && s.out[last].to == e.to {
			s.out[last].weight = max(s.out[last].weight, e.weight)
		} else {
			s.out = append(s.out, e)
		}
	}
	passing /= fan(len(s.out))
	if left := s.bounds.Edges - s.did.Edges; len(s.out) > left {
		s.did.Cut = true
		slices.SortFunc(s.out, func(a, b edge) int {
			return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(s.seqOf(b.to), s.seqOf(a.to)))
		})
		s.out = s.out[:left]
	}
	s.did.Edges += len(s.out)
	for _, e := range s.out {
		if passed := passing * e.weight; passed >= s.bounds.MinActivation {
			s.receive(s.placeOf(e.to), place, passed)
		}
	}
}

// seqOf returns the seq of the node of that number, which the view has.
func (s *spreading) seqOf(number uint32) uint64 {
	return s.view.seqOf(s.view.documentOf(s.view.graph.node(number)))
}

// fan is what activation is divided by where a memory leads to n others.
func fan(n int) float64 { return 1 + math.Log(float64(max(n, 1))) }

// passBeside passes on to the neighbours in the episode, the near ones first.
func (s *spreading) passBeside(place int32, d uint32, passing float64) {
	neighbours := s.view.neighbours(d, &s.dead)
	for _, i := range [4]int{1, 2, 0, 3} {
		passed := passing * cuedShares[i]
		if neighbours[i] == noDocument || passed < s.bounds.MinActivation {
			continue
		}
		if s.did.Edges == s.bounds.Edges {
			s.did.Cut = true
			return
		}
		s.did.Edges++
		s.receive(s.place(neighbours[i]), place, passed)
	}
}

// receive adds what parent passes to what the memory of that place has.
func (s *spreading) receive(place, parent int32, passed float64) {
	r := &s.reached[place]
	if r.settled {
		return
	}
	r.received += float64(passed * (1 - r.received))
	if passed > r.best {
		r.best, r.parent = passed, parent
		if r.seed == 0 {
			r.hops = s.reached[parent].hops + 1
		}
	}
	if r.queued < 0 {
		s.enqueue(place)
	} else {
		s.rise(int(r.queued))
	}
}

// placeOf returns the place of the node of that number, which the view has.
func (s *spreading) placeOf(number uint32) int32 {
	place, found := s.nodes[number]
	if !found {
		n := s.view.graph.node(number)
		place = s.place(s.view.documentOf(n))
		s.reached[place].node, s.nodes[number] = n, place
	}
	return place
}

// place returns the place of the document.
func (s *spreading) place(d uint32) int32 {
	place, found := s.places[d]
	if !found {
		place = int32(len(s.reached))
		s.reached = append(s.reached, reach{document: d, parent: -1, queued: -1})
		s.places[d] = place
	}
	return place
}

// path returns the ids from the seed that the most came from to the memory of
// that place, both among them.
func (s *spreading) path(place int32) []string {
	r := &s.reached[place]
	ids := []string{string(s.view.id(r.document))}
	for {
		r = &s.reached[r.parent]
		ids = append(ids, string(s.view.id(r.document)))
		if r.seed > 0 {
			slices.Reverse(ids)
			return ids
		}
	}
}

// before orders the queue: the most activated first, and of equals the newer.
func (s *spreading) before(a, b int32) bool {
	x, y := &s.reached[a], &s.reached[b]
	if ax, ay := x.activation(), y.activation(); ax != ay {
		return ax > ay
	}
	return s.view.seqOf(x.document) > s.view.seqOf(y.document)
}

func (s *spreading) enqueue(place int32) {
	s.queue = append(s.queue, place)
	s.rise(len(s.queue) - 1)
}

// dequeue takes the first of the queue.
func (s *spreading) dequeue() int32 {
	first, last := s.queue[0], len(s.queue)-1
	moved := s.queue[last]
	s.queue = s.queue[:last]
	s.reached[first].queued = -1
	if last > 0 {
		s.put(0, moved)
		s.sink(0)
	}
	return first
}

func (s *spreading) put(at int, place int32) {
	s.queue[at] = place
	s.reached[place].queued = int32(at)
}

// rise moves what stands there up to where it belongs, which is not below.
func (s *spreading) rise(at int) {
	place := s.queue[at]
	for at > 0 {
		above := (at - 1) / 2
		if !s.before(place, s.queue[above]) {
			break
		}
		s.put(at, s.queue[above])
		at = above
	}
	s.put(at, place)
}

// sink moves what stands there down to where it belongs.
func (s *spreading) sink(at int) {
	place := s.queue[at]
	for {
		below := 2*at + 1
		if below >= len(s.queue) {
			break
		}
		if next := below + 1; next < len(s.queue) && s.before(s.queue[next], s.queue[below]) {
			below = next
		}
		if !s.before(s.queue[below], place) {
			break
		}
		s.put(at, s.queue[below])
		at = below
	}
	s.put(at, place)
}

// spreads reports whether the recall has anything to spread activation over.
func (q *recalling) spreads() bool { return !q.cue.Spread.Off && q.view.graph.edges > 0 }

// spreadAssociations gives what the matches bring to mind its part. It returns
// the place of the first candidate that was none before.
func (q *recalling) spreadAssociations(ctx context.Context) (fresh int, err error) {
	fresh = len(q.candidates)
	seeds := q.seeds()
	if len(seeds) == 0 {
		return fresh, nil
	}
	// What a text gives is far from 1 even where all of it is found: the best
	// match stands for 1, and what comes of it is in proportion to it.
	best := seeds[0].activation
	for i := range seeds {
		seeds[i].activation /= best
	}
	q.spreading, err = q.view.spread(ctx, seeds, q.cue.Spread.withDefaults())
	if err != nil {
		return fresh, err
	}
	for i := range q.spreading.reached {
		if r := &q.spreading.reached[i]; r.received > 0 {
			q.of(r.document).why.Association = r.received * best * associationShare
		}
	}
	return fresh, nil
}

// seeds returns the candidates that match the cue themselves, the best first,
// with what all kinds of cue give them: it may be more than 1. How many are asked for
// does not show in them: of each kind only those in front count.
func (q *recalling) seeds() []seed {
	stronger := func(a, b seed) int {
		return cmp.Or(cmp.Compare(b.activation, a.activation), cmp.Compare(q.view.seqOf(b.document), q.view.seqOf(a.document)))
	}
	near := make(lowestFirst, 0, q.front)
	for i := range q.candidates {
		near.offer(q.candidates[i].why.Vector)
	}
	seeds := make([]seed, 0, spreadSeeds+1)
	for i := range q.candidates {
		c := &q.candidates[i]
		if i >= q.byText && c.why.Cued == 0 && (c.why.Vector == 0 || c.why.Vector < near.floor()) {
			continue
		}
		match := seed{document: c.document, activation: c.why.Cued + c.why.Text + c.why.Vector}
		if match.activation == 0 || len(seeds) == spreadSeeds && stronger(match, seeds[spreadSeeds-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(seeds, match, stronger)
		seeds = slices.Insert(seeds, at, match)
		seeds = seeds[:min(len(seeds), spreadSeeds)]
	}
	return seeds
}

// completeReached gives the memories that spreading alone has made candidates,
// those from fresh on, what the cue itself gives them; of a cue with an embedding
// only the most activated, as each may be read.
func (q *recalling) completeReached(ctx context.Context, text *textRecall, fresh int) error {
	reached := q.admitted(fresh)
	if len(q.embedding) > 0 && len(reached) > hybridCandidates {
		slices.SortFunc(reached, func(i, j int) int {
			a, b := &q.candidates[i], &q.candidates[j]
			return cmp.Or(cmp.Compare(b.why.Association, a.why.Association), cmp.Compare(b.seq, a.seq))
		})
		reached = reached[:hybridCandidates]
	}
	return q.complete(ctx, text, reached)
}

// explainPaths names the memories over which association came to the candidates.
func (q *recalling) explainPaths(list []candidate) {
	if q.spreading == nil {
		return
	}
	for i := range list {
		if why := &list[i].why; why.Association > 0 {
			why.Path = q.spreading.path(q.spreading.places[list[i].document])
		}
	}
}
