package main

import (
	"math/rand/v2"
	"slices"
)

// How often the questions are drawn anew, and from which seed: equal answers give
// equal intervals.
const (
	resamples     = 1000
	bootstrapSeed = 1
)

// interval holds the middle 95 % of a mean over resamples of the questions, as
// many as there are, drawn with repetition (the percentile bootstrap: Efron 1979).
// It tells what depends on which questions were asked. That those of one
// conversation have its texts in common is not in it.
type interval [2]float64

// bootstrap returns the interval of the mean of each column. All columns have a
// value for each question, and each resample is drawn for all of them.
func bootstrap(columns [][]float64) []interval {
	if len(columns) == 0 || len(columns[0]) == 0 {
		return make([]interval, len(columns))
	}
	n := len(columns[0])
	random := rand.New(rand.NewPCG(bootstrapSeed, 0))
	means := make([][]float64, len(columns))
	drawn := make([]int, n)
	for range resamples {
		for i := range drawn {
			drawn[i] = random.IntN(n)
		}
		for c, column := range columns {
			sum := 0.0
			for _, i := range drawn {
				sum += column[i]
			}
			means[c] = append(means[c], sum/float64(n))
		}
	}
	intervals := make([]interval, len(columns))
	for c := range means {
		slices.Sort(means[c])
		const tail = resamples / 40
		intervals[c] = interval{means[c][tail], means[c][resamples-1-tail]}
	}
	return intervals
}

// intervals returns the interval of each group's metrics.
func (s samples) intervals() map[string]map[string]interval {
	all := map[string]map[string]interval{}
	metrics := metricNames()
	for _, group := range s.groups() {
		columns := make([][]float64, len(metrics))
		for c, metric := range metrics {
			columns[c] = s.column(group, metric)
		}
		all[group] = map[string]interval{}
		for c, i := range bootstrap(columns) {
			all[group][metrics[c]] = i
		}
	}
	return all
}

// column is the metric of a group's questions, in their order.
func (s samples) column(group, metric string) []float64 {
	var column []float64
	for _, f := range s.of(group) {
		column = append(column, f[metric])
	}
	return column
}

// gain is the interval of how much more the metric is in s than in base, question
// by question: both are of the same questions.
func (s samples) gain(base samples, group, metric string) interval {
	differences := s.column(group, metric)
	for i, value := range base.column(group, metric) {
		differences[i] -= value
	}
	return bootstrap([][]float64{differences})[0]
}
