package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

// reembedPoll is how often reembed looks whether a space has its new vectors.
const reembedPoll = 200 * time.Millisecond

// reembedItem is one line of space reembed.
type reembedItem struct {
	ID         engram.SpaceID `json:"id"`
	Embedder   string         `json:"embedder"`   // whose vectors the space has
	Reembedded bool           `json:"reembedded"` // false: it is on its way to others
}

func (a *app) spaceReembedCommand() *cobra.Command {
	var flags embedderFlags
	var begin bool
	cmd := &cobra.Command{
		Use:   "reembed ID... --embedder SERVICE",
		Short: "Give spaces vectors of another embedder in place of those that they have",
		Long: `Give spaces vectors of another embedder in place of those that they have. The new
ones are made beside the old, and one operation puts them in their place: when this
command is interrupted, or run with --begin, a server with that embedder goes on.

With --embedder the contents of memories are sent to that service. Its key is taken
from the environment variable ENGRAM_EMBEDDER_KEY.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			embedder, err := flags.embedder(os.Getenv(embedderKeyVariable))
			if err == nil && embedder == nil {
				err = errors.New("--embedder: name the service whose vectors the spaces are to have")
			}
			if err != nil {
				return err
			}
			opts := engram.Options{Embedder: embedder, Logger: newLogger(a.err)}
			return a.withOptions(toWrite, opts, func(r *engram.Registry) error {
				return a.reembed(cmd.Context(), r, embedder.ID(), args, begin)
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&begin, "begin", false, "only begin: a server with that embedder makes the vectors")
	return cmd
}

// reembed begins with all spaces before it waits for the first.
func (a *app) reembed(ctx context.Context, r *engram.Registry, embedder string, ids []string, begin bool) error {
	var spaces []*engram.Space
	for _, id := range ids {
		s, err := r.Get(ctx, engram.SpaceID(id))
		if err == nil {
			_, err = s.Reembed(ctx)
		}
		if err != nil {
			return err
		}
		spaces = append(spaces, s)
	}
	items := []reembedItem{}
	t := table{header: []string{"ID", "EMBEDDER", "REEMBEDDED"}}
	for _, s := range spaces {
		item, err := reembedded(ctx, s, embedder, begin)
		if err != nil {
			return err
		}
		items = append(items, item)
		t.add(string(item.ID), item.Embedder, strconv.FormatBool(item.Reembedded))
	}
	return a.emit(map[string]any{"spaces": items}, &t)
}

// reembedded waits until the space has the embedder's vectors, unless it is only to
// look. An empty space has none.
func reembedded(ctx context.Context, s *engram.Space, embedder string, look bool) (reembedItem, error) {
	ticker := time.NewTicker(reembedPoll)
	defer ticker.Stop()
	for {
		left, err := s.Reembedding(ctx)
		if err != nil {
			return reembedItem{}, err
		}
		stats := s.Stats()
		item := reembedItem{ID: s.ID(), Embedder: stats.Content.Embedder}
		item.Reembedded = item.Embedder == embedder || stats.Content.Memories == 0
		switch {
		case stats.Operator.State == engram.Asleep: // again, and its figures are zero
		case item.Reembedded || look:
			return item, nil
		case left.Unembedded == 0 && left.Given > 0:
			return item, &engram.ForeignVectorsError{Space: s.ID(), Memories: left.Given}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return item, ctx.Err()
		}
	}
}
