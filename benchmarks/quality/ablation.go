package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/benchmarks/quality/oracle"
)

const (
	ablationDepth = 10
	// sessionDepth is how many turns the ten best sessions are looked for in.
	sessionDepth     = 250
	referenceClosely = 1e-9 // activations may differ by the order of their sums
)

// ablationReport says what each part of recall gives: the figures without it.
type ablationReport struct {
	// Agreeing is of how many questions the reference implementation, which the
	// parts are left out of, gives the engine's answer: the same activations of the
	// same memories.
	Agreeing  int           `json:"reference_agrees"`
	Questions int           `json:"questions"`
	Rows      []ablationRow `json:"rows"`
}

// ablationRow is recall with something changed.
type ablationRow struct {
	Change string `json:"change"`
	// By is "engine" where what its users can set was changed, and "reference" for
	// what they cannot.
	By        string             `json:"by"`
	Turn      map[string]float64 `json:"turn"`      // R@10 by group
	Session   map[string]float64 `json:"session"`   // R@10 by group
	Cranfield float64            `json:"cranfield"` // nDCG@10
	// The intervals of what the change adds, for all of LoCoMo's turns and Cranfield.
	TurnGain      interval `json:"turn_gain"`
	CranfieldGain interval `json:"cranfield_gain"`
	// Of the engine only:
	MisspeltTurn      map[string]float64 `json:"misspelt_turn,omitempty"`      // R@10 by group of misspelt questions
	MisspeltCranfield float64            `json:"misspelt_cranfield,omitempty"` // nDCG@10
	Locomo            *latency           `json:"recall_locomo,omitempty"`
}

// variant is a form of the reference, or a use of the engine.
type variant struct {
	change string
	form   func(*oracle.Form)
	use    *use
}

// use is how the engine is used: what it is given and asked with.
type use struct {
	config engram.SpaceConfig
	memory func(engram.Memory) engram.Memory // nil: as it is
	ask    asking
}

// hashingDimension is that of the vectors that are tried.
const hashingDimension = 512

// variants are what is compared; the first is recall as it is.
func variants() []variant {
	embed := hashing{dimension: hashingDimension, term: 1, runs: 1}
	return []variant{
		{change: "nothing", use: &use{ask: asText}},
		{change: "no episodes", use: &use{ask: asText, memory: func(m engram.Memory) engram.Memory { m.Episode = ""; return m }}},
		{change: "stop words kept", use: &use{ask: asText, config: engram.SpaceConfig{Analyzer: engram.EnglishAll}}},
		{change: "plain words: no stemming, stop words, labels, dates, questions", use: &use{ask: asText, config: engram.SpaceConfig{Analyzer: engram.Plain}}},
		{change: "length not normalised", use: &use{ask: asText, config: engram.SpaceConfig{TextB: math.SmallestNonzeroFloat64}}},
		{change: "associated with 8 by likeness", use: &use{ask: asText, config: engram.SpaceConfig{AutoAssociate: engram.MaxAutoAssociate}}},
		{change: "hashed embeddings", use: &use{
			memory: func(m engram.Memory) engram.Memory { m.Embedding = embed.vector(m.Content); return m },
			ask:    func(text string) engram.Cue { return engram.Cue{Text: text, Embedding: embed.vector(text)} },
		}},
		{change: "hashed embeddings alone", use: &use{
			memory: func(m engram.Memory) engram.Memory { m.Embedding = embed.vector(m.Content); return m },
			ask:    func(text string) engram.Cue { return engram.Cue{Embedding: embed.vector(text)} },
		}},
		{change: "no neighbours", form: func(f *oracle.Form) { f.NearShare, f.FarShare, f.QuestionPass = 0, 0, 0 }},
		{change: "no neighbours at distance two", form: func(f *oracle.Form) { f.FarShare = 0 }},
		{change: "no episode", form: func(f *oracle.Form) { f.EpisodeWeight = 0 }},
		{change: "no dates", form: func(f *oracle.Form) { f.TimeWeight = 0 }},
		{change: "no telling when", form: func(f *oracle.Form) { f.WhenWeight = 0 }},
		{change: "no telling where and who", form: func(f *oracle.Form) { f.WhereWeight, f.WhoWeight = 0, 0 }},
		{change: "no labels", form: func(f *oracle.Form) { f.LabelWeight = 0 }},
		{change: "no feedback", form: func(f *oracle.Form) { f.FeedbackWeight = 0 }},
		{change: "questions count in full", form: func(f *oracle.Form) { f.QuestionPrice = 0 }},
		{change: "questions pass no more on", form: func(f *oracle.Form) { f.QuestionPass = 0 }},
		{change: "irregular forms kept", form: func(f *oracle.Form) { f.KeepsIrregular = true }},
		{change: "no stemming", form: func(f *oracle.Form) { f.KeepsEndings = true }},
		{change: "stop words kept", form: func(f *oracle.Form) { f.KeepsStopWords = true }},
		{change: "nothing but BM25", form: func(f *oracle.Form) {
			*f = oracle.Form{K1: f.K1, B: f.B, KeepsIrregular: true}
		}},
	}
}

// ablate measures the variants in dir. whole are the engine's answers to the
// collections, the last of which is Cranfield.
func ablate(ctx context.Context, dir string, progress *progress, collections []collection, whole []answers) (*ablationReport, error) {
	report := &ablationReport{}
	base := newScores(whole)
	report.compare(whole, askReference(collections, oracle.Chosen()))
	for i, v := range variants() {
		progress.say(fmt.Sprintf("with a change: %s", v.change))
		var row ablationRow
		if v.use == nil {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			form := oracle.Chosen()
			v.form(&form)
			row = newRow(v.change, "reference", newScores(askReference(collections, form)), base)
		} else {
			var err error
			if row, err = v.use.measure(ctx, filepath.Join(dir, fmt.Sprintf("variant-%d", i)), v.change, collections, base); err != nil {
				return nil, err
			}
		}
		report.Rows = append(report.Rows, row)
	}
	return report, nil
}

func newRow(change, by string, s, base *scores) ablationRow {
	row := ablationRow{
		Change: change, By: by,
		Turn:          s.turns.each(metricRecall(ablationDepth)),
		Session:       s.sessions.each(metricRecall(ablationDepth)),
		Cranfield:     s.documents.each(metricNDCG)[groupAll],
		TurnGain:      s.turns.gain(base.turns, groupAll, metricRecall(ablationDepth)),
		CranfieldGain: s.documents.gain(base.documents, groupAll, metricNDCG),
	}
	return row
}

// each is one metric of every group.
func (s samples) each(metric string) map[string]float64 {
	values := map[string]float64{}
	for group, f := range s.means() {
		values[group] = f[metric]
	}
	return values
}

// measure loads the collections into a registry of their own and asks.
func (u *use) measure(ctx context.Context, dir, change string, collections []collection, base *scores) (row ablationRow, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return row, err
	}
	changed := make([]collection, len(collections))
	misspelt := make([]collection, len(collections))
	for i, c := range collections {
		changed[i] = u.changed(c)
		misspelt[i] = changed[i].misspelt()
	}
	err = withRegistry(dir, func(registry *engram.Registry) error {
		if err := load(ctx, registry, changed); err != nil {
			return err
		}
		all, err := askAll(ctx, registry, changed, upTo(sessionDepth, u.ask))
		if err != nil {
			return err
		}
		wrong, err := askAll(ctx, registry, misspelt, upTo(ablationDepth, u.ask))
		if err != nil {
			return err
		}
		took, err := timeRecalls(ctx, registry, changed[:len(changed)-1], upTo(engram.DefaultLimit, u.ask))
		row = newRow(change, "engine", newScores(withSessions(all, collections)), base)
		typos := newScores(withSessions(wrong, collections))
		row.MisspeltTurn = typos.turns.each(metricRecall(ablationDepth))
		row.MisspeltCranfield = typos.documents.each(metricNDCG)[groupAll]
		row.Locomo = &took
		return err
	})
	return row, err
}

func (u *use) changed(c collection) collection {
	c.config = u.config
	if u.memory == nil {
		return c
	}
	memories := make([]engram.Memory, len(c.memories))
	for i, m := range c.memories {
		memories[i] = u.memory(m)
	}
	c.memories = memories
	return c
}

// withSessions gives the answers the collections as they were before a change:
// sessions are looked up there.
func withSessions(all []answers, collections []collection) []answers {
	for i := range all {
		all[i].collection = &collections[i]
	}
	return all
}

// askReference asks the reference implementation all questions.
func askReference(collections []collection, form oracle.Form) []answers {
	var all []answers
	for i := range collections {
		c := &collections[i]
		space := oracle.New(c.memories, form)
		a := answers{collection: c}
		for _, q := range c.questions {
			var r ranking
			for _, found := range space.Recall(q.text) {
				r.ids = append(r.ids, found.Memory.ID)
				r.activations = append(r.activations, found.Score/found.Bound)
				r.confidences = append(r.confidences, found.Confidence)
			}
			a.rankings = append(a.rankings, r)
		}
		all = append(all, a)
	}
	return all
}

// compare counts the questions of which the engine and the reference give the
// same answer, as deep as figures look.
func (r *ablationReport) compare(engine, reference []answers) {
	for i := range engine {
		for q := range engine[i].rankings {
			r.Questions++
			if closely(engine[i].rankings[q], reference[i].rankings[q]) {
				r.Agreeing++
			}
		}
	}
}

// closely reports whether both rank memories of the same activations, and give
// each memory the same. Equals may stand in another order.
func closely(a, b ranking) bool {
	given := map[string]float64{}
	for i, id := range b.ids {
		given[id] = b.activations[i]
	}
	deepest := depths()[len(depths())-1]
	if min(len(a.ids), deepest) != min(len(b.ids), deepest) {
		return false
	}
	for i, id := range a.ids[:min(len(a.ids), deepest)] {
		other, found := given[id]
		if !found || math.Abs(a.activations[i]-other) > referenceClosely || math.Abs(a.activations[i]-b.activations[i]) > referenceClosely {
			return false
		}
	}
	return true
}
