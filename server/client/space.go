package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// Space is a handle of one space on a server. Its methods do what those of
// engram.Space do.
type Space struct {
	c  *Client
	id engram.SpaceID
}

// ID returns the id that the handle was made with.
func (s *Space) ID() engram.SpaceID { return s.id }

// WriteOption changes how one write is done.
type WriteOption func(*engramv1.WriteOptions)

// RequestID is [engram.RequestID]. Without it, and with an empty one, a write gets a
// random one.
func RequestID(id string) WriteOption {
	return func(o *engramv1.WriteOptions) { o.RequestId = id }
}

// ExpectSeq is [engram.ExpectSeq].
func ExpectSeq(seq uint64) WriteOption {
	return func(o *engramv1.WriteOptions) { o.ExpectSeq = &seq }
}

// FailFast is [engram.FailFast]. The write is not tried again.
func FailFast() WriteOption {
	return func(o *engramv1.WriteOptions) { o.FailFast = true }
}

func writeOptions(options []WriteOption) *engramv1.WriteOptions {
	o := &engramv1.WriteOptions{}
	for _, option := range options {
		option(o)
	}
	if o.RequestId == "" {
		o.RequestId = rand.Text()
	}
	return o
}

// write tries a write again, unless its caller cannot wait.
func write[Q interface {
	GetOptions() *engramv1.WriteOptions
	proto.Message
}, A any](ctx context.Context, c *Client, call method[Q, A], message Q) (A, error) {
	if message.GetOptions().GetFailFast() {
		return once(ctx, c, call, message)
	}
	return retried(ctx, c, call, message)
}

// Remember stores a memory, or replaces the one of its id.
func (s *Space) Remember(ctx context.Context, m engram.Memory, options ...WriteOption) (engram.Receipt, error) {
	answer, err := write(ctx, s.c, s.c.memories.Remember, &engramv1.RememberRequest{
		MemorySpaceId: string(s.id), Memory: wire.FromMemory(&m), Options: writeOptions(options),
	})
	return wire.ToReceipt(answer.GetReceipt()), err
}

// RememberBatch stores all memories or none.
func (s *Space) RememberBatch(
	ctx context.Context, ms []engram.Memory, options ...WriteOption,
) ([]engram.Receipt, error) {
	if len(ms) > engram.MaxBatch { // the message might be larger than the server takes
		return nil, &engram.LimitError{What: "memories in a batch", Got: int64(len(ms)), Max: engram.MaxBatch}
	}
	message := &engramv1.RememberBatchRequest{
		MemorySpaceId: string(s.id), Memories: make([]*engramv1.Memory, len(ms)), Options: writeOptions(options),
	}
	for i := range ms {
		message.Memories[i] = wire.FromMemory(&ms[i])
	}
	answer, err := write(ctx, s.c, s.c.memories.RememberBatch, message)
	if err != nil {
		return nil, err
	}
	receipts := make([]engram.Receipt, len(answer.GetReceipts()))
	for i, receipt := range answer.GetReceipts() {
		receipts[i] = wire.ToReceipt(receipt)
	}
	return receipts, nil
}

// Lookup returns the memory of that id.
func (s *Space) Lookup(ctx context.Context, id string) (engram.Memory, error) {
	answer, err := retried(ctx, s.c, s.c.memories.Lookup, &engramv1.LookupRequest{MemorySpaceId: string(s.id), Id: id})
	if err != nil {
		return engram.Memory{}, err
	}
	return wire.ToMemory(answer.GetMemory())
}

// Memories yields the memories that satisfy f in time order, page by page: each
// page is of one snapshot, a later page may be of a later one. An error comes last.
func (s *Space) Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error] {
	return func(yield func(engram.Memory, error) bool) {
		message := &engramv1.ListMemoriesRequest{MemorySpaceId: string(s.id), Filter: wire.FromFilter(f)}
		for {
			page, err := retried(ctx, s.c, s.c.memories.ListMemories, message)
			if err != nil {
				yield(engram.Memory{}, err)
				return
			}
			for _, m := range page.GetMemories() {
				memory, err := wire.ToMemory(m)
				if !yield(memory, err) || err != nil {
					return
				}
			}
			if message.After = page.GetNext(); message.After == "" {
				return
			}
		}
	}
}

// Recall answers the cue from one snapshot. An answer that is too large for one
// message is asked for again as a stream. Its Admit is not asked.
func (s *Space) Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error) {
	message := wire.FromCue(cue)
	answer, err := retried(ctx, s.c, s.c.memories.Recall, &engramv1.RecallRequest{MemorySpaceId: string(s.id), Cue: message})
	var e *Error
	if errors.As(err, &e) && e.Code == codes.ResourceExhausted && e.Reason == "" {
		answer, err = retried(ctx, s.c, s.recallStream, &engramv1.RecallStreamRequest{MemorySpaceId: string(s.id), Cue: message})
	}
	if err != nil {
		return engram.Recall{}, err
	}
	return wire.ToRecall(answer)
}

// recallStream puts an answer that comes as a stream together.
func (s *Space) recallStream(
	ctx context.Context, request *engramv1.RecallStreamRequest, options ...grpc.CallOption,
) (*engramv1.RecallResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.c.memories.RecallStream(ctx, request, options...)
	if err != nil {
		return nil, err
	}
	whole, expected := &engramv1.RecallResponse{}, int64(0)
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && int64(len(whole.Recollections)) == expected:
			return whole, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("answer of %d recollections ended early: %w", expected, io.ErrUnexpectedEOF)
		case err != nil:
			return nil, err
		}
		if summary := part.GetSummary(); summary != nil {
			whole.Seq, whole.Plan, expected = summary.GetSeq(), summary.GetPlan(), summary.GetRecollections()
		}
		if recollection := part.GetRecollection(); recollection != nil {
			whole.Recollections = append(whole.Recollections, recollection)
		}
	}
}

// Forget forgets the memories of these ids.
func (s *Space) Forget(ctx context.Context, ids []string, options ...WriteOption) (engram.ForgetReceipt, error) {
	answer, err := write(ctx, s.c, s.c.memories.Forget, &engramv1.ForgetRequest{
		MemorySpaceId: string(s.id), Ids: ids, Options: writeOptions(options),
	})
	return wire.ToForgetReceipt(answer.GetReceipt()), err
}

// ForgetWhere forgets the memories that satisfy f.
func (s *Space) ForgetWhere(
	ctx context.Context, f engram.Filter, options ...WriteOption,
) (engram.ForgetReceipt, error) {
	answer, err := write(ctx, s.c, s.c.memories.ForgetWhere, &engramv1.ForgetWhereRequest{
		MemorySpaceId: string(s.id), Filter: wire.FromFilter(f), Options: writeOptions(options),
	})
	return wire.ToForgetReceipt(answer.GetReceipt()), err
}

// Associate makes an association or gives it a new weight.
func (s *Space) Associate(ctx context.Context, a engram.Association, options ...WriteOption) (engram.Receipt, error) {
	answer, err := write(ctx, s.c, s.c.memories.Associate, &engramv1.AssociateRequest{
		MemorySpaceId: string(s.id), Association: wire.FromAssociation(a), Options: writeOptions(options),
	})
	return wire.ToReceipt(answer.GetReceipt()), err
}

// Dissociate removes an association.
func (s *Space) Dissociate(ctx context.Context, a engram.Association, options ...WriteOption) (engram.Receipt, error) {
	answer, err := write(ctx, s.c, s.c.memories.Dissociate, &engramv1.DissociateRequest{
		MemorySpaceId: string(s.id), Association: wire.FromAssociation(a), Options: writeOptions(options),
	})
	return wire.ToReceipt(answer.GetReceipt()), err
}

// Associations returns the associations of the memory of that id, which it asks for page
// by page: each page is of one snapshot, a later page may be of a later one.
func (s *Space) Associations(ctx context.Context, id string) ([]engram.Association, error) {
	message := &engramv1.AssociationsRequest{MemorySpaceId: string(s.id), Id: id}
	var associations []engram.Association
	for {
		page, err := retried(ctx, s.c, s.c.memories.Associations, message)
		if err != nil {
			return nil, err
		}
		for _, a := range page.GetAssociations() {
			associations = append(associations, wire.ToAssociation(a))
		}
		if message.After = page.GetNext(); message.After == "" {
			return associations, nil
		}
	}
}

// Configure changes the space's configuration.
func (s *Space) Configure(
	ctx context.Context, config engram.SpaceConfig, options ...WriteOption,
) (engram.Receipt, error) {
	answer, err := write(ctx, s.c, s.c.spaces.ConfigureSpace, &engramv1.ConfigureSpaceRequest{
		MemorySpaceId: string(s.id), Config: wire.FromConfig(config), Options: writeOptions(options),
	})
	return wire.ToReceipt(answer.GetReceipt()), err
}

// Info describes the space, which the server wakes for it.
func (s *Space) Info(ctx context.Context) (engram.SpaceInfo, error) { return s.c.Info(ctx, s.id) }

// Stats returns the space's figures without waking it. Of one that sleeps they
// are those of its mark: memories, bytes, dimension, seq and the mark's own. The
// others are zero.
func (s *Space) Stats(ctx context.Context) (engram.SpaceStats, error) {
	answer, err := retried(ctx, s.c, s.c.admin.Stats, &engramv1.StatsRequest{MemorySpaceId: string(s.id)})
	if err != nil {
		return engram.SpaceStats{}, err
	}
	return wire.ToSpaceStats(answer), nil
}

// Checkpoint writes the space's indexes to disk.
func (s *Space) Checkpoint(ctx context.Context) error {
	_, err := retried(ctx, s.c, s.c.admin.Checkpoint, &engramv1.CheckpointRequest{MemorySpaceId: string(s.id)})
	return err
}

// Verify reads every byte of the space's files. Damage is in the report, and no error.
func (s *Space) Verify(ctx context.Context) (engram.VerifyReport, error) {
	answer, err := retried(ctx, s.c, s.c.admin.Verify, &engramv1.VerifyRequest{MemorySpaceId: string(s.id)})
	if err != nil {
		return engram.VerifyReport{}, err
	}
	return wire.ToVerifyReport(answer.GetReport()), nil
}

// Export writes one snapshot of the space to dst as JSON Lines and returns its
// seq. It is tried once: with an error, what was written is not whole.
func (s *Space) Export(ctx context.Context, dst io.Writer) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.c.spaces.Export(ctx, &engramv1.ExportRequest{MemorySpaceId: string(s.id)})
	if err != nil {
		return 0, s.c.errorOf(err, nil)
	}
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("export ended early: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return 0, s.c.errorOf(err, nil)
		case part.Seq != nil:
			return part.GetSeq(), nil
		}
		if _, err := dst.Write(part.GetChunk()); err != nil {
			return 0, fmt.Errorf("write export: %w", err)
		}
	}
}
