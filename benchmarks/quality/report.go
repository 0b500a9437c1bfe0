package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// report is what a run found out. Its JSON is keyed data set, level, group, metric.
type report struct {
	Locomo           locomoReport       `json:"locomo"`
	Cranfield        map[string]figures `json:"cranfield"` // by group
	RestartIdentical bool               `json:"restart_identical"`
	SigkillIdentical bool               `json:"sigkill_identical"`
	Sigkill          *crashReport       `json:"sigkill"`
}

type locomoReport struct {
	Turn        map[string]figures `json:"turn"`    // by group
	Session     map[string]figures `json:"session"` // by group
	ForeignHits int                `json:"foreign_hits"`
}

// newReport scores the answers of both data sets.
func newReport(locomo []answers, cranfield answers) *report {
	turns, sessions, documents := tally{}, tally{}, tally{}
	for _, conversation := range locomo {
		session := map[string]string{}
		for _, m := range conversation.collection.memories {
			session[m.ID] = m.Episode
		}
		for i, q := range conversation.collection.questions {
			ranked := conversation.rankings[i].ids
			turns.add(score(ranked, q.gold), q.groups)
			goldSessions := map[string]bool{}
			for turn := range q.gold {
				goldSessions[session[turn]] = true
			}
			sessions.add(score(firstAppearances(ranked, session), goldSessions), q.groups)
		}
	}
	for i, q := range cranfield.collection.questions {
		documents.add(score(cranfield.rankings[i].ids, q.gold), q.groups)
	}
	return &report{
		Locomo: locomoReport{
			Turn:        turns.means(),
			Session:     sessions.means(),
			ForeignHits: foreignHits(locomo) + cranfield.foreign,
		},
		Cranfield: documents.means(),
	}
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
	return errors.Join(failures...)
}

func (r *report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

func (r *report) writeTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	metrics := []string{}
	for _, depth := range depths() {
		metrics = append(metrics, metricRecall(depth))
	}
	for _, depth := range depths() {
		metrics = append(metrics, metricAny(depth))
	}
	metrics = append(metrics, metricMRR, metricNDCG)

	row := func(cells ...any) error {
		for _, cell := range cells {
			if _, err := fmt.Fprint(table, cell, "\t"); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(table)
		return err
	}
	header := []any{"data set", "group", metricN}
	for _, metric := range metrics {
		header = append(header, metric)
	}
	err := row(header...)
	for _, part := range []struct {
		name   string
		groups map[string]figures
	}{{"LoCoMo turns", r.Locomo.Turn}, {"LoCoMo sessions", r.Locomo.Session}, {"Cranfield", r.Cranfield}} {
		for _, group := range groupOrder() {
			f, present := part.groups[group]
			if !present {
				continue
			}
			cells := []any{part.name, group, int(f[metricN])}
			for _, metric := range metrics {
				cells = append(cells, fmt.Sprintf("%.3f", f[metric]))
			}
			err = errors.Join(err, row(cells...))
		}
	}
	err = errors.Join(err, table.Flush())
	_, printErr := fmt.Fprintf(w, "\nhits from another space      %d\nsame answers after restart   %t\nsame answers after SIGKILL   %t"+
		"   (seed %d: %d acknowledged before the kill, %d found after it, %d lost, %d resumed)\n",
		r.Locomo.ForeignHits, r.RestartIdentical, r.SigkillIdentical,
		r.Sigkill.Seed, r.Sigkill.Acknowledged, r.Sigkill.Found, r.Sigkill.Lost, r.Sigkill.Resumed)
	return errors.Join(err, printErr)
}

func groupOrder() []string {
	order := []string{groupAll, groupTuning, groupHeldOut}
	for category := 1; category <= 5; category++ {
		order = append(order, categoryGroup(category))
	}
	return order
}
