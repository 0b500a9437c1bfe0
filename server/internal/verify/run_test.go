package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
)

// embedded is a configuration for a new directory, as small as it gets.
func embedded(t *testing.T) Config {
	t.Helper()
	return Config{
		Dir: filepath.Join(t.TempDir(), "data"), Spaces: MinSpaces, Seed: 7, Child: writerChild, Command: "engram verify",
	}
}

// requirePassed requires that all was tried and holds. What is measured may warn.
func requirePassed(t *testing.T, report Report, err error) {
	t.Helper()
	require.NoError(t, err)
	for _, result := range report.Assertions {
		require.NotEqual(t, Failed, result.Verdict, "%s: %s", result.Name, result.Failures)
		if result.Verdict != Skipped {
			require.Positive(t, result.Count, result.Name)
		}
	}
	require.Equal(t, Passed, report.Verdict)
}

// outline is what the same seed must give again.
func outline(report Report) []Result {
	var outline []Result
	for _, r := range report.Assertions {
		outline = append(outline, Result{Name: r.Name, Claim: r.Claim, Count: r.Count, Reproduce: r.Reproduce, Failed: r.Failed})
	}
	return outline
}

func TestEmbeddedPassesAndRepeats(t *testing.T) {
	t.Parallel()
	config := embedded(t)
	first, err := Run(t.Context(), only(config, "^library/[^n]")) // noise is for the server
	requirePassed(t, first, err)
	require.Zero(t, first.Totals.Skipped)
	second, err := Run(t.Context(), only(config, "isolation|events|kill"))
	requirePassed(t, second, err)
	requireRepeated(t, first, second)

	config.Seed++
	other, err := Run(t.Context(), only(config, "interleaved|sequence"))
	requirePassed(t, other, err)
	require.NotEqual(t, find(t, first, "library/events/sequence").Count, find(t, other, "library/events/sequence").Count)
}

func TestServerPassesAndRepeats(t *testing.T) {
	t.Parallel()
	gate, shown := keys(t)
	s := serve(t, server.Options{Auth: gate}, nil)
	s.config.Keys = shown
	_, err := s.registry.Create(t.Context(), "verify-of-somebody", engram.SpaceConfig{})
	require.NoError(t, err)
	first, err := Run(t.Context(), only(s.config, "^http/|^grpc/[^n]|^mcp/")) // one noise is enough
	requirePassed(t, first, err)
	require.Equal(t, []engram.SpaceID{"verify-of-somebody"}, s.spaces())
	for _, result := range first.Assertions { // nothing can restart this server
		require.Equal(t, strings.Contains(result.Name, "/durability/"), result.Verdict == Skipped, result.Name)
	}
	second, err := Run(t.Context(), only(s.config, "isolation|events|keys"))
	requirePassed(t, second, err)
	requireRepeated(t, first, second)
}

// requireRepeated requires that a second run is the first one, or a part of it.
func requireRepeated(t *testing.T, first, second Report) {
	t.Helper()
	for _, again := range outline(second) {
		require.Contains(t, outline(first), again)
	}
}

// TestEveryAssertionIsListed holds the table together: names are unique over each
// transport, and the documentation has each of them.
func TestEveryAssertionIsListed(t *testing.T) {
	text, err := os.ReadFile("../../../docs/verify.md")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, a := range assertions() {
		require.Contains(t, string(text), "`"+a.name+"`")
		key := a.name
		for need, over := range map[need]string{needHTTP: overHTTP, needGRPC: overGRPC, needMCP: overMCP} {
			if a.needs&need != 0 {
				key += " " + over
			}
		}
		require.False(t, seen[key], key)
		seen[key] = true
	}
}

// TestForeignSpacesAreLeftAlone: a space that has the id which the run would take
// ends it, and stays as it is.
func TestForeignSpacesAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{}, nil)
	const taken = "verify-taken-5-aaab" // behind a look over each transport and the stage
	space, err := s.registry.Create(t.Context(), taken, engram.SpaceConfig{})
	require.NoError(t, err)
	_, err = space.Remember(t.Context(), engram.Memory{ID: "mine", Content: "Nobody else's."})
	require.NoError(t, err)
	s.config.nonce = "taken"
	report, err := Run(t.Context(), only(s.config, "http/isolation/(lookup|interleaved)"))
	require.ErrorIs(t, err, ErrNotOurs)
	require.Equal(t, Incomplete, report.Verdict)
	require.Contains(t, report.Error, taken)
	require.Equal(t, []engram.SpaceID{taken}, s.spaces())
	m, err := space.Lookup(t.Context(), "mine")
	require.NoError(t, err)
	require.Equal(t, "Nobody else's.", m.Content)
}

// TestOnlyOwnSpacesAreRemoved asks the ledger directly.
func TestOnlyOwnSpacesAreRemoved(t *testing.T) {
	t.Parallel()
	over, err := openLibrary(filepath.Join(t.TempDir(), "data"))
	require.NoError(t, err)
	defer func() { require.NoError(t, over.Close()) }()
	require.NoError(t, over.create(t.Context(), "verify-other"))
	s := newSpaces(roles{}, "own")
	require.ErrorIs(t, s.create(t.Context(), over, "verify-other"), ErrNotOurs)
	require.ErrorIs(t, s.remove(t.Context(), over, "verify-other"), ErrNotOurs)
	require.ErrorIs(t, s.rename(t.Context(), over, "verify-other", "verify-new"), ErrNotOurs)
	made, err := s.make(t.Context(), over, 2)
	require.NoError(t, err)
	require.ErrorIs(t, s.rename(t.Context(), over, made[0].ID(), "verify-other"), ErrNotOurs)
	left, err := s.cleanUp(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
	ids, err := collect(over.Spaces(t.Context(), ""))
	require.NoError(t, err)
	require.Equal(t, []engram.SpaceID{"verify-other"}, ids)
}

// TestInterruptedRunCleansUp ends a run after its second assertion.
func TestInterruptedRunCleansUp(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{}, nil)
	ctx, interrupt := context.WithCancel(t.Context())
	tried := 0
	s.config.Progress = func(Result) {
		require.NotEmpty(t, s.spaces())
		if tried++; tried == 2 {
			interrupt()
		}
	}
	report, err := Run(ctx, s.config)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, Incomplete, report.Verdict)
	require.Empty(t, report.LeftBehind)
	require.Empty(t, s.spaces())
}

// TestFailuresBeforeAnEarlyEndCount: an assertion that is cut short has failed where a
// comparison had, but not by what fails because it is cut short.
func TestFailuresBeforeAnEarlyEndCount(t *testing.T) {
	t.Parallel()
	r := &run{config: Config{}.withDefaults()}
	for _, end := range []error{context.Canceled, ErrNotOurs} {
		for _, holds := range []bool{false, true} {
			ctx, interrupt := context.WithCancel(t.Context())
			var result Result
			err := r.try(ctx, assertion{try: func(_ context.Context, c *check) error {
				c.that(holds, "it does not hold")
				if errors.Is(end, context.Canceled) {
					interrupt()
					c.that(false, "nothing answers")
				}
				return end
			}}, &result, &check{})
			interrupt()
			require.ErrorIs(t, err, end)
			if holds {
				require.Equal(t, Skipped, result.Verdict)
				require.NotEmpty(t, result.Reason)
				continue
			}
			require.Equal(t, Failed, result.Verdict, end)
			require.Equal(t, []string{"it does not hold"}, result.Failures)
			require.Equal(t, 1, result.Failed)
		}
	}
}

// TestChildrenThatEndByThemselvesAreNotKilled, whatever they end with.
func TestChildrenThatEndByThemselvesAreNotKilled(t *testing.T) {
	t.Parallel()
	config := only(embedded(t), "durability/kill")
	config.Child = func(WriterOrder) (*exec.Cmd, error) {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), asWriter+"="+noWriter)
		return child, nil
	}
	report, err := Run(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, Failed, report.Verdict)
	require.Contains(t, find(t, report, "library/durability/kill").Failures[0], "not killed")
}

// TestKillsKeepOffForeignSpaces: in a directory that is somebody's, nothing is killed.
func TestKillsKeepOffForeignSpaces(t *testing.T) {
	t.Parallel()
	config := embedded(t)
	over, err := openLibrary(config.Dir)
	require.NoError(t, err)
	require.NoError(t, over.create(t.Context(), "somebodys"))
	require.NoError(t, over.Close())
	report, err := Run(t.Context(), only(config, "kill|isolation/lookup"))
	requirePassed(t, report, err)
	require.Equal(t, Skipped, find(t, report, "library/durability/kill").Verdict)
}

func TestRestartOfAServerIsTried(t *testing.T) {
	t.Parallel()
	s := serve(t, server.Options{}, nil)
	restarts := 0
	s.config.Restart = func(context.Context) error { restarts++; return nil }
	report, err := Run(t.Context(), only(s.config, "durability"))
	requirePassed(t, report, err)
	require.Zero(t, report.Totals.Skipped)
	require.Positive(t, restarts)
	s.config.Restart = func(context.Context) error { return errors.New("no unit of that name") }
	report, err = Run(t.Context(), only(s.config, "http/durability/retry"))
	require.NoError(t, err)
	require.Contains(t, strings.Join(find(t, report, "http/durability/retry").Failures, ""), "no unit of that name")
}

func TestRoundsAddUp(t *testing.T) {
	t.Parallel()
	config := only(embedded(t), "isolation/lookup")
	once, err := Run(t.Context(), config)
	requirePassed(t, once, err)
	config.Duration = 1 // a nanosecond: whole rounds until it has passed
	again, err := Run(t.Context(), config)
	requirePassed(t, again, err)
	require.Equal(t, outline(once), outline(again))

	report := newReport(config.withDefaults())
	for round, verdict := range []Verdict{Passed, Failed, Warned} {
		report.add(Result{Name: "a", Verdict: verdict, Count: 2, Reproduce: string(rune('0' + round)), Failures: []string{}})
	}
	require.Len(t, report.Assertions, 1)
	require.Equal(t, Result{Name: "a", Verdict: Failed, Count: 6, Reproduce: "1", Failures: []string{}}, report.Assertions[0])
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]Config{
		"nothing":             {},
		"both":                {Dir: "x", Addr: "http://127.0.0.1:1"},
		"too few spaces":      {Dir: "x", Spaces: 2},
		"too many spaces":     {Dir: "x", Spaces: MaxSpaces + 1},
		"keys and no server":  {Dir: "x", Keys: []Key{{Key: "k"}}},
		"negative":            {Dir: "x", Duration: -1},
		"no such name":        only(embedded(t), "nothing-is-called-so"),
		"no server":           {Addr: "http://127.0.0.1:1"},
		"tools and no server": {Dir: "x", MCPAddr: "http://127.0.0.1:1/mcp"},
		"no address of tools": {Addr: "http://127.0.0.1:1", MCPAddr: "127.0.0.1:1"},
	} {
		report, err := Run(t.Context(), config)
		require.ErrorIs(t, err, ErrConfig, name)
		require.Equal(t, Incomplete, report.Verdict, name)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", `{"id":"a","scopes":["verify-*:read"]}`, `{"key":"k","scopes":["*"]}`} {
		_, err := ParseKeys(strings.NewReader(text))
		require.ErrorIs(t, err, ErrConfig, text)
	}
	parse := func(scopes ...string) []Key {
		var text strings.Builder
		for i, scope := range scopes {
			text.WriteString(`{"id":"x","key":"k` + string(rune('0'+i)) + `","scopes":["` + scope + `"],"status":"active"}` + "\n")
		}
		keys, err := ParseKeys(strings.NewReader(text.String()))
		require.NoError(t, err)
		return keys
	}
	_, err := rolesOf(parse("verify-*:read,write", "alice:read,write,admin"))
	require.ErrorIs(t, err, ErrConfig)
	// A tenant that sees the run's own spaces is none, nor is one of a single space.
	got, err := rolesOf(parse("team-*:read", "team-*:read,write,admin", "team-v*:read", "team-a-*:read", "team-b:read", "other-*:read", "team-c*:write"))
	require.NoError(t, err)
	require.Equal(t, "k1", got.operator)
	require.Equal(t, "team-", got.prefix)
	require.Len(t, got.tenants, 1)
	require.Equal(t, "team-a-", got.tenants[0].prefix)
}

// A run that goes on for hours asks as a stranger in each round.
func TestStrangersAreNotKept(t *testing.T) {
	t.Parallel()
	gate, shown := keys(t)
	s := serve(t, server.Options{Auth: gate}, nil)
	s.config.Keys = shown
	r := &run{config: s.config.withDefaults()}
	require.NoError(t, r.open(t.Context()))
	set, err := buildStage(t.Context(), r.spaces, r.transports[0], 1, MinSpaces)
	require.NoError(t, err)
	kept := len(r.closers)
	c := &check{run: r, over: r.transports[0], stage: set, random: randomOf(1, "strangers")}
	require.NoError(t, tryStrangers(t.Context(), c))
	require.Positive(t, c.count)
	require.Zero(t, c.failed)
	require.Len(t, r.closers, kept)
	_, err = r.spaces.cleanUp(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.close())
}

// The run's own spaces are none that a tenant sees.
func TestTenantsDoNotSeeTheRunsSpaces(t *testing.T) {
	t.Parallel()
	var tenants []tenantKey
	for _, first := range "abcdefghijklmnop" { // half of what an id may go on with
		tenants = append(tenants, tenantKey{prefix: "team-verify-" + string(first)})
	}
	for range 100 {
		spaces := newSpaces(roles{prefix: "team-", tenants: tenants}, "")
		for _, tenant := range tenants {
			require.False(t, strings.HasPrefix(spaces.prefix, tenant.prefix), spaces.prefix)
		}
	}
}

// A suite has all test cases of its name, and their time, in whichever order they
// were tried.
func TestJUnitSuites(t *testing.T) {
	t.Parallel()
	var report Report
	for _, name := range []string{"mcp/isolation/list", "mcp/events/foreign-cursor", "mcp/isolation/foreign-memory"} {
		report.add(Result{Name: name, Verdict: Passed, Milliseconds: 1000})
	}
	var text bytes.Buffer
	require.NoError(t, report.WriteJUnit(&text))
	var suites junitSuites
	require.NoError(t, xml.Unmarshal(text.Bytes(), &suites))
	require.Len(t, suites.Suites, 2)
	require.Equal(t, "mcp/isolation", suites.Suites[0].Name)
	require.Len(t, suites.Suites[0].Cases, 2)
	require.Equal(t, "2.000", suites.Suites[0].Time)
	require.Equal(t, "1.000", suites.Suites[1].Time)
}

// schemaOf resolves the schema that is documented.
func schemaOf(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	text, err := os.ReadFile("../../../docs/verify-report.schema.json")
	require.NoError(t, err)
	var schema jsonschema.Schema
	require.NoError(t, json.Unmarshal(text, &schema))
	resolved, err := schema.Resolve(nil)
	require.NoError(t, err)
	return resolved
}

// TestReportsFitTheirSchema, of runs that passed, failed and did not begin.
func TestReportsFitTheirSchema(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t)
	config := only(embedded(t), "library/(isolation/lookup|durability/kill|noise)")
	passed, err := Run(t.Context(), config)
	requirePassed(t, passed, err)
	config.Child = nil
	skipped, err := Run(t.Context(), config)
	require.NoError(t, err)
	unbegun, err := Run(t.Context(), Config{})
	require.Error(t, err)
	failed := passed
	failed.Assertions = []Result{{
		Name: "library/a/b", Transport: overLibrary, Claim: "c", Verdict: Failed, Count: 1, Failures: []string{"<script>"}, Failed: 1, Reproduce: "engram verify",
	}}
	failed.Totals = Totals{}
	failed.LeftBehind = []engram.SpaceID{"verify-x"}
	failed.finish(1, nil)
	for _, report := range []Report{passed, skipped, unbegun, failed} {
		var text, junit, page bytes.Buffer
		require.NoError(t, report.WriteJSON(&text))
		var value map[string]any
		require.NoError(t, json.Unmarshal(text.Bytes(), &value))
		require.NoError(t, schema.Validate(value))
		for _, field := range []string{"version", "build", "seed", "assertions", "verdict"} {
			without := map[string]any{}
			require.NoError(t, json.Unmarshal(text.Bytes(), &without))
			delete(without, field)
			require.Error(t, schema.Validate(without), field)
		}
		value["verdict"] = "fine"
		require.Error(t, schema.Validate(value))

		require.NoError(t, report.WriteJUnit(&junit))
		var suites junitSuites
		require.NoError(t, xml.Unmarshal(junit.Bytes(), &suites))
		errored := 0
		if report.Error != "" {
			errored = 1
		}
		require.Equal(t, len(report.Assertions)+errored, suites.Tests)
		require.Equal(t, [3]int{report.Totals.Failed, errored, report.Totals.Skipped}, [3]int{suites.Failures, suites.Errors, suites.Skipped})

		require.NoError(t, report.WriteHTML(&page))
		require.Contains(t, page.String(), string(report.Verdict))
		require.NotContains(t, page.String(), "<script>")
		for _, result := range report.Assertions {
			require.Contains(t, page.String(), result.Name)
		}
	}
}
