package server

import (
	"testing"
	"time"

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
