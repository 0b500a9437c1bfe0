package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
	"github.com/engramdb/engram/server/internal/local"
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
type directory struct{ *local.Registry }

func (d directory) space(ctx context.Context, id engram.SpaceID) (memorySpace, error) {
	if _, err := d.Get(ctx, id); err != nil {
		return nil, err
	}
	return d.Space(id), nil
}

// withBackend opens what the command line names for the duration of work.
func (a *app) withBackend(how access, work func(backend) error) error {
	address, err := a.server()
	if err != nil {
		return err
	}
	if address == "" {
		return a.withRegistry(how, func(registry *engram.Registry) error { return work(directory{&local.Registry{Registry: registry}}) })
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
