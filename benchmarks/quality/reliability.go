package main

import (
	"math"

	"github.com/engramdb/engram"
)

// reliabilityDepth is how many recollections of each question are looked at: what
// a recall returns if nothing else is asked for.
const reliabilityDepth = engram.DefaultLimit

// reliability compares the confidence of recollections with how many of them
// answer (a reliability diagram: DeGroot and Fienberg 1983).
type reliability struct {
	Bins [10]reliabilityBin `json:"bins"` // confidences from 0 to .1, .1 to .2, ...
	// Error is the expected calibration error: the distance of the bins' mean
	// confidence from their share of answers, weighed by their recollections
	// (Naeini, Cooper and Hauskrecht 2015).
	Error float64 `json:"ece"`
}

type reliabilityBin struct {
	Recollections int     `json:"n"`
	Confidence    float64 `json:"confidence"` // their mean
	Answers       float64 `json:"answers"`    // the share of them that answers
}

// reliabilityOf counts the recollections of each group's questions.
func reliabilityOf(all ...answers) map[string]*reliability {
	groups := map[string]*reliability{}
	for _, a := range all {
		for i, q := range a.collection.questions {
			for _, group := range q.groups {
				if groups[group] == nil {
					groups[group] = &reliability{}
				}
				groups[group].count(a.rankings[i], q.gold)
			}
		}
	}
	for _, r := range groups {
		r.settle()
	}
	return groups
}

// count adds a ranking; until settle is called, the bins hold sums.
func (r *reliability) count(found ranking, gold map[string]bool) {
	for i, id := range found.ids[:min(reliabilityDepth, len(found.ids))] {
		confidence := found.confidences[i]
		bin := &r.Bins[min(int(confidence*float64(len(r.Bins))), len(r.Bins)-1)]
		bin.Recollections++
		bin.Confidence += confidence
		if gold[id] {
			bin.Answers++
		}
	}
}

func (r *reliability) settle() {
	recollections, distance := 0.0, 0.0
	for i := range r.Bins {
		bin := &r.Bins[i]
		if bin.Recollections == 0 {
			continue
		}
		n := float64(bin.Recollections)
		recollections += n
		distance += math.Abs(bin.Confidence - bin.Answers)
		bin.Confidence, bin.Answers = bin.Confidence/n, bin.Answers/n
	}
	if recollections > 0 {
		r.Error = distance / recollections
	}
}
