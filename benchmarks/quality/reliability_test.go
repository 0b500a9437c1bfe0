package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReliabilityByHand(t *testing.T) {
	c := &collection{questions: []question{
		{gold: goldOf("a"), groups: []string{groupAll, groupHeldOut}},
		{gold: goldOf("x"), groups: []string{groupAll}},
	}}
	got := reliabilityOf(answers{collection: c, rankings: []ranking{
		{ids: []string{"a", "b"}, confidences: []float64{0.85, 0.05}},
		{ids: []string{"c", "d"}, confidences: []float64{0.89, 1}},
	}})
	all := got[groupAll]
	require.Equal(t, reliabilityBin{Recollections: 1, Confidence: 0.05}, all.Bins[0])
	require.Equal(t, 2, all.Bins[8].Recollections)
	require.InDelta(t, 0.87, all.Bins[8].Confidence, 1e-12)
	require.InDelta(t, 0.5, all.Bins[8].Answers, 1e-12)
	require.Equal(t, reliabilityBin{Recollections: 1, Confidence: 1}, all.Bins[9], "1 is in the last bin")
	require.InDelta(t, (0.05+2*0.37+1)/4, all.Error, 1e-12)
	require.InDelta(t, (0.05+0.15)/2, got[groupHeldOut].Error, 1e-12)
}

// Only what a recall returns by default counts.
func TestReliabilityDepth(t *testing.T) {
	var long ranking
	for range 3 * reliabilityDepth {
		long.ids, long.confidences = append(long.ids, "a"), append(long.confidences, 0.5)
	}
	c := &collection{questions: []question{{gold: goldOf("a"), groups: []string{groupAll}}}}
	got := reliabilityOf(answers{collection: c, rankings: []ranking{long}})
	require.Equal(t, reliabilityDepth, got[groupAll].Bins[5].Recollections)
}

func TestReliabilityOfNothing(t *testing.T) {
	c := &collection{questions: []question{{gold: goldOf("a"), groups: []string{groupAll}}}}
	require.Zero(t, *reliabilityOf(answers{collection: c, rankings: []ranking{{}}})[groupAll])
}

func TestDiagram(t *testing.T) {
	r := &reliability{Error: 0.0123}
	r.Bins[2] = reliabilityBin{Recollections: 4, Confidence: 0.25, Answers: 0.75}
	var svg strings.Builder
	require.NoError(t, r.writeDiagram(&svg, "held out"))
	require.Equal(t, 1, strings.Count(svg.String(), "<circle"), "empty bins are not drawn")
	require.Contains(t, svg.String(), "held out")
	require.Contains(t, svg.String(), "0.012")
	// 0.25 and 0.75 of 240 from the lower left corner of the axes.
	require.Contains(t, svg.String(), `cx="100" cy="80"`)
}
