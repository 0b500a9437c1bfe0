package server

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/auth"
	"github.com/engramdb/engram/server/internal/local"
)

// Whatever other spaces do, A observes the same, whichever way it asks:
// docs/isolation.md.

// isolationBudget is that of a layer of the server.
func isolationBudget(merge, seconds int) ni.Budget {
	return ni.Budget{Sampled: 12, Merge: merge, Full: 1000, Leaks: 30, Seconds: seconds, Hangs: 5 * time.Minute}
}

func TestNoninterferenceOverHTTP(t *testing.T) {
	ni.Test(t, httpLayer(t), "./server", isolationBudget(300, 60))
}

func TestNoninterferenceOverGRPC(t *testing.T) {
	ni.Test(t, grpcLayer(t), "./server", isolationBudget(300, 60))
}

func TestNoninterferenceOverMCP(t *testing.T) {
	ni.Test(t, mcpLayer(t), "./server", isolationBudget(100, 120))
}

// Other spaces may put one to sleep, which must not show in what it is said to
// be. One that was just opened has nothing awake.
func TestDescriptionsDoNotTellOfSleep(t *testing.T) {
	dir := t.TempDir()
	paths := []string{"/v1/spaces/alpha", "/v1/spaces/alpha/config", "/v1/spaces/alpha/stats", "over gRPC"}
	ask := func(f *fixture, path string) string {
		if strings.HasPrefix(path, "/") {
			return f.call("GET", path, "").body
		}
		info, err := f.server.infoOf(t.Context(), "alpha")
		require.NoError(t, err)
		return shownMessage(info)
	}
	var awake []string
	for i := range 1 + len(paths) {
		registry, err := engram.Open(dir, engram.Options{})
		require.NoError(t, err)
		f := &fixture{t: t, registry: registry, server: New(registry, Options{})}
		if i == 0 {
			remember(t, f.create("alpha"), "one", "two")
			for _, path := range paths {
				awake = append(awake, ask(f, path))
			}
		} else {
			require.Equal(t, awake[i-1], ask(f, paths[i-1]))
		}
		require.NoError(t, registry.Close())
	}
}

// Who administers a sleeping space sees the figures that its files hold, and does
// not wake it. Everybody else is refused alike, whether it sleeps or not.
func TestStatsOfASleepingSpace(t *testing.T) {
	columns, gate := callers(t)
	dir := t.TempDir()
	registry, err := engram.Open(dir, engram.Options{})
	require.NoError(t, err)
	alpha, err := registry.Create(t.Context(), "alpha", engram.SpaceConfig{})
	require.NoError(t, err)
	remember(t, alpha, "one", "two")
	require.NoError(t, registry.Settle(t.Context()))
	before := alpha.Stats()
	require.NoError(t, registry.Close())

	registry, err = engram.Open(dir, engram.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	f := &fixture{t: t, registry: registry, server: New(registry, Options{Auth: gate})}
	w := wireTo(t, f)
	alpha, err = registry.Get(t.Context(), "alpha")
	require.NoError(t, err)
	refusals := func() (all []string) {
		for _, c := range columns {
			if c.granted&auth.Admin != 0 {
				continue
			}
			all = append(all, shownStatus(w.askRPC(engramv1.AdminService_Stats_FullMethodName, "alpha", c.token)))
			all = append(all, f.ask(route{method: "GET", path: inSpace + "/stats/operator"}, "alpha", c.token).body)
		}
		return all
	}
	asleep := refusals()
	for _, c := range columns {
		if c.granted&auth.Admin == 0 {
			continue
		}
		answer, err := engramv1.NewAdminServiceClient(w.conn).Stats(withToken(t.Context(), c.token), &engramv1.StatsRequest{MemorySpaceId: "alpha"})
		require.NoError(t, err)
		content, operator := answer.GetContent(), answer.GetOperator()
		require.Equal(t, string(engram.Asleep), operator.GetState())
		require.Equal(t, before.Content.Memories, content.GetMemories())
		require.Equal(t, before.Content.Bytes, content.GetBytes())
		require.Equal(t, before.Content.Seq, content.GetSeq())
		require.Equal(t, before.Content.Seq, operator.GetMarkSeq())
		var told engram.OperatorStats
		f.ask(route{method: "GET", path: inSpace + "/stats/operator"}, "alpha", c.token).into(200, &told)
		require.Equal(t, engram.Asleep, told.State)
		require.Equal(t, before.Content.Seq, told.MarkSeq)
	}
	require.Equal(t, engram.Asleep, alpha.Stats().Operator.State)
	require.NoError(t, local.Wake(t.Context(), alpha))
	require.NotEqual(t, engram.Asleep, alpha.Stats().Operator.State)
	require.Equal(t, asleep, refusals())
	require.NotEmpty(t, asleep)
}
