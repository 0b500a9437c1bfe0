// Package oracle is recall as it should be, written to be read: it goes over all
// memories of a space for each cue, with the formulas in the open and nothing
// indexed, so that the engine's answers can be compared with it score by score.
//
// A memory's score for a cue is
//
//	score = (text + episode + label + time + answer + feedback) · (1 - 0.3·q)
//
// where q is the share of the memory's sentences that are questions: who asks
// seldom answers. With idf and the saturation of BM25 (Robertson and Zaragoza,
// The Probabilistic Relevance Framework: BM25 and Beyond, 2009),
//
//	idf(n of N) = ln(1 + (N - n + 0.5) / (n + 0.5))
//	sat(f)      = f · (k1 + 1) / (f + k1)
//	f(t,d)      = count of t in d / (1 - b + b · length of d / average length)
//
// the parts are, over the distinct terms t of the cue:
//
//   - text: Σ idf(t) · sat(f(t,d) + Σ share · f(t, neighbour)), over the two
//     memories before d in its episode and the two after it. One saturation over
//     a memory and what surrounds it: a term that is there twice is not twice the
//     evidence (the idea of BM25F; contiguity as in Kahana 1996). A neighbour that
//     asks passes more on to what follows it, which is likely the answer.
//   - episode: 0.3 · Σ idf(t) · sat(f(t, the episode as one document))
//   - label: 2.5 · Σ idf of t among the labels, for the terms in d's label.
//   - time: 2 · the weight of a date in the cue · how near d's time is to it
//   - answer: 3 each, if the cue asks when, where or who, and d's content tells that
//   - feedback: the terms that mark the best five memories by the sum so far,
//     asked as a second cue (pseudo relevance feedback: Rocchio 1971; RM3, Lavrenko
//     and Croft 2001). This is spreading over what memories have in common.
//
// Only what text or episode matches is recalled: the other parts order it.
// Equals are ordered newest first.
//
// How sure an answer is depends less on its score than on how far it stands out:
// with o the score over the best score of any other memory, the share of memories
// that are answers is o^5.5 / (o^5.5 + 2.6), see Recollection.Confidence.
package oracle

import (
	"cmp"
	"math"
	"slices"

	"github.com/engramdb/engram"
)

// Form is what a score is made of, and with which weights. A weight of zero leaves
// its part out.
type Form struct {
	K1, B float64 // of BM25

	NearShare     float64 // from a neighbour at distance one
	FarShare      float64 // at distance two
	QuestionPass  float64 // more from the one before, by its share of questions
	QuestionPrice float64 // off the score, by a memory's own share of questions

	EpisodeWeight  float64
	LabelWeight    float64
	TimeWeight     float64
	WhenWeight     float64 // of an answer
	WhereWeight    float64
	WhoWeight      float64
	FeedbackWeight float64

	KeepsStopWords bool
	KeepsEndings   bool // words are not stemmed, and irregular forms stay
	KeepsIrregular bool // only irregular forms stay
}

// Chosen is the form that the engine has. The weights were fitted on the tuning
// half of LoCoMo and half of Cranfield's queries, and rounded; each lies in a
// plateau.
func Chosen() Form {
	return Form{
		K1: 1.3, B: 0.5,
		NearShare: 0.45, FarShare: 0.3, QuestionPass: 0.4, QuestionPrice: 0.3,
		EpisodeWeight: 0.3, LabelWeight: 2.5, TimeWeight: 2, FeedbackWeight: 0.7,
		WhenWeight: 3, WhereWeight: 3, WhoWeight: 3,
	}
}

// The rest of the form, which nothing here varies.
const (
	afterglowDays    = 7
	feedbackMemories = 5
	feedbackTerms    = 20
	// Terms of one memory lead nowhere; those of more than this share of the space
	// lead everywhere.
	feedbackCommon = 0.2

	// The logistic curve over ln o, fitted on the tuning half of LoCoMo.
	confidencePower = 5.5
	confidenceOdds  = 2.6 // against an answer that is as good as another one
)

// Space is the memories of one space, analyzed.
type Space struct {
	form     Form
	memories []*memory
	episodes map[string]*episode

	averageLength        float64
	averageEpisodeLength float64
	containing           map[string]int // memories, by term
	labelled             map[string]int // memories whose label has the term
}

type memory struct {
	engram.Memory
	place         int // in the order of remembering
	counts        map[string]int
	length        int
	label         []string
	questionShare float64
	tells         answers

	episode *episode // nil for none
	turn    int      // place in it
}

type episode struct {
	memories []*memory // in time order
	counts   map[string]int
	length   int
}

// Parts is where a score comes from.
type Parts struct {
	Text, Episode, Label, Time, Answer, Feedback float64
}

// Recollection is a memory with its score.
type Recollection struct {
	Memory engram.Memory
	Parts  Parts
	Score  float64
	// Bound is what the parts could reach for this cue at most: score over bound
	// is the activation.
	Bound float64
	// Confidence is the probability that the memory answers the cue, given that
	// something in the space does.
	Confidence float64
}

// New analyzes the memories of a space, in the order they were remembered, to be
// recalled by the form.
func New(memories []engram.Memory, form Form) *Space {
	s := &Space{
		form:       form,
		episodes:   map[string]*episode{},
		containing: map[string]int{},
		labelled:   map[string]int{},
	}
	for i, given := range memories {
		s.add(given, i)
	}
	for _, m := range s.memories {
		s.averageLength += float64(m.length) / float64(len(s.memories))
	}
	for _, e := range s.episodes {
		s.averageEpisodeLength += float64(e.length) / float64(len(s.episodes))
		slices.SortStableFunc(e.memories, func(a, b *memory) int { return a.Time.Compare(b.Time) })
		for turn, m := range e.memories {
			m.turn = turn
		}
	}
	return s
}

func (s *Space) add(given engram.Memory, place int) {
	list := s.form.terms(words(given.Content))
	m := &memory{
		Memory:        given,
		place:         place,
		counts:        map[string]int{},
		length:        len(list),
		label:         distinct(s.form.terms(words(label(given.Content)))),
		questionShare: math.Round(255*questionShare(given.Content)) / 255, // as it is stored
		tells:         tells(given.Content),
	}
	for _, t := range list {
		m.counts[t]++
	}
	for t := range m.counts {
		s.containing[t]++
	}
	for _, t := range m.label {
		s.labelled[t]++
	}
	s.memories = append(s.memories, m)
	if given.Episode == "" {
		return
	}
	e := s.episodes[given.Episode]
	if e == nil {
		e = &episode{counts: map[string]int{}}
		s.episodes[given.Episode] = e
	}
	m.episode = e
	e.memories = append(e.memories, m)
	e.length += m.length
	for t, n := range m.counts {
		e.counts[t] += n
	}
}

// Recall returns what the cue brings to mind, best first.
func (s *Space) Recall(cue string) []Recollection {
	asked := words(cue)
	cueTerms := distinct(s.form.terms(asked))
	dates, wanted := datesIn(asked), asks(asked)
	var found []*Recollection
	var owners []*memory
	for _, m := range s.memories {
		p := Parts{Text: s.text(m, cueTerms), Episode: s.episodeMatch(m, cueTerms)}
		if p.Text == 0 && p.Episode == 0 {
			continue
		}
		p.Label, p.Time = s.labelMatch(m, cueTerms), s.timeMatch(m, dates)
		p.Answer = s.form.weigh(wanted.and(m.tells))
		found = append(found, &Recollection{Memory: m.Memory, Parts: p, Score: s.discounted(m, p)})
		owners = append(owners, m)
	}
	order := make([]int, len(found))
	for i := range order {
		order[i] = i
	}
	byScore := func(i, j int) int {
		if c := cmp.Compare(found[j].Score, found[i].Score); c != 0 {
			return c
		}
		return owners[j].place - owners[i].place
	}
	slices.SortFunc(order, byScore)

	first := make([]scored, 0, feedbackMemories)
	for _, i := range order[:min(feedbackMemories, len(order))] {
		first = append(first, scored{owners[i], found[i].Score})
	}
	feedback := s.feedback(first, cueTerms)
	bound := s.bound(cueTerms, dates, wanted)
	for i, r := range found {
		r.Parts.Feedback = feedback.match(s, owners[i])
		r.Score, r.Bound = s.discounted(owners[i], r.Parts), bound
	}
	slices.SortFunc(order, byScore)

	ranked := make([]Recollection, 0, len(found))
	for _, i := range order {
		ranked = append(ranked, *found[i])
	}
	setConfidence(ranked)
	return ranked
}

// setConfidence compares each recollection with the best of the others.
func setConfidence(ranked []Recollection) {
	if len(ranked) == 1 {
		ranked[0].Confidence = 1
		return
	}
	for i := range ranked {
		other := ranked[0].Score
		if i == 0 {
			other = ranked[1].Score
		}
		odds := math.Pow(ranked[i].Score/other, confidencePower) / confidenceOdds
		ranked[i].Confidence = odds / (1 + odds)
	}
}

// discounted is the score of m's parts.
func (s *Space) discounted(m *memory, p Parts) float64 {
	return (p.Text + p.Episode + p.Label + p.Time + p.Answer + p.Feedback) * (1 - s.form.QuestionPrice*m.questionShare)
}

func (s *Space) idf(t string) float64 { return idf(s.containing[t], len(s.memories)) }

func idf(containing, all int) float64 {
	return math.Log(1 + (float64(all-containing)+0.5)/(float64(containing)+0.5))
}

func (s *Space) saturate(frequency float64) float64 {
	return frequency * (s.form.K1 + 1) / (frequency + s.form.K1)
}

func (s *Space) frequency(t string, m *memory) float64 {
	return float64(m.counts[t]) / (1 - s.form.B + s.form.B*float64(m.length)/s.averageLength)
}

func (s *Space) text(m *memory, cue []string) float64 {
	sum := 0.0
	for _, t := range cue {
		f := s.frequency(t, m)
		if m.episode != nil {
			f += s.surroundings(t, m)
		}
		sum += s.idf(t) * s.saturate(f)
	}
	return sum
}

// surroundings is the frequency of t that m's neighbours pass on to it.
func (s *Space) surroundings(t string, m *memory) float64 {
	sum := 0.0
	for i, share := range []float64{s.form.FarShare, s.form.NearShare, 0, s.form.NearShare, s.form.FarShare} {
		distance := i - 2
		turn := m.turn + distance
		if turn < 0 || turn >= len(m.episode.memories) {
			continue
		}
		neighbour := m.episode.memories[turn]
		if distance == -1 {
			share += s.form.QuestionPass * neighbour.questionShare
		}
		sum += share * s.frequency(t, neighbour)
	}
	return sum
}

func (s *Space) episodeMatch(m *memory, cue []string) float64 {
	if m.episode == nil {
		return 0
	}
	sum := 0.0
	for _, t := range cue {
		f := float64(m.episode.counts[t]) / (1 - s.form.B + s.form.B*float64(m.episode.length)/s.averageEpisodeLength)
		sum += s.idf(t) * s.saturate(f)
	}
	return s.form.EpisodeWeight * sum
}

func (s *Space) labelMatch(m *memory, cue []string) float64 {
	sum := 0.0
	for _, t := range cue {
		if slices.Contains(m.label, t) {
			sum += idf(s.labelled[t], len(s.memories))
		}
	}
	return s.form.LabelWeight * sum
}

func (s *Space) timeMatch(m *memory, dates []date) float64 {
	best := 0.0
	for _, d := range dates {
		best = max(best, d.weight()*d.nearness(m.Time, afterglowDays))
	}
	return s.form.TimeWeight * best
}

type scored struct {
	*memory
	score float64
}

// feedbackCue is the terms that the best memories share, with their weights,
// which add up to one.
type feedbackCue struct {
	terms   []string
	weights []float64
	scale   float64
}

// feedback weighs the terms of the best memories by idf, by saturated frequency
// and by the square of how good the memory is against the best; labels are not
// what a memory is about. The scale makes a full match worth as much as one of
// the whole cue, before feedbackWeight.
func (s *Space) feedback(best []scored, cue []string) feedbackCue {
	weights := map[string]float64{}
	for _, m := range best {
		strength := (m.score / best[0].score) * (m.score / best[0].score)
		for t := range m.counts {
			n := s.containing[t]
			if n < 2 || float64(n) > feedbackCommon*float64(len(s.memories)) || slices.Contains(m.label, t) {
				continue
			}
			weights[t] += strength * s.idf(t) * s.saturate(s.frequency(t, m.memory))
		}
	}
	var f feedbackCue
	for t := range weights {
		f.terms = append(f.terms, t)
	}
	slices.SortFunc(f.terms, func(a, b string) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a, b))
	})
	f.terms = f.terms[:min(feedbackTerms, len(f.terms))]
	total, reach := 0.0, 0.0
	for _, t := range f.terms {
		total += weights[t]
	}
	for _, t := range f.terms {
		f.weights = append(f.weights, weights[t]/total)
		reach += weights[t] / total * s.idf(t)
	}
	if reach > 0 {
		f.scale = s.form.FeedbackWeight * s.sumOfIDF(cue) / reach
	}
	return f
}

func (f feedbackCue) match(s *Space, m *memory) float64 {
	sum := 0.0
	for i, t := range f.terms {
		sum += f.weights[i] * s.idf(t) * s.saturate(s.frequency(t, m))
	}
	return f.scale * sum
}

func (s *Space) sumOfIDF(terms []string) float64 {
	sum := 0.0
	for _, t := range terms {
		sum += s.idf(t)
	}
	return sum
}

// bound is what the parts can reach for a cue.
func (s *Space) bound(cue []string, dates []date, wanted answers) float64 {
	sum := (s.form.K1 + 1) * (1 + s.form.EpisodeWeight + s.form.FeedbackWeight) * s.sumOfIDF(cue)
	for _, t := range cue {
		if n := s.labelled[t]; n > 0 {
			sum += s.form.LabelWeight * idf(n, len(s.memories))
		}
	}
	best := 0.0
	for _, d := range dates {
		best = max(best, d.weight())
	}
	return sum + s.form.TimeWeight*best + s.form.weigh(wanted)
}
