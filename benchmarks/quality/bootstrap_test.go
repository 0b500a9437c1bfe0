package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Half of many questions are answered: the mean's standard error is .5/sqrt(400),
// and the interval reaches 1.96 of it to either side.
func TestBootstrapIsAsWideAsTheNormalInterval(t *testing.T) {
	half, all := make([]float64, 400), make([]float64, 400)
	for i := range half {
		half[i], all[i] = float64(i%2), 1
	}
	got := bootstrap([][]float64{half, all})
	require.InDelta(t, 0.5-1.96*0.025, got[0][0], 0.008)
	require.InDelta(t, 0.5+1.96*0.025, got[0][1], 0.008)
	require.Equal(t, interval{1, 1}, got[1])
	require.Equal(t, got, bootstrap([][]float64{half, all}), "the seed is fixed")
}

func TestBootstrapOfNothing(t *testing.T) {
	require.Empty(t, bootstrap(nil))
	require.Equal(t, []interval{{}}, bootstrap([][]float64{nil}))
}

func TestIntervalsHoldTheMeans(t *testing.T) {
	var s samples
	for i := range 60 {
		gold := goldOf("a")
		if i%3 == 0 {
			gold = goldOf("z")
		}
		groups := []string{groupAll}
		if i < 10 {
			groups = append(groups, groupTuning)
		}
		s = append(s, sample{score([]string{"a", "b"}, gold), groups})
	}
	means, intervals := s.means(), s.intervals()
	for group, f := range means {
		for _, metric := range metricNames() {
			require.LessOrEqual(t, intervals[group][metric][0], f[metric])
			require.GreaterOrEqual(t, intervals[group][metric][1], f[metric])
		}
	}
	width := func(group string) float64 { i := intervals[group]["R@10"]; return i[1] - i[0] }
	require.Greater(t, width(groupTuning), width(groupAll), "fewer questions say less")
}

// A difference that every question shows is certain, however much the questions
// differ from each other.
func TestGainIsPaired(t *testing.T) {
	var base, better samples
	for i := range 50 {
		value := float64(i%2) / 2
		base = append(base, sample{figures{"R@10": value}, []string{groupAll}})
		better = append(better, sample{figures{"R@10": value + 0.25}, []string{groupAll}})
	}
	require.Equal(t, interval{0.25, 0.25}, better.gain(base, groupAll, "R@10"))
	require.Equal(t, interval{-0.25, -0.25}, base.gain(better, groupAll, "R@10"))
}
