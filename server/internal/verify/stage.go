package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/engramdb/engram"
)

// stageMemories is how many memories each space of a stage has, of which the
// first have ids that resemble each other.
const stageMemories = 24

// stage is a set of spaces with known contents: the same ids, times, episodes,
// attributes, words and embeddings in each, and in each content a word that only
// its space has, the canary.
type stage struct {
	over     transport
	spaces   []space
	canaries []string
	seed     uint64
}

// buildStage makes n spaces and fills them.
func buildStage(ctx context.Context, spaces *spaces, over transport, seed uint64, n int) (*stage, error) {
	made, err := spaces.make(ctx, over, n)
	if err != nil {
		return nil, err
	}
	s := &stage{over: over, spaces: made, seed: seed}
	for i := range made {
		s.canaries = append(s.canaries, canaryOf(seed, i))
	}
	for i, space := range made {
		batch := make([]engram.Memory, stageMemories)
		for j := range batch {
			batch[j] = s.memory(i, j)
		}
		if _, err := space.RememberBatch(ctx, batch); err != nil {
			return nil, fmt.Errorf("fill space %s over %s: %w", space.ID(), over.name(), err)
		}
		if _, err := space.remember(ctx, s.alone(i), write{}); err != nil {
			return nil, fmt.Errorf("fill space %s over %s: %w", space.ID(), over.name(), err)
		}
		for j := range stageMemories {
			if _, err := space.Associate(ctx, s.association(i, j)); err != nil {
				return nil, fmt.Errorf("associate in space %s over %s: %w", space.ID(), over.name(), err)
			}
		}
	}
	return s, nil
}

// canaryOf returns the word of the i-th space: letters and digits, which no
// analyzer cuts, and never a word of a language.
func canaryOf(seed uint64, i int) string {
	return fmt.Sprintf("zq%016xq", randomOf(seed, "canary"+strconv.Itoa(i)).Uint64())
}

func words() []string {
	return []string{
		"kettle", "window", "flight", "invoice", "garden", "harbour", "lantern", "mountain",
		"orchard", "piano", "quarry", "river", "saddle", "teacup", "umbrella", "violin",
	}
}

// memoryID returns the id of the j-th memory, the same in every space. With the
// space's id before it, some are those of others: aaa and b1, aaab and 1.
func memoryID(j int) string {
	resemble := []string{"b1", "1", "b", "-b1", "b1-", "_b1", "b/1", "11", "b1 "}
	if j < len(resemble) {
		return resemble[j]
	}
	return "memory-" + strconv.Itoa(j)
}

// memory returns the j-th memory of the i-th space.
func (s *stage) memory(i, j int) engram.Memory {
	all := words()
	random := randomOf(s.seed, "memory"+strconv.Itoa(j)) // the same for each space
	first, second := random.IntN(len(all)), random.IntN(len(all))
	embedding := make([]float32, 8)
	for d := range embedding {
		embedding[d] = random.Float32() - 0.5
	}
	return engram.Memory{
		ID: memoryID(j), Content: fmt.Sprintf("The %s by the %s, of %s.", all[first], all[second], s.canaries[i]),
		Time: stageTime(j), Episode: episodeOf(j), Embedding: embedding,
		Attributes: map[string]string{"topic": all[j%3]},
	}
}

func stageTime(j int) time.Time {
	return time.Date(2025, time.March, 1, j, 0, 0, 0, time.UTC)
}

func episodeOf(j int) string { return "episode-" + strconv.Itoa(j%4) }

// alone returns a memory under an id that no other space has.
func (s *stage) alone(i int) engram.Memory {
	m := s.memory(i, stageMemories)
	m.ID = "only-" + s.canaries[i]
	return m
}

// all returns what the i-th space holds, in time order.
func (s *stage) all(i int) []engram.Memory {
	var all []engram.Memory
	for j := range stageMemories {
		all = append(all, s.memory(i, j))
	}
	return append(all, s.alone(i))
}

// association returns the j-th association of the i-th space: from the same
// memories to others in each.
func (s *stage) association(i, j int) engram.Association {
	return engram.Association{
		From: memoryID(j), To: memoryID((j + 1 + i%(stageMemories-1)) % stageMemories),
		Kind: "leads-to", Weight: 0.5,
	}
}

// foreign returns the space whose canary stands in a text that the i-th space
// gave; "" where there is none.
func (s *stage) foreign(i int, text string) engram.SpaceID {
	for k, canary := range s.canaries {
		if k != i && strings.Contains(text, canary) {
			return s.spaces[k].ID()
		}
	}
	return ""
}

// own counts a comparison: that all these memories, which the i-th space gave,
// are its own.
func (c *check) own(i int, what string, memories []engram.Memory) bool {
	here := c.stage.spaces[i].ID()
	for _, m := range memories {
		if other := c.stage.foreign(i, m.ID+m.Content); other != "" {
			return c.that(false, "%s in space %s gives memory %q of space %s", what, here, m.ID, other)
		}
		if m.Space != here {
			return c.that(false, "%s in space %s gives memory %q, which says that it is of space %q", what, here, m.ID, m.Space)
		}
		if !strings.Contains(m.Content, c.stage.canaries[i]) {
			return c.that(false, "%s in space %s gives memory %q, which nobody remembered there", what, here, m.ID)
		}
	}
	return c.that(true, "")
}

// contents returns contents by id.
func contents(memories []engram.Memory) map[string]string {
	byID := make(map[string]string, len(memories))
	for _, m := range memories {
		byID[m.ID] = m.Content
	}
	return byID
}

// sameMemory reports whether a memory came back as it was given.
func sameMemory(got, given engram.Memory) bool {
	return got.ID == given.ID && got.Content == given.Content && got.Time.Equal(given.Time) && got.Episode == given.Episode &&
		maps.Equal(got.Attributes, given.Attributes) && slices.Equal(got.Embedding, given.Embedding)
}
