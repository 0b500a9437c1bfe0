package engram

import (
	"testing"

	ni "github.com/engramdb/engram/internal/noninterference"
)

// Whatever other spaces do, A observes the same: docs/isolation.md.
func TestNoninterference(t *testing.T) {
	ni.Test(t, libraryLayer(), ".", ni.Budget{Sampled: 120, Merge: 1000, Full: 10_000, Leaks: 1500, Seconds: 60, Hangs: hangsAfter})
}
