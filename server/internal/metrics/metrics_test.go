package metrics

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/engramdb/engram"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code)
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	m := New(func() engram.RegistryStats {
		return engram.RegistryStats{Spaces: 3, Awake: 2, AwakeBytes: 99, Wakings: 5, JournalBytes: 77, Stopped: "x"}
	}, func() UnderWay { return UnderWay{Requests: 5} }, zap.NewNop())
	m.Observe(Request{Transport: "http", Route: "/v1/recall", Status: "200", Space: "alpha", Duration: time.Millisecond})
	m.Observe(Request{Transport: "http", Route: "/v1/recall", Status: "404", Problem: "space-not-found", Fallback: true})
	m.Observe(Request{Transport: "grpc", Route: "/Events", Status: "OK", Space: "alpha", Streamed: true, Duration: time.Hour})
	text := scrape(t, m)
	for _, line := range []string{
		`engram_requests_total{route="/v1/recall",status="200",transport="http"} 1`,
		`engram_requests_total{route="/Events",status="OK",transport="grpc"} 1`,
		`engram_request_duration_seconds_count{route="/v1/recall",transport="http"} 2`,
		`engram_problems_total{problem="space-not-found",transport="http"} 1`,
		`engram_space_fallbacks_total{transport="http"} 1`,
		`engram_space_requests_total{space="_other"} 2`, `engram_space_request_seconds_total{space="_other"} 0.001`,
		`engram_spaces 3`, `engram_spaces_awake 2`, `engram_spaces_awake_bytes 99`, `engram_space_wakings_total 5`, `engram_journal_bytes 77`, `engram_writes_stopped 1`,
		`engram_requests_under_way 5`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.NotContains(t, text, `engram_request_duration_seconds_count{route="/Events"`)
	m.Observe(Request{Transport: "http", Route: "/v1/recall", Status: "200", Space: "alpha"})
	require.Contains(t, scrape(t, m), `engram_space_requests_total{space="alpha"} 1`+"\n")
}

// TestBusiestIsBoundedAndNeverFalls sends requests of ever new spaces beside those of
// steady ones, and of ones that are busy for a while, and adds everything up.
func TestBusiestIsBoundedAndNeverFalls(t *testing.T) {
	m := New(func() engram.RegistryStats { return engram.RegistryStats{} }, func() UnderWay { return UnderWay{} }, zap.NewNop())
	b := newBusiest(3)
	m.registry.Unregister(m.spaces)
	m.spaces = b
	m.registry.MustRegister(b)
	var sent, others spaceCounts
	for round := range 20 {
		for i := range 200 {
			b.observe(engram.SpaceID(fmt.Sprintf("steady-%d", i%2)), false, 0)
			b.observe(engram.SpaceID(fmt.Sprintf("passing-%d-%d", round, i)), true, 0)
			b.observe(engram.SpaceID(fmt.Sprintf("wave-%d", round/4)), true, time.Second)
			sent.requests += 3
			sent.problems += 2
			sent.seconds++
		}
		require.LessOrEqual(t, len(b.recent), 3*candidatesPerLabel)
		text := scrape(t, m)
		require.LessOrEqual(t, strings.Count(text, "engram_space_requests_total{"), 4)
		require.Empty(t, b.recent)
		sum := b.others
		for _, counts := range b.labelled {
			sum.requests += counts.requests
			sum.problems += counts.problems
			sum.seconds += counts.seconds
		}
		require.Equal(t, sent, sum, "nothing is counted twice or lost")
		require.GreaterOrEqual(t, b.others.requests, others.requests)
		require.GreaterOrEqual(t, b.others.problems, others.problems)
		require.GreaterOrEqual(t, b.others.seconds, others.seconds)
		others = b.others
		require.Equal(t, round%4 > 0, strings.Contains(text, fmt.Sprintf(`{space="wave-%d"}`, round/4)))
		if round > 0 {
			require.Contains(t, text, `{space="steady-0"}`)
			require.Contains(t, text, `{space="steady-1"}`)
		}
	}
}

// TestLabelsStay: a space that has a label loses it to one that is twice as busy.
func TestLabelsStay(t *testing.T) {
	m := New(func() engram.RegistryStats { return engram.RegistryStats{} }, func() UnderWay { return UnderWay{} }, zap.NewNop())
	m.registry.Unregister(m.spaces)
	m.spaces = newBusiest(1)
	m.registry.MustRegister(m.spaces)
	for _, round := range []struct {
		first, second int // requests
		labelled      engram.SpaceID
	}{{2, 1, "first"}, {10, 15, "first"}, {10, 25, "second"}, {15, 10, "second"}} {
		for range round.first {
			m.spaces.observe("first", false, 0)
		}
		for range round.second {
			m.spaces.observe("second", false, 0)
		}
		scrape(t, m)
		require.Contains(t, m.spaces.labelled, round.labelled)
	}
}
