package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// figures are how many turns are taken, and how many wait for one.
func (t *turns) figures() (taken, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, of := range t.waiting {
		waiting += len(of)
	}
	return t.taken, waiting
}

// takeAll takes all turns.
func (t *turns) takeAll(ctx context.Context) {
	for range t.most {
		t.take(ctx, holder{address: "all"})
	}
}

// TestTurnsRest: only while others wait is a turn followed by a rest, which is as
// long as it lasted, times turnRest.
func TestTurnsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		turns.takeAll(t.Context())
		began := time.Now()
		turns.leave(time.Second)
		require.True(t, turns.take(t.Context(), holder{}))
		require.Zero(t, time.Since(began), "nobody waited")

		waited := make(chan time.Duration, 1)
		go func() {
			if turns.take(t.Context(), holder{}) {
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
		require.False(t, turns.take(ctx, holder{}))
		taken, waiting := turns.figures()
		require.Equal(t, turns.most, taken)
		require.Zero(t, waiting)
	})
}

// TestTurnsRotate: who has many streams has no more turns than who has one.
func TestTurnsRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		turns.takeAll(t.Context())
		had := make(chan string, 7)
		wait := func(ctx context.Context, credential string) {
			go func() {
				if turns.take(ctx, holder{credential: credential}) {
					had <- credential
				}
			}()
			synctest.Wait()
		}
		leaving, leave := context.WithCancel(t.Context())
		wait(leaving, "left")
		wait(t.Context(), "many")
		wait(leaving, "many")
		for range 3 {
			wait(t.Context(), "many")
		}
		wait(t.Context(), "one")
		wait(t.Context(), "other")
		leave()
		synctest.Wait()
		for _, next := range []string{"many", "one", "other", "many", "many", "many"} {
			turns.leave(time.Second)
			require.Equal(t, next, <-had)
		}
		for range turns.most {
			turns.leave(time.Second)
		}
		taken, waiting := turns.figures()
		require.Zero(t, taken)
		require.Zero(t, waiting)
		require.Empty(t, turns.next)
		require.Empty(t, turns.waiting)
	})
}
