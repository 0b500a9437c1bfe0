package main

import (
	"fmt"
	"math"
	"slices"
)

// rankCut is the rank below which nDCG and MRR see nothing.
const rankCut = 10

// The names of the metrics, as keys of figures. R@k and any@k have one for each
// depth.
const (
	metricN    = "n"
	metricNDCG = "nDCG@10"
	metricMRR  = "MRR@10"
)

// depths are the ranks k of R@k and any@k.
func depths() []int { return []int{5, 10, 20, 50} }

func metricRecall(depth int) string { return fmt.Sprintf("R@%d", depth) }

func metricAny(depth int) string { return fmt.Sprintf("any@%d", depth) }

// metricNames are all but n, in the order of the table.
func metricNames() []string {
	var names []string
	for _, depth := range depths() {
		names = append(names, metricRecall(depth))
	}
	for _, depth := range depths() {
		names = append(names, metricAny(depth))
	}
	return append(names, metricMRR, metricNDCG)
}

// figures are metrics by name.
type figures map[string]float64

// score is the figures of one ranking. Relevance is binary.
//
//   - R@k, strict: the share of gold among the first k
//   - any@k: 1 if any gold is among the first k, else 0
//   - nDCG@10: the gain 1/log2(rank+1) of the gold found, against that of gold
//     at the top (Järvelin and Kekäläinen 2002)
//   - MRR@10: 1/rank of the first gold, 0 beyond rank 10
func score(ranked []string, gold map[string]bool) figures {
	f := figures{metricN: 1, metricNDCG: 0, metricMRR: 0}
	for _, depth := range depths() {
		found := 0
		for _, id := range ranked[:min(depth, len(ranked))] {
			if gold[id] {
				found++
			}
		}
		f[metricRecall(depth)] = float64(found) / float64(len(gold))
		f[metricAny(depth)] = math.Min(float64(found), 1)
	}
	ideal, gained := 0.0, 0.0
	for rank := 1; rank <= rankCut; rank++ {
		gain := 1 / math.Log2(float64(rank)+1)
		if rank <= len(gold) {
			ideal += gain
		}
		if rank <= len(ranked) && gold[ranked[rank-1]] {
			gained += gain
			if f[metricMRR] == 0 {
				f[metricMRR] = 1 / float64(rank)
			}
		}
	}
	f[metricNDCG] = gained / ideal
	return f
}

// sample is one question's figures, and the groups that they count in.
type sample struct {
	figures figures
	groups  []string
}

// samples are the figures of a data set's questions, in their order.
type samples []sample

// of returns the figures of a group's questions, in their order.
func (s samples) of(group string) []figures {
	var list []figures
	for _, one := range s {
		if slices.Contains(one.groups, group) {
			list = append(list, one.figures)
		}
	}
	return list
}

// groups are the names of all groups, in the order of their first questions.
func (s samples) groups() []string {
	var names []string
	for _, one := range s {
		for _, group := range one.groups {
			if !slices.Contains(names, group) {
				names = append(names, group)
			}
		}
	}
	return names
}

// means are the means over the questions of each group; n is their number.
func (s samples) means() map[string]figures {
	means := map[string]figures{}
	for _, group := range s.groups() {
		sums := figures{}
		for _, f := range s.of(group) {
			for metric, value := range f {
				sums[metric] += value
			}
		}
		means[group] = figures{}
		for metric, sum := range sums {
			means[group][metric] = sum / sums[metricN]
		}
		means[group][metricN] = sums[metricN]
	}
	return means
}

// firstAppearances maps each ranked id to its container, and keeps of each
// container the first: the ranking of sessions that a ranking of turns makes.
func firstAppearances(ranked []string, containers map[string]string) []string {
	var order []string
	seen := map[string]bool{}
	for _, id := range ranked {
		if container := containers[id]; !seen[container] {
			seen[container] = true
			order = append(order, container)
		}
	}
	return order
}
