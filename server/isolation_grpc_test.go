package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// grpcLayer is gRPC with its streams.
func grpcLayer(t *testing.T) ni.Layer {
	room := newIsolationRoom(t)
	return ni.Layer{
		Name: "grpc", Supports: servable,
		Open: func(now func() time.Time) ni.Driver { return newGRPCDriver(room, now) },
	}
}

// grpcDriver implements [ni.Driver].
type grpcDriver struct {
	*isolationClients

	conn *grpc.ClientConn
}

func newGRPCDriver(room *isolationRoom, now func() time.Time) *grpcDriver {
	d := &grpcDriver{}
	d.isolationClients = newIsolationClients(room, now, func(s *Server, ctx context.Context, l net.Listener) error {
		return s.ServeGRPC(ctx, l)
	}, d)
	d.connect()
	return d
}

func (d *grpcDriver) connect() {
	var err error
	d.conn, err = grpc.NewClient("passthrough:///"+d.listener.Addr().String(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return d.listener.dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	orPanic(err)
}

func (d *grpcDriver) disconnect() { orPanic(d.conn.Close()) }

// address names the space in each way in turn, and shows its tenant's key.
func (d *grpcDriver) address(ctx context.Context, t *isolationTenant, space string, request proto.Message) context.Context {
	t.turn++
	switch t.turn % 3 {
	case 0:
		ctx = metadata.AppendToOutgoingContext(ctx, spaceMetadata, space)
	case 1:
		ctx = metadata.AppendToOutgoingContext(ctx, spaceMetadataAlias, space)
	default:
		m := request.ProtoReflect()
		m.Set(m.Descriptor().Fields().ByName(spaceField), protoreflect.ValueOfString(space))
	}
	return d.withKey(ctx, space)
}

func (d *grpcDriver) withKey(ctx context.Context, space string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, authorizationMetadata, "Bearer "+d.key(space))
}

// shownMessage is every byte of a message. Details of a failure are messages in
// their bytes, with their fields in any order.
func shownMessage(m proto.Message) string {
	if answer, ok := m.(*engramv1.RememberStreamResponse); ok && answer.GetFailure() != nil {
		failure := answer.GetFailure()
		return fmt.Sprintf("%d ", answer.GetTag()) + shownStatus(status.FromProto(&spb.Status{
			Code: failure.GetCode(), Message: failure.GetMessage(), Details: failure.GetDetails(),
		}).Err())
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	orPanic(err)
	return fmt.Sprintf("%s %q\n", m.ProtoReflect().Descriptor().Name(), b)
}

// shownStatus is the status of a call: details are sent with their fields in any
// order.
func shownStatus(err error) string {
	if errors.Is(err, io.EOF) {
		return "OK\n"
	}
	told := status.Convert(err)
	text := fmt.Sprintf("%s %q\n", told.Code(), told.Message())
	for _, detail := range told.Details() {
		if m, ok := detail.(proto.Message); ok {
			text += shownMessage(m)
			continue
		}
		text += fmt.Sprintf("detail %v\n", detail)
	}
	return text
}

// shownMetadata is all metadata but the status.
func shownMetadata(md metadata.MD) string {
	text := ""
	for _, key := range slices.Sorted(maps.Keys(md)) {
		if key != "grpc-status-details-bin" {
			text += fmt.Sprintf("%s: %q\n", key, md[key])
		}
	}
	return text
}

// call makes a call with one answer, about the space, and returns all of it.
func (d *grpcDriver) call(t *isolationTenant, space, method string, request, answer proto.Message) (string, error) {
	return d.invoke(d.address(context.Background(), t, space, request), method, request, answer)
}

func (d *grpcDriver) invoke(ctx context.Context, method string, request, answer proto.Message) (string, error) {
	var header, trailer metadata.MD
	err := d.conn.Invoke(ctx, method, request, answer, grpc.Header(&header), grpc.Trailer(&trailer))
	text := shownMetadata(header) + shownMessage(answer) + shownMetadata(trailer) + shownStatus(err)
	next := ""
	if page, ok := answer.(*engramv1.ListMemoriesResponse); ok {
		next = page.GetNext()
	}
	return d.pin(text, next), err
}

// open begins a call with a stream of requests, which are sent.
func (d *grpcDriver) open(ctx context.Context, method string, requests ...proto.Message) (grpc.ClientStream, error) {
	stream, err := d.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		if err := stream.SendMsg(request); errors.Is(err, io.EOF) {
			break // the answer says why
		} else if err != nil {
			return nil, err
		}
	}
	return stream, stream.CloseSend()
}

// streamed makes a call with a stream of answers, calls each with every one, and
// returns all of it.
func (d *grpcDriver) streamed(ctx context.Context, method string, answer proto.Message, each func(), requests ...proto.Message) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.open(ctx, method, requests...)
	if err != nil {
		return shownStatus(err), err
	}
	header, err := stream.Header()
	text := shownMetadata(header)
	for err == nil {
		if err = stream.RecvMsg(answer); err == nil {
			text += shownMessage(answer)
			each()
		}
	}
	if errors.Is(err, io.EOF) {
		return d.pin(text+shownMetadata(stream.Trailer())+shownStatus(err), ""), nil
	}
	return d.pin(text+shownMetadata(stream.Trailer())+shownStatus(err), ""), err
}

// Do implements [ni.Driver].
func (d *grpcDriver) Do(op ni.Op) string {
	t := d.tenant(&op)
	switch op.Kind {
	case ni.Restart:
		d.restart()
		return ""
	case ni.Create:
		answer := &engramv1.CreateSpaceResponse{}
		text, err := d.call(t, op.Space, engramv1.SpaceService_CreateSpace_FullMethodName,
			&engramv1.CreateSpaceRequest{Config: wire.FromConfig(isolationConfig(op.Config))}, answer)
		return d.create(t, &op, text, answer.GetSpace(), err)
	case ni.Delete:
		return d.delete(t, &op)
	case ni.Rename:
		text, err := d.call(t, op.Space, engramv1.SpaceService_RenameSpace_FullMethodName,
			&engramv1.RenameSpaceRequest{To: op.Other}, &engramv1.RenameSpaceResponse{})
		if err == nil {
			d.renamed(&op)
		}
		return text
	case ni.Reimport:
		return d.reimport(t, &op)
	case ni.Damage:
		d.damage(&op)
		return ""
	case ni.Stall:
		return d.stall(t, &op)
	case ni.Events:
		return d.events(t, &op)
	case ni.Probe:
		return d.probe(t, &op)
	case ni.List:
		return d.list(t, &op)
	case ni.Remember:
		return d.remember(t, &op)
	case ni.Figures:
		return d.figures(t, &op)
	}
	return d.simple(t, &op)
}

func grpcOptions(op *ni.Op) *engramv1.WriteOptions {
	o := &engramv1.WriteOptions{RequestId: op.Request}
	if op.Expect > 0 {
		o.ExpectSeq = &op.Expect
	}
	return o
}

// simple does what is one call.
func (d *grpcDriver) simple(t *isolationTenant, op *ni.Op) string {
	one := func(method string, request, answer proto.Message) string {
		text, _ := d.call(t, op.Space, method, request, answer)
		return text
	}
	association := wire.FromAssociation(engram.Association(op.Association))
	switch op.Kind {
	case ni.Forget:
		return one(engramv1.MemoryService_Forget_FullMethodName,
			&engramv1.ForgetRequest{Ids: op.IDs, Options: grpcOptions(op)}, &engramv1.ForgetResponse{})
	case ni.ForgetWhere:
		return one(engramv1.MemoryService_ForgetWhere_FullMethodName,
			&engramv1.ForgetWhereRequest{Filter: wire.FromFilter(isolationFilter(op.Filter))}, &engramv1.ForgetWhereResponse{})
	case ni.Lookup:
		return one(engramv1.MemoryService_Lookup_FullMethodName,
			&engramv1.LookupRequest{Id: op.IDs[0]}, &engramv1.LookupResponse{})
	case ni.Recall:
		if t.turn%2 == 0 {
			request := &engramv1.RecallStreamRequest{Cue: wire.FromCue(isolationCue(op))}
			text, _ := d.streamed(d.address(context.Background(), t, op.Space, request),
				engramv1.MemoryService_RecallStream_FullMethodName, &engramv1.RecallStreamResponse{}, func() {}, request)
			return text
		}
		return one(engramv1.MemoryService_Recall_FullMethodName,
			&engramv1.RecallRequest{Cue: wire.FromCue(isolationCue(op))}, &engramv1.RecallResponse{})
	case ni.Associate:
		return one(engramv1.MemoryService_Associate_FullMethodName,
			&engramv1.AssociateRequest{Association: association, Options: grpcOptions(op)}, &engramv1.AssociateResponse{})
	case ni.Dissociate:
		return one(engramv1.MemoryService_Dissociate_FullMethodName,
			&engramv1.DissociateRequest{Association: association, Options: grpcOptions(op)}, &engramv1.DissociateResponse{})
	case ni.Associated:
		return one(engramv1.MemoryService_Associations_FullMethodName,
			&engramv1.AssociationsRequest{Id: op.IDs[0]}, &engramv1.AssociationsResponse{})
	case ni.Configure:
		return one(engramv1.SpaceService_ConfigureSpace_FullMethodName,
			&engramv1.ConfigureSpaceRequest{Config: wire.FromConfig(isolationConfig(op.Config)), Options: grpcOptions(op)},
			&engramv1.ConfigureSpaceResponse{})
	case ni.Export:
		text, _ := d.export(t, op.Space)
		return text
	case ni.Checkpoint:
		return one(engramv1.AdminService_Checkpoint_FullMethodName, &engramv1.CheckpointRequest{}, &engramv1.CheckpointResponse{})
	case ni.Verify:
		return one(engramv1.AdminService_Verify_FullMethodName, &engramv1.VerifyRequest{}, &engramv1.VerifyResponse{})
	}
	panic("unknown operation " + string(op.Kind))
}

// remember puts one memory in either way.
func (d *grpcDriver) remember(t *isolationTenant, op *ni.Op) string {
	ms := isolationMemories(op.Memories)
	batch := &engramv1.RememberBatchRequest{Options: grpcOptions(op)}
	for i := range ms {
		batch.Memories = append(batch.Memories, wire.FromMemory(&ms[i]))
	}
	switch {
	case len(ms) > 1:
		text, _ := d.call(t, op.Space, engramv1.MemoryService_RememberBatch_FullMethodName, batch, &engramv1.RememberBatchResponse{})
		return text
	case t.turn%2 == 0:
		request := &engramv1.RememberStreamRequest{Tag: uint64(len(op.Space)), Memory: batch.Memories[0], Options: batch.Options}
		text, _ := d.streamed(d.address(context.Background(), t, op.Space, request),
			engramv1.MemoryService_RememberStream_FullMethodName, &engramv1.RememberStreamResponse{}, func() {}, request)
		return text
	}
	text, _ := d.call(t, op.Space, engramv1.MemoryService_Remember_FullMethodName,
		&engramv1.RememberRequest{Memory: batch.Memories[0], Options: batch.Options}, &engramv1.RememberResponse{})
	return text
}

// list goes from page to page, of what satisfies the filter and then of all.
func (d *grpcDriver) list(t *isolationTenant, op *ni.Op) string {
	all := ""
	for _, filter := range []*engramv1.Filter{wire.FromFilter(isolationFilter(op.Filter)), nil} {
		request := &engramv1.ListMemoriesRequest{Filter: filter, Limit: 5}
		for {
			answer := &engramv1.ListMemoriesResponse{}
			text, err := d.call(t, op.Space, engramv1.MemoryService_ListMemories_FullMethodName, request, answer)
			all += text
			if err != nil || answer.GetNext() == "" {
				break
			}
			request.After = answer.GetNext()
			if filter == nil {
				d.note(op.Tenant, isolationTokens{cursor: answer.GetNext()})
			}
		}
	}
	return all
}

// figures are what a tenant is told of its space and of the others.
func (d *grpcDriver) figures(t *isolationTenant, op *ni.Op) string {
	described, _ := d.call(t, op.Space, engramv1.SpaceService_GetSpace_FullMethodName, &engramv1.GetSpaceRequest{}, &engramv1.GetSpaceResponse{})
	listed, _ := d.invoke(d.withKey(context.Background(), op.Space), engramv1.SpaceService_ListSpaces_FullMethodName,
		&engramv1.ListSpacesRequest{}, &engramv1.ListSpacesResponse{})
	stats := &engramv1.StatsResponse{}
	_, err := d.call(t, op.Space, engramv1.AdminService_Stats_FullMethodName, &engramv1.StatsRequest{}, stats)
	stats.Operator = nil // is for the host
	return described + listed + shownMessage(stats) + shownStatus(err)
}

// create notes what was created, if it was.
func (d *grpcDriver) create(t *isolationTenant, op *ni.Op, text string, info *engramv1.SpaceInfo, err error) string {
	if err != nil {
		return text
	}
	return d.created(t, op, text, info.GetIncarnation())
}

func (d *grpcDriver) delete(t *isolationTenant, op *ni.Op) string {
	text, err := d.call(t, op.Space, engramv1.SpaceService_DeleteSpace_FullMethodName,
		&engramv1.DeleteSpaceRequest{}, &engramv1.DeleteSpaceResponse{})
	if err == nil {
		d.deleted(op)
	}
	return text
}

func (d *grpcDriver) export(t *isolationTenant, space string) (text string, exported []byte) {
	request, answer := &engramv1.ExportRequest{}, &engramv1.ExportResponse{}
	text, _ = d.streamed(d.address(context.Background(), t, space, request), engramv1.SpaceService_Export_FullMethodName,
		answer, func() { exported = append(exported, answer.GetChunk()...) }, request)
	return text, exported
}

func (d *grpcDriver) reimport(t *isolationTenant, op *ni.Op) string {
	exported, export := d.export(t, op.Space)
	deleted := d.delete(t, op)
	request, answer := &engramv1.ImportRequest{Chunk: export[:len(export)/2]}, &engramv1.ImportResponse{}
	imported, err := d.streamed(d.address(context.Background(), t, op.Space, request), engramv1.SpaceService_Import_FullMethodName,
		answer, func() {}, request, &engramv1.ImportRequest{Chunk: export[len(export)/2:]})
	return exported + deleted + d.create(t, op, imported, answer.GetSpace(), err)
}

// stall begins to read, and holds what that holds until the next time.
func (d *grpcDriver) stall(t *isolationTenant, op *ni.Op) string {
	t.letGo()
	ctx, cancel := context.WithCancel(context.Background())
	t.stalled = []func(){cancel}
	text := ""
	for method, request := range map[string]proto.Message{
		engramv1.SpaceService_Export_FullMethodName:     &engramv1.ExportRequest{MemorySpaceId: op.Space},
		engramv1.MemoryService_Subscribe_FullMethodName: &engramv1.SubscribeRequest{MemorySpaceId: op.Space},
	} {
		stream, err := d.open(d.withKey(ctx, op.Space), method, request)
		if err == nil {
			_, err = stream.Header()
		}
		text += shownStatus(err)
	}
	return text
}
