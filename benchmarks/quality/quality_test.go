package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// TestMain lets the test binary be the child that is killed.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-"+childFlag) {
		main()
		return
	}
	os.Exit(m.Run())
}

// writeSample makes a directory with two conversations of many turns that use
// the same ids, and a small Cranfield.
func writeSample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var conversations []string
	for _, name := range []string{"conv-1", "conv-11"} {
		var turns []string
		for i := range 200 {
			turns = append(turns, fmt.Sprintf(`{"speaker": "Ann", "dia_id": "D1:%d", "text": "the %s story number%d"}`, i+1, name, i+1))
		}
		conversations = append(conversations, fmt.Sprintf(`{"sample_id": %q, "conversation": {
			"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": [%s]},
			"qa": [{"question": "Which is number7?", "evidence": ["D1:7"], "category": 4}]}`, name, strings.Join(turns, ",")))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "cranfield"), 0o700))
	for name, content := range map[string]string{
		"locomo10.json":           "[" + strings.Join(conversations, ",") + "]",
		"cranfield/cran.all.1400": cranfieldDocuments,
		"cranfield/cran.qry":      cranfieldQueries,
		"cranfield/cranqrel":      cranfieldJudgements,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

// runJSON runs the program and returns what it prints, decoded as any consumer would.
func runJSON(t *testing.T, args ...string) map[string]any {
	t.Helper()
	stdout, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	require.NoError(t, err)
	defer func() { require.NoError(t, stdout.Close()) }()
	require.NoError(t, run(context.Background(), append(args, "-json"), stdout, stdout))
	printed, err := os.ReadFile(stdout.Name())
	require.NoError(t, err)
	var decoded map[string]any
	require.NoError(t, json.Unmarshal(printed, &decoded), string(printed))
	return decoded
}

func at(t *testing.T, decoded map[string]any, path ...string) any {
	t.Helper()
	var value any = decoded
	for _, key := range path {
		object, isObject := value.(map[string]any)
		require.True(t, isObject, "%v", path)
		require.Contains(t, object, key)
		value = object[key]
	}
	return value
}

func TestRunOnSample(t *testing.T) {
	result := runJSON(t, "-data", writeSample(t), "-seed", "7")
	require.InDelta(t, 1.0, at(t, result, "locomo", "turn", "all", "R@5"), 0)
	require.InDelta(t, 2.0, at(t, result, "locomo", "turn", "category4", "n"), 0)
	require.InDelta(t, 1.0, at(t, result, "locomo", "session", "tuning", "MRR@10"), 0)
	require.InDelta(t, 0.0, at(t, result, "locomo", "foreign_hits"), 0)
	require.InDelta(t, 2.0, at(t, result, "cranfield", "all", "n"), 0)
	require.InDelta(t, 0.75, at(t, result, "cranfield", "all", "R@5"), 1e-12, "one of two, the other has no words; one of one")
	require.Equal(t, true, at(t, result, "restart_identical"))
	require.Equal(t, true, at(t, result, "sigkill_identical"))
	require.InDelta(t, 7.0, at(t, result, "sigkill", "seed"), 0)
	require.InDelta(t, 0.0, at(t, result, "sigkill", "lost"), 0)
	acknowledged := at(t, result, "sigkill", "acknowledged_before_kill")
	require.GreaterOrEqual(t, at(t, result, "sigkill", "found_after_kill"), acknowledged)
	require.GreaterOrEqual(t, acknowledged, at(t, result, "sigkill", "kill_after"))

	require.Equal(t, []any{1.0, 1.0}, at(t, result, "intervals", "locomo", "turn", "all", "R@10"))
	require.Contains(t, at(t, result, "intervals", "locomo", "session"), "tuning_category4")
	require.Contains(t, at(t, result, "intervals", "cranfield", "all"), "nDCG@10")
	require.Contains(t, at(t, result, "reliability", "locomo", "tuning"), "ece")
	require.Len(t, at(t, result, "reliability", "cranfield", "all", "bins"), 10)
	for _, figure := range []string{
		"memories_per_second", "heap_bytes_per_memory_written", "heap_bytes_per_memory_woken",
		"disk_bytes_per_memory", "journal_bytes", "text_bytes",
	} {
		require.Positive(t, at(t, result, "cost", figure), figure)
	}
	require.Positive(t, at(t, result, "cost", "recall_locomo", "p50_us"))
	require.GreaterOrEqual(t, at(t, result, "cost", "recall_locomo", "p99_us"), at(t, result, "cost", "recall_locomo", "p50_us"))
	require.InDelta(t, 2.0, at(t, result, "cost", "recall_cranfield", "n"), 0)
	require.Equal(t, at(t, result, "ablation", "questions"), at(t, result, "ablation", "reference_agrees"))
	rows, isList := at(t, result, "ablation", "rows").([]any)
	require.True(t, isList)
	require.Len(t, rows, len(variants()))
	whole, isObject := rows[0].(map[string]any)
	require.True(t, isObject)
	require.InDelta(t, at(t, result, "locomo", "turn", "all", "R@10"), at(t, whole, "turn", "all"), 0)
	require.Equal(t, []any{0.0, 0.0}, at(t, whole, "turn_gain"))
	require.Equal(t, []any{0.0, 0.0}, at(t, whole, "cranfield_gain"))
}

// What another conversation has under the same id is a foreign hit.
func TestAskFindsForeignHits(t *testing.T) {
	ctx := context.Background()
	require.NoError(t, withRegistry(t.TempDir(), func(registry *engram.Registry) error {
		space, err := registry.Create(ctx, "mine", engram.SpaceConfig{})
		require.NoError(t, err)
		_, err = space.RememberBatch(ctx, []engram.Memory{
			{ID: "1", Content: "my apple"}, {ID: "2", Content: "the apple of another"}, {ID: "3", Content: "an unknown apple"},
		})
		require.NoError(t, err)
		c := collection{
			space:     "mine",
			memories:  []engram.Memory{{ID: "1", Content: "my apple"}, {ID: "2", Content: "my pear"}},
			questions: []question{{text: "apple", gold: goldOf("1"), groups: []string{groupAll}}},
		}
		found, err := c.ask(ctx, space, asText)
		require.NoError(t, err)
		require.Equal(t, 2, found.foreign)
		return nil
	}))
}

func TestLoadDoesNotAcceptOtherContent(t *testing.T) {
	ctx := context.Background()
	require.NoError(t, withRegistry(t.TempDir(), func(registry *engram.Registry) error {
		first := []collection{{space: "one", memories: []engram.Memory{{ID: "1", Content: "apple"}}}}
		require.NoError(t, load(ctx, registry, first))
		require.NoError(t, load(ctx, registry, first), "what is there is left alone")
		other := []collection{{space: "one", memories: []engram.Memory{{ID: "1", Content: "pear"}}}}
		require.Error(t, load(ctx, registry, other))
		return nil
	}))
}

func TestRunTable(t *testing.T) {
	r := &report{
		Locomo: locomoReport{
			Turn: map[string]figures{groupAll: {metricN: 3, "R@10": 0.5}, "category2": {metricN: 1}},
		},
		Sigkill: &crashReport{Seed: 42},
	}
	var table bytes.Buffer
	require.NoError(t, r.writeTable(&table))
	require.Contains(t, table.String(), "LoCoMo turns")
	require.Contains(t, table.String(), "0.500")
	require.Contains(t, table.String(), "category2")
	require.Contains(t, table.String(), "seed 42")
}

func TestUsageHidesTheChild(t *testing.T) {
	var usage bytes.Buffer
	_, err := parseOptions([]string{"-help"}, &usage)
	require.Error(t, err)
	require.Contains(t, usage.String(), "-data")
	require.NotContains(t, usage.String(), childFlag)
	_, err = parseOptions([]string{"-nonsense"}, &usage)
	require.Error(t, err)
	_, err = parseOptions([]string{"extra"}, &usage)
	require.Error(t, err)
}

// The figures that are promised, on the data sets themselves.
func TestRunOnData(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds")
	}
	dir := os.Getenv(dataVariable)
	if dir == "" {
		dir = filepath.Join("..", "..", defaultData) // a test runs in its package's directory
	}
	if _, err := os.Stat(filepath.Join(dir, "locomo10.json")); err != nil {
		t.Skipf("the data sets are not here: %v", err)
	}
	result := runJSON(t, "-data", dir, "-ablate=false")
	require.InDelta(t, 1982.0, at(t, result, "locomo", "turn", "all", "n"), 0)
	require.InDelta(t, 1982.0, at(t, result, "locomo", "session", "all", "n"), 0)
	require.InDelta(t, 225.0, at(t, result, "cranfield", "all", "n"), 0)
	require.GreaterOrEqual(t, at(t, result, "locomo", "turn", "all", "R@10"), 0.74)
	require.GreaterOrEqual(t, at(t, result, "cranfield", "all", "R@10"), 0.40)
	require.InDelta(t, 0.0, at(t, result, "locomo", "foreign_hits"), 0)
	require.Equal(t, true, at(t, result, "restart_identical"))
	require.Equal(t, true, at(t, result, "sigkill_identical"))
}
