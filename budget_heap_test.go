package engram

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a space is taken for is what it has of the heap, within half of it: written, behind
// a checkpoint and woken, whatever it holds. No other test may allocate meanwhile.
func TestFootprint(t *testing.T) {
	long := strings.Repeat("w", 48)
	for name, shape := range map[string]struct {
		spaces, memories int // in each
		memory           func(i int) Memory
	}{
		"short memories": {1, 8000, func(int) Memory { return Memory{Content: "x"} }},
		"long ids":       {1, 2000, func(i int) Memory { return Memory{ID: fmt.Sprint(i, strings.Repeat("i", 250)), Content: "x"} }},
		"long episodes": {1, 2000, func(i int) Memory {
			return Memory{Episode: fmt.Sprint(i, strings.Repeat("e", 250)), Content: "x"}
		}},
		"attributes": {1, 30, func(i int) Memory {
			m := Memory{Content: "x", Attributes: make(map[string]string)}
			for j := range MaxAttributes {
				m.Attributes[fmt.Sprint("key ", j)] = fmt.Sprint(i, " ", j, strings.Repeat(" value", 80))
			}
			return m
		}},
		"new words": {1, 50, func(i int) Memory {
			return Memory{Content: words(" ", 2000, func(j int) string { return fmt.Sprint("w", i, "q", j) })}
		}},
		"long words": {1, 80, func(i int) Memory {
			return Memory{Content: words(" ", 200, func(j int) string { return fmt.Sprint(long, i, "q", j) })}
		}},
		"no words": {1, 100, func(i int) Memory {
			return Memory{Content: words("", 2000, func(j int) string { return string(rune(0x4e00 + (i*7919+j*j*31)%20000)) })}
		}},
		"large frames": {50, 1, func(int) Memory { return Memory{Content: strings.Repeat("a few words again ", 5000)} }},
		"few embeddings": {50, 2, func(i int) Memory {
			return Memory{Content: "x", Embedding: append(make([]float32, 1535), float32(i)+1)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := openIn(t, t.TempDir(), Options{Durability: None})
			defer func() { require.NoError(t, r.Close()) }()
			warm := create(t, r, "warm") // what the registry keeps for itself is there before
			remember(t, warm, shape.memory(0))
			require.NoError(t, warm.Checkpoint(background))
			require.NoError(t, r.Delete(background, "warm"))
			before := heapInUse()
			counted := func(when string) {
				r.work.Wait()
				heap := float64(heapInUse() - before)
				require.InEpsilon(t, heap, r.Stats().AwakeBytes, 0.5, when)
			}
			spaces := make([]*Space, shape.spaces)
			for i := range spaces {
				spaces[i] = create(t, r, SpaceID(fmt.Sprint("space-", i)))
				for j := range shape.memories {
					remember(t, spaces[i], shape.memory(j))
				}
			}
			counted("written")
			for _, s := range spaces {
				require.NoError(t, s.Checkpoint(background))
			}
			counted("behind a checkpoint")
			for _, s := range spaces {
				asleep(t, s)
				recall(t, s, Cue{Text: "x", Embedding: shape.memory(0).Embedding})
			}
			counted("woken")
		})
	}
}

func words(between string, n int, word func(int) string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = word(i)
	}
	return strings.Join(list, between)
}
