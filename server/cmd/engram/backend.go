package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
)

// backend is what the commands work on: a data directory, or a running server.
type backend interface {
	Spaces(ctx context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error]
	Create(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (engram.SpaceInfo, error)
	Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error)
	Rename(ctx context.Context, from, to engram.SpaceID) error
	Delete(ctx context.Context, id engram.SpaceID) error
	Import(ctx context.Context, id engram.SpaceID, src io.Reader) (engram.SpaceInfo, error)
	Settle(ctx context.Context) error
	// space returns the space of that id. It may or may not find out here that
	// there is none.
	space(ctx context.Context, id engram.SpaceID) (memorySpace, error)
}

// memorySpace is one space of a backend.
type memorySpace interface {
	ID() engram.SpaceID
	Remember(ctx context.Context, m engram.Memory, requestID string) (engram.Receipt, error)
	RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error)
	Lookup(ctx context.Context, id string) (engram.Memory, error)
	Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error]
	Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error)
	Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error)
	ForgetWhere(ctx context.Context, f engram.Filter, dryRun bool) (engram.ForgetReceipt, error)
	Associate(ctx context.Context, a engram.Association) (engram.Receipt, error)
	Dissociate(ctx context.Context, a engram.Association) (engram.Receipt, error)
	Associations(ctx context.Context, id string) ([]engram.Association, error)
	Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error]
	Configure(ctx context.Context, change func(*engram.SpaceConfig)) (engram.Receipt, error)
	Content(ctx context.Context) (engram.ContentStats, error)
	Stats(ctx context.Context) (engram.SpaceStats, error)
	Checkpoint(ctx context.Context) error
	Verify(ctx context.Context) (engram.VerifyReport, error)
	Export(ctx context.Context, dst io.Writer) (uint64, error)
}

// serverBackend is a running server. Every call names its space in its path.
type serverBackend struct{ *httpclient.Client }

func (b serverBackend) space(_ context.Context, id engram.SpaceID) (memorySpace, error) {
	// An id that is none would be another path.
	if err := id.Validate(); err != nil {
		return nil, err
	}
	return b.Space(id), nil
}

// directory is a data directory that this process has open.
type directory struct{ *engram.Registry }

func (d directory) Spaces(_ context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error] {
	return func(yield func(engram.SpaceID, error) bool) {
		for id := range d.Registry.Spaces(after) {
			if !yield(id, nil) {
				return
			}
		}
	}
}

func (d directory) Create(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (engram.SpaceInfo, error) {
	if _, err := d.Registry.Create(ctx, id, config); err != nil {
		return engram.SpaceInfo{}, err
	}
	return d.Info(ctx, id)
}

func (d directory) Import(ctx context.Context, id engram.SpaceID, src io.Reader) (engram.SpaceInfo, error) {
	if _, err := d.Registry.Import(ctx, id, src); err != nil {
		return engram.SpaceInfo{}, err
	}
	return d.Info(ctx, id)
}

func (d directory) space(ctx context.Context, id engram.SpaceID) (memorySpace, error) {
	space, err := d.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return directorySpace{space}, nil
}

// directorySpace is a space of a directory.
type directorySpace struct{ *engram.Space }

func (s directorySpace) Remember(ctx context.Context, m engram.Memory, requestID string) (engram.Receipt, error) {
	if requestID == "" {
		return s.Space.Remember(ctx, m)
	}
	return s.Space.Remember(ctx, m, engram.RequestID(requestID))
}

func (s directorySpace) RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
	return s.Space.RememberBatch(ctx, ms)
}

func (s directorySpace) Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error) {
	return s.Space.Forget(ctx, ids)
}

func (s directorySpace) ForgetWhere(ctx context.Context, f engram.Filter, dryRun bool) (engram.ForgetReceipt, error) {
	if !dryRun {
		return s.Space.ForgetWhere(ctx, f)
	}
	var receipt engram.ForgetReceipt
	for _, err := range s.Memories(ctx, f) {
		if err != nil {
			return receipt, err
		}
		receipt.Forgotten++
	}
	receipt.Seq = s.Space.Stats().Content.Seq
	return receipt, nil
}

func (s directorySpace) Associate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return s.Space.Associate(ctx, a)
}

func (s directorySpace) Dissociate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return s.Space.Dissociate(ctx, a)
}

func (s directorySpace) Configure(ctx context.Context, change func(*engram.SpaceConfig)) (engram.Receipt, error) {
	config := s.Info().Config // nobody else has the directory
	change(&config)
	return s.Space.Configure(ctx, config)
}

func (s directorySpace) Content(ctx context.Context) (engram.ContentStats, error) {
	stats, err := s.Stats(ctx)
	return stats.Content, err
}

func (s directorySpace) Stats(ctx context.Context) (engram.SpaceStats, error) {
	// Reading anything wakes the space: only then its figures are the last ones.
	for _, err := range s.Memories(ctx, engram.Filter{}) {
		if err != nil {
			return engram.SpaceStats{}, err
		}
		break
	}
	return s.Space.Stats(), nil
}

// Verify reports damage as what was asked for, as the server does.
func (s directorySpace) Verify(ctx context.Context) (engram.VerifyReport, error) {
	report, err := s.Space.Verify(ctx)
	if len(report.Damage) > 0 {
		return report, nil
	}
	return report, err
}

// withBackend opens what the command line names for the duration of work.
func (a *app) withBackend(how access, work func(backend) error) error {
	address, err := a.server()
	if err != nil {
		return err
	}
	if address == "" {
		return a.withRegistry(how, func(registry *engram.Registry) error { return work(directory{registry}) })
	}
	transport, err := a.shown.transport(address)
	if err != nil {
		return err
	}
	client, err := httpclient.New(address, transport)
	if err != nil {
		return err
	}
	err = work(serverBackend{client})
	var broken *net.OpError
	if errors.As(err, &broken) && broken.Op == "dial" || errors.Is(err, httpclient.ErrNoServer) {
		return &unreachableError{address, err}
	}
	return err
}
