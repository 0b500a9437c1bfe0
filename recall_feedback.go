package engram

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// Feedback: the terms that mark the best memories so far are asked as a second
// cue, which orders what the first one found.
const (
	feedbackWeight   = 0.7
	feedbackMemories = 5
	feedbackTerms    = 20
	// Terms of one memory lead nowhere; those of more than this share of the space
	// lead everywhere.
	feedbackCommon = 0.2
	// feedbackPostings bounds the work: the heaviest terms come first.
	feedbackPostings = 16 << 10
)

// feedbackTerm is a term of the second cue.
type feedbackTerm struct {
	term      uint32 // its number in the view
	documents int
	idf       float64
	weight    float64
}

// feedBack asks the terms that mark the best candidates as a second cue, and
// adds what it finds to the candidates and to what the other episodes can reach.
func (t *textRecall) feedBack() {
	best := t.best(feedbackMemories)
	t.uses, t.heavy = t.uses[:0], t.heavy[:0]
	var ends [feedbackMemories]int
	for i := range best {
		t.mark(best[i].document)
		ends[i] = len(t.uses)
	}
	var left [feedbackMemories][]termUse
	from := 0
	for i := range best {
		left[i] = t.uses[from:ends[i]]
		from = ends[i]
	}
	t.weighUses(best, &left)
	postings := 0
	for i := range t.heavy {
		if postings += t.heavy[i].documents; postings > feedbackPostings {
			t.heavy = t.heavy[:i]
			break
		}
	}
	t.askFeedback()
}

// mark appends the terms of a memory, but those of its label, in the order of
// their numbers.
func (t *textRecall) mark(d uint32) {
	v, from := t.view, len(t.uses)
	t.uses = v.appendUses(t.uses, d)
	uses := t.uses[from:]
	byTerm := func(a, b termUse) int { return cmp.Compare(a.term, b.term) }
	if !slices.IsSortedFunc(uses, byTerm) {
		slices.SortFunc(uses, byTerm)
	}
	var labels [][]byte
	for _, use := range uses {
		if v.isLabel(use.term) {
			labels = append(labels, v.termName(use.term)[1:])
		}
	}
	if len(labels) == 0 {
		return
	}
	uses = slices.DeleteFunc(uses, func(use termUse) bool {
		return v.isLabel(use.term) || slices.ContainsFunc(labels, func(label []byte) bool {
			return bytes.Equal(label, v.termName(use.term))
		})
	})
	t.uses = t.uses[:from+len(uses)]
}

// weighUses keeps the heaviest of the terms that the best have.
func (t *textRecall) weighUses(best []textCandidate, left *[feedbackMemories][]termUse) {
	census := t.view.census()
	defer census.close()
	for t.weighNext(best, left, &census) {
	}
}

// weighNext takes the term of the lowest number from the terms that are left of
// the best, and keeps it if it is one of the heaviest so far. It returns false
// when none is left.
func (t *textRecall) weighNext(best []textCandidate, left *[feedbackMemories][]termUse, census *census) bool {
	m := feedbackTerm{term: math.MaxUint32}
	for i := range best {
		if len(left[i]) > 0 {
			m.term = min(m.term, left[i][0].term)
		}
	}
	if m.term == math.MaxUint32 {
		return false
	}
	m.documents = census.documentsOf(m.term)
	leads := m.documents >= 2 && float64(m.documents) <= feedbackCommon*float64(t.view.live)
	if leads {
		m.idf = t.rarity.of(int(t.view.live), m.documents)
	}
	for i := range best {
		if len(left[i]) == 0 || left[i][0].term != m.term {
			continue
		}
		if leads {
			strength := best[i].sum / best[0].sum
			m.weight += float64(strength * strength * m.idf * t.curve.weight(t.view.lengthOf(best[i].document), left[i][0].count))
		}
		left[i] = left[i][1:]
	}
	if leads {
		t.keepHeavy(m)
	}
	return true
}

// keepHeavy keeps the term if it is one of the heaviest.
func (t *textRecall) keepHeavy(m feedbackTerm) {
	at := len(t.heavy)
	if at < feedbackTerms {
		t.heavy = append(t.heavy, m)
	} else if at--; !t.heavier(&m, &t.heavy[at]) {
		return
	}
	for ; at > 0 && t.heavier(&m, &t.heavy[at-1]); at-- {
		t.heavy[at] = t.heavy[at-1]
	}
	t.heavy[at] = m
}

func (t *textRecall) heavier(a, b *feedbackTerm) bool {
	if a.weight != b.weight {
		return a.weight > b.weight
	}
	if named := t.view.image.terms.len(); a.term < named && b.term < named {
		return a.term < b.term // in the order of their names
	}
	return bytes.Compare(t.view.termName(a.term), t.view.termName(b.term)) < 0
}

// rarity remembers inverse document frequencies of terms that few documents have, as
// most do that feedback looks at: a logarithm costs it as much as the rest of the
// look.
type rarity struct {
	documents int
	few       [128]float64 // by how many have the term; 0: not asked yet
}

func (r *rarity) of(documents, containing int) float64 {
	if containing >= len(r.few) {
		return inverseDocumentFrequency(documents, containing)
	}
	if r.documents != documents {
		*r = rarity{documents: documents}
	}
	if r.few[containing] == 0 {
		r.few[containing] = inverseDocumentFrequency(documents, containing)
	}
	return r.few[containing]
}

// askFeedback scores every document that is recalled by the second cue.
func (t *textRecall) askFeedback() {
	reach := 0.0
	for _, m := range t.heavy {
		reach += float64(m.weight * m.idf)
	}
	if reach == 0 {
		return
	}
	scale := feedbackWeight * t.reach / reach
	for _, m := range t.heavy {
		weight := scale * m.weight * m.idf
		t.list = t.view.appendList(t.list[:0], m.term)
		t.feed(t.list, weight)
	}
	for i := range t.candidates {
		c := &t.candidates[i]
		c.parts.feedback = float64(t.feedback[c.document] * (1 - float64(questionPrice*t.questionShare(c.document))))
		c.sum = c.parts.sum()
	}
}

// feed adds the feedback of one term to the memories that are recalled: it orders
// what is recalled, and recalls nothing.
func (t *textRecall) feed(list []posting, weight float64) {
	v, s, curve := t.view, t.textScratch, &t.curve
	for _, p := range list {
		met := s.met[v.episodeOf(p.ordinal)]
		if met == 0 && s.lone[p.ordinal] == 0 {
			continue
		}
		before := s.feedback[p.ordinal]
		if before == 0 {
			s.fed = append(s.fed, p.ordinal)
		}
		sum := before + float64(weight*curve.weight(v.lengthOf(p.ordinal), p.count))
		s.feedback[p.ordinal] = sum
		if met > 0 {
			if m := &s.episodes[met-1]; m.feedback < sum {
				m.feedback = sum
			}
		}
	}
}
