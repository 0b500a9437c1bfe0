package verify

import (
	"context"
	"errors"
	"io"
	"iter"
	"strconv"

	"github.com/engramdb/engram"
)

// library is a data directory that this process has open.
type library struct {
	dir      string
	registry *engram.Registry
}

func openLibrary(dir string) (*library, error) {
	registry, err := engram.Open(dir, engram.Options{})
	if err != nil {
		return nil, err
	}
	return &library{dir: dir, registry: registry}, nil
}

// reopen does what a restart of the embedding program does. Nothing else may use
// the library meanwhile.
func (l *library) reopen(context.Context) error {
	return l.away(func() error { return nil })
}

// away runs work while the directory is nobody's.
func (l *library) away(work func() error) error {
	err := errors.Join(l.registry.Close(), work())
	registry, openErr := engram.Open(l.dir, engram.Options{})
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	l.registry = registry
	return err
}

func (l *library) name() string { return overLibrary }

func (l *library) create(ctx context.Context, id engram.SpaceID) error {
	_, err := l.registry.Create(ctx, id, engram.SpaceConfig{})
	return err
}

func (l *library) Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error) {
	return l.registry.Info(ctx, id)
}

func (l *library) Spaces(_ context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error] {
	return func(yield func(engram.SpaceID, error) bool) {
		for id := range l.registry.Spaces(after) {
			if !yield(id, nil) {
				return
			}
		}
	}
}

func (l *library) Rename(ctx context.Context, from, to engram.SpaceID) error {
	return l.registry.Rename(ctx, from, to)
}

func (l *library) Delete(ctx context.Context, id engram.SpaceID) error {
	return l.registry.Delete(ctx, id)
}

func (l *library) space(id engram.SpaceID) space { return librarySpace{l, id} }

// librarySpace gets its space anew for each call, as handles do not outlive a
// reopening.
type librarySpace struct {
	library *library
	name    engram.SpaceID
}

func (s librarySpace) ID() engram.SpaceID { return s.name }

// in calls f with the space.
func in[T any](ctx context.Context, s librarySpace, f func(*engram.Space) (T, error)) (answer T, err error) {
	space, err := s.library.registry.Get(ctx, s.name)
	if err != nil {
		return answer, err
	}
	return f(space)
}

// each yields what f does of the space.
func each[T any](ctx context.Context, s librarySpace, f func(*engram.Space) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		space, err := s.library.registry.Get(ctx, s.name)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		f(space)(yield)
	}
}

func (s librarySpace) remember(ctx context.Context, m engram.Memory, how write) (engram.Receipt, error) {
	var options []engram.WriteOption
	if how.requestID != "" {
		options = append(options, engram.RequestID(how.requestID))
	}
	if how.version != "" {
		seq, err := strconv.ParseUint(how.version, 10, 64)
		if err != nil {
			return engram.Receipt{}, err
		}
		options = append(options, engram.ExpectSeq(seq))
	}
	return in(ctx, s, func(space *engram.Space) (engram.Receipt, error) { return space.Remember(ctx, m, options...) })
}

func (s librarySpace) RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
	return in(ctx, s, func(space *engram.Space) ([]engram.Receipt, error) { return space.RememberBatch(ctx, ms) })
}

func (s librarySpace) Lookup(ctx context.Context, id string) (engram.Memory, error) {
	return in(ctx, s, func(space *engram.Space) (engram.Memory, error) { return space.Lookup(ctx, id) })
}

func (s librarySpace) Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error] {
	return each(ctx, s, func(space *engram.Space) iter.Seq2[engram.Memory, error] { return space.Memories(ctx, f) })
}

func (s librarySpace) Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error) {
	return in(ctx, s, func(space *engram.Space) (engram.Recall, error) { return space.Recall(ctx, cue) })
}

func (s librarySpace) Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error) {
	return in(ctx, s, func(space *engram.Space) (engram.ForgetReceipt, error) { return space.Forget(ctx, ids) })
}

func (s librarySpace) Associate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return in(ctx, s, func(space *engram.Space) (engram.Receipt, error) { return space.Associate(ctx, a) })
}

func (s librarySpace) Associations(ctx context.Context, id string) ([]engram.Association, error) {
	return in(ctx, s, func(space *engram.Space) ([]engram.Association, error) { return space.Associations(ctx, id) })
}

func (s librarySpace) Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error] {
	return each(ctx, s, func(space *engram.Space) iter.Seq2[engram.Event, error] { return space.Subscribe(ctx, after) })
}

func (s librarySpace) Export(ctx context.Context, dst io.Writer) (uint64, error) {
	return in(ctx, s, func(space *engram.Space) (uint64, error) { return space.Export(ctx, dst) })
}

func (s librarySpace) version(ctx context.Context) (string, error) {
	info, err := s.library.Info(ctx, s.name)
	return strconv.FormatUint(info.Seq, 10), err
}
