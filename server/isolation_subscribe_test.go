package server

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	ni "github.com/engramdb/engram/internal/noninterference"
	"github.com/engramdb/engram/server/engramv1"
)

// grpcEvents implements [isolationEvents].
type grpcEvents struct {
	stream grpc.ClientStream
	cancel context.CancelFunc
}

func (d *grpcDriver) subscribe(t *isolationTenant, space string, after uint64, incarnation string) *isolationStream {
	request := &engramv1.SubscribeRequest{AfterSeq: after, Incarnation: incarnation}
	return d.follow(d.address(context.Background(), t, space, request), request)
}

// follow opens the stream that is asked for. Where it is refused, the head says so
// and the stream has ended.
func (d *grpcDriver) follow(ctx context.Context, request *engramv1.SubscribeRequest) *isolationStream {
	ctx, cancel := context.WithCancel(ctx)
	s := &isolationStream{pin: d.pin, last: request.GetAfterSeq()}
	stream, err := d.open(ctx, engramv1.MemoryService_Subscribe_FullMethodName, request)
	if err != nil {
		cancel()
		s.head, s.ended = shownStatus(err), true
		return s
	}
	events := &grpcEvents{stream: stream, cancel: cancel}
	s.source = events
	header, err := stream.Header()
	s.head = shownMetadata(header)
	if err != nil || len(header) == 0 {
		s.head += events.end(stream.RecvMsg(&engramv1.SubscribeResponse{}))
		s.ended = true
	}
	return s
}

// end is how the stream has ended, with err.
func (e *grpcEvents) end(err error) string {
	return shownMetadata(e.stream.Trailer()) + shownStatus(err)
}

func (e *grpcEvents) read() (text string, seq uint64, more bool) {
	answer := &engramv1.SubscribeResponse{}
	if err := e.stream.RecvMsg(answer); err != nil {
		return e.end(err), 0, false
	}
	return shownMessage(answer), answer.GetEvent().GetSeq(), true
}

func (e *grpcEvents) close() { e.cancel() }

// probe asks for what is not the tenant's, in every way that a client has.
func (d *grpcDriver) probe(t *isolationTenant, op *ni.Op) string {
	key := d.withKey(context.Background(), op.Space)
	named := metadata.AppendToOutgoingContext(key, spaceMetadata, op.Space)
	text := ""
	ask := func(ctx context.Context, method string, request, answer proto.Message) {
		shown, _ := d.invoke(ctx, method, request, answer)
		text += shown
	}
	for _, id := range []string{op.Other + "/" + op.IDs[0], op.Other + op.IDs[0], op.Other} {
		ask(named, engramv1.MemoryService_Lookup_FullMethodName, &engramv1.LookupRequest{Id: id}, &engramv1.LookupResponse{})
	}
	ask(named, engramv1.MemoryService_Remember_FullMethodName,
		&engramv1.RememberRequest{Memory: &engramv1.Memory{Content: "of another space", Space: op.Other}}, &engramv1.RememberResponse{})
	ask(named, engramv1.SpaceService_RenameSpace_FullMethodName, &engramv1.RenameSpaceRequest{To: op.Other}, &engramv1.RenameSpaceResponse{})
	ask(key, engramv1.SpaceService_DeleteSpace_FullMethodName, &engramv1.DeleteSpaceRequest{MemorySpaceId: op.Other}, &engramv1.DeleteSpaceResponse{})
	ask(key, engramv1.SpaceService_CreateSpace_FullMethodName, &engramv1.CreateSpaceRequest{MemorySpaceId: op.Other}, &engramv1.CreateSpaceResponse{})
	ask(key, engramv1.AdminService_RegistryStats_FullMethodName, &engramv1.RegistryStatsRequest{}, &engramv1.RegistryStatsResponse{})
	for _, space := range []string{op.Other, otherName(op.Space), ""} { // and the default one
		ask(key, engramv1.MemoryService_Lookup_FullMethodName, &engramv1.LookupRequest{MemorySpaceId: space, Id: op.IDs[0]}, &engramv1.LookupResponse{})
		ask(key, engramv1.MemoryService_Recall_FullMethodName, &engramv1.RecallRequest{MemorySpaceId: space}, &engramv1.RecallResponse{})
	}
	ask(named, engramv1.MemoryService_Recall_FullMethodName, &engramv1.RecallRequest{MemorySpaceId: op.Other}, &engramv1.RecallResponse{})
	foreign, own := d.foreign(op.Tenant), d.own(op.Tenant)
	ask(named, engramv1.MemoryService_ListMemories_FullMethodName, &engramv1.ListMemoriesRequest{After: foreign.cursor}, &engramv1.ListMemoriesResponse{})
	if own.cursor != "" {
		ask(named, engramv1.MemoryService_ListMemories_FullMethodName, &engramv1.ListMemoriesRequest{After: own.cursor}, &engramv1.ListMemoriesResponse{})
	}
	for _, request := range []*engramv1.SubscribeRequest{{MemorySpaceId: op.Other}, {MemorySpaceId: op.Space, Incarnation: foreign.incarnation}} {
		e := d.follow(key, request)
		text += d.pin(e.head, "")
		e.close()
	}
	return text + d.probeStream(key, op)
}

// probeStream writes to several spaces on one stream: each message is judged by
// itself. They may be answered in any order.
func (d *grpcDriver) probeStream(ctx context.Context, op *ni.Op) string {
	var requests []proto.Message
	for i, space := range []string{op.Other, op.Space, op.Other} {
		requests = append(requests, &engramv1.RememberStreamRequest{
			Tag: uint64(i), MemorySpaceId: space, Memory: &engramv1.Memory{Id: "b1", Content: "of another space"},
		})
	}
	text, _ := d.streamed(ctx, engramv1.MemoryService_RememberStream_FullMethodName, &engramv1.RememberStreamResponse{}, func() {}, requests...)
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
