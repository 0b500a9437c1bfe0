package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func goldOf(ids ...string) map[string]bool {
	gold := map[string]bool{}
	for _, id := range ids {
		gold[id] = true
	}
	return gold
}

func TestScoreByHand(t *testing.T) {
	ranked := []string{"a", "B", "c", "d", "e", "F", "g", "h", "i", "j", "k", "L"}
	f := score(ranked, goldOf("B", "F", "L", "M"))

	require.InDelta(t, 1.0/4, f["R@5"], 1e-12, "B")
	require.InDelta(t, 2.0/4, f["R@10"], 1e-12, "B and F")
	require.InDelta(t, 3.0/4, f["R@20"], 1e-12, "M is nowhere")
	require.InDelta(t, 3.0/4, f["R@50"], 1e-12)
	require.InDelta(t, 1.0, f["any@5"], 1e-12)
	require.InDelta(t, 1.0/2, f["MRR@10"], 1e-12, "B is second")
	// B at rank 2 and F at rank 6 gain 1/log2(3) and 1/log2(7); four of gold could
	// have gained 1/log2(2) to 1/log2(5).
	gained := 0.6309297535714575 + 0.3562071871080222
	ideal := 1 + 0.6309297535714575 + 0.5 + 0.43067655807339306
	require.InDelta(t, gained/ideal, f["nDCG@10"], 1e-12)
	require.InDelta(t, 1.0, f["n"], 0)
	require.Len(t, f, 11)
}

func TestScoreBounds(t *testing.T) {
	for metric, value := range score([]string{"a", "b", "c"}, goldOf("a", "b", "c")) {
		require.InDelta(t, 1.0, value, 1e-12, metric)
	}
	for metric, value := range score(nil, goldOf("a")) {
		if metric != metricN {
			require.Zero(t, value, metric)
		}
	}
	eleventh := score([]string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "a"}, goldOf("a"))
	require.Zero(t, eleventh[metricMRR])
	require.Zero(t, eleventh[metricNDCG])
	require.InDelta(t, 1.0, eleventh["R@20"], 0)

	// Of more gold than ten, the first ten ranks are all that can be had.
	many := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"}
	require.InDelta(t, 1.0, score(many, goldOf(many...))[metricNDCG], 1e-12)
	require.InDelta(t, 10.0/12, score(many, goldOf(many...))["R@10"], 1e-12)
}

func TestMeans(t *testing.T) {
	s := samples{
		{figures{metricN: 1, "R@5": 1}, []string{groupAll, groupTuning}},
		{figures{metricN: 1, "R@5": 0}, []string{groupAll}},
		{figures{metricN: 1, "R@5": 0.5}, []string{groupAll}},
	}
	require.Equal(t, map[string]figures{
		groupAll:    {metricN: 3, "R@5": 0.5},
		groupTuning: {metricN: 1, "R@5": 1},
	}, s.means())
	require.Equal(t, []string{groupAll, groupTuning}, s.groups())
	require.Empty(t, s.of(groupHeldOut))
}

func TestFirstAppearances(t *testing.T) {
	sessions := map[string]string{"D1:1": "one", "D1:2": "one", "D2:1": "two", "D3:1": "three"}
	require.Equal(t, []string{"two", "one", "three"},
		firstAppearances([]string{"D2:1", "D1:2", "D1:1", "D2:1", "D3:1"}, sessions))
	require.Empty(t, firstAppearances(nil, sessions))
}
