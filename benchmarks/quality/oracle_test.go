package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/benchmarks/quality/oracle"
)

// realData returns the directory of the data sets. They are not part of the
// project: without them the test is skipped.
func realData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(dataVariable)
	if dir == "" {
		dir = filepath.Join("..", "..", defaultData)
	}
	if _, err := os.Stat(filepath.Join(dir, "locomo10.json")); err != nil {
		t.Skipf("%s does not name the data sets: %v", dataVariable, err)
	}
	return dir
}

// askOracle asks the reference implementation a collection's questions.
func askOracle(c *collection) (a answers, found [][]oracle.Recollection) {
	space := oracle.New(c.memories)
	a = answers{collection: c}
	for _, q := range c.questions {
		recollections := space.Recall(q.text)
		var r ranking
		for _, recollection := range recollections {
			r.ids = append(r.ids, recollection.Memory.ID)
			r.activations = append(r.activations, recollection.Score/recollection.Bound)
		}
		a.rankings = append(a.rankings, r)
		found = append(found, recollections)
	}
	return a, found
}

// The reference implementation reaches what it was chosen for. Run with -v it
// prints all figures.
func TestOracleOnData(t *testing.T) {
	dir := realData(t)
	locomo, err := readLocomo(dir)
	require.NoError(t, err)
	cranfield, err := readCranfield(dir)
	require.NoError(t, err)

	var all []answers
	var heldOut calibration
	for i := range locomo {
		a, found := askOracle(&locomo[i])
		if i >= locomoTuning {
			heldOut.add(&locomo[i], found)
		}
		for _, r := range a.rankings {
			require.LessOrEqual(t, r.activations[0], 1.0, "nothing exceeds its bound")
		}
		all = append(all, a)
	}
	documents, _ := askOracle(&cranfield)
	result := newReport(all, documents)
	result.Sigkill = &crashReport{}
	var table strings.Builder
	require.NoError(t, result.writeTable(&table))
	figures, _, _ := strings.Cut(table.String(), "\n\n")
	t.Log("\n" + figures)

	t.Log("\n" + heldOut.String())

	require.Less(t, heldOut.error(), 0.01)
	require.GreaterOrEqual(t, result.Locomo.Turn[groupAll][metricRecall(10)], 0.82)
	require.GreaterOrEqual(t, result.Locomo.Turn[groupHeldOut][metricRecall(10)], 0.815)
	require.GreaterOrEqual(t, result.Locomo.Turn[categoryGroup(1)][metricRecall(10)], 0.46)
	require.GreaterOrEqual(t, result.Cranfield[groupAll][metricNDCG], 0.42)
}

// calibration counts how often recollections of a confidence are answers.
type calibration [10]struct{ n, confidence, answers float64 }

// calibrationDepth is how many recollections of an answer are counted.
const calibrationDepth = 20

func (b *calibration) add(c *collection, found [][]oracle.Recollection) {
	for i, recollections := range found {
		for _, r := range recollections[:min(calibrationDepth, len(recollections))] {
			bin := &b[min(int(r.Confidence*10), 9)]
			bin.n++
			bin.confidence += r.Confidence
			if c.questions[i].gold[r.Memory.ID] {
				bin.answers++
			}
		}
	}
}

// error is the expected calibration error: the distance of confidence from the
// share of answers, over all.
func (b *calibration) error() float64 {
	n, distance := 0.0, 0.0
	for _, bin := range b {
		n += bin.n
		distance += math.Abs(bin.confidence - bin.answers)
	}
	return distance / n
}

func (b *calibration) String() string {
	var table strings.Builder
	table.WriteString("held out: confidence, share of answers, recollections\n")
	for _, bin := range b {
		fmt.Fprintf(&table, "%.3f %.3f %5.0f\n", bin.confidence/bin.n, bin.answers/bin.n, bin.n)
	}
	return table.String()
}
