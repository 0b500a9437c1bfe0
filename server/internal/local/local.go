// Package local reaches a registry that this process has open by the methods by
// which package httpclient reaches one of a server, so that the same work is done
// on either.
package local

import (
	"context"
	"io"
	"iter"

	"github.com/engramdb/engram"
)

// Registry is a registry of this process. Another may take its place while nothing
// uses it; its spaces are those of that, then.
type Registry struct{ *engram.Registry }

// Spaces yields the ids of the spaces behind after, in order. There is no error.
func (r *Registry) Spaces(_ context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error] {
	return func(yield func(engram.SpaceID, error) bool) {
		for id := range r.Registry.Spaces(after) {
			if !yield(id, nil) {
				return
			}
		}
	}
}

// Create makes a space and describes it.
func (r *Registry) Create(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (engram.SpaceInfo, error) {
	if _, err := r.Registry.Create(ctx, id, config); err != nil {
		return engram.SpaceInfo{}, err
	}
	return r.Info(ctx, id)
}

// Info describes a space, which it wakes for that, as a server does: the figures of one
// that sleeps are those of its mark, which may lie behind what was acknowledged.
func (r *Registry) Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error) {
	space, err := r.Get(ctx, id)
	if err != nil {
		return engram.SpaceInfo{}, err
	}
	var asleep error
	for _, asleep = range space.Memories(ctx, engram.Filter{}) {
		break
	}
	info, err := r.Registry.Info(ctx, id)
	if err == nil && info.State == engram.Asleep {
		err = asleep
	}
	return info, err
}

// Import makes a space of an export and describes it.
func (r *Registry) Import(ctx context.Context, id engram.SpaceID, src io.Reader) (engram.SpaceInfo, error) {
	if _, err := r.Registry.Import(ctx, id, src); err != nil {
		return engram.SpaceInfo{}, err
	}
	return r.Info(ctx, id)
}

// Space returns the space of that id, whether there is one or not.
func (r *Registry) Space(id engram.SpaceID) Space { return Space{r, id} }
