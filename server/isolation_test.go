package server

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
)

// Whatever other spaces do, A observes the same, whichever way it asks:
// docs/isolation.md.

// isolationBudget of a layer of the server.
var isolationBudget = ni.Budget{Sampled: 12, Full: 1000, Leaks: 30, Seconds: 60, Hangs: 5 * time.Minute}

func TestNoninterferenceOverHTTP(t *testing.T) {
	ni.Test(t, httpLayer(t), "./server", isolationBudget)
}

func TestNoninterferenceOverGRPC(t *testing.T) {
	ni.Test(t, grpcLayer(t), "./server", isolationBudget)
}

func TestNoninterferenceOverMCP(t *testing.T) {
	ni.Test(t, mcpLayer(t), "./server", isolationBudget)
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
