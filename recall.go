package engram

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Shares that the neighbours of a memory that a cue names get: remembering one
// brings to mind what happened beside it.
var cuedShares = [4]float64{farShare, nearShare, nearShare, farShare}

// hybridCandidates is how many of each kind of cue are compared where a cue has
// several kinds; more where more are asked for.
const hybridCandidates = 50

// recallsPerProcessor is how many recalls of a space are computed at a time: enough that
// some read while others compute. Each takes memory in proportion to what the space
// holds, so that thousands at once would take all there is, and none would end.
const recallsPerProcessor = 4

// Confidence of a recollection: with o its activation over the best of any
// other, the share of LoCoMo's recollections that answer is o^5.5 / (o^5.5 + 2.6),
// a logistic curve over ln o (docs/benchmarks.md has the diagram).
const (
	confidencePower = 5.5
	confidenceOdds  = 2.6
)

// recalling is one recall at work.
type recalling struct {
	*reader
	*scratch
	cue     *Cue
	matcher matcher
	// embedding is the cue's, or what the embedder makes of its text; asked says
	// that it is the latter.
	embedding []float32
	asked     bool

	front  int // how many of each kind activation may spread from, whatever the limit
	byText int // as many candidates, the first ones, are those by text

	compared  int        // embeddings, in full
	spreading *spreading // nil if nothing could spread
}

// hold reads the records at q.places that are not held yet, several with one call
// where they lie together, and empties the list.
func (q *recalling) hold() error {
	wanted := slices.DeleteFunc(q.places, func(loc locator) bool { return q.near.record(loc) != nil })
	q.places = q.places[:0]
	if loc, err := q.near.read(q.awake.log, wanted); err != nil {
		return q.awake.unreadable(loc, err)
	}
	return nil
}

// candidate is a memory that some kind of cue brings to mind, with what each
// gives, in [0,1].
type candidate struct {
	document uint32
	seq      uint64
	why      Why
	sum      float64
	compared bool // why.Vector is known
}

// scratch is what a recall computes in, as long as the space has documents. It
// is used again by later recalls of the same space, and of no other.
type scratch struct {
	text       textScratch
	vector     vectorScratch
	candidates []candidate
	slots      []uint32 // by document: 1 + its place in candidates
	chosen     []int    // places in candidates
	ranked     []candidate
	places     []locator // of records that are to be held
	near       stretches // that hold records
	dead       deadRuns
}

func (a *awake) borrowScratch() *scratch {
	s, _ := a.scratch.Get().(*scratch)
	if s == nil {
		s = new(scratch)
	}
	return s
}

// fit makes room for a view's documents.
func (s *scratch) fit(v *view) {
	if n := int(v.documents()); len(s.slots) < n {
		s.slots = make([]uint32, n+n/8)
	}
	s.text.fit(v)
}

func (a *awake) returnScratch(s *scratch) {
	for _, c := range s.candidates {
		s.slots[c.document] = 0
	}
	s.candidates = s.candidates[:0]
	s.near.reset()
	s.dead = s.dead[:0]
	s.text.reset()
	a.scratch.Put(s)
}

// recall is the whole plan: each kind of cue finds its candidates, activation
// spreads from the best of them over associations, their activations are the
// means of what the kinds give, and the most activated that satisfy the filter
// are read. A further kind of cue is a further source of candidates. asked is what an
// embedder made of the cue's text.
func (r *reader) recall(ctx context.Context, cue *Cue, asked askedVector) (Recall, error) {
	if n := len(cue.Embedding); n > 0 && r.view.dimension > 0 && n != r.view.dimension {
		return Recall{}, wrongDimension(n, r.view.dimension)
	}
	q := &recalling{reader: r, cue: cue, matcher: r.view.matcher(&cue.Filter), embedding: cue.Embedding}
	kinds := cue.kinds()
	if asked.vector != nil {
		q.embedding, q.asked = asked.vector, true
		kinds++
	}
	q.scratch = r.awake.borrowScratch()
	defer r.awake.returnScratch(q.scratch)
	if kinds == 0 {
		return q.newest(ctx)
	}
	q.fit(r.view)
	want := max(cue.limit(), 2) // whether the first is sure shows beside the second
	q.front = spreadSeeds
	if kinds > 1 {
		q.front, want = hybridCandidates, max(hybridCandidates, 4*cue.limit())
	}
	matches := want
	if q.spreads() {
		matches = max(want, q.front)
	}
	text, err := q.recallText(ctx, matches)
	if err != nil {
		return Recall{}, err
	}
	for _, c := range text.best(matches) {
		q.addText(text, &c)
	}
	q.byText = min(len(q.candidates), q.front)
	q.recallIDs()
	if err := q.recallEmbedding(ctx, matches); err != nil {
		return Recall{}, err
	}
	if kinds > 1 {
		if err := q.complete(ctx, text, q.admitted(0)); err != nil {
			return Recall{}, err
		}
	}
	if q.spreads() {
		fresh, err := q.spreadAssociations(ctx)
		if err == nil {
			err = q.completeReached(ctx, text, fresh)
		}
		if err != nil {
			return Recall{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return Recall{}, err
	}
	answer := Recall{Seq: r.view.seq, Plan: Plan{Terms: text.names, Scanned: text.matched() + q.compared}}
	answer.Plan.Degraded, answer.Plan.Unembedded = asked.degradation(r.view)
	if q.spreading != nil {
		answer.Plan.Spread = q.spreading.did
	}
	if err := q.finish(ctx, &answer, q.rank(float64(kinds))); err != nil {
		return Recall{}, err
	}
	return answer, nil
}

// kinds is how many kinds of cue there are beside the filter; each counts alike.
func (c *Cue) kinds() (n int) {
	for _, present := range []bool{c.Text != "", len(c.Embedding) > 0, len(c.IDs) > 0} {
		if present {
			n++
		}
	}
	return n
}

// limit is how many recollections are asked for.
func (c *Cue) limit() int {
	if c.Limit == 0 {
		return DefaultLimit
	}
	return c.Limit
}

// newest answers a cue that has only a filter.
func (q *recalling) newest(ctx context.Context) (Recall, error) {
	var list []candidate
	q.view.newest(&q.cue.Filter, func(d uint32) bool {
		list = append(list, candidate{document: d, why: Why{Filter: 1}, sum: 1})
		return len(list) < q.cue.limit()
	})
	answer := Recall{Seq: q.view.seq, Plan: Plan{Scanned: len(list)}}
	if err := q.finish(ctx, &answer, list); err != nil {
		return Recall{}, err
	}
	return answer, nil
}

// of returns the document's candidate, valid until the next call.
func (q *recalling) of(d uint32) *candidate {
	slot := &q.slots[d]
	if *slot == 0 {
		q.candidates = append(q.candidates, candidate{document: d, seq: q.view.seqOf(d)})
		*slot = uint32(len(q.candidates))
	}
	return &q.candidates[*slot-1]
}

func (q *recalling) addText(t *textRecall, c *textCandidate) {
	why, bound := &q.of(c.document).why, t.bound()
	why.Text, why.Contiguity = c.parts.text/bound, why.Contiguity+c.parts.contiguity/bound
	why.Episode, why.Label = c.parts.episode/bound, c.parts.label/bound
	why.Time, why.Feedback = c.parts.time/bound, c.parts.feedback/bound
}

// recallIDs brings the memories that the cue names to mind, and what stands
// beside them.
func (q *recalling) recallIDs() {
	for _, id := range q.cue.IDs {
		d, found := q.view.lookup(id)
		if !found || q.of(d).why.Cued != 0 {
			continue
		}
		q.of(d).why.Cued = 1
		for i, n := range q.view.neighbours(d, &q.dead) {
			if n != noDocument {
				q.of(n).why.Contiguity += cuedShares[i]
			}
		}
	}
}

// admitted returns the places of the candidates from that one on that satisfy the
// filter or are named by the cue: no others are recalled, or spread from. It is valid
// until the next call.
func (q *recalling) admitted(from int) []int {
	q.chosen = q.chosen[:0]
	for i := from; i < len(q.candidates); i++ {
		if c := &q.candidates[i]; c.why.Cued > 0 || q.matcher.matches(q.view, c.document) {
			q.chosen = append(q.chosen, i)
		}
	}
	return q.chosen
}

// complete gives the candidates at these places, which it sorts, what the kinds of cue
// that did not find them give them. Those of an episode follow each other: it is
// matched once for all of them, however many members it has.
func (q *recalling) complete(ctx context.Context, text *textRecall, places []int) error {
	bound := text.bound()
	slices.SortFunc(places, func(i, j int) int {
		return cmp.Compare(q.view.episodeOf(q.candidates[i].document), q.view.episodeOf(q.candidates[j].document))
	})
	for _, i := range places {
		q.wantVector(&q.candidates[i])
	}
	if err := q.hold(); err != nil {
		return err
	}
	for _, i := range places {
		d := q.candidates[i].document
		c, err := text.complete(ctx, d)
		if err != nil {
			return err
		}
		if c != nil && q.candidates[i].why.Text+q.candidates[i].why.Episode == 0 && bound > 0 {
			q.addText(text, c)
		}
		if q.lacksCosine(&q.candidates[i]) {
			if err := q.compare(ctx, &q.candidates[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// rank returns the best of the candidates that are activated and satisfy the filter,
// the most activated first: as many as the cue asks for, and two if there are.
func (q *recalling) rank(kinds float64) []candidate {
	list, best := q.ranked[:0], make(lowestFirst, 0, max(q.cue.limit(), 2))
	for _, c := range q.candidates {
		n := kinds
		if q.asked && !q.view.embedded(c.document) {
			n-- // it has no vector yet: its text counts in full
		}
		for _, share := range c.why.shares() {
			*share /= n
			c.sum += *share
		}
		if c.sum = min(c.sum, 1); c.sum > 0 && c.sum >= best.floor() && q.matcher.matches(q.view, c.document) {
			best.offer(c.sum)
			list = append(list, c)
		}
	}
	floor := best.floor()
	list = slices.DeleteFunc(list, func(c candidate) bool { return c.sum < floor })
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.sum, a.sum), cmp.Compare(b.seq, a.seq))
	})
	q.ranked = list
	return list
}

// shares are the parts of an activation.
func (w *Why) shares() [9]*float64 {
	return [...]*float64{&w.Cued, &w.Text, &w.Vector, &w.Contiguity, &w.Episode, &w.Label, &w.Time, &w.Feedback, &w.Association}
}

// finish reads the memories of the answer: those of ranked that are activated
// enough, up to the limit. ctx ends it with its error.
func (q *recalling) finish(ctx context.Context, answer *Recall, ranked []candidate) error {
	best := ranked[:min(len(ranked), q.cue.limit())]
	for len(best) > 0 && best[len(best)-1].sum < q.cue.MinActivation {
		best = best[:len(best)-1]
	}
	if err := q.admit(best); err != nil {
		return err
	}
	q.explainPaths(best)
	answer.Recollections = make([]Recollection, len(best))
	for i := range best {
		q.places = append(q.places, q.view.locator(best[i].document))
	}
	if err := q.hold(); err != nil {
		return err
	}
	for i := range best {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, c := &answer.Recollections[i], &best[i]
		if err := q.memoryTo(&r.Memory, c.document, &q.near); err != nil {
			return err
		}
		r.Activation, r.Confidence, r.Why = c.sum, r.Memory.Confidence*confidence(ranked, i), c.why
	}
	return nil
}

// admit tells the cue how much is about to be read.
func (q *recalling) admit(best []candidate) error {
	if q.cue.Admit == nil {
		return nil
	}
	bytes := int64(0)
	for i := range best {
		bytes += int64(q.view.sizeOf(best[i].document))
	}
	return q.cue.Admit(bytes)
}

// confidence compares the i-th with the best of the others. A cue that is only a
// filter asks for nothing that could be missed.
func confidence(ranked []candidate, i int) float64 {
	if len(ranked) == 1 || ranked[i].why.Filter > 0 {
		return 1
	}
	other := ranked[0].sum
	if i == 0 {
		other = ranked[1].sum
	}
	return 1 / (1 + float64(confidenceOdds*math.Pow(other/ranked[i].sum, confidencePower)))
}

func ratio(sum, n int64) float64 {
	if n == 0 {
		return 0
	}
	return float64(sum) / float64(n)
}
