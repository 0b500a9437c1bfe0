package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/benchmarks/quality/oracle"
)

// ablationSample is a conversation whose answer a neighbour gives away, and a
// document beside it.
func ablationSample() []collection {
	start := time.Date(2023, 5, 8, 12, 0, 0, 0, time.UTC)
	conversation := collection{space: "conversation"}
	for i, content := range []string{
		"Ann: the weather is fine", "Bob: did you paint that sunrise?", "Ann: yes, on the beach",
		"Bob: lunch was late. And the sunrise?", "Ann: the train was early", "Bob: my knees hurt", "Ann: see a doctor",
	} {
		conversation.memories = append(conversation.memories, engram.Memory{
			ID: string(rune('a' + i)), Content: content, Episode: "session", Time: start.Add(time.Duration(i) * time.Second),
		})
	}
	conversation.questions = []question{{text: "Who did paint a sunrise?", gold: goldOf("c"), groups: []string{groupAll, groupTuning}}}
	return []collection{conversation, {
		space:     cranfieldSpace,
		memories:  []engram.Memory{{ID: "1", Content: "wings in supersonic flow"}, {ID: "2", Content: "heat in slabs"}},
		questions: []question{{text: "supersonic wings", gold: goldOf("1"), groups: []string{groupAll}}},
	}}
}

// Only the neighbour has the question's words: without neighbours the answer is
// one of several that the episode brings to mind alike.
func TestReferenceWithoutNeighbours(t *testing.T) {
	collections := ablationSample()
	form := oracle.Chosen()
	form.NearShare, form.FarShare, form.QuestionPass = 0, 0, 0
	base, without := newScores(askReference(collections, oracle.Chosen())), newScores(askReference(collections, form))
	require.InDelta(t, 1, base.turns.each(metricMRR)[groupAll], 1e-12, "what follows the question comes before it")
	require.Less(t, without.turns.each(metricMRR)[groupAll], 1.0)
	require.Equal(t, base.documents, without.documents)
	row := newRow("no neighbours", "reference", without, base)
	require.Equal(t, interval{}, row.CranfieldGain)
	require.InDelta(t, 1, row.Session[groupAll], 0)
}

func TestUseOfTheEngine(t *testing.T) {
	collections := ablationSample()
	reference := askReference(collections, oracle.Chosen())
	base := newScores(reference)
	for _, v := range variants() {
		if v.use == nil {
			continue
		}
		if v.change == "nothing" {
			requireSameAnswers(t, collections, reference)
		}
		row, err := v.use.measure(context.Background(), t.TempDir()+"/fresh", v.change, collections, base)
		require.NoError(t, err, v.change)
		require.Equal(t, "engine", row.By)
		require.Equal(t, 1, row.Locomo.N, v.change)
		require.Contains(t, row.MisspeltTurn, groupTuning, v.change)
		require.InDelta(t, 1, row.Session[groupAll], 0, v.change)
	}
	require.Equal(t, "nothing", variants()[0].change)
}

// requireSameAnswers holds the reference to the engine.
func requireSameAnswers(t *testing.T, collections []collection, reference []answers) {
	t.Helper()
	require.NoError(t, withRegistry(t.TempDir(), func(registry *engram.Registry) error {
		require.NoError(t, load(context.Background(), registry, collections))
		engine, err := askAll(context.Background(), registry, collections, asText)
		require.NoError(t, err)
		report := &ablationReport{}
		report.compare(engine, reference)
		require.Equal(t, ablationReport{Agreeing: 2, Questions: 2}, *report)
		return nil
	}))
}

// Sessions are known where the engine is not told of them.
func TestWithSessions(t *testing.T) {
	collections := ablationSample()
	untold := (&use{memory: func(m engram.Memory) engram.Memory { m.Episode = ""; return m }}).changed(collections[0])
	require.Empty(t, untold.memories[0].Episode)
	require.Equal(t, "session", collections[0].memories[0].Episode)
	known := withSessions([]answers{{collection: &untold}}, collections)
	require.Same(t, &collections[0], known[0].collection)
}

func TestClosely(t *testing.T) {
	a := ranking{ids: []string{"1", "2", "3"}, activations: []float64{0.5, 0.25, 0.25}}
	require.True(t, closely(a, a))
	require.True(t, closely(a, ranking{ids: []string{"1", "3", "2"}, activations: []float64{0.5 + 1e-12, 0.25, 0.25}}), "equals in another order")
	for name, other := range map[string]ranking{
		"another memory":     {ids: []string{"1", "2", "4"}, activations: a.activations},
		"another activation": {ids: a.ids, activations: []float64{0.5, 0.25, 0.24}},
		"another order":      {ids: []string{"2", "1", "3"}, activations: a.activations},
		"fewer":              {ids: a.ids[:2], activations: a.activations[:2]},
		"more":               {ids: []string{"1", "2", "3", "4"}, activations: []float64{0.5, 0.25, 0.25, 0.1}},
	} {
		require.False(t, closely(a, other), name)
	}
	report := &ablationReport{}
	c := &collection{}
	report.compare([]answers{{collection: c, rankings: []ranking{a, a}}},
		[]answers{{collection: c, rankings: []ranking{a, {ids: a.ids, activations: []float64{0.6, 0.5, 0.4}}}}})
	require.Equal(t, ablationReport{Agreeing: 1, Questions: 2}, *report)
}

func TestLatencyOf(t *testing.T) {
	var durations []time.Duration
	for i := 101; i > 0; i-- {
		durations = append(durations, time.Duration(i)*time.Microsecond)
	}
	require.Equal(t, latency{N: 101, Mean: 51, P50: 51, P99: 100}, latencyOf(durations))
	require.Equal(t, latency{N: 1, Mean: 7, P50: 7, P99: 7}, latencyOf([]time.Duration{7 * time.Microsecond}))
	require.Zero(t, latencyOf(nil))
}
