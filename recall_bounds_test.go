package engram

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// What a recall leaves unweighed, because it cannot be among the best, is not
// among them: a short answer is how the long one begins. The texts are a few
// words in many episodes, and questions, so that nearly every bound is tight. Some
// tell what some of the cues ask for.
func TestRecallBoundsLoseNothing(t *testing.T) {
	t.Parallel()
	words := []string{"anchor", "barley", "cradle", "dagger", "ember", "falcon", "garnet"}
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		text := func(most int) string {
			var list []string
			for range 1 + random.IntN(most) {
				list = append(list, words[min(random.IntN(len(words)), random.IntN(len(words)))])
			}
			return strings.Join(list, " ") + one(random, ".", ".", " in Rome.", " of Ann.", "?")
		}
		r, _ := newRegistry(t, Options{})
		s := create(t, r, "alpha")
		batch := make([]Memory, 300)
		for i := range batch {
			batch[i] = Memory{ID: fmt.Sprint("m", i), Content: text(4), Episode: fmt.Sprint("e", random.IntN(80))}
			if i%4 == 0 {
				batch[i].Episode = ""
			}
		}
		remember(t, s, batch...)
		for range 150 {
			cue := Cue{Text: one(random, "", "", "where ", "who ") + text(3), Limit: MaxLimit, Spread: Spread{Off: true}}
			whole := recall(t, s, cue)
			cue.Limit = 1 + random.IntN(4)
			require.Equal(t, whole[:cue.Limit], recall(t, s, cue), "seed %d, cue %q", seed, cue.Text)
		}
		require.NoError(t, r.Close())
	}
}

// stallingContext has a recall stop at the first look at it that comes of its computing.
type stallingContext struct {
	context.Context
	looked bool
	stall  func()
}

func (c *stallingContext) Err() error {
	if c.looked {
		c.stall()
	}
	c.looked = true // where the space was used first
	return c.Context.Err()
}

// However many are asked for at once, so many are computed, of each space by itself. One
// that waits leaves when its context ends.
func TestRecallsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRegistry(t, Options{})
		s, other := create(t, r, "alpha"), create(t, r, "other")
		remember(t, s, Memory{ID: "a", Content: "tea"})
		remember(t, other, Memory{ID: "o", Content: "tea"})

		most := recallsPerProcessor * runtime.GOMAXPROCS(0)
		let, computing := make(chan struct{}), atomic.Int64{}
		var recalls sync.WaitGroup
		for range most + 3 {
			recalls.Go(func() {
				ctx := &stallingContext{Context: background, stall: sync.OnceFunc(func() {
					computing.Add(1)
					<-let
				})}
				answer, err := s.Recall(ctx, Cue{Text: "tea"})
				require.NoError(t, err)
				require.Len(t, answer.Recollections, 1)
			})
		}
		synctest.Wait()
		require.EqualValues(t, most, computing.Load())

		require.Equal(t, []string{"o"}, recalledIDs(recall(t, other, Cue{Text: "tea"})))
		leaving, leave := context.WithCancel(background)
		left := make(chan error, 1)
		go func() {
			_, err := s.Recall(leaving, Cue{Text: "tea"})
			left <- err
		}()
		synctest.Wait()
		require.Empty(t, left)
		leave()
		require.ErrorIs(t, <-left, context.Canceled)

		close(let)
		recalls.Wait()
		require.EqualValues(t, most+3, computing.Load())
	})
}
