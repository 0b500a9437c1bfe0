package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/engramdb/engram"
)

// collection is what one space is to remember, in order, and what it is asked.
type collection struct {
	space     engram.SpaceID
	config    engram.SpaceConfig
	memories  []engram.Memory
	questions []question
}

// question is one cue and what is known about its answer.
type question struct {
	text   string
	gold   map[string]bool // ids of the memories that answer it; not empty
	groups []string        // that its figures count in
}

// answers are a collection's questions answered, in their order.
type answers struct {
	collection *collection
	rankings   []ranking
	foreign    int // recollections of something that is not in the collection
}

// ranking is one answer: ids with their activations and confidences, the most
// activated first.
type ranking struct {
	ids         []string
	activations []float64
	confidences []float64
}

// asking makes the cue of a question.
type asking func(text string) engram.Cue

// asText asks with nothing but the question, for all that it brings to mind.
func asText(text string) engram.Cue { return engram.Cue{Text: text, Limit: engram.MaxLimit} }

// upTo asks the same for no more than limit.
func upTo(limit int, ask asking) asking {
	return func(text string) engram.Cue {
		cue := ask(text)
		cue.Limit = limit
		return cue
	}
}

// load brings the registry to hold all collections. What it holds already it
// leaves alone, so that an interrupted load can be resumed.
func load(ctx context.Context, registry *engram.Registry, collections []collection) error {
	for _, c := range collections {
		space, err := registry.GetOrCreate(ctx, c.space, c.config)
		if err != nil {
			return err
		}
		missing, err := missingFrom(ctx, space, c.memories)
		if err != nil {
			return err
		}
		for batch := range slices.Chunk(missing, engram.MaxBatch) {
			if _, err := space.RememberBatch(ctx, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// missingFrom returns the memories that the space does not hold, in order.
func missingFrom(ctx context.Context, space *engram.Space, memories []engram.Memory) ([]engram.Memory, error) {
	var missing []engram.Memory
	for _, m := range memories {
		switch found, err := space.Lookup(ctx, m.ID); {
		case errors.Is(err, engram.ErrMemoryNotFound):
			missing = append(missing, m)
		case err != nil:
			return nil, err
		case found.Content != m.Content:
			return nil, fmt.Errorf("space %s: memory %s has another content than was loaded", space.ID(), m.ID)
		}
	}
	return missing, nil
}

// askAll asks every collection's questions.
func askAll(ctx context.Context, registry *engram.Registry, collections []collection, ask asking) ([]answers, error) {
	all := make([]answers, 0, len(collections))
	for i := range collections {
		c := &collections[i]
		space, err := registry.Get(ctx, c.space)
		if err != nil {
			return nil, err
		}
		a, err := c.ask(ctx, space, ask)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// ask asks the space the collection's questions. A recollection is foreign if it
// names another space, or if its content is not what the collection has under
// its id: the same ids are used in every conversation.
func (c *collection) ask(ctx context.Context, space *engram.Space, ask asking) (answers, error) {
	contents := make(map[string]string, len(c.memories))
	for _, m := range c.memories {
		contents[m.ID] = m.Content
	}
	a := answers{collection: c}
	for _, q := range c.questions {
		recall, err := space.Recall(ctx, ask(q.text))
		if err != nil {
			return a, fmt.Errorf("space %s: asking %q: %w", c.space, q.text, err)
		}
		var r ranking
		for _, found := range recall.Recollections {
			content, known := contents[found.Memory.ID]
			if !known || found.Memory.Space != c.space || found.Memory.Content != content {
				a.foreign++
			}
			r.ids = append(r.ids, found.Memory.ID)
			r.activations = append(r.activations, found.Activation)
			r.confidences = append(r.confidences, found.Confidence)
		}
		a.rankings = append(a.rankings, r)
	}
	return a, nil
}

func foreignHits(all []answers) int {
	hits := 0
	for _, a := range all {
		hits += a.foreign
	}
	return hits
}

// sameAnswers reports whether two askings gave the same memories in the same
// order with the same activations to the last bit.
func sameAnswers(a, b []answers) bool {
	return slices.EqualFunc(a, b, func(a, b answers) bool {
		return a.collection.space == b.collection.space && slices.EqualFunc(a.rankings, b.rankings, func(a, b ranking) bool {
			return slices.Equal(a.ids, b.ids) && slices.Equal(a.activations, b.activations)
		})
	})
}

// withRegistry opens a registry, lets use have it, and closes it.
func withRegistry(dir string, use func(*engram.Registry) error) error {
	registry, err := engram.Open(dir, engram.Options{})
	if err != nil {
		return err
	}
	return errors.Join(use(registry), registry.Close())
}
