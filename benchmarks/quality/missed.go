package main

import (
	"slices"
	"strings"

	"github.com/engramdb/engram/benchmarks/quality/oracle"
)

// missedReport says what the sessions have in common that R@10 of sessions misses.
type missedReport struct {
	Missed     float64            `json:"missed"`      // 1 - R@10
	Categories map[string]float64 `json:"by_category"` // the share of that which is of a category
	// Terms is the share by how many terms the question has in common with one of
	// the session's turns that answer, at most: none, one, two, or more.
	Terms [4]float64 `json:"by_shared_terms"`
}

// missedSessions looks at a half of LoCoMo.
func missedSessions(locomo []answers, half string) missedReport {
	r := missedReport{Categories: map[string]float64{}}
	questions := 0
	for _, a := range locomo {
		session, terms := map[string]string{}, map[string][]string{}
		for _, m := range a.collection.memories {
			session[m.ID] = m.Episode
			_, said, _ := strings.Cut(m.Content, ": ") // the speaker is no evidence
			terms[m.ID] = termsOf(said)
		}
		for i, q := range a.collection.questions {
			if !slices.Contains(q.groups, half) {
				continue
			}
			questions++
			asked := termsOf(q.text)
			shared := map[string]int{} // by session
			for turn := range q.gold {
				shared[session[turn]] = max(shared[session[turn]], common(asked, terms[turn]))
			}
			ranked := firstAppearances(a.rankings[i].ids, session)
			for gold, n := range shared {
				if slices.Contains(ranked[:min(ablationDepth, len(ranked))], gold) {
					continue
				}
				share := 1 / float64(len(shared))
				r.Missed += share
				r.Terms[min(n, len(r.Terms)-1)] += share
				for _, group := range q.groups {
					if strings.HasPrefix(group, categoryPrefix) {
						r.Categories[group] += share
					}
				}
			}
		}
	}
	if r.Missed == 0 {
		return r
	}
	for i := range r.Terms {
		r.Terms[i] /= r.Missed
	}
	for group := range r.Categories {
		r.Categories[group] /= r.Missed
	}
	r.Missed /= float64(questions)
	return r
}

// termsOf are the distinct terms of a text.
func termsOf(text string) []string {
	var terms []string
	for _, word := range oracle.Words(text) {
		terms = append(terms, oracle.Term(word))
	}
	slices.Sort(terms)
	return slices.Compact(terms)
}

func common(a, b []string) int {
	n := 0
	for _, term := range a {
		if slices.Contains(b, term) {
			n++
		}
	}
	return n
}
