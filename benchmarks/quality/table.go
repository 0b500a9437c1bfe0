package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
)

// table prints rows of cells, aligned.
type table struct {
	*tabwriter.Writer
	failed error
}

func newTable(w io.Writer) *table {
	return &table{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)}
}

func (t *table) row(cells ...any) {
	for _, cell := range cells {
		if share, isShare := cell.(float64); isShare {
			cell = fmt.Sprintf("%.3f", share)
		}
		_, err := fmt.Fprint(t, cell, "\t")
		t.failed = errors.Join(t.failed, err)
	}
	_, err := fmt.Fprintln(t)
	t.failed = errors.Join(t.failed, err)
}

// end prints what was collected, and an empty line.
func (t *table) end() error {
	err := t.Flush()
	t.failed = errors.Join(t.failed, err)
	return t.failed
}

// writeTable prints the report for a person to read.
func (r *report) writeTable(w io.Writer) error {
	err := errors.Join(r.writeFigures(w), r.writeMissed(w), r.writeIntervals(w), r.writeReliability(w))
	if r.Cost != nil {
		err = errors.Join(err, r.Cost.write(w))
	}
	if r.Ablation != nil {
		err = errors.Join(err, r.Ablation.write(w))
	}
	_, printErr := fmt.Fprintf(w, "\nhits from another space      %d\nsame answers after restart   %t\nsame answers after SIGKILL   %t"+
		"   (seed %d: %d acknowledged before the kill, %d found after it, %d lost, %d resumed)\n",
		r.Locomo.ForeignHits, r.RestartIdentical, r.SigkillIdentical,
		r.Sigkill.Seed, r.Sigkill.Acknowledged, r.Sigkill.Found, r.Sigkill.Lost, r.Sigkill.Resumed)
	return errors.Join(err, printErr)
}

func (r *report) writeFigures(w io.Writer) error {
	t := newTable(w)
	header := []any{"data set", "group", metricN}
	for _, metric := range metricNames() {
		header = append(header, metric)
	}
	t.row(header...)
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
			for _, metric := range metricNames() {
				cells = append(cells, f[metric])
			}
			t.row(cells...)
		}
	}
	return t.end()
}

func (r *report) writeMissed(w io.Writer) error {
	t := newTable(w)
	t.row("\nsessions missed at 10", "missed", "of these multi-hop", "open", "no term shared", "one", "two", "more")
	for _, half := range []string{groupTuning, groupHeldOut} {
		m := r.Locomo.MissedSessions[half]
		t.row(half, m.Missed, m.Categories[categoryGroup(1)], m.Categories[categoryGroup(3)], m.Terms[0], m.Terms[1], m.Terms[2], m.Terms[3])
	}
	return t.end()
}

// writeIntervals prints those of the figures that are looked at first.
func (r *report) writeIntervals(w io.Writer) error {
	t := newTable(w)
	t.row("\n95 % intervals", "group", "R@10", "any@10", "MRR@10", "nDCG@10")
	for _, part := range []struct {
		name   string
		groups map[string]map[string]interval
	}{
		{"LoCoMo turns", r.Intervals.Locomo.Turn},
		{"LoCoMo sessions", r.Intervals.Locomo.Session},
		{"Cranfield", r.Intervals.Cranfield},
	} {
		for _, group := range groupOrder() {
			if of, present := part.groups[group]; present {
				t.row(part.name, group, of[metricRecall(10)], of[metricAny(10)], of[metricMRR], of[metricNDCG])
			}
		}
	}
	return t.end()
}

func (i interval) String() string { return fmt.Sprintf("%.3f to %.3f", i[0], i[1]) }

func (r *report) writeReliability(w io.Writer) error {
	t := newTable(w)
	t.row("\nconfidence", "group", "ECE", "recollections", "mean confidence", "share of answers")
	for _, part := range []struct {
		name   string
		groups map[string]*reliability
	}{{"LoCoMo", r.Reliability.Locomo}, {"Cranfield", r.Reliability.Cranfield}} {
		for _, group := range []string{groupAll, groupTuning, groupHeldOut} {
			of, present := part.groups[group]
			if !present {
				continue
			}
			t.row(part.name, group, of.Error)
			for _, bin := range of.Bins {
				if bin.Recollections > 0 {
					t.row("", "", "", bin.Recollections, bin.Confidence, bin.Answers)
				}
			}
		}
	}
	return t.end()
}

func (c *costReport) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "\n%d memories in %d spaces, %d bytes of text: loaded in %.2f s, %.0f memories/s\n"+
		"heap bytes per memory   %.0f after loading, %.0f once woken from disk\n"+
		"disk bytes per memory   %.0f, and %d of the journal's\n",
		c.Memories, c.Spaces, c.TextBytes, c.LoadSeconds, c.MemoriesPerSecond,
		c.HeapWritten, c.HeapWoken, c.DiskPerMemory, c.JournalBytes)
	for _, part := range []struct {
		name string
		took latency
	}{{"LoCoMo", c.Locomo}, {"Cranfield", c.Cranfield}} {
		_, printErr := fmt.Fprintf(w, "recall, %-12s    p50 %.0f us, p99 %.0f us, mean %.0f us of %d\n",
			part.name, part.took.P50, part.took.P99, part.took.Mean, part.took.N)
		err = errors.Join(err, printErr)
	}
	return err
}

func (r *ablationReport) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "\nthe reference implementation gives the engine's answer to %d of %d questions\n", r.Agreeing, r.Questions)
	t := newTable(w)
	t.row("change", "by", "turns R@10", "tuning", "held out", "multi-hop", "sessions", "Cranfield nDCG@10",
		"gain of turns", "gain of Cranfield", "turns, misspelt", "Cranfield, misspelt", "p50 us")
	for _, row := range r.Rows {
		cells := []any{
			row.Change, row.By, row.Turn[groupAll], row.Turn[groupTuning], row.Turn[groupHeldOut], row.Turn[categoryGroup(1)],
			row.Session[groupAll], row.Cranfield, row.TurnGain, row.CranfieldGain,
		}
		if row.Locomo != nil {
			cells = append(cells, row.MisspeltTurn[groupAll], row.MisspeltCranfield, int(row.Locomo.P50))
		} else {
			cells = append(cells, "", "", "")
		}
		t.row(cells...)
	}
	return errors.Join(err, t.end())
}

func groupOrder() []string {
	order := []string{groupAll, groupTuning, groupHeldOut}
	for _, half := range []string{"", groupTuning + "_", groupHeldOut + "_"} {
		for category := 1; category <= 5; category++ {
			order = append(order, half+categoryGroup(category))
		}
	}
	return order
}
