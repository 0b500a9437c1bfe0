package engram

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	ni "github.com/engramdb/engram/internal/noninterference"
)

// Registries put spaces to sleep because of others, which must not show in when
// a space makes a checkpoint: what it has logged counts alike whether it was
// written or read again.
func TestSleepDoesNotMoveCheckpoints(t *testing.T) {
	write := func(d ni.Driver, pressed bool) map[string]string {
		op := ni.Op{Kind: ni.Create, Space: "aaa", Generation: 1}
		d.Do(op)
		for i := range 60 {
			if pressed {
				d.Press()
			}
			op.Kind = ni.Remember
			op.Memories = []ni.Memory{{ID: fmt.Sprint(i % 20), Content: strings.Repeat("x", 1+i)}}
			require.NotContains(t, d.Do(op), "error")
		}
		return d.Close().Files
	}
	noon := func() time.Time { return goldenTime(0) }
	awake := write(libraryLayer().Open(noon), false)
	require.Equal(t, awake, write(libraryLayer().Open(noon), true))
	found := false
	for name := range awake {
		found = found || strings.HasPrefix(name, checkpointPrefix)
	}
	require.True(t, found, "no checkpoint")
}
