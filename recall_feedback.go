package engram

import (
	"bytes"
	"cmp"
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
	// feedbackPostings bounds the work: rarer terms come first.
	feedbackPostings = 16 << 10
)

// termMark is a term of one of the best memories.
type termMark struct {
	term      uint32  // its number in the view
	memory    uint32  // the place of the memory among the best
	strength  float64 // of the memory, squared
	saturated float64 // the term's frequency in it
}

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
	t.marks = t.marks[:0]
	for i := range best {
		strength := best[i].sum / best[0].sum
		t.mark(uint32(i), best[i].document, strength*strength)
	}
	t.weighMarks()
	t.askFeedback()
}

// mark adds the terms of a memory but those of its label.
func (t *textRecall) mark(place, d uint32, strength float64) {
	v := t.view
	t.uses = v.appendUses(t.uses[:0], d)
	var labels [][]byte
	for _, use := range t.uses {
		if v.isLabel(use.term) {
			labels = append(labels, v.termName(use.term)[1:])
		}
	}
	for _, use := range t.uses {
		if v.isLabel(use.term) || len(labels) > 0 && slices.ContainsFunc(labels, func(label []byte) bool {
			return bytes.Equal(label, v.termName(use.term))
		}) {
			continue
		}
		t.marks = append(t.marks, termMark{use.term, place, strength, t.saturate(t.frequencyOf(d, use.count))})
	}
}

// weighMarks makes the second cue: the heaviest terms.
func (t *textRecall) weighMarks() {
	slices.SortFunc(t.marks, func(a, b termMark) int {
		return cmp.Or(cmp.Compare(a.term, b.term), cmp.Compare(a.memory, b.memory))
	})
	t.marking = t.marking[:0]
	live := int(t.view.live)
	for i := 0; i < len(t.marks); {
		m := feedbackTerm{term: t.marks[i].term, documents: t.view.documentsOf(t.marks[i].term)}
		m.idf = inverseDocumentFrequency(live, m.documents)
		for ; i < len(t.marks) && t.marks[i].term == m.term; i++ {
			m.weight += t.marks[i].strength * m.idf * t.marks[i].saturated
		}
		if m.documents >= 2 && float64(m.documents) <= feedbackCommon*float64(live) {
			t.marking = append(t.marking, m)
		}
	}
	slices.SortFunc(t.marking, func(a, b feedbackTerm) int {
		if a.weight != b.weight {
			return cmp.Compare(b.weight, a.weight)
		}
		return bytes.Compare(t.view.termName(a.term), t.view.termName(b.term))
	})
	t.marking = t.marking[:min(feedbackTerms, len(t.marking))]
	postings := 0
	for i := range t.marking {
		if postings += t.marking[i].documents; postings > feedbackPostings {
			t.marking = t.marking[:i]
			break
		}
	}
}

// askFeedback scores every document that is recalled by the second cue.
func (t *textRecall) askFeedback() {
	reach := 0.0
	for _, m := range t.marking {
		reach += m.weight * m.idf
	}
	if reach == 0 {
		return
	}
	scale := feedbackWeight * t.reach / reach
	for _, m := range t.marking {
		weight := scale * m.weight * m.idf
		t.list = t.view.appendList(t.list[:0], m.term)
		for _, p := range t.list {
			if !t.matchedAt(p.ordinal) {
				continue // feedback orders what is recalled, and recalls nothing
			}
			if t.feedback[p.ordinal] == 0 {
				t.fed = append(t.fed, p.ordinal)
			}
			t.feedback[p.ordinal] += weight * t.saturate(t.frequencyOf(p.ordinal, p.count))
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
