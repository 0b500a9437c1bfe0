package verify

import (
	"context"
	"errors"
	"strconv"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/local"
)

// library is a data directory that this process has open.
type library struct {
	*local.Registry

	dir string
}

func openLibrary(dir string) (*library, error) {
	registry, err := engram.Open(dir, engram.Options{})
	if err != nil {
		return nil, err
	}
	return &library{&local.Registry{Registry: registry}, dir}, nil
}

// reopen does what a restart of the embedding program does. Nothing else may use
// the library meanwhile.
func (l *library) reopen(context.Context) error {
	return l.away(func() error { return nil })
}

// away runs work while the directory is nobody's.
func (l *library) away(work func() error) error {
	err := errors.Join(l.Close(), work())
	registry, openErr := engram.Open(l.dir, engram.Options{})
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	l.Registry.Registry = registry
	return err
}

func (l *library) name() string { return overLibrary }

func (l *library) create(ctx context.Context, id engram.SpaceID) error {
	_, err := l.Create(ctx, id, engram.SpaceConfig{})
	return err
}

func (l *library) space(id engram.SpaceID) space { return librarySpace{l.Space(id), l} }

// librarySpace is a space of a library, also after that is opened again.
type librarySpace struct {
	local.Space

	library *library
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
	return s.RememberWith(ctx, m, options...)
}

func (s librarySpace) version(ctx context.Context) (string, error) {
	info, err := s.library.Info(ctx, s.ID())
	return strconv.FormatUint(info.Seq, 10), err
}
