package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
)

// TestClientKnowsTheLibrarysErrors holds the client's table of problems to the
// server's.
func TestClientKnowsTheLibrarysErrors(t *testing.T) {
	for _, row := range &libraryKinds {
		p := describe(row.sentinel)
		problem := &httpclient.Problem{Type: p.Type}
		require.ErrorIs(t, problem, row.sentinel, p.Type)
	}
	require.NotErrorIs(t, &httpclient.Problem{Type: problemTypePrefix + "busy"}, engram.ErrClosed)
}
