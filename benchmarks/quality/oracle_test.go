package main

import (
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

// The reference implementation reaches what it was chosen for. Run with -v it
// prints all figures.
func TestOracleOnData(t *testing.T) {
	dir := realData(t)
	collections, err := readLocomo(dir)
	require.NoError(t, err)
	cranfield, err := readCranfield(dir)
	require.NoError(t, err)

	all := askReference(append(collections, cranfield), oracle.Chosen())
	for _, a := range all {
		for _, r := range a.rankings {
			require.LessOrEqual(t, r.activations[0], 1.0, "nothing exceeds its bound")
		}
	}
	result := newReport(all)
	result.Sigkill = &crashReport{}
	var table strings.Builder
	require.NoError(t, result.writeTable(&table))
	t.Log("\n" + table.String())

	require.Less(t, result.Reliability.Locomo[groupHeldOut].Error, 0.02)
	require.GreaterOrEqual(t, result.Locomo.Turn[groupAll][metricRecall(10)], 0.825)
	require.GreaterOrEqual(t, result.Locomo.Turn[groupHeldOut][metricRecall(10)], 0.82)
	require.GreaterOrEqual(t, result.Locomo.Turn[categoryGroup(1)][metricRecall(10)], 0.485)
	require.GreaterOrEqual(t, result.Cranfield[groupAll][metricNDCG], 0.42)
}
