package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTurnsRest: only while others wait is a turn followed by a rest, which is as
// long as it lasted, times turnRest.
func TestTurnsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		for range cap(turns.taken) {
			require.True(t, turns.take(t.Context()))
		}
		began := time.Now()
		turns.leave(time.Second)
		require.True(t, turns.take(t.Context()))
		require.Zero(t, time.Since(began), "nobody waited")

		waited := make(chan time.Duration, 1)
		go func() {
			if turns.take(t.Context()) {
				waited <- time.Since(began)
			}
		}()
		synctest.Wait()
		turns.leave(time.Second)
		synctest.Wait()
		require.Empty(t, waited, "in the rest")
		require.Equal(t, turnRest*time.Second, <-waited)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.False(t, turns.take(ctx))
		require.Zero(t, turns.waiting.Load())
	})
}
