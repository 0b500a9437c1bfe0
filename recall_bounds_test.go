package engram

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a recall leaves unweighed, because it cannot be among the best, is not
// among them: a short answer is how the long one begins. The texts are a few
// words in many episodes, and questions, so that nearly every bound is tight.
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
			return strings.Join(list, " ") + one(random, ".", "?")
		}
		r, _ := newRegistry(t, Options{})
		s := create(t, r, "alpha")
		batch := make([]Memory, 300)
		for i := range batch {
			batch[i] = Memory{ID: fmt.Sprint("m", i), Content: text(4), Episode: fmt.Sprint("e", random.IntN(80))}
			if i%25 == 0 {
				batch[i].Episode = ""
			}
		}
		remember(t, s, batch...)
		for range 150 {
			cue := Cue{Text: text(3), Limit: MaxLimit, Spread: Spread{Off: true}}
			whole := recall(t, s, cue)
			cue.Limit = 1 + random.IntN(4)
			require.Equal(t, whole[:cue.Limit], recall(t, s, cue), "seed %d, cue %q", seed, cue.Text)
		}
		require.NoError(t, r.Close())
	}
}
