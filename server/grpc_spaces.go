package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// spaceService answers the RPCs that manage spaces. What it is called with has
// been admitted.
type spaceService struct {
	engramv1.UnsafeSpaceServiceServer

	s *Server
}

func (s *Server) infoOf(ctx context.Context, id engram.SpaceID) (*engramv1.SpaceInfo, error) {
	info, err := s.describe(ctx, id)
	if err != nil {
		return nil, err
	}
	return wire.FromInfo(info), nil
}

// CreateSpace makes a space.
func (p spaceService) CreateSpace(
	ctx context.Context, r *engramv1.CreateSpaceRequest,
) (*engramv1.CreateSpaceResponse, error) {
	if _, err := p.s.registry.Create(ctx, spaceOf(ctx), wire.ToConfig(r.GetConfig())); err != nil {
		return nil, err
	}
	info, err := p.s.infoOf(ctx, spaceOf(ctx))
	if err != nil {
		return nil, err
	}
	return &engramv1.CreateSpaceResponse{Space: info}, nil
}

// GetSpace describes a space.
func (p spaceService) GetSpace(ctx context.Context, _ *engramv1.GetSpaceRequest) (*engramv1.GetSpaceResponse, error) {
	info, err := p.s.infoOf(ctx, spaceOf(ctx))
	if err != nil {
		return nil, err
	}
	return &engramv1.GetSpaceResponse{Space: info}, nil
}

// ListSpaces answers from the catalogue: it wakes no space and reads no file.
func (p spaceService) ListSpaces(
	ctx context.Context, r *engramv1.ListSpacesRequest,
) (*engramv1.ListSpacesResponse, error) {
	after := engram.SpaceID(r.GetAfter())
	if after != "" {
		if err := after.Validate(); err != nil {
			return nil, refuseSpaceID("the field after", err)
		}
	}
	limit, err := pageLimitOf(r.GetLimit(), defaultPageSpaces, maxPageSpaces)
	if err != nil {
		return nil, err
	}
	answer := &engramv1.ListSpacesResponse{}
	for id := range p.s.visible(callOf(ctx).principal, after) {
		if len(answer.Ids) == limit {
			answer.Next = answer.Ids[limit-1]
			break
		}
		answer.Ids = append(answer.Ids, string(id))
	}
	return answer, nil
}

// DeleteSpace deletes a space.
func (p spaceService) DeleteSpace(
	ctx context.Context, _ *engramv1.DeleteSpaceRequest,
) (*engramv1.DeleteSpaceResponse, error) {
	if err := p.s.registry.Delete(ctx, spaceOf(ctx)); err != nil {
		return nil, err
	}
	return &engramv1.DeleteSpaceResponse{}, nil
}

// RenameSpace gives a space another id.
func (p spaceService) RenameSpace(
	ctx context.Context, r *engramv1.RenameSpaceRequest,
) (*engramv1.RenameSpaceResponse, error) {
	to := engram.SpaceID(r.GetTo())
	if err := p.s.registry.Rename(ctx, spaceOf(ctx), to); err != nil {
		return nil, err
	}
	info, err := p.s.infoOf(ctx, to)
	if err != nil {
		return nil, err
	}
	return &engramv1.RenameSpaceResponse{Space: info}, nil
}

// ConfigureSpace changes a space's configuration.
func (p spaceService) ConfigureSpace(
	ctx context.Context, r *engramv1.ConfigureSpaceRequest,
) (*engramv1.ConfigureSpaceResponse, error) {
	space, err := p.s.open(ctx)
	if err != nil {
		return nil, err
	}
	receipt, err := space.Configure(ctx, wire.ToConfig(r.GetConfig()), writeOptionsOf(r.GetOptions())...)
	if err != nil {
		return nil, err
	}
	return &engramv1.ConfigureSpaceResponse{Receipt: wire.FromReceipt(receipt)}, nil
}

// chunkWriter sends what is written to it.
type chunkWriter struct {
	stream  grpc.ServerStreamingServer[engramv1.ExportResponse]
	timeout time.Duration // in which the client has to take as much as one chunk
}

// Write sends p in chunks of partBytes. The messages keep no part of it.
func (w chunkWriter) Write(p []byte) (n int, err error) {
	for chunk := range slices.Chunk(p, partBytes) {
		err := within(w.stream.Context(), w.timeout, func() error {
			return w.stream.Send(&engramv1.ExportResponse{Chunk: chunk})
		})
		if err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

// Export streams a space.
func (p spaceService) Export(
	_ *engramv1.ExportRequest, stream grpc.ServerStreamingServer[engramv1.ExportResponse],
) error {
	ctx := stream.Context()
	space, err := p.s.open(ctx)
	if err != nil {
		return err
	}
	if err := p.s.holdExport(&callOf(ctx).request); err != nil {
		return err
	}
	buffer := bufio.NewWriterSize(chunkWriter{stream, p.s.writeTimeout}, exportBufferBytes)
	seq, err := space.Export(ctx, buffer)
	if err != nil {
		return errors.Join(err, buffer.Flush()) // of a damaged space, what precedes the damage
	}
	if err := buffer.Flush(); err != nil {
		return err
	}
	return stream.Send(&engramv1.ExportResponse{Seq: &seq})
}

// chunkReader reads the chunks of an import as one text.
type chunkReader struct {
	ctx      context.Context //nolint:containedctx // of the import, which is one call
	received <-chan receivedChunk
	timeout  time.Duration // in which the next has to come
	chunk    []byte
	left     int64                   // that may still come
	hold     func(bytes int64) error // counts the chunk that is in memory
	err      error                   // that the stream ended with
}

type receivedChunk struct {
	chunk []byte
	err   error
}

// receiveChunks hands on what is received until the stream ends or ctx does. A
// receive itself ends only with the call, which waits for it no longer then.
func receiveChunks(
	ctx context.Context, stream grpc.ClientStreamingServer[engramv1.ImportRequest, engramv1.ImportResponse],
	received chan<- receivedChunk,
) {
	for {
		request, err := stream.Recv()
		select {
		case received <- receivedChunk{request.GetChunk(), err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// Read reads the next bytes, and returns io.EOF only where the client said that
// it is done.
func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.chunk) == 0 {
		next := r.next()
		if next.err != nil {
			if !errors.Is(next.err, io.EOF) {
				r.err = next.err
			}
			return 0, next.err
		}
		if r.err = r.hold(int64(len(next.chunk))); r.err != nil {
			return 0, r.err
		}
		r.chunk = next.chunk
	}
	if r.left < int64(len(r.chunk)) {
		r.err = refuse(kindBodyTooLarge, "the export is larger than this server takes")
		return 0, r.err
	}
	n := copy(p, r.chunk)
	r.chunk, r.left = r.chunk[n:], r.left-int64(n)
	return n, nil
}

// next waits for the next chunk, as long as one may wait for a part of a body.
func (r *chunkReader) next() receivedChunk {
	late := time.NewTimer(r.timeout)
	defer late.Stop()
	select {
	case next := <-r.received:
		return next
	case <-r.ctx.Done():
		return receivedChunk{err: context.Cause(r.ctx)}
	case <-late.C:
		return receivedChunk{err: refuse(kindBodyTimeout, fmt.Sprintf("the next chunk did not arrive within %s", r.timeout))}
	}
}

// Import creates a space from an export.
func (p spaceService) Import(
	stream grpc.ClientStreamingServer[engramv1.ImportRequest, engramv1.ImportResponse],
) error {
	first, err := stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return refuseSpaceID("the field "+spaceField, engram.SpaceID("").Validate()) // as where the first message names none
	case err != nil:
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	c := callOf(ctx)
	if err := p.s.holdImport(&c.request); err != nil {
		return err
	}
	received := make(chan receivedChunk)
	p.s.receivers.Go(func() { receiveChunks(ctx, stream, received) })
	source := &chunkReader{
		ctx: ctx, received: received, timeout: p.s.bodyTimeout, chunk: first.GetChunk(), left: p.s.options.MaxImportBytes,
		hold: func(bytes int64) error { return p.s.hold(&c.request, bytes) },
	}
	if _, err := p.s.registry.Import(ctx, spaceOf(ctx), source); err != nil {
		if source.err != nil {
			return source.err // says more than what the library makes of it
		}
		return err
	}
	info, err := p.s.infoOf(ctx, spaceOf(ctx))
	if err != nil {
		return fmt.Errorf("describe what was imported: %w", err)
	}
	return stream.SendAndClose(&engramv1.ImportResponse{Space: info})
}
