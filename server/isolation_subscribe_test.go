package server

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	ni "github.com/engramdb/engram/internal/noninterference"
	"github.com/engramdb/engram/server/engramv1"
)

// grpcEvents is a stream of events, which is read as far as it is known to go. A
// nil one has nothing.
type grpcEvents struct {
	stream grpc.ClientStream
	cancel context.CancelFunc
	pin    func(text, cursor string) string
	head   string // to be shown with what is read first
	last   uint64 // seq
	ended  bool
}

// subscribe opens a stream. Where it is refused, the head says so and the stream
// has ended.
func (d *grpcDriver) subscribe(t *grpcTenant, space string, request *engramv1.SubscribeRequest) *grpcEvents {
	return d.follow(d.address(context.Background(), t, space, request), request)
}

func (d *grpcDriver) follow(ctx context.Context, request *engramv1.SubscribeRequest) *grpcEvents {
	ctx, cancel := context.WithCancel(ctx)
	e := &grpcEvents{cancel: cancel, pin: d.pin, last: request.GetAfterSeq()}
	stream, err := d.open(ctx, engramv1.MemoryService_Subscribe_FullMethodName, request)
	if err != nil {
		e.head, e.ended = shownStatus(err), true
		return e
	}
	e.stream = stream
	header, err := stream.Header()
	e.head = shownMetadata(header)
	if err != nil || len(header) == 0 {
		e.head += e.end(stream.RecvMsg(&engramv1.SubscribeResponse{}))
	}
	return e
}

// end notes that the stream has ended with err.
func (e *grpcEvents) end(err error) string {
	e.ended = true
	return shownMetadata(e.stream.Trailer()) + shownStatus(err)
}

// next returns the next event.
func (e *grpcEvents) next() string {
	text := e.head
	e.head = ""
	if !e.ended {
		answer := &engramv1.SubscribeResponse{}
		if err := e.stream.RecvMsg(answer); err != nil {
			text += e.end(err)
		} else {
			text += shownMessage(answer)
			e.last = answer.GetEvent().GetSeq()
		}
	}
	return e.pin(text, "")
}

// upTo returns what comes until the seq is reached or the stream ends.
func (e *grpcEvents) upTo(seq uint64) []string {
	var events []string
	for e != nil && !e.ended && e.last < seq {
		events = append(events, e.next())
	}
	return events
}

// rest returns all that comes until the stream ends, which it is about to.
func (e *grpcEvents) rest() string {
	if e == nil {
		return ""
	}
	text := e.next()
	for !e.ended {
		text += e.next()
	}
	return text
}

func (e *grpcEvents) close() {
	if e != nil {
		e.cancel()
	}
}

// events reads what is there behind the position: of somebody else than A the
// first event, since in a damaged space it is not known what there is.
func (d *grpcDriver) events(t *grpcTenant, op *ni.Op) string {
	request := &engramv1.SubscribeRequest{AfterSeq: op.After}
	if t.turn%3 == 0 {
		request.Incarnation = d.own(op.Tenant).incarnation
	}
	e := d.subscribe(t, op.Space, request)
	defer e.close()
	seq := d.seq(op.Space)
	switch {
	case e.ended || op.After >= seq:
		return e.pin(e.head, "")
	case op.Tenant > 0:
		return e.next()
	}
	return strings.Join(e.upTo(seq), "")
}

// Follow implements [ni.Driver].
func (d *grpcDriver) Follow() []string {
	if d.name == "" {
		return nil
	}
	seq := d.seq(d.name)
	events := d.standing.upTo(seq)
	// One that would follow into the space's successor has something to show by now.
	if d.stale != nil && d.stale.last < seq {
		events = append(events, d.stale.next())
		d.stale.close()
		d.stale = nil
	}
	return events
}

// probe asks for what is not the tenant's, in every way that a client has.
func (d *grpcDriver) probe(t *grpcTenant, op *ni.Op) string {
	key := d.withKey(context.Background(), op.Space)
	named := metadata.AppendToOutgoingContext(key, strings.ToLower(spaceHeader), op.Space)
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
	// One stream may have messages about several spaces, each judged by itself.
	shown, _ := d.streamed(key, engramv1.MemoryService_RememberStream_FullMethodName, &engramv1.RememberStreamResponse{}, func() {},
		&engramv1.RememberStreamRequest{MemorySpaceId: op.Other, Memory: &engramv1.Memory{Id: "b1", Content: "of another space"}})
	return text + shown
}
