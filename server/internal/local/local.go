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

// Info describes a space as Describe does.
func (r *Registry) Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error) {
	return Describe(ctx, r.Registry, id)
}

// Describe wakes the space before it says what that is. Whether it sleeps depends
// on other spaces, and the figures of one that does are those of its mark, which
// may lie behind what was acknowledged. Of a damaged space it says what is known.
func Describe(ctx context.Context, registry *engram.Registry, id engram.SpaceID) (engram.SpaceInfo, error) {
	space, err := registry.Get(ctx, id)
	if err != nil {
		return engram.SpaceInfo{}, err
	}
	woken := Wake(ctx, space)
	info, err := registry.Info(ctx, id)
	if err == nil && info.State == engram.Asleep {
		err = woken
	}
	return info, err
}

// Wake loads the space: only then its figures are those of its last operation.
// A damaged space is loaded as far as it is good.
func Wake(ctx context.Context, space *engram.Space) error {
	for _, err := range space.Memories(ctx, engram.Filter{}) {
		return err
	}
	return nil
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
