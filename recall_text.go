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
//   - time: how near it is to a date that the cue names, and whether it tells
//     when if the cue asks when;
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
	when   bool
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

// run is the matches of one term in one episode.
type run struct {
	term     uint32 // its place among the cue's
	next     uint32 // 1 + the place of the episode's next run; 0: none
	from, to uint32 // in the term's list
	count    uint32 // of the term in the episode
}

// episodeMatch is what the cue's terms find in an episode. What it could have at most is
// known before its members are matched, so that most never are: an episode whose reach
// is less than what the n-th best has holds none of the n best.
type episodeMatch struct {
	number      uint32
	documents   uint32  // that live
	first, last uint32  // 1 + the places of its runs' ends
	norm        float64 // what divides a count in it
	match       float64 // of it as one document; known once its members are matched
	// left is more than any member has without feedback that is no candidate: what the
	// terms give one at most, summed, and once the members are matched, the most that
	// one of those has who did not become candidates.
	left     float64
	feedback float64 // no member's is more
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
		t.dates, t.when = datesIn(words), asksWhen(words)
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

// matchEpisodes adds what the terms find in each episode, and in each document
// without one.
func (t *textRecall) matchEpisodes(ctx context.Context) error {
	v, s, curve := t.view, t.textScratch, &t.curve
	for i := range s.terms {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, idf := s.terms[i].list, s.terms[i].idf
		for from := 0; from < len(list); {
			p := list[from]
			length := v.lengthOf(p.ordinal)
			if p.episode == 0 {
				t.matchLone(p.ordinal, float64(idf*curve.weight(length, p.count)))
				from++
				continue
			}
			to, count, most := from+1, p.count, 0.0
			if to == len(list) || list[to].episode != p.episode {
				most = curve.weight(length, count)
			} else {
				total, highest := curve.frequency(length, count), curve.frequency(length, count)
				for ; to < len(list) && list[to].episode == p.episode; to++ {
					f := curve.frequency(v.lengthOf(list[to].ordinal), list[to].count)
					count, total, highest = count+list[to].count, total+f, max(highest, f)
				}
				most = curve.saturate(mostWithNeighbours(highest, total))
			}
			m := t.meet(p.episode)
			s.runs = append(s.runs, run{term: uint32(i), from: uint32(from), to: uint32(to), count: count})
			m.left += float64(idf * (most + float64(episodeWeight*curve.quotient(count, m.norm))))
			from = to
		}
	}
	for i := range s.episodes {
		s.episodes[i].left += t.extras
	}
	return nil
}

// mostWithNeighbours is what a member's frequency, with its neighbours' shares,
// is at most, where highest is the highest of the episode and total their sum:
// nobody's can be that of more than the whole episode.
func mostWithNeighbours(highest, total float64) float64 {
	return min(highest*(1+surroundings), highest+float64(neighbourShare*(total-highest)))
}

// meet returns what is found in the episode, to which the next run is added.
func (t *textRecall) meet(number uint32) *episodeMatch {
	s := t.textScratch
	next := uint32(len(s.runs)) + 1
	if at := s.met[number]; at > 0 {
		m := &s.episodes[at-1]
		s.runs[m.last-1].next = next
		m.last = next
		return m
	}
	use := t.view.episodeUse(number)
	// In place: what is copied piece by piece and read as a whole is read late.
	s.episodes = append(s.episodes, episodeMatch{})
	m := &s.episodes[len(s.episodes)-1]
	m.number, m.documents = number, uint32(use.documents)
	m.first, m.last = next, next
	m.norm = 1 - s.curve.b + s.curve.b*float64(use.tokens)/t.averageEpisode
	s.met[number] = uint32(len(s.episodes))
	return m
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
	t.timing = timeWeight * best
	if t.when {
		t.timing += tellingWeight
	}
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

// reach is more than any member has that is no candidate.
func (m *episodeMatch) reach() float64 { return m.left + m.feedback }

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
	if t.when && t.view.flagsOf(d)&documentTellsWhen != 0 {
		p.time += tellingWeight
	}
	p.discount(1 - float64(questionPrice*t.questionShare(d)))
}

func (t *textRecall) questionShare(d uint32) float64 { return float64(t.view.questionsOf(d)) / 255 }

// weighEpisode makes candidates of an episode's memories that satisfy the filter
// and could be among the best.
func (t *textRecall) weighEpisode(ctx context.Context, m *episodeMatch, best *lowestFirst) error {
	if err := t.matchMembers(ctx, m); err != nil {
		return err
	}
	left, floor := math.Inf(-1), best.floor()
	whole := float64(episodeWeight * m.match)
	for j, d := range t.members {
		// Most are told apart by what is at hand.
		most := t.text[j] + whole + t.extras
		if most+m.feedback < floor {
			left = max(left, most)
			continue
		}
		if t.found[d] != 0 {
			continue
		}
		if sum := t.text[j] + whole + t.labels[d] + t.feedback[d] + t.timing; sum < floor {
			left = max(left, sum)
			continue
		}
		if t.matcher.matches(t.view, d) {
			best.offer(t.weigh(d, t.partsAt(j, m)))
			floor = best.floor()
		}
	}
	m.left = left
	return nil
}

// partsAt returns what the j-th member of the episode at hand has by its words,
// its neighbours' and the episode's.
func (t *textRecall) partsAt(j int, m *episodeMatch) textParts {
	return textParts{text: t.own[j], contiguity: max(t.text[j]-t.own[j], 0), episode: episodeWeight * m.match}
}

// runsAtOnce are matched before it is asked whether to go on: a few terms in a large
// episode, or many in a small one, take no time to speak of.
const runsAtOnce = 16

// matchMembers makes the episode the one at hand, unless it is, and adds what the
// terms find in it and each of its members. ctx ends it with its error, and the recall
// with it.
func (t *textRecall) matchMembers(ctx context.Context, m *episodeMatch) error {
	if t.atHand == m {
		return nil
	}
	t.atHand = m
	t.members = t.view.members(t.members[:0], m.number)
	n := len(t.members)
	for _, column := range []*[]float64{&t.frequency, &t.passed, &t.text, &t.own} {
		*column = slices.Grow((*column)[:0], n+2*margin)[:n+2*margin]
		clear(*column)
	}
	m.match = 0
	for j, d := range t.members {
		t.places[d] = uint32(j)
	}
	for next, n := m.first, 0; next != 0; n++ {
		if n%runsAtOnce == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		r := &t.runs[next-1]
		term := &t.terms[r.term]
		m.match += float64(term.idf * t.curve.saturate(float64(r.count)/m.norm))
		next = r.next
		t.place(term.idf, term.list[r.from:r.to])
		t.matchPlaced(term.idf)
	}
	return nil
}

// margin is how far a memory gets of its neighbours.
const margin = 2

// place sets the frequencies of a term's matches in the episode at hand, and adds
// what members have of their own.
func (t *textRecall) place(idf float64, list []match) {
	t.placed = t.placed[:0]
	for _, p := range list {
		j := t.places[p.ordinal]
		f := t.frequencyOf(p.ordinal, p.count)
		t.own[j] += float64(idf * t.curve.saturate(f))
		t.frequency[margin+j] = f
		t.passed[margin+j] = (nearShare + float64(questionPass*t.questionShare(p.ordinal))) * f
		t.placed = append(t.placed, j)
	}
	if !slices.IsSorted(t.placed) {
		slices.Sort(t.placed)
	}
}

// matchPlaced adds what the frequencies come to at the places that have or
// neighbour one, and takes them away again. Each sum is made in one order: the same
// state gives the same answer to the last bit.
func (t *textRecall) matchPlaced(idf float64) {
	from := 0
	for _, p := range t.placed {
		to := min(int(p)+margin+1, len(t.members))
		for j := max(int(p)-margin, from); j < to; j++ {
			f, before := t.frequency[j:j+2*margin+1], t.passed[margin+j-1]
			sum := f[2] + float64(farShare*f[0]) + before + float64(nearShare*f[3]) + float64(farShare*f[4])
			t.text[j] += float64(idf * t.curve.saturate(sum))
		}
		from = to
	}
	for _, p := range t.placed {
		t.frequency[margin+p], t.passed[margin+p] = 0, 0
	}
}

// metAt returns what the terms find in the memory's episode; nil if nothing, or
// if it has none.
func (t *textRecall) metAt(d uint32) *episodeMatch {
	if at := t.met[t.view.episodeOf(d)]; at > 0 {
		return &t.episodes[at-1]
	}
	return nil
}

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
