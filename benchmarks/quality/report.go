package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// report is what a run found out. Its JSON is keyed data set, level, group,
// metric; intervals has the same keys.
type report struct {
	Locomo           locomoReport       `json:"locomo"`
	Cranfield        map[string]figures `json:"cranfield"` // by group
	Intervals        intervalReport     `json:"intervals"`
	Reliability      reliabilityReport  `json:"reliability"`
	Cost             *costReport        `json:"cost"`
	Ablation         *ablationReport    `json:"ablation,omitempty"`
	RestartIdentical bool               `json:"restart_identical"`
	SigkillIdentical bool               `json:"sigkill_identical"`
	Sigkill          *crashReport       `json:"sigkill"`
}

type locomoReport struct {
	Turn        map[string]figures `json:"turn"`    // by group
	Session     map[string]figures `json:"session"` // by group
	ForeignHits int                `json:"foreign_hits"`
	// MissedSessions are looked at by half.
	MissedSessions map[string]missedReport `json:"missed_sessions"`
}

// intervalReport has the interval of each figure.
type intervalReport struct {
	Locomo struct {
		Turn    map[string]map[string]interval `json:"turn"`
		Session map[string]map[string]interval `json:"session"`
	} `json:"locomo"`
	Cranfield map[string]map[string]interval `json:"cranfield"`
}

// reliabilityReport says of each group how far confidence can be relied on.
type reliabilityReport struct {
	Locomo    map[string]*reliability `json:"locomo"`
	Cranfield map[string]*reliability `json:"cranfield"`
}

// scores are the figures of each question.
type scores struct {
	turns, sessions samples // LoCoMo
	documents       samples // Cranfield
}

// newScores scores answers, of which the last are Cranfield's.
func newScores(all []answers) *scores {
	s := new(scores)
	locomo, cranfield := all[:len(all)-1], all[len(all)-1]
	for _, conversation := range locomo {
		session := map[string]string{}
		for _, m := range conversation.collection.memories {
			session[m.ID] = m.Episode
		}
		for i, q := range conversation.collection.questions {
			ranked := conversation.rankings[i].ids
			s.turns = append(s.turns, sample{score(ranked, q.gold), q.groups})
			goldSessions := map[string]bool{}
			for turn := range q.gold {
				goldSessions[session[turn]] = true
			}
			s.sessions = append(s.sessions, sample{score(firstAppearances(ranked, session), goldSessions), q.groups})
		}
	}
	for i, q := range cranfield.collection.questions {
		s.documents = append(s.documents, sample{score(cranfield.rankings[i].ids, q.gold), q.groups})
	}
	return s
}

// newReport scores answers, of which the last are Cranfield's.
func newReport(all []answers) *report {
	s := newScores(all)
	locomo, cranfield := all[:len(all)-1], all[len(all)-1]
	r := &report{
		Locomo:      locomoReport{Turn: s.turns.means(), Session: s.sessions.means(), ForeignHits: foreignHits(all)},
		Cranfield:   s.documents.means(),
		Reliability: reliabilityReport{Locomo: reliabilityOf(locomo...), Cranfield: reliabilityOf(cranfield)},
	}
	r.Locomo.MissedSessions = map[string]missedReport{}
	for _, half := range []string{groupTuning, groupHeldOut} {
		r.Locomo.MissedSessions[half] = missedSessions(locomo, half)
	}
	r.Intervals.Locomo.Turn, r.Intervals.Locomo.Session = s.turns.intervals(), s.sessions.intervals()
	r.Intervals.Cranfield = s.documents.intervals()
	return r
}

// failure is nil if everything that must hold held.
func (r *report) failure() error {
	var failures []error
	if r.Locomo.ForeignHits > 0 {
		failures = append(failures, fmt.Errorf("%d recollections came from another space", r.Locomo.ForeignHits))
	}
	if !r.RestartIdentical {
		failures = append(failures, errors.New("answers differ after a restart"))
	}
	if r.Sigkill.Lost > 0 {
		failures = append(failures, fmt.Errorf("%d acknowledged writes were lost by the kill", r.Sigkill.Lost))
	}
	if r.Sigkill.OutOfOrder > 0 {
		failures = append(failures, fmt.Errorf("%d writes survived the kill without one before them", r.Sigkill.OutOfOrder))
	}
	if !r.SigkillIdentical {
		failures = append(failures, fmt.Errorf("the killed and resumed load is not as the other one, seed %d", r.Sigkill.Seed))
	}
	if r.Ablation != nil && r.Ablation.Agreeing < r.Ablation.Questions {
		failures = append(failures, fmt.Errorf("the reference implementation gives %d of %d questions another answer",
			r.Ablation.Questions-r.Ablation.Agreeing, r.Ablation.Questions))
	}
	return errors.Join(failures...)
}

func (r *report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
