package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// memoryService answers the RPCs of a tenant. What it is called with has been
// admitted.
type memoryService struct {
	engramv1.UnsafeMemoryServiceServer

	s *Server
}

// open returns the space of a call, which must exist.
func (s *Server) open(ctx context.Context) (*engram.Space, error) {
	return s.registry.Get(ctx, spaceOf(ctx))
}

// writeOptionsOf reads how a write is to be done.
func writeOptionsOf(o *engramv1.WriteOptions) []engram.WriteOption {
	var options []engram.WriteOption
	if o.GetRequestId() != "" {
		options = append(options, engram.RequestID(o.GetRequestId()))
	}
	if o != nil && o.ExpectSeq != nil {
		options = append(options, engram.ExpectSeq(o.GetExpectSeq()))
	}
	if o.GetFailFast() {
		options = append(options, engram.FailFast())
	}
	return options
}

// Remember stores a memory.
func (m memoryService) Remember(ctx context.Context, r *engramv1.RememberRequest) (*engramv1.RememberResponse, error) {
	ctx, end := inLibrary(ctx, "Remember")
	receipt, err := m.s.rememberOne(ctx, r.GetMemory(), r.GetOptions())
	end(err)
	if err != nil {
		return nil, err
	}
	return &engramv1.RememberResponse{Receipt: wire.FromReceipt(receipt)}, nil
}

func (s *Server) rememberOne(ctx context.Context, m *engramv1.Memory, o *engramv1.WriteOptions) (engram.Receipt, error) {
	memory, err := wire.ToMemory(m)
	if err != nil {
		return engram.Receipt{}, err
	}
	options := writeOptionsOf(o)
	space, err := s.getToWrite(ctx, spaceOf(ctx), o != nil && o.ExpectSeq != nil, []engram.Memory{memory}, options...)
	if err != nil {
		return engram.Receipt{}, err
	}
	return space.Remember(ctx, memory, options...)
}

// RememberBatch stores all memories or none.
func (m memoryService) RememberBatch(
	ctx context.Context, r *engramv1.RememberBatchRequest,
) (*engramv1.RememberBatchResponse, error) {
	if n := len(r.GetMemories()); n > engram.MaxBatch {
		return nil, &engram.LimitError{What: "memories in a batch", Got: int64(n), Max: engram.MaxBatch}
	}
	memories := make([]engram.Memory, len(r.GetMemories()))
	for i, message := range r.GetMemories() {
		var err error
		if memories[i], err = wire.ToMemory(message); err != nil {
			return nil, fmt.Errorf("memory %d: %w", i, err)
		}
	}
	o := r.GetOptions()
	options := writeOptionsOf(o)
	space, err := m.s.getToWrite(ctx, spaceOf(ctx), o != nil && o.ExpectSeq != nil, memories, options...)
	if err != nil {
		return nil, err
	}
	ctx, end := inLibrary(ctx, "RememberBatch")
	receipts, err := space.RememberBatch(ctx, memories, options...)
	end(err)
	if err != nil {
		return nil, err
	}
	answer := &engramv1.RememberBatchResponse{Receipts: make([]*engramv1.Receipt, len(receipts))}
	for i, receipt := range receipts {
		answer.Receipts[i] = wire.FromReceipt(receipt)
	}
	return answer, nil
}

// Lookup returns a memory.
func (m memoryService) Lookup(ctx context.Context, r *engramv1.LookupRequest) (*engramv1.LookupResponse, error) {
	space, err := m.s.open(ctx)
	if err != nil {
		return nil, err
	}
	memory, err := space.Lookup(ctx, r.GetId())
	if err != nil {
		return nil, err
	}
	if err := m.s.holdAnswer(&callOf(ctx).request, sizeOf(&memory)); err != nil {
		return nil, err
	}
	return &engramv1.LookupResponse{Memory: wire.FromMemory(&memory)}, nil
}

// ListMemories returns a page of memories.
func (m memoryService) ListMemories(
	ctx context.Context, r *engramv1.ListMemoriesRequest,
) (*engramv1.ListMemoriesResponse, error) {
	filter, err := wire.ToFilter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	limit, err := pageLimitOf(r.GetLimit(), defaultPageMemories, maxPageMemories)
	if err != nil {
		return nil, err
	}
	space, err := m.s.open(ctx)
	if err != nil {
		return nil, err
	}
	page, err := m.s.listPage(ctx, &callOf(ctx).request, space, filter, r.GetAfter(), r.GetAfter() != "", limit)
	if err != nil {
		return nil, err
	}
	answer := &engramv1.ListMemoriesResponse{Memories: make([]*engramv1.Memory, len(page.Memories)), Next: page.Next}
	for i := range page.Memories {
		answer.Memories[i] = wire.FromMemory(&page.Memories[i])
	}
	return answer, nil
}

// pageLimitOf reads how long a page may be.
func pageLimitOf(asked int64, usual, most int) (int, error) {
	switch {
	case asked == 0:
		return usual, nil
	case asked < 0 || asked > int64(most):
		return 0, refuse(kindMalformedRequest, fmt.Sprintf("the field limit must be 1 to %d", most))
	}
	return int(asked), nil
}

func (s *Server) recallOf(ctx context.Context, message *engramv1.Cue) (engram.Recall, error) {
	cue, err := wire.ToCue(message)
	if err != nil {
		return engram.Recall{}, err
	}
	space, err := s.open(ctx)
	if err != nil {
		return engram.Recall{}, err
	}
	return s.recallFor(ctx, &callOf(ctx).request, space, cue)
}

// Recall answers a cue.
func (m memoryService) Recall(ctx context.Context, r *engramv1.RecallRequest) (*engramv1.RecallResponse, error) {
	recall, err := m.s.recallOf(ctx, r.GetCue())
	if err != nil {
		return nil, err
	}
	return wire.FromRecall(recall), nil
}

// RecallStream answers a cue in many messages.
func (m memoryService) RecallStream(
	r *engramv1.RecallStreamRequest, stream grpc.ServerStreamingServer[engramv1.RecallStreamResponse],
) error {
	recall, err := m.s.recallOf(stream.Context(), r.GetCue())
	if err != nil {
		return err
	}
	err = stream.Send(&engramv1.RecallStreamResponse{Part: &engramv1.RecallStreamResponse_Summary{
		Summary: &engramv1.RecallSummary{
			Seq: recall.Seq, Plan: wire.FromPlan(recall.Plan), Recollections: int64(len(recall.Recollections)),
		},
	}})
	for i := range recall.Recollections {
		if err != nil {
			return err
		}
		err = stream.Send(&engramv1.RecallStreamResponse{Part: &engramv1.RecallStreamResponse_Recollection{
			Recollection: wire.FromRecollection(&recall.Recollections[i]),
		}})
	}
	return err
}

// Forget forgets memories.
func (m memoryService) Forget(ctx context.Context, r *engramv1.ForgetRequest) (*engramv1.ForgetResponse, error) {
	space, err := m.s.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, end := inLibrary(ctx, "Forget")
	receipt, err := space.Forget(ctx, r.GetIds(), writeOptionsOf(r.GetOptions())...)
	end(err)
	if err != nil {
		return nil, err
	}
	return &engramv1.ForgetResponse{Receipt: wire.FromForgetReceipt(receipt)}, nil
}

// ForgetWhere forgets what satisfies a filter.
func (m memoryService) ForgetWhere(
	ctx context.Context, r *engramv1.ForgetWhereRequest,
) (*engramv1.ForgetWhereResponse, error) {
	filter, err := wire.ToFilter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	space, err := m.s.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, end := inLibrary(ctx, "ForgetWhere")
	receipt, err := space.ForgetWhere(ctx, filter, writeOptionsOf(r.GetOptions())...)
	end(err)
	if err != nil {
		return nil, err
	}
	return &engramv1.ForgetWhereResponse{Receipt: wire.FromForgetReceipt(receipt)}, nil
}

// Associate makes an association.
func (m memoryService) Associate(ctx context.Context, r *engramv1.AssociateRequest) (*engramv1.AssociateResponse, error) {
	space, err := m.s.open(ctx)
	if err != nil {
		return nil, err
	}
	receipt, err := space.Associate(ctx, wire.ToAssociation(r.GetAssociation()), writeOptionsOf(r.GetOptions())...)
	if err != nil {
		return nil, err
	}
	return &engramv1.AssociateResponse{Receipt: wire.FromReceipt(receipt)}, nil
}

// Dissociate removes an association.
func (m memoryService) Dissociate(
	ctx context.Context, r *engramv1.DissociateRequest,
) (*engramv1.DissociateResponse, error) {
	space, err := m.s.open(ctx)
	if err != nil {
		return nil, err
	}
	receipt, err := space.Dissociate(ctx, wire.ToAssociation(r.GetAssociation()), writeOptionsOf(r.GetOptions())...)
	if err != nil {
		return nil, err
	}
	return &engramv1.DissociateResponse{Receipt: wire.FromReceipt(receipt)}, nil
}

// Associations returns a page of the associations of a memory.
func (m memoryService) Associations(
	ctx context.Context, r *engramv1.AssociationsRequest,
) (*engramv1.AssociationsResponse, error) {
	limit, err := pageLimitOf(r.GetLimit(), maxPageAssociations, maxPageAssociations)
	if err != nil {
		return nil, err
	}
	space, err := m.s.open(ctx)
	if err != nil {
		return nil, err
	}
	page, err := pageAssociations(ctx, space, r.GetId(), r.GetAfter(), r.GetAfter() != "", limit)
	if err != nil {
		return nil, err
	}
	answer := &engramv1.AssociationsResponse{
		Associations: make([]*engramv1.Association, len(page.Associations)), Next: page.Next,
	}
	for i, association := range page.Associations {
		answer.Associations[i] = wire.FromAssociation(association)
	}
	return answer, nil
}
