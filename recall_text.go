package engram

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Recall by text. A memory's score for a cue is
//
//	(text + episode + label + time + feedback) · (1 - 0.3 · share of questions)
//
// With idf and saturation of BM25 (Robertson and Zaragoza, The Probabilistic
// Relevance Framework: BM25 and Beyond, 2009) and, for a term's count in a text,
// the frequency f = count / (1 - b + b · length / average length), over the
// distinct terms of the cue:
//
//   - text: Σ idf · sat(f + Σ share · f of the neighbour), over the two memories
//     before it in its episode and the two after it. One saturation over a memory
//     and what surrounds it: what is said twice is not twice the evidence
//     (contiguity: Kahana 1996, Howard and Kahana 2002). Who asks passes more on
//     to what follows, which is likely the answer;
//   - episode: Σ idf · sat(f in the whole episode), weighed;
//   - label: Σ idf of the terms that stand in its label ("Ann: ..."), weighed;
//   - time: how near it is to a date that the cue names, and, weighed each, whether
//     it tells when, where and who if the cue asks for that;
//   - feedback: the terms that mark the best memories so far, asked as a second
//     cue (Rocchio 1971; RM3, Lavrenko and Croft 2001).
//
// What text or episode matches is recalled; the other parts only order it. The
// parameters were fitted on the tuning half of LoCoMo and half of Cranfield's
// queries, and rounded (docs/benchmarks.md has what each part gives).
//
// A product that is added to something is converted to float64 before, so that every
// processor rounds it (TestPolicyNoFusedProducts).
const (
	nearShare     = 0.45
	farShare      = 0.3
	questionPass  = 0.4
	questionPrice = 0.3

	episodeWeight = 0.3
	labelWeight   = 2.5
	timeWeight    = 2
	tellingWeight = 3

	// surroundings is the most that a memory gets of its neighbours if none has a
	// higher frequency than it has; neighbourShare, of any one of them.
	surroundings   = 2*(nearShare+farShare) + questionPass
	neighbourShare = nearShare + questionPass
)

// textParts are a memory's parts by text, discounted.
type textParts struct {
	text, contiguity, episode, label, time, feedback float64
}

func (p *textParts) sum() float64 {
	return p.text + p.contiguity + p.episode + p.label + p.time + p.feedback
}

func (p *textParts) discount(factor float64) {
	p.text = float64(p.text * factor)
	p.contiguity = float64(p.contiguity * factor)
	p.episode = float64(p.episode * factor)
	p.label = float64(p.label * factor)
	p.time = float64(p.time * factor)
	p.feedback = float64(p.feedback * factor)
}

// textCandidate is a memory whose parts are known.
type textCandidate struct {
	document uint32
	seq      uint64
	parts    textParts
	sum      float64 // of the parts
}

// textRecall is a recall by text at work.
type textRecall struct {
	*recalling
	*textScratch
	names []string // of the terms
	reach float64  // Σ idf

	dates  []date
	asked  uint8   // documentTells
	timing float64 // what time can add
	extras float64 // what label and time can add

	averageEpisode float64
	atHand         *episodeMatch // whose members are; nil: none's
}

// textScratch is what a textRecall computes in.
type textScratch struct {
	curve      curve
	terms      []cueTerm      // of the cue
	matches    []match        // of all terms
	fresh      []match        // of one term in recent documents
	runs       []run          // of all terms
	episodes   []episodeMatch // that have runs, in the order they were met
	met        []uint32       // by episode: 1 + its place in episodes
	promising  []promising    // that could hold one of the best
	lone       []float64      // by document without an episode: text
	loneOnes   []uint32       // the documents that have any
	labels     []float64      // by document: label
	labelled   []uint32       // the documents that have any
	feedback   []float64      // by document
	fed        []uint32       // the documents that have any
	list       []posting      // of the term at hand
	uses       []termUse      // of the best
	heavy      []feedbackTerm // the heaviest of them
	rarity     rarity         // of terms that the best have
	places     []uint32       // by document: place among the members at hand
	members    []uint32       // of the episode at hand
	candidates []textCandidate
	found      []uint32        // by document: 1 + place in candidates
	ordered    []textCandidate // the best of them

	// By place among the members at hand.
	text, own []float64
	// By place plus margin, of one term: its frequency, and what of it the member
	// after that one gets.
	frequency, passed []float64
	placed            []uint32 // the places that have one
}

// cueTerm is a term of the cue with its visible postings, as matches: in the
// order of their episodes, and in each those of the image first.
type cueTerm struct {
	idf  float64
	list []match
}

// match is a posting of a term of the cue.
type match struct {
	episode uint32 // 0: none
	ordinal uint32
	count   uint32
}

func compareMatches(a, b match) int {
	return cmp.Or(cmp.Compare(a.episode, b.episode), cmp.Compare(a.ordinal, b.ordinal))
}

// promising is an episode by what it can reach.
type promising struct {
	reach float64
	place uint32 // in episodes
}

// fit makes room for a view's documents and episodes.
func (s *textScratch) fit(v *view) {
	if n := int(v.documents()); len(s.lone) < n {
		n += n / 8
		s.lone, s.labels, s.feedback = make([]float64, n), make([]float64, n), make([]float64, n)
		s.places, s.found = make([]uint32, n), make([]uint32, n)
	}
	if n := int(v.episodeNumbers) + 1; len(s.met) < n {
		s.met = make([]uint32, n+n/8)
	}
}

// reset makes everything zero again.
func (s *textScratch) reset() {
	for i := range s.episodes {
		s.met[s.episodes[i].number] = 0
	}
	for i := range s.candidates {
		s.found[s.candidates[i].document] = 0
	}
	for _, list := range []struct {
		documents []uint32
		column    []float64
	}{{s.loneOnes, s.lone}, {s.labelled, s.labels}, {s.fed, s.feedback}} {
		for _, d := range list.documents {
			list.column[d] = 0
		}
	}
	s.terms, s.matches, s.runs = s.terms[:0], s.matches[:0], s.runs[:0]
	s.episodes, s.candidates = s.episodes[:0], s.candidates[:0]
	s.loneOnes, s.labelled, s.fed = s.loneOnes[:0], s.labelled[:0], s.fed[:0]
}

// recallText finds the limit best by text. Afterwards every memory that could be
// among them is a candidate. ctx ends it with its error.
func (q *recalling) recallText(ctx context.Context, limit int) (*textRecall, error) {
	t := &textRecall{recalling: q, textScratch: &q.text}
	terms, _ := q.view.config.Analyzer.analyze(q.cue.Text)
	if len(terms) == 0 {
		return t, nil
	}
	if q.view.config.Analyzer.isEnglish() {
		words := cueWords(q.cue.Text)
		t.dates, t.asked = datesIn(words), asksFor(words)
	}
	k1, b := q.view.config.textParameters()
	t.curve.bend(k1, b, ratio(q.view.tokens, q.view.live))
	t.averageEpisode = ratio(q.view.episodeTokens, q.view.episodes)
	if err := t.collect(ctx, terms); err != nil {
		return nil, err
	}
	t.matchLabels()
	if err := t.matchEpisodes(ctx); err != nil {
		return nil, err
	}
	if err := t.weighBest(ctx, feedbackMemories); err != nil {
		return nil, err
	}
	t.feedBack()
	if err := t.weighBest(ctx, limit); err != nil {
		return nil, err
	}
	return t, nil
}

// frequencyOf is a posting's count, normalised by the document's length.
func (t *textRecall) frequencyOf(d, count uint32) float64 {
	return t.curve.frequency(t.view.lengthOf(d), count)
}

// collect gathers the postings of the terms.
func (t *textRecall) collect(ctx context.Context, terms []termCount) error {
	ends := make([]int, 0, len(terms))
	for _, term := range terms {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.collectTerm(term.term)
		t.names, ends = append(t.names, term.term), append(ends, len(t.matches))
	}
	from := 0
	for _, end := range ends {
		idf := inverseDocumentFrequency(int(t.view.live), end-from)
		t.terms = append(t.terms, cueTerm{idf: idf, list: t.matches[from:end]})
		t.reach += idf
		from = end
	}
	return nil
}

// collectTerm appends a term's postings to the matches.
func (t *textRecall) collectTerm(name string) {
	v := t.view
	t.list = v.image.appendList(t.list[:0], name, v.seq)
	from := len(t.matches)
	for _, p := range t.list {
		t.matches = append(t.matches, match{v.image.episodes.at(p.ordinal), p.ordinal, p.count})
	}
	t.list, t.fresh = v.appendRecent(t.list[:0], v.recent.terms.find(name)), t.fresh[:0]
	for _, p := range t.list {
		t.fresh = append(t.fresh, match{v.recentDocument(p.ordinal).episode.numberOr0(), p.ordinal, p.count})
	}
	if !slices.IsSortedFunc(t.fresh, compareMatches) {
		slices.SortFunc(t.fresh, compareMatches)
	}
	t.matches = mergeMatches(t.matches, from, t.fresh)
}

// mergeMatches merges what stands from there on in list with more, which is as
// sorted.
func mergeMatches(list []match, from int, more []match) []match {
	i := len(list) - 1
	list = append(list, more...)
	for at := len(list) - 1; len(more) > 0; at-- {
		if last := more[len(more)-1]; i >= from && compareMatches(list[i], last) > 0 {
			list[at] = list[i]
			i--
		} else {
			list[at] = last
			more = more[:len(more)-1]
		}
	}
	return list
}

// bound is what a score can reach.
func (t *textRecall) bound() float64 {
	return float64((t.curve.k1+1)*(1+episodeWeight+feedbackWeight)*t.reach) + t.extras
}

func (t *textRecall) matchLone(d uint32, score float64) {
	if t.lone[d] == 0 {
		t.loneOnes = append(t.loneOnes, d)
	}
	t.lone[d] += score
}

// matchLabels adds what the terms find in labels, and what label and time can
// add at most.
func (t *textRecall) matchLabels() {
	for _, name := range t.names {
		t.list = t.view.list(t.list[:0], labelTerm(name))
		if len(t.list) == 0 {
			continue
		}
		score := float64(labelWeight * inverseDocumentFrequency(int(t.view.live), len(t.list)))
		for _, p := range t.list {
			if t.labels[p.ordinal] == 0 {
				t.labelled = append(t.labelled, p.ordinal)
			}
			t.labels[p.ordinal] += score
		}
		t.extras += score
	}
	best := 0.0
	for _, d := range t.dates {
		best = max(best, d.weight())
	}
	t.timing = float64(timeWeight*best) + worth(t.asked)
	t.extras += t.timing
}

// weighBest makes candidates of every memory that could be among the n best.
// The most promising episodes are weighed first, and none that cannot reach the
// n-th of what was found by then.
func (t *textRecall) weighBest(ctx context.Context, n int) error {
	best := make(lowestFirst, 0, n)
	for i := range t.candidates {
		best.offer(t.candidates[i].sum)
	}
	if floor := best.floor(); math.IsInf(floor, -1) {
		first := make(lowestFirst, 0, n)
		for i := range t.episodes {
			first.offer(t.episodes[i].reach())
		}
		if err := t.weighPromising(ctx, first.floor(), &best); err != nil {
			return err
		}
	}
	if err := t.weighPromising(ctx, best.floor(), &best); err != nil {
		return err
	}
	for _, d := range t.loneOnes {
		if t.found[d] == 0 && t.lone[d]+t.feedback[d]+t.extras >= best.floor() && t.matcher.matches(t.view, d) {
			best.offer(t.weigh(d, textParts{text: t.lone[d]}))
		}
	}
	return nil
}

// weighPromising weighs the episodes that reach the floor, or what by then is
// that of the best, the most promising first.
func (t *textRecall) weighPromising(ctx context.Context, floor float64, best *lowestFirst) error {
	t.promising = t.promising[:0]
	for i := range t.episodes {
		if t.episodes[i].reach() >= floor {
			t.promising = append(t.promising, promising{t.episodes[i].reach(), uint32(i)})
		}
	}
	slices.SortFunc(t.promising, func(x, y promising) int { return cmp.Compare(y.reach, x.reach) })
	for _, p := range t.promising {
		if p.reach < best.floor() {
			break
		}
		if err := t.weighEpisode(ctx, &t.episodes[p.place], best); err != nil {
			return err
		}
	}
	return nil
}

// weigh makes the memory a candidate with these parts and those that depend on
// nothing else, and returns their sum.
func (t *textRecall) weigh(d uint32, p textParts) float64 {
	t.add(&p, d)
	sum := p.sum()
	t.candidates = append(t.candidates, textCandidate{document: d, seq: t.view.seqOf(d), parts: p, sum: sum})
	t.found[d] = uint32(len(t.candidates))
	return sum
}

// add adds the parts of the memory that depend on nothing else, and discounts all.
func (t *textRecall) add(p *textParts, d uint32) {
	p.label = t.labels[d]
	p.feedback = t.feedback[d]
	if len(t.dates) > 0 {
		best, at := 0.0, unixTime(t.view.timeOf(d))
		for _, date := range t.dates {
			best = max(best, date.weight()*date.nearness(at))
		}
		p.time = timeWeight * best
	}
	if t.asked != 0 {
		p.time += worth(t.asked & t.view.flagsOf(d))
	}
	p.discount(1 - float64(questionPrice*t.questionShare(d)))
}

func (t *textRecall) questionShare(d uint32) float64 { return float64(t.view.questionsOf(d)) / 255 }

// matched is how many memories text or episode matches, whatever the filter says.
func (t *textRecall) matched() int {
	n := len(t.loneOnes)
	for i := range t.episodes {
		n += int(t.episodes[i].documents)
	}
	return n
}

// complete makes a candidate of the memory, if text or episode matches it, and
// returns it; nil if not.
func (t *textRecall) complete(ctx context.Context, d uint32) (*textCandidate, error) {
	if t.found[d] == 0 {
		if m := t.metAt(d); m == nil && t.lone[d] > 0 {
			t.weigh(d, textParts{text: t.lone[d]})
		} else if m != nil {
			if err := t.matchMembers(ctx, m); err != nil {
				return nil, err
			}
			t.weigh(d, t.partsAt(int(t.places[d]), m))
		}
	}
	if t.found[d] == 0 {
		return nil, nil
	}
	return &t.candidates[t.found[d]-1], nil
}

// best returns the n best candidates, in order. The list is valid until the next
// call.
func (t *textRecall) best(n int) []textCandidate {
	top := make(lowestFirst, 0, n)
	for i := range t.candidates {
		top.offer(t.candidates[i].sum)
	}
	floor, list := top.floor(), t.ordered[:0]
	for i := range t.candidates {
		if c := &t.candidates[i]; c.sum >= floor && c.sum > 0 {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(a, b textCandidate) int {
		return cmp.Or(cmp.Compare(b.sum, a.sum), cmp.Compare(b.seq, a.seq))
	})
	t.ordered = list
	return list[:min(n, len(list))]
}

// lowestFirst holds the highest numbers that it was offered, as many as it has
// room for, the lowest of them on top.
type lowestFirst []float64

func (h *lowestFirst) offer(x float64) {
	list := *h
	at := len(list)
	switch {
	case at < cap(list):
		list = append(list, x)
		for ; at > 0 && list[(at-1)/2] > x; at = (at - 1) / 2 {
			list[at] = list[(at-1)/2]
		}
	case x <= list[0]:
		return
	default:
		at = 0
		for below := 1; below < len(list); below = 2*at + 1 {
			if below+1 < len(list) && list[below+1] < list[below] {
				below++
			}
			if list[below] >= x {
				break
			}
			list[at], at = list[below], below
		}
	}
	list[at] = x
	*h = list
}

// floor is what must be reached to count among them. It allows for sums that
// are made in another order.
func (h lowestFirst) floor() float64 {
	if len(h) < cap(h) {
		return math.Inf(-1)
	}
	return h[0] * (1 - 1e-9)
}
