package engram

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// spreadOracle spreads slowly over what lists and lookups show.
type spreadOracle struct {
	memories     []Memory // in episode order
	associations []Association
	bounds       Spread
	states       map[string]*oracleReach
	did          Spreading
}

type oracleReach struct {
	memory               Memory
	seed, received, best float64
	hops                 int
	path                 []string
	settled              bool
}

func newSpreadOracle(t tester, s *Space, bounds Spread) *spreadOracle {
	o := &spreadOracle{memories: list(t, s, Filter{}), bounds: bounds.withDefaults(), states: make(map[string]*oracleReach)}
	for _, m := range o.memories {
		o.states[m.ID] = &oracleReach{memory: m}
		for _, a := range associationsOf(t, s, m.ID) {
			if a.From == m.ID {
				o.associations = append(o.associations, a)
			}
		}
	}
	return o
}

func (r *oracleReach) activation() float64 { return r.seed + r.received*(1-r.seed) }

// next is the most activated of those that have not passed on.
func (o *spreadOracle) next() *oracleReach {
	var next *oracleReach
	for _, r := range o.states {
		if r.settled || r.activation() == 0 {
			continue
		}
		if next == nil || r.activation() > next.activation() ||
			r.activation() == next.activation() && r.memory.Seq > next.memory.Seq {
			next = r
		}
	}
	return next
}

func (o *spreadOracle) run(seeds map[string]float64) {
	for id, activation := range seeds {
		if r := o.states[id]; r != nil {
			r.seed = activation
			o.did.Seeds++
		}
	}
	for r := o.next(); r != nil && !o.did.Cut; r = o.next() {
		if o.did.Nodes == o.bounds.Nodes {
			o.did.Cut = true
			return
		}
		o.did.Nodes++
		r.settled = true
		if r.hops == o.bounds.Hops {
			continue
		}
		passing := r.activation() * 0.7
		o.along(r, passing)
		o.beside(r, passing)
	}
}

func (o *spreadOracle) along(r *oracleReach, passing float64) {
	if passing < o.bounds.MinActivation {
		return
	}
	heaviest := make(map[string]float64)
	for _, a := range o.associations {
		if a.From == r.memory.ID {
			heaviest[a.To] = max(heaviest[a.To], a.Weight)
		}
	}
	targets := make([]*oracleReach, 0, len(heaviest))
	for id := range heaviest {
		targets = append(targets, o.states[id])
	}
	slices.SortFunc(targets, func(a, b *oracleReach) int {
		wa, wb := heaviest[a.memory.ID], heaviest[b.memory.ID]
		if wa != wb {
			return int(math.Copysign(1, wb-wa))
		}
		return int(b.memory.Seq) - int(a.memory.Seq)
	})
	for i, to := range targets {
		if o.did.Edges == o.bounds.Edges {
			o.did.Cut = true
			return
		}
		o.did.Edges++
		o.pass(r, to, passing/(1+math.Log(float64(len(targets))))*heaviest[targets[i].memory.ID])
	}
}

func (o *spreadOracle) beside(r *oracleReach, passing float64) {
	if r.seed > 0 || r.memory.Episode == "" {
		return
	}
	var episode []Memory
	for _, m := range o.memories {
		if m.Episode == r.memory.Episode {
			episode = append(episode, m)
		}
	}
	at := slices.IndexFunc(episode, func(m Memory) bool { return m.ID == r.memory.ID })
	for _, n := range []struct {
		offset int
		share  float64
	}{{-1, nearShare}, {1, nearShare}, {-2, farShare}, {2, farShare}} {
		i := at + n.offset
		if i < 0 || i >= len(episode) || passing*n.share < o.bounds.MinActivation {
			continue
		}
		if o.did.Edges == o.bounds.Edges {
			o.did.Cut = true
			return
		}
		o.did.Edges++
		o.pass(r, o.states[episode[i].ID], passing*n.share)
	}
}

func (o *spreadOracle) pass(from, to *oracleReach, passed float64) {
	if to.settled || passed < o.bounds.MinActivation {
		return
	}
	to.received += passed * (1 - to.received)
	if passed <= to.best {
		return
	}
	to.best = passed
	if to.seed == 0 {
		to.hops = from.hops + 1
	}
	path := []string{from.memory.ID}
	if from.seed == 0 {
		path = slices.Clone(from.path)
	}
	to.path = append(path, to.memory.ID)
}

// requireSpread requires that spreading from the seeds does what the oracle does.
func requireSpread(t tester, s *Space, seeds map[string]float64, bounds Spread) *spreading {
	t.Helper()
	o := newSpreadOracle(t, s, bounds)
	o.run(seeds)
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	v := a.store.view()
	var list []seed
	for id, activation := range seeds {
		if d, found := v.lookup(id); found {
			list = append(list, seed{document: d, activation: activation})
		}
	}
	got, err := v.spread(background, list, bounds.withDefaults())
	require.NoError(t, err)
	require.Equal(t, o.did, got.did)
	found := 0
	for i := range got.reached {
		r := &got.reached[i]
		id := string(v.id(r.document))
		want := o.states[id]
		require.Equal(t, math.Float64bits(want.received), math.Float64bits(r.received), id)
		require.Less(t, r.activation(), 1.0000001)
		if r.received > 0 {
			found++
			require.Equal(t, want.path, got.path(int32(i)), id)
			require.LessOrEqual(t, len(want.path)-1, o.bounds.Hops)
		}
	}
	for _, r := range o.states {
		if r.received > 0 {
			found--
		}
	}
	require.Zero(t, found, "as many as the oracle reaches")
	return got
}

func TestSpreadAgainstOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := openMemory(t, newMemoryFS(), Options{})
		defer func() { require.NoError(t, r.Close()) }()
		s := create(t, r, "alpha")
		memories := drawMemories(t, 14)
		remember(t, s, memories...)
		id := rapid.SampledFrom(idsOf(memories))
		for range rapid.IntRange(0, 40).Draw(t, "associations") {
			from, to := id.Draw(t, "from"), id.Draw(t, "to")
			if from != to {
				kind := rapid.SampledFrom([]string{"one", "two"}).Draw(t, "kind")
				associate(t, s, from, to, kind, rapid.SampledFrom([]float64{0.25, 0.5, 1}).Draw(t, "weight"))
			}
		}
		seeds := make(map[string]float64)
		for _, from := range rapid.SliceOfN(id, 1, 4).Draw(t, "seeds") {
			seeds[from] = rapid.SampledFrom([]float64{0.1, 0.5, 1}).Draw(t, "activation")
		}
		bounds := Spread{
			Hops: rapid.IntRange(0, MaxSpreadHops).Draw(t, "hops"), Nodes: rapid.IntRange(0, 12).Draw(t, "nodes"),
			Edges: rapid.IntRange(0, 30).Draw(t, "edges"), MinActivation: rapid.SampledFrom([]float64{0, 0.001, 0.2}).Draw(t, "least"),
		}
		before := requireSpread(t, s, seeds, bounds)
		require.NoError(t, s.Checkpoint(background))
		asleep(t, s)
		after := requireSpread(t, s, seeds, bounds)
		require.Equal(t, before.did, after.did)
	})
}

// The formula, by hand.
func TestSpreadFormula(t *testing.T) {
	s := newAssociated(t)
	associate(t, s, "a", "b", "", 0.5)
	associate(t, s, "b", "c", "", 1)
	associate(t, s, "b", "d", "", 1)
	associate(t, s, "c", "a", "", 1) // a circle
	got := recall(t, s, Cue{IDs: []string{"a"}})
	require.Equal(t, []string{"a", "b", "d", "c"}, recalledIDs(got))
	b := 0.7 * 0.5
	c := b * 0.7 / (1 + math.Log(2))
	require.InDelta(t, 1, got[0].Why.Cued, 1e-12)
	require.InDelta(t, b*associationShare, got[1].Activation, 1e-12)
	require.InDelta(t, c*associationShare, got[2].Activation, 1e-12)
	require.InDelta(t, c*associationShare, got[3].Why.Association, 1e-12)
	require.Equal(t, []string{"a", "b"}, got[1].Why.Path)
	require.Equal(t, []string{"a", "b", "d"}, got[2].Why.Path)
	require.Empty(t, got[0].Why.Path)

	answer, err := s.Recall(background, Cue{IDs: []string{"a"}, Spread: Spread{Hops: 1}})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, recalledIDs(answer.Recollections))
	require.Equal(t, Spreading{Seeds: 1, Nodes: 2, Edges: 1}, answer.Plan.Spread)
	answer, err = s.Recall(background, Cue{IDs: []string{"a"}, Spread: Spread{Off: true}})
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, recalledIDs(answer.Recollections))
	require.Zero(t, answer.Plan.Spread)
}

// A text finds what has none of its words, over an association and over the
// episode that the association leads into.
func TestSpreadFromText(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s,
		Memory{ID: "question", Content: "Ann asked about the ferry", Time: goldenTime(1), Episode: "monday"},
		Memory{ID: "before", Content: "coffee at noon", Time: goldenTime(2), Episode: "tuesday"},
		Memory{ID: "answer", Content: "it leaves at nine", Time: goldenTime(3), Episode: "tuesday"},
		Memory{ID: "elsewhere", Content: "snow fell", Time: goldenTime(4)})
	require.Equal(t, []string{"question"}, recalledIDs(recall(t, s, Cue{Text: "ferry"})))
	associate(t, s, "question", "answer", "answered by", 1)
	got := recall(t, s, Cue{Text: "ferry"})
	require.Equal(t, []string{"question", "answer", "before"}, recalledIDs(got))
	require.Equal(t, []string{"question", "answer"}, got[1].Why.Path)
	require.Equal(t, []string{"question", "answer", "before"}, got[2].Why.Path)
	// What leads there need not satisfy the filter, but for the match that it begins at.
	require.Equal(t, []string{"question", "before"}, recalledIDs(recall(t, s, Cue{Text: "ferry", Filter: Filter{Before: goldenTime(3)}})))
	require.Empty(t, recall(t, s, Cue{Text: "ferry", Filter: Filter{After: goldenTime(2)}}))
	require.Equal(t, []string{"before"}, recalledIDs(recall(t, s, Cue{IDs: []string{"question"}, Filter: Filter{Before: goldenTime(3), After: goldenTime(2)}})))
	for _, r := range got {
		sum := 0.0
		for _, share := range r.Why.shares() {
			sum += *share
		}
		require.InDelta(t, r.Activation, sum, 1e-12)
	}
}

// What is reached has what the cue itself gives it, too, of each kind: as it would
// have if it were found by it.
func TestSpreadReachesMatches(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	batch := make([]Memory, 0, 200)
	for i := range 198 {
		batch = append(batch, Memory{
			ID: fmt.Sprint("m", i), Content: "ferry ferry", Embedding: []float32{1, float32(i) / 1000},
		})
	}
	batch = append(batch, Memory{ID: "far", Content: "a ferry among many other words", Embedding: []float32{1, 1}},
		Memory{ID: "other", Content: "snow", Embedding: []float32{-1, 0}})
	remember(t, s, batch...)
	associate(t, s, "m197", "far", "", 1)
	associate(t, s, "m197", "other", "", 0.5)
	for _, cue := range []Cue{{Text: "ferry"}, {Text: "ferry", Embedding: []float32{1, 0.197}}, {Embedding: []float32{1, 0.197}}} {
		cue.Limit = MaxLimit
		found := make(map[string]Why)
		for _, r := range recall(t, s, cue) {
			found[r.Memory.ID] = r.Why
		}
		far, other := found["far"], found["other"]
		require.Equal(t, []string{"m197", "far"}, far.Path)
		require.Equal(t, cue.Text != "", far.Text > 0)
		require.Equal(t, len(cue.Embedding) > 0, far.Vector > 0)
		require.Greater(t, far.Association, other.Association)
		require.Zero(t, other.Text+other.Vector)
		require.Positive(t, other.Association)
	}
	cue := Cue{Text: "ferry", Limit: 1}
	require.Equal(t, "m197", recall(t, s, cue)[0].Memory.ID)
}

// However few are asked for, activation spreads from the 32 that match best, also
// those whose embeddings are near.
func TestSpreadFromTheBestWhateverTheLimit(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	random := rand.New(rand.NewPCG(1, 2))
	around := func(center []float32, width float64) []float32 { // codes tell such vectors apart
		v := make([]float32, len(center))
		for i := range v {
			v[i] = center[i] + float32(width*random.NormFloat64())
		}
		return v
	}
	cue := around(make([]float32, 64), 1)
	batch := []Memory{{ID: "reached", Content: "no vector"}}
	for i := range 200 {
		near := around(cue, 0.1+0.05*float64(i))
		batch = append(batch, Memory{ID: fmt.Sprint("m", i), Content: "near", Embedding: near})
	}
	remember(t, s, batch...)
	associate(t, s, "m0", "reached", "", 1)
	for _, limit := range []int{1, 10, 100} {
		answer, err := s.Recall(background, Cue{Embedding: cue, Limit: limit})
		require.NoError(t, err)
		require.Equal(t, spreadSeeds, answer.Plan.Spread.Seeds, limit)
	}
}

// Nor does it spread from others where more are asked for: from what many that match
// better leave behind, though it has more of the text's words.
func TestSpreadBeginsAtTheSameWhateverTheLimit(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	may := time.Date(2023, 5, 8, 0, 0, 0, 0, time.UTC)
	batch := []Memory{{ID: "behind", Content: "ferry", Time: may.AddDate(-3, 0, 0), Embedding: []float32{1, 2}}}
	for i := range hybridCandidates + 10 {
		batch = append(batch, Memory{
			ID: fmt.Sprint("m", i), Content: "a ferry among many other words", Time: may, Embedding: []float32{1, float32(i) / 1000},
		})
	}
	remember(t, s, batch...)
	associate(t, s, "behind", "m0", "", 1)
	for _, cue := range []Cue{{Text: "ferry in May 2023"}, {Text: "ferry in May 2023", Embedding: []float32{1, 0}}} {
		cue.Limit = MaxLimit
		whole := recall(t, s, cue)
		require.Len(t, whole, len(batch))
		require.Equal(t, "behind", whole[len(whole)-1].Memory.ID)
		for _, limit := range []int{2, 10, 50} {
			cue.Limit = limit
			require.Equal(t, whole[:limit], recall(t, s, cue), limit)
		}
	}
}

// What is reached among many has what its words give it, too: how many are asked for
// does not show.
func TestSpreadReachesMatchesWhateverTheLimit(t *testing.T) {
	t.Parallel()
	s, _ := newTestSpace(t, Options{})
	text := "ferry one two three four five six"
	batch := []Memory{{ID: "hub", Content: "ferry"}, {ID: "behind", Content: text + " seven"}}
	for i := range hybridCandidates + 10 {
		batch = append(batch, Memory{ID: fmt.Sprint("m", i), Content: text}, Memory{ID: fmt.Sprint("n", i), Content: "snow"})
	}
	remember(t, s, batch...)
	for i := range hybridCandidates + 10 {
		associate(t, s, "hub", fmt.Sprint("n", i), "", 1)
	}
	associate(t, s, "hub", "behind", "", 0.9)
	cue := Cue{Text: "ferry", Limit: MaxLimit}
	whole := recall(t, s, cue)
	require.Equal(t, "behind", whole[1].Memory.ID)
	for _, limit := range []int{2, 10, 50} {
		cue.Limit = limit
		require.Equal(t, whole[:limit], recall(t, s, cue), limit)
	}
}

// What the cue names comes before what that has associations to, however many of
// them lead to one memory.
func TestCuedComeFirst(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	var ids []string
	for i := range 5 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "x"})
		if i != 2 {
			ids = append(ids, fmt.Sprint("m", i))
		}
	}
	remember(t, s, Memory{ID: "alone", Content: "x"})
	for _, id := range ids {
		associate(t, s, id, "m2", "", 1)
	}
	got := recall(t, s, Cue{IDs: append(ids, "alone")})
	require.Equal(t, "m2", got[len(got)-1].Memory.ID)
	require.Less(t, got[len(got)-1].Activation, got[len(got)-2].Activation)
}

// Where embeddings are compared, only the most activated of those that spreading alone
// reaches get what the cue itself gives them. What the filter leaves out takes no place
// among them.
func TestSpreadFillsInWhatTheFilterLets(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	beside := func(x float32) []float32 { // codes tell such vectors apart
		v := make([]float32, 64)
		v[0], v[1] = 1, x
		return v
	}
	near := beside(0)
	var outside, within []Memory
	for i := range hybridCandidates + 10 {
		outside = append(outside, Memory{ID: fmt.Sprint("outside", i), Content: "lamp"})
		within = append(within, Memory{ID: fmt.Sprint("within", i), Content: "river", Kind: Semantic, Embedding: beside(float32(i/hybridCandidates) / 5)})
	}
	remember(t, s, Memory{ID: "hub", Content: "river", Embedding: near}, Memory{ID: "reached", Content: "river", Kind: Semantic, Embedding: beside(0.25)})
	remember(t, s, within...) // better, and newer
	remember(t, s, outside...)
	associate(t, s, "hub", "reached", "", 0.5)
	first := func() Recollection {
		return recall(t, s, Cue{Text: "river", Embedding: near, IDs: []string{"hub"}, Filter: Filter{Kind: Semantic}})[0]
	}
	before := first()
	require.Equal(t, "reached", before.Memory.ID)
	for _, m := range outside {
		associate(t, s, "hub", m.ID, "", 1)
	}
	after := first()
	require.Equal(t, "reached", after.Memory.ID)
	require.Less(t, after.Why.Association, before.Why.Association)
	require.InDelta(t, before.Why.Text, after.Why.Text, 1e-12)
	require.InDelta(t, before.Why.Vector, after.Why.Vector, 1e-12)
}

// What neither satisfies the filter nor is named passes nothing on of its own.
func TestSpreadFromWhatTheFilterLets(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s,
		Memory{ID: "named", Content: "tea", Episode: "talk"},
		Memory{ID: "beside", Content: "river", Episode: "talk", Embedding: []float32{1, 0}},
		Memory{ID: "linked", Content: "stone", Kind: Semantic},
	)
	associate(t, s, "beside", "linked", "", 1)
	cue := Cue{IDs: []string{"named"}, Embedding: []float32{1, 0}}
	require.Equal(t, []string{"beside", "named", "linked"}, recalledIDs(recall(t, s, cue)))
	cue.Filter.Kind = Semantic
	require.Empty(t, recall(t, s, cue))
}

// A memory that the cue names passes on what all kinds of cue give it, whether or not
// it satisfies the filter and has an episode.
func TestNamedSpreadWhateverTheFilter(t *testing.T) {
	for _, episode := range []string{"", "talk"} {
		s, _ := newTestSpace(t, Options{})
		remember(t, s, Memory{ID: "named", Content: "tea", Episode: episode}, Memory{ID: "linked", Content: "stone", Kind: Semantic})
		associate(t, s, "named", "linked", "", 1)
		cue := Cue{IDs: []string{"named"}, Text: "tea"}
		all := recall(t, s, cue)
		require.Equal(t, []string{"named", "linked"}, recalledIDs(all))
		require.Positive(t, all[0].Why.Text)
		cue.Filter.Kind = Semantic
		require.Equal(t, all[1].Why, recall(t, s, cue)[0].Why, "episode %q", episode)
	}
}

func TestSpreadValidates(t *testing.T) {
	s := newAssociated(t)
	for _, spread := range []Spread{{Hops: -1}, {Nodes: -1}, {Edges: -1}, {MinActivation: -1}, {MinActivation: math.NaN()}, {MinActivation: 2}} {
		_, err := s.Recall(background, Cue{IDs: []string{"a"}, Spread: spread})
		require.ErrorIs(t, err, ErrInvalid)
	}
	for _, spread := range []Spread{{Hops: MaxSpreadHops + 1}, {Nodes: MaxSpreadNodes + 1}, {Edges: MaxSpreadEdges + 1}} {
		_, err := s.Recall(background, Cue{IDs: []string{"a"}, Spread: spread})
		require.ErrorIs(t, err, ErrLimit)
	}
}

// randomGraph is a store with so many memories, each with edges to others.
func randomGraph(nodes, edges int) *store {
	s := newStore()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range nodes {
		s.apply(&operation{kind: opRemember, seq: uint64(i + 1), memory: Memory{ID: fmt.Sprint("m", i), Time: unixTime(0)}})
	}
	for range edges {
		from, to := fmt.Sprint("m", random.IntN(nodes)), fmt.Sprint("m", random.IntN(nodes))
		if from != to {
			s.graph.associate(from, to, AssociationRelated, 0.5+random.Float64()/2)
		}
	}
	s.publish()
	return s
}

func TestSpreadIsBounded(t *testing.T) {
	t.Parallel()
	s := randomGraph(20_000, 200_000)
	v := s.view()
	seeds := []seed{{0, 1}, {1, 0.5}}
	bounds := Spread{Hops: MaxSpreadHops, Nodes: 300, Edges: 1000, MinActivation: 1e-9}
	got, err := v.spread(background, seeds, bounds)
	require.NoError(t, err)
	require.True(t, got.did.Cut)
	require.LessOrEqual(t, got.did.Nodes, 300)
	require.Equal(t, 1000, got.did.Edges)
	require.LessOrEqual(t, len(got.reached), 1002)
	bounds.Edges = MaxSpreadEdges
	got, err = v.spread(background, seeds, bounds)
	require.NoError(t, err)
	require.True(t, got.did.Cut)
	require.Equal(t, 300, got.did.Nodes)

	cancelled, cancel := context.WithCancel(background)
	cancel()
	_, err = v.spread(cancelled, seeds, bounds)
	require.ErrorIs(t, err, context.Canceled)
}

// A space that is woken from its log, from a checkpoint, or from both gives the
// same answers as one that never slept, in every bit of them.
func TestSpreadAnswersSurvive(t *testing.T) {
	r, m := newRegistry(t, Options{Clock: newStepClock()})
	s := create(t, r, "alpha")
	random := rand.New(rand.NewPCG(5, 6))
	step := func(i int) {
		id := func() string { return fmt.Sprint("m", random.IntN(60)) }
		switch random.IntN(10) {
		case 0:
			forget(t, s, id())
		case 1, 2, 3:
			remember(t, s, Memory{ID: id(), Content: modelWords[i%5] + " and " + modelWords[i%3], Time: goldenTime(i % 7), Episode: modelEpisodes[i%3]})
		default:
			a := Association{From: id(), To: id(), Kind: fmt.Sprint(i % 3), Weight: random.Float64()}
			if _, err := s.Associate(background, a); a.From != a.To {
				if err != nil {
					require.ErrorIs(t, err, ErrMemoryNotFound)
				}
			}
		}
	}
	answers := func(s *Space) (all []Recall) {
		for i := range 60 {
			for _, cue := range []Cue{{IDs: []string{fmt.Sprint("m", i)}}, {Text: modelWords[i%5], Limit: 50, Spread: Spread{Hops: 8, Edges: 20 + i}}} {
				answer, err := s.Recall(background, cue)
				require.NoError(t, err)
				all = append(all, answer)
			}
		}
		return all
	}
	compare := func(name string) {
		t.Helper()
		want := answers(s)
		killed := openMemory(t, m.clone(), Options{})
		require.Equal(t, want, answers(get(t, killed, "alpha")), name)
		require.NoError(t, killed.Close())
	}
	for i := range 600 {
		step(i)
	}
	compare("from the log")
	require.NoError(t, s.Checkpoint(background))
	compare("from the checkpoint")
	for i := range 200 {
		step(i)
	}
	compare("from both")
}

// Readers see whole snapshots while the graph changes: a ring is moved as one
// memory is replaced and re-associated, and each answer is one of its states.
func TestSpreadUnderWrites(t *testing.T) {
	s := newAssociated(t)
	associate(t, s, "a", "b", "", 1)
	var work sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		work.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				answer, err := s.Recall(background, Cue{IDs: []string{"a"}, Spread: Spread{Hops: 1}})
				if err != nil {
					t.Error(err)
					return
				}
				ids := recalledIDs(answer.Recollections)
				// b is associated at all times, c at most beside it.
				if len(ids) < 2 || !slices.Contains(ids, "b") || len(ids) > 3 {
					t.Errorf("recalled %q at seq %d", ids, answer.Seq)
				}
				if _, err := s.Associations(background, "b"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range scaled(400) {
		switch i % 4 {
		case 0:
			associate(t, s, "a", "c", "", 0.5)
		case 1:
			remember(t, s, Memory{ID: "b", Content: "another version"})
		case 2:
			forget(t, s, "c")
		case 3:
			remember(t, s, Memory{ID: "c", Content: "anew"})
		}
	}
	close(done)
	work.Wait()
}

// FuzzSpread spreads over a graph that the input makes: three bytes are an
// edge, the first two seeds. Nothing may panic, exceed its bounds or leave [0,1].
func FuzzSpread(f *testing.F) {
	f.Add([]byte{}, uint16(3), uint16(100), uint16(100))
	f.Add([]byte{0, 1, 255, 1, 0, 255}, uint16(8), uint16(10), uint16(1000))
	f.Add([]byte{0, 1, 9, 0, 2, 9, 0, 3, 9, 3, 0, 200, 2, 2, 2}, uint16(0), uint16(0), uint16(2))
	f.Add(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), uint16(9), uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, hops, nodes, edges uint16) {
		s := newStore()
		seq := uint64(0)
		for i := range 256 {
			seq++
			m := Memory{ID: fmt.Sprint(i), Time: unixTime(int64(i % 7))}
			if i%3 > 0 {
				m.Episode = fmt.Sprint(i % 5)
			}
			s.apply(&operation{kind: opRemember, seq: seq, memory: m})
		}
		for b := data; len(b) >= 3; b = b[3:] {
			seq++
			a := Association{From: fmt.Sprint(b[0]), To: fmt.Sprint(b[1]), Kind: fmt.Sprint(b[2] % 3), Weight: float64(b[2]) / 255}
			s.apply(&operation{kind: opAssociate, seq: seq, association: a})
		}
		s.publish()
		bounds := Spread{Hops: int(hops) % (MaxSpreadHops + 1), Nodes: int(nodes), Edges: int(edges)}.withDefaults()
		v := s.view()
		got, err := v.spread(background, []seed{{0, 1}, {255, 0.25}}, bounds)
		require.NoError(t, err)
		require.LessOrEqual(t, got.did.Nodes, bounds.Nodes)
		require.LessOrEqual(t, got.did.Edges, bounds.Edges)
		for i := range got.reached {
			r := &got.reached[i]
			require.True(t, r.received >= 0 && r.activation() <= 1)
			if r.received > 0 {
				require.LessOrEqual(t, len(got.path(int32(i)))-1, bounds.Hops)
			}
		}
		requireReloaded(t, s)
	})
}

// BenchmarkSpread spreads from one memory over graphs that are reached as far as
// the bounds go; p50-us is the median.
func BenchmarkSpread(b *testing.B) {
	for _, size := range []struct {
		nodes, edges int
		bounds       Spread
	}{
		{1_000, 5_000, Spread{Hops: 5, Nodes: 1_000, Edges: 10_000, MinActivation: 1e-9}},
		{100_000, 500_000, Spread{Hops: 5, Nodes: 1_000, Edges: 10_000, MinActivation: 1e-9}},
		{100_000, 500_000, Spread{Hops: 5, Nodes: 10_000, Edges: 10_000, MinActivation: 1e-9}},
		{100_000, 500_000, Spread{}.withDefaults()},
	} {
		s := randomGraph(size.nodes, size.edges)
		v := s.view()
		name := fmt.Sprintf("nodes=%d/edges=%d/budget=%dx%d/least=%g", size.nodes, size.edges, size.bounds.Nodes, size.bounds.Edges, size.bounds.MinActivation)
		b.Run(name, func(b *testing.B) {
			var l latencies
			start := monotonic()
			visited := 0
			for i := 0; b.Loop(); i++ {
				began := monotonic()
				got, err := v.spread(background, []seed{{uint32(i % size.nodes), 1}}, size.bounds)
				require.NoError(b, err)
				l.all = append(l.all, monotonic().Sub(began))
				visited += got.did.Edges
			}
			elapsed := monotonic().Sub(start)
			b.ReportMetric(float64(visited)/float64(len(l.all)), "edges/op")
			l.report(b, elapsed)
		})
	}
}
