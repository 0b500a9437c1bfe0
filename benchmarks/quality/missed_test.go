package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// Of two questions one finds its session, the other one of its two: what it
// misses shares one term with it.
func TestMissedSessions(t *testing.T) {
	c := &collection{
		memories: []engram.Memory{
			{ID: "1", Content: "Ann: a sunrise", Episode: "one"},
			{ID: "2", Content: "Ann: an apple orchard", Episode: "two"},
			{ID: "3", Content: "Ann: apples, apples", Episode: "two"},
		},
		questions: []question{
			{text: "Whose sunrise?", gold: goldOf("1"), groups: []string{groupAll, groupTuning, "category4", "tuning_category4"}},
			{text: "Has Ann apples at sunrise?", gold: goldOf("1", "2", "3"), groups: []string{groupAll, groupTuning, "category1", "tuning_category1"}},
			{text: "Another half?", gold: goldOf("1"), groups: []string{groupAll, groupHeldOut, "category1"}},
		},
	}
	a := answers{collection: c, rankings: []ranking{{ids: []string{"1"}}, {ids: []string{"1"}}, {}}}
	require.Equal(t, missedReport{
		Missed: 0.25, Categories: map[string]float64{"category1": 1}, Terms: [4]float64{0, 1, 0, 0},
	}, missedSessions([]answers{a}, groupTuning))
	require.InDelta(t, 1, missedSessions([]answers{a}, groupHeldOut).Terms[0], 0, "nothing in common")
	require.Equal(t, missedReport{Categories: map[string]float64{}}, missedSessions(nil, groupTuning))
}
