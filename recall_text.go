package engram

import (
	"cmp"
	"container/heap"
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
const (
	nearShare     = 0.45
	farShare      = 0.3
	questionPass  = 0.4
	questionPrice = 0.3

	episodeWeight = 0.3
	labelWeight   = 2.5
	timeWeight    = 2
	tellingWeight = 3

	feedbackWeight   = 0.7
	feedbackMemories = 5
	feedbackTerms    = 20
	// Terms of one memory lead nowhere; those of more than this share of the space
	// lead everywhere.
	feedbackCommon = 0.2
	// feedbackPostings bounds the work: rarer terms come first.
	feedbackPostings = 16 << 10

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
	p.text *= factor
	p.contiguity *= factor
	p.episode *= factor
	p.label *= factor
	p.time *= factor
	p.feedback *= factor
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
	terms []cueTerm
	reach float64 // Σ idf

	dates  []date
	when   bool
	extras float64 // what label and time can add

	k1, b, average, averageEpisode float64
}

// cueTerm is a term of the cue with its visible postings: those of the image, by
// ordinal, and those of recent documents behind them.
type cueTerm struct {
	idf    float64
	list   []posting
	imaged int // how many of list are the image's
}

// textScratch is what a textRecall computes in.
type textScratch struct {
	postings   []posting      // of all terms
	episodes   []episodeMatch // by number
	touched    []uint32       // the episodes that have any, in the order they were met
	lone       []float64      // by document without an episode: text
	loneOnes   []uint32       // the documents that have any
	labels     []float64      // by document: label
	labelled   []uint32       // the documents that have any
	feedback   []float64      // by document
	fed        []uint32       // the documents that have any
	places     []uint32       // by document: place among the members at hand
	members    []uint32       // of the episode at hand
	candidates []textCandidate
	found      []uint32 // by document: 1 + place in candidates

	// By place among the members at hand.
	frequency, text, own []float64
	marked               []bool
	changed              []uint32
}

// episodeMatch is what the cue's terms find in an episode.
type episodeMatch struct {
	match    float64 // of it as one document
	upper    float64 // no member's text is more
	feedback float64 // no member's is more
	done     bool    // its members are among the candidates
}

// counted is a term's count in an episode, and its frequencies there: the sum of
// them and the highest.
type counted struct {
	count          uint32
	total, highest float64
}

func (c counted) with(more counted) counted {
	return counted{c.count + more.count, c.total + more.total, max(c.highest, more.highest)}
}

// most is what a member's frequency, with its neighbours' shares, is at most:
// nobody's can be that of more than the whole episode.
func (c counted) most() float64 {
	return min(c.highest*(1+surroundings), c.highest+neighbourShare*(c.total-c.highest))
}

// fit makes room for a view's documents and episodes.
func (s *textScratch) fit(v *view) {
	if n := int(v.documents()); len(s.lone) < n {
		n += n / 8
		s.lone, s.labels, s.feedback = make([]float64, n), make([]float64, n), make([]float64, n)
		s.places, s.found = make([]uint32, n), make([]uint32, n)
	}
	if n := int(v.episodeNumbers) + 1; len(s.episodes) < n {
		s.episodes = make([]episodeMatch, n+n/8)
	}
}

// reset makes everything zero again.
func (s *textScratch) reset() {
	for _, e := range s.touched {
		s.episodes[e] = episodeMatch{}
	}
	for _, c := range s.candidates {
		s.found[c.document] = 0
	}
	for _, list := range []struct {
		documents []uint32
		column    []float64
	}{{s.loneOnes, s.lone}, {s.labelled, s.labels}, {s.fed, s.feedback}} {
		for _, d := range list.documents {
			list.column[d] = 0
		}
	}
	s.touched, s.candidates = s.touched[:0], s.candidates[:0]
	s.loneOnes, s.labelled, s.fed = s.loneOnes[:0], s.labelled[:0], s.fed[:0]
}

// recallText finds the limit best by text. Afterwards every member of an
// episode that could be among them is a candidate.
func (q *recalling) recallText(limit int) (*textRecall, error) {
	t := &textRecall{recalling: q, textScratch: &q.text}
	terms, _ := q.view.config.Analyzer.analyze(q.cue.Text)
	if len(terms) == 0 {
		return t, nil
	}
	if q.view.config.Analyzer.isEnglish() {
		words := cueWords(q.cue.Text)
		t.dates, t.when = datesIn(words), asksWhen(words)
	}
	t.k1, t.b = q.view.config.textParameters()
	t.average = ratio(q.view.tokens, q.view.live)
	t.averageEpisode = ratio(q.view.episodeTokens, q.view.episodes)
	t.collect(terms)
	for i := range t.terms {
		t.matchEpisodes(&t.terms[i])
	}
	t.matchLabels()
	t.weighBest(feedbackMemories)
	if err := t.feedBack(); err != nil {
		return nil, err
	}
	t.weighBest(limit)
	return t, nil
}

func (t *textRecall) saturate(f float64) float64 { return f * (t.k1 + 1) / (f + t.k1) }

// frequencyOf is a posting's count, normalised by the document's length.
func (t *textRecall) frequencyOf(p posting) float64 {
	return float64(p.count) / (1 - t.b + t.b*float64(t.view.lengthOf(p.ordinal))/t.average)
}

// collect gathers the postings of the terms.
func (t *textRecall) collect(terms []termCount) {
	t.postings = t.postings[:0]
	ends := make([]int, 0, len(terms))
	for _, term := range terms {
		t.postings = t.view.list(t.postings, term.term)
		t.names, ends = append(t.names, term.term), append(ends, len(t.postings))
	}
	from := 0
	for _, end := range ends {
		list := t.postings[from:end]
		imaged := len(list)
		for imaged > 0 && !t.view.imaged(list[imaged-1].ordinal) {
			imaged--
		}
		idf := inverseDocumentFrequency(int(t.view.live), len(list))
		t.terms = append(t.terms, cueTerm{idf: idf, list: list, imaged: imaged})
		t.reach += idf
		from = end
	}
}

// bound is what a score can reach.
func (t *textRecall) bound() float64 {
	return (t.k1+1)*(1+episodeWeight+feedbackWeight)*t.reach + t.extras
}

// matchEpisodes adds what a term finds in each episode, and in each document
// without one.
func (t *textRecall) matchEpisodes(term *cueTerm) {
	var later map[uint32]counted // of recent documents
	for _, p := range term.list[term.imaged:] {
		f := t.frequencyOf(p)
		e := t.view.episodeOf(p.ordinal)
		if e == 0 {
			t.matchLone(p.ordinal, term.idf*t.saturate(f))
			continue
		}
		if later == nil {
			later = make(map[uint32]counted)
		}
		later[e] = later[e].with(counted{p.count, f, f})
	}
	var episode uint32
	var at counted
	end := func() {
		if more, found := later[episode]; found {
			at = at.with(more)
			delete(later, episode)
		}
		t.matchEpisode(episode, term.idf, at)
	}
	for _, p := range term.list[:term.imaged] {
		f := t.frequencyOf(p)
		e := t.view.image.episodes.at(p.ordinal)
		if e == 0 {
			t.matchLone(p.ordinal, term.idf*t.saturate(f))
			continue
		}
		if e != episode {
			if episode != 0 {
				end()
			}
			episode, at = e, counted{}
		}
		at = at.with(counted{p.count, f, f})
	}
	if episode != 0 {
		end()
	}
	for e, c := range later { // each is a sum of its own: their order does not matter
		t.matchEpisode(e, term.idf, c)
	}
}

func (t *textRecall) matchEpisode(episode uint32, idf float64, c counted) {
	m := &t.episodes[episode]
	if m.upper == 0 {
		t.touched = append(t.touched, episode)
	}
	length := float64(t.view.episodeUse(episode).tokens)
	f := float64(c.count) / (1 - t.b + t.b*length/t.averageEpisode)
	m.match += idf * t.saturate(f)
	m.upper += idf * t.saturate(c.most())
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
	var list []posting
	for _, name := range t.names {
		list = t.view.list(list[:0], labelTerm(name))
		if len(list) == 0 {
			continue
		}
		score := labelWeight * inverseDocumentFrequency(int(t.view.live), len(list))
		for _, p := range list {
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
	t.extras += timeWeight * best
	if t.when {
		t.extras += tellingWeight
	}
}

// weighBest makes candidates of every memory that could be among the n best.
// The most promising episodes and lone memories are weighed first; after that,
// none is that cannot reach the n-th of what was found.
func (t *textRecall) weighBest(n int) {
	best := make(lowestFirst, 0, n)
	for i := range t.candidates {
		c := &t.candidates[i]
		best.offer(c.sum)
	}
	first := make(lowestFirst, 0, n)
	for _, e := range t.touched {
		if m := &t.episodes[e]; !m.done {
			first.offer(m.upper + episodeWeight*m.match + m.feedback)
		}
	}
	for _, floor := range []float64{first.floor(), 0} {
		for _, e := range t.touched {
			m := &t.episodes[e]
			reach := m.upper + episodeWeight*m.match + m.feedback
			if m.done || reach < floor || reach+t.extras < best.floor() {
				continue
			}
			from := len(t.candidates)
			t.weighEpisode(e)
			for i := from; i < len(t.candidates); i++ {
				best.offer(t.candidates[i].sum)
			}
		}
	}
	for _, d := range t.loneOnes {
		if t.found[d] == 0 && t.lone[d]+t.feedback[d]+t.extras >= best.floor() && t.matcher.matches(t.view, d) {
			best.offer(t.weigh(d, textParts{text: t.lone[d]}))
		}
	}
}

// weigh makes the memory a candidate with these parts and those that depend on
// nothing else, and returns their sum.
func (t *textRecall) weigh(d uint32, p textParts) float64 {
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
	p.discount(1 - questionPrice*t.questionShare(d))
	sum := p.sum()
	t.candidates = append(t.candidates, textCandidate{document: d, seq: t.view.seqOf(d), parts: p, sum: sum})
	t.found[d] = uint32(len(t.candidates))
	return sum
}

func (t *textRecall) questionShare(d uint32) float64 { return float64(t.view.questionsOf(d)) / 255 }

// weighEpisode makes candidates of an episode's memories that satisfy the filter.
func (t *textRecall) weighEpisode(episode uint32) {
	m := &t.episodes[episode]
	m.done = true
	t.members = t.view.members(t.members[:0], episode)
	n := len(t.members)
	for _, column := range []*[]float64{&t.frequency, &t.text, &t.own} {
		*column = append((*column)[:0], make([]float64, n)...)
	}
	t.marked = append(t.marked[:0], make([]bool, n)...)
	for j, d := range t.members {
		t.places[d] = uint32(j)
	}
	from, to := uint32(0), uint32(0)
	if episode <= t.view.image.episodeNames.len() {
		from, to = t.view.image.episodeRange(episode)
	}
	for i := range t.terms {
		term := &t.terms[i]
		imaged := term.list[:term.imaged]
		imaged = imaged[len(before(imaged, from)):]
		t.place(before(imaged, to))
		t.place(t.recentOf(term.list[term.imaged:]))
		for _, j := range t.changed {
			t.text[j] += term.idf * t.saturate(t.withNeighbours(int(j)))
			t.own[j] += term.idf * t.saturate(t.frequency[j])
		}
		for _, j := range t.changed {
			t.frequency[j], t.marked[j] = 0, false
		}
		t.changed = t.changed[:0]
	}
	for j, d := range t.members {
		if t.matcher.matches(t.view, d) {
			t.weigh(d, textParts{text: t.own[j], contiguity: max(t.text[j]-t.own[j], 0), episode: episodeWeight * m.match})
		}
	}
}

// recentOf returns the postings of recent documents that are members.
func (t *textRecall) recentOf(list []posting) []posting {
	if len(t.members) == 0 || len(list) == 0 {
		return nil
	}
	var kept []posting
	for _, p := range list {
		if j := t.places[p.ordinal]; int(j) < len(t.members) && t.members[j] == p.ordinal {
			kept = append(kept, p)
		}
	}
	return kept
}

// place sets the frequencies of a term's postings, and marks the members that
// have or neighbour them.
func (t *textRecall) place(list []posting) {
	for _, p := range list {
		j := int(t.places[p.ordinal])
		t.frequency[j] = t.frequencyOf(p)
		for i := max(j-2, 0); i <= min(j+2, len(t.members)-1); i++ {
			if !t.marked[i] {
				t.marked[i] = true
				t.changed = append(t.changed, uint32(i))
			}
		}
	}
}

// withNeighbours is the frequency at j with the shares of its neighbours, summed
// in one order: the same state gives the same answer to the last bit.
func (t *textRecall) withNeighbours(j int) float64 {
	f := t.frequency[j]
	if j >= 2 {
		f += farShare * t.frequency[j-2]
	}
	if j >= 1 && t.frequency[j-1] > 0 {
		f += (nearShare + questionPass*t.questionShare(t.members[j-1])) * t.frequency[j-1]
	}
	if j+1 < len(t.members) {
		f += nearShare * t.frequency[j+1]
	}
	if j+2 < len(t.members) {
		f += farShare * t.frequency[j+2]
	}
	return f
}

// feedBack asks the terms that mark the best candidates as a second cue, and
// adds what it finds to the candidates and to what the other episodes can reach.
func (t *textRecall) feedBack() error {
	best := t.best(feedbackMemories)
	if len(best) == 0 {
		return nil
	}
	weights := make(map[string]float64)
	lists := make(map[string]int)
	for _, c := range best {
		strength := c.sum / best[0].sum
		m, err := t.read(c.document)
		if err != nil {
			return err
		}
		x := t.view.config.Analyzer.analyzeMemory(m.Content)
		for _, term := range x.terms {
			n, known := lists[term.term]
			if !known {
				n = t.view.count(term.term)
				lists[term.term] = n
			}
			if n < 2 || float64(n) > feedbackCommon*float64(t.view.live) || slices.Contains(x.label, term.term) {
				continue
			}
			f := float64(term.count) / (1 - t.b + t.b*float64(x.length)/t.average)
			weights[term.term] += strength * strength * inverseDocumentFrequency(int(t.view.live), n) * t.saturate(f)
		}
	}
	t.askFeedback(weights, lists)
	return nil
}

// askFeedback scores every document by the heaviest terms.
func (t *textRecall) askFeedback(weights map[string]float64, documents map[string]int) {
	names := make([]string, 0, len(weights))
	for name := range weights {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a, b))
	})
	names = names[:min(feedbackTerms, len(names))]
	total, reach, postings := 0.0, 0.0, 0
	for i, name := range names {
		if postings += documents[name]; postings > feedbackPostings {
			names = names[:i]
			break
		}
		total += weights[name]
		reach += weights[name] * inverseDocumentFrequency(int(t.view.live), documents[name])
	}
	if total == 0 {
		return
	}
	scale := feedbackWeight * t.reach / reach
	var list []posting
	for _, name := range names {
		weight := scale * weights[name] * inverseDocumentFrequency(int(t.view.live), documents[name])
		list = t.view.list(list[:0], name)
		for _, p := range list {
			if !t.matchedAt(p.ordinal) {
				continue // feedback orders what is recalled, and recalls nothing
			}
			if t.feedback[p.ordinal] == 0 {
				t.fed = append(t.fed, p.ordinal)
			}
			t.feedback[p.ordinal] += weight * t.saturate(t.frequencyOf(p))
		}
	}
	for _, d := range t.fed {
		if e := t.view.episodeOf(d); e != 0 {
			t.episodes[e].feedback = max(t.episodes[e].feedback, t.feedback[d])
		}
	}
	for i := range t.candidates {
		c := &t.candidates[i]
		c.parts.feedback = t.feedback[c.document] * (1 - questionPrice*t.questionShare(c.document))
		c.sum = c.parts.sum()
	}
}

// matchedAt reports whether text or episode matches the memory.
func (t *textRecall) matchedAt(d uint32) bool {
	if e := t.view.episodeOf(d); e != 0 {
		return t.episodes[e].upper > 0
	}
	return t.lone[d] > 0
}

// matched is how many memories text or episode matches, whatever the filter says.
func (t *textRecall) matched() int {
	n := len(t.loneOnes)
	for _, e := range t.touched {
		n += int(t.view.episodeUse(e).documents)
	}
	return n
}

// complete makes a candidate of the memory, if text or episode matches it, and
// returns it; nil if not.
func (t *textRecall) complete(d uint32) *textCandidate {
	if t.found[d] == 0 && t.matchedAt(d) {
		if e := t.view.episodeOf(d); e == 0 {
			t.weigh(d, textParts{text: t.lone[d]})
		} else if !t.episodes[e].done {
			t.weighEpisode(e)
		}
	}
	if t.found[d] == 0 {
		return nil
	}
	return &t.candidates[t.found[d]-1]
}

// best returns the n best candidates, in order.
func (t *textRecall) best(n int) []textCandidate {
	top := make(lowestFirst, 0, n)
	for i := range t.candidates {
		top.offer(t.candidates[i].sum)
	}
	floor := top.floor()
	var list []textCandidate
	for i := range t.candidates {
		if c := &t.candidates[i]; c.sum >= floor && c.sum > 0 {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(a, b textCandidate) int {
		return cmp.Or(cmp.Compare(b.sum, a.sum), cmp.Compare(b.seq, a.seq))
	})
	return list[:min(n, len(list))]
}

// lowestFirst holds the highest numbers that it was offered, as many as it has
// room for, the lowest of them on top.
type lowestFirst []float64

func (h lowestFirst) Len() int           { return len(h) }
func (h lowestFirst) Less(i, j int) bool { return h[i] < h[j] }
func (h lowestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lowestFirst) Push(x any)        { *h = append(*h, x.(float64)) }
func (h *lowestFirst) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func (h *lowestFirst) offer(x float64) {
	switch {
	case len(*h) < cap(*h):
		heap.Push(h, x)
	case x > (*h)[0]:
		(*h)[0] = x
		heap.Fix(h, 0)
	}
}

// floor is what must be reached to count among them. It allows for sums that
// are made in another order.
func (h lowestFirst) floor() float64 {
	if len(h) < cap(h) {
		return math.Inf(-1)
	}
	return h[0] * (1 - 1e-9)
}
