package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/engramdb/engram"
)

// noise are the claims about spaces beside one that asks for everything.
func noise() []assertion {
	return []assertion{
		{"noise/neighbours", "spaces beside one that floods the installation get no error; how much longer they wait is measured", 0, tryNoise},
	}
}

// How much is asked of each space, and by how many the noisy one is flooded.
const (
	politeSpaces   = 3
	politeRequests = 100
	floods         = 8
	floodBatch     = 16
)

// maxRatio is the ratio of the polite ones' p99 beside the noisy one to their own
// above which the report warns. It is no verdict: both are of one moment of one
// machine.
const maxRatio = 2

func tryNoise(ctx context.Context, c *check) error {
	spaces, err := c.make(ctx, politeSpaces+1)
	if err != nil {
		return err
	}
	polite, noisy := spaces[:politeSpaces], spaces[politeSpaces]
	alone := c.askPolitely(ctx, polite, "alone")

	flooding, calm := context.WithCancel(ctx)
	var flood sync.WaitGroup
	for i := range floods {
		flood.Go(func() { floodSpace(flooding, noisy, i) })
	}
	beside := c.askPolitely(ctx, polite, "beside a space that floods the installation")
	calm()
	flood.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(alone) == 0 || len(beside) == 0 {
		return nil // everything failed, which is noted
	}
	ownP99, besideP99 := percentile(alone, 0.99), percentile(beside, 0.99)
	c.measure("polite_p99_alone_ms", ownP99)
	c.measure("polite_p99_beside_ms", besideP99)
	c.measure("polite_p99_ratio", besideP99/ownP99)
	if besideP99 > maxRatio*ownP99 {
		c.warn("the p99 of polite spaces is %.1f ms beside a noisy one and %.1f ms alone", besideP99, ownP99)
	}
	return nil
}

// askPolitely asks of each space what an agent asks, one request after the other,
// and returns how long each took, in milliseconds. Each counts as a comparison.
func (c *check) askPolitely(ctx context.Context, polite []space, when string) []float64 {
	took := make([][]float64, len(polite))
	var asking sync.WaitGroup
	for i, s := range polite {
		asking.Go(func() {
			for n := range politeRequests {
				began := time.Now()
				err := askOnce(ctx, s, n)
				if c.that(err == nil, "%s, request %d of space %s: %s", when, n, s.ID(), answerOf(err)) {
					took[i] = append(took[i], float64(time.Since(began))/float64(time.Millisecond))
				}
			}
		})
	}
	asking.Wait()
	var all []float64
	for _, each := range took {
		all = append(all, each...)
	}
	return all
}

func askOnce(ctx context.Context, s space, n int) error {
	if n%2 == 0 {
		_, err := s.remember(ctx, engram.Memory{ID: memoryID(n % 20), Content: fmt.Sprintf("A polite memory of a %s.", words()[n%16])}, write{})
		return err
	}
	_, err := s.Recall(ctx, engram.Cue{Text: words()[n%16]})
	return err
}

// floodSpace writes and recalls as fast as it is answered, whatever the answer is:
// that the noisy one is refused is no harm.
func floodSpace(ctx context.Context, s space, flood int) {
	for n := 0; ctx.Err() == nil; n++ {
		batch := make([]engram.Memory, floodBatch)
		for i := range batch {
			batch[i] = engram.Memory{ID: fmt.Sprintf("flood-%d-%d", flood, i), Content: fmt.Sprintf("Noise %d about the %s.", n, words()[(n+i)%16])}
		}
		if _, err := s.RememberBatch(ctx, batch); err == nil {
			_, _ = s.Recall(ctx, engram.Cue{Text: words()[n%16], Limit: engram.MaxLimit})
		}
	}
}
