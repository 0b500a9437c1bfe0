package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// wired is a server that is reached over a loopback connection.
type wired struct {
	*fixture

	conn     *grpc.ClientConn
	memories engramv1.MemoryServiceClient
	spaces   engramv1.SpaceServiceClient
	stop     context.CancelFunc
	served   chan error
}

func newWired(t *testing.T, options Options) *wired {
	t.Helper()
	return wireTo(t, newFixture(t, options))
}

// wireTo serves a fixture over gRPC.
func wireTo(t *testing.T, f *fixture) *wired {
	t.Helper()
	w := &wired{fixture: f, served: make(chan error, 1)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.served <- w.server.ServeGRPC(ctx, listener) }()
	w.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, w.conn.Close())
		stop()
		require.NoError(t, <-w.served)
	})
	w.memories = engramv1.NewMemoryServiceClient(w.conn)
	w.spaces = engramv1.NewSpaceServiceClient(w.conn)
	return w
}

// refused asserts code and reason of an error, and returns its ErrorInfo.
func refused(t *testing.T, err error, code codes.Code, reason string) *errdetails.ErrorInfo {
	t.Helper()
	require.Equal(t, code, status.Code(err), "%v", err)
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			require.Equal(t, "engram", info.GetDomain())
			require.Equal(t, reason, info.GetReason())
			return info
		}
	}
	require.FailNow(t, "no ErrorInfo", "%v", err)
	return nil
}

// TestEveryRPCHasARule: an RPC without one would be refused, and a rule without
// its RPC would rest unnoticed.
func TestEveryRPCHasARule(t *testing.T) {
	var served []string
	for name, service := range newFixture(t, Options{}).server.newGRPC().GetServiceInfo() {
		for _, method := range service.Methods {
			served = append(served, "/"+name+"/"+method.Name)
		}
	}
	var ruled []string
	for name, rule := range rules() {
		require.NotZero(t, rule.verb, name)
		require.NotZero(t, rule.about, name)
		ruled = append(ruled, name)
	}
	require.ElementsMatch(t, served, ruled)
}

func TestRPCWithoutARuleIsRefused(t *testing.T) {
	w := newWired(t, Options{})
	delete(w.server.rules, engramv1.MemoryService_Lookup_FullMethodName)
	delete(w.server.rules, engramv1.MemoryService_Subscribe_FullMethodName)
	_, err := w.memories.Lookup(t.Context(), &engramv1.LookupRequest{})
	refused(t, err, codes.Unimplemented, "ROUTE_NOT_FOUND")
	stream, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	refused(t, err, codes.Unimplemented, "ROUTE_NOT_FOUND")
}

// TestEveryKindHasACode: OK would tell a client that it succeeded.
func TestEveryKindHasACode(t *testing.T) {
	for _, row := range libraryKinds {
		told := statusOf(fmt.Errorf("memory 2: %w", row.sentinel))
		require.NotEqual(t, codes.OK, told.Code(), row.kind.slug)
		require.Equal(t, row.kind.grpcCode(), told.Code())
		info := refused(t, told.Err(), told.Code(), wire.FromSlug(row.kind.slug))
		require.Equal(t, row.kind.hint, info.GetMetadata()["hint"])
		retry := false
		for _, detail := range told.Details() {
			if delay, ok := detail.(*errdetails.RetryInfo); ok {
				retry = true
				require.Equal(t, time.Duration(row.kind.retryAfter)*time.Second, delay.GetRetryDelay().AsDuration())
			}
		}
		require.Equal(t, row.kind.retryAfter > 0, retry, row.kind.slug)
		require.Equal(t, errors.Is(row.sentinel, engram.ErrSpaceExists), told.Code() == codes.AlreadyExists, row.kind.slug)
		if row.kind.status < 500 && row.kind.slug != "client-closed" {
			require.NotEqual(t, codes.Internal, told.Code(), row.kind.slug)
		}
	}
}

func TestStatusesNeverNameFiles(t *testing.T) {
	for _, err := range []error{
		&engram.CorruptionError{File: "canary", Offset: 1, Reason: "canary"},
		&engram.LockedError{Dir: "canary"},
		&engram.VersionError{File: "canary"},
		&engram.SpaceNotFoundError{Space: "mine", Near: []engram.SpaceID{"canary"}},
		fmt.Errorf("rename canary: %w", engram.ErrUnknownOutcome),
		errors.New("canary"),
	} {
		require.NotContains(t, statusOf(fmt.Errorf("canary: %w", err)).Proto().String(), "canary")
	}
}

func memoryOf(id, content string) *engramv1.Memory { return &engramv1.Memory{Id: id, Content: content} }

// TestWhichSpaceAnRPCMeans: field and metadata, both, neither, and what disagrees.
func TestWhichSpaceAnRPCMeans(t *testing.T) {
	w := newWired(t, Options{})
	for _, id := range []engram.SpaceID{"alpha", "beta", engram.DefaultSpace} {
		_, err := w.create(id).Remember(t.Context(), engram.Memory{ID: "same", Content: string(id)})
		require.NoError(t, err)
	}
	lookup := func(field string, pairs ...string) (string, metadata.MD, error) {
		var header metadata.MD
		ctx := metadata.AppendToOutgoingContext(t.Context(), pairs...)
		answer, err := w.memories.Lookup(ctx, &engramv1.LookupRequest{MemorySpaceId: field, Id: "same"}, grpc.Header(&header))
		return answer.GetMemory().GetContent(), header, err
	}
	for _, c := range []struct {
		field string
		pairs []string
		space string
	}{
		{"alpha", nil, "alpha"},
		{"beta", nil, "beta"},
		{"", []string{"x-engram-memory-space", "alpha"}, "alpha"},
		{"", []string{"x-memory-space", "beta"}, "beta"},
		{"beta", []string{"x-memory-space", "beta", "x-engram-memory-space", "beta"}, "beta"},
		{"", nil, "default"},
	} {
		content, header, err := lookup(c.field, c.pairs...)
		require.NoError(t, err)
		require.Equal(t, c.space, content)
		if c.field == "" && c.pairs == nil {
			require.Equal(t, []string{"default"}, header.Get(fallbackMetadata))
		} else {
			require.Empty(t, header.Get(fallbackMetadata))
		}
	}
	_, _, err := lookup("alpha", "x-memory-space", "beta")
	refused(t, err, codes.InvalidArgument, "SPACE_AMBIGUOUS")
	_, _, err = lookup("", "x-memory-space", "beta", "x-engram-memory-space", "alpha")
	refused(t, err, codes.InvalidArgument, "SPACE_AMBIGUOUS")
	_, _, err = lookup("", "x-memory-space", "")
	refused(t, err, codes.InvalidArgument, "INVALID_SPACE_ID")
	_, _, err = lookup("../b")
	refused(t, err, codes.InvalidArgument, "INVALID_SPACE_ID")
	_, _, err = lookup("gamma")
	refused(t, err, codes.NotFound, "SPACE_NOT_FOUND")
}

func TestRequireSpaceOverGRPC(t *testing.T) {
	w := newWired(t, Options{RequireSpace: true})
	w.create(engram.DefaultSpace)
	_, err := w.memories.Lookup(t.Context(), &engramv1.LookupRequest{Id: "x"})
	refused(t, err, codes.InvalidArgument, "SPACE_REQUIRED")
}

// TestAnUnnamedSpaceIsNeverDeleted: the fall-back is for single tenants' memories.
func TestAnUnnamedSpaceIsNeverDeleted(t *testing.T) {
	w := newWired(t, Options{})
	w.create(engram.DefaultSpace)
	_, err := w.spaces.DeleteSpace(t.Context(), &engramv1.DeleteSpaceRequest{})
	refused(t, err, codes.InvalidArgument, "INVALID_SPACE_ID")
	empty, err := w.spaces.Import(t.Context())
	require.NoError(t, err)
	_, err = empty.CloseAndRecv()
	refused(t, err, codes.InvalidArgument, "INVALID_SPACE_ID")
	require.Contains(t, w.fixture.spaces(), engram.DefaultSpace)
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	w := newWired(t, Options{})
	space := w.create("alpha")
	memory := memoryOf("a", "x")
	memory.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	_, err := w.memories.RememberBatch(t.Context(), &engramv1.RememberBatchRequest{
		MemorySpaceId: "alpha", Memories: []*engramv1.Memory{memoryOf("b", "y"), memory},
	})
	refused(t, err, codes.InvalidArgument, "MALFORMED_REQUEST")
	require.Zero(t, memoryCount(t, space))
}

// TestRememberStreamAnswersEachMessage: a refused one does not end the stream,
// and spaces that share a stream stay apart.
func TestRememberStreamAnswersEachMessage(t *testing.T) {
	w := newWired(t, Options{})
	alpha, beta := w.create("alpha"), w.create("beta")
	stream, err := w.memories.RememberStream(t.Context())
	require.NoError(t, err)
	sent := []*engramv1.RememberStreamRequest{
		{Tag: 1, MemorySpaceId: "alpha", Memory: memoryOf("same", "of alpha")},
		{Tag: 2, MemorySpaceId: "beta", Memory: memoryOf("same", "of beta")},
		{Tag: 3, MemorySpaceId: "gamma", Memory: memoryOf("same", "of none")},
		{Tag: 4, MemorySpaceId: "!", Memory: memoryOf("same", "of none")},
		{Tag: 5, MemorySpaceId: "alpha", Memory: memoryOf("empty", "")},
	}
	for _, request := range sent {
		require.NoError(t, stream.Send(request))
	}
	require.NoError(t, stream.CloseSend())
	got := map[uint64]codes.Code{}
	for range sent {
		answer, err := stream.Recv()
		require.NoError(t, err)
		got[answer.GetTag()] = codes.Code(answer.GetFailure().GetCode())
	}
	require.Equal(t, map[uint64]codes.Code{
		1: codes.OK, 2: codes.OK, 3: codes.NotFound, 4: codes.InvalidArgument, 5: codes.InvalidArgument,
	}, got)
	for space, content := range map[*engram.Space]string{alpha: "of alpha", beta: "of beta"} {
		memory, err := space.Lookup(t.Context(), "same")
		require.NoError(t, err)
		require.Equal(t, content, memory.Content)
	}
}

func TestPanicsEndOneCall(t *testing.T) {
	s := newFixture(t, Options{}).server
	err := s.guard(&call{}, func() error { panic("canary") })
	refused(t, err, codes.Internal, "INTERNAL")
	require.NotContains(t, err.Error(), "canary")
}

func TestDeadlineOverGRPC(t *testing.T) {
	w := newWired(t, Options{})
	w.create("alpha")
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	stream, err := w.memories.Subscribe(ctx, &engramv1.SubscribeRequest{MemorySpaceId: "alpha"})
	if err == nil {
		_, err = stream.Recv()
	}
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
}

// TestDraining: health says so, streams end with a reason, and ServeGRPC returns.
func TestDraining(t *testing.T) {
	w := newWired(t, Options{})
	space := w.create("alpha")
	health := grpc_health_v1.NewHealthClient(w.conn)
	watched, err := health.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	now, err := watched.Recv()
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, now.GetStatus())

	_, err = space.Remember(t.Context(), engram.Memory{ID: "a", Content: "x"})
	require.NoError(t, err)
	events, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "alpha"})
	require.NoError(t, err)
	for {
		event, err := events.Recv()
		require.NoError(t, err)
		if event.GetEvent().GetKind() == string(engram.Remembered) {
			break
		}
	}
	writes, err := w.memories.RememberStream(t.Context())
	require.NoError(t, err)
	require.NoError(t, writes.Send(&engramv1.RememberStreamRequest{Tag: 7, MemorySpaceId: "alpha", Memory: memoryOf("b", "y")}))
	answer, err := writes.Recv()
	require.NoError(t, err)
	require.EqualValues(t, 7, answer.GetTag())
	reflected, err := grpc_reflection_v1.NewServerReflectionClient(w.conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, reflected.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}))
	_, err = reflected.Recv()
	require.NoError(t, err)

	w.stop()
	now, err = watched.Recv()
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_NOT_SERVING, now.GetStatus())
	for err == nil { // the event of b comes first
		_, err = events.Recv()
	}
	refused(t, err, codes.Unavailable, "SHUTTING_DOWN")
	_, err = writes.Recv()
	refused(t, err, codes.Unavailable, "SHUTTING_DOWN")
	_, err = reflected.Recv()
	refused(t, err, codes.Unavailable, "SHUTTING_DOWN")
}

// TestSubscribeRefusesForeignPositions: a space of the same id that has gone as
// far is told by its incarnation.
func TestSubscribeRefusesForeignPositions(t *testing.T) {
	w := newWired(t, Options{})
	first := w.create("alpha").Info().Incarnation
	require.NoError(t, w.registry.Delete(t.Context(), "alpha"))
	second := w.create("alpha").Info().Incarnation
	for _, c := range []struct {
		incarnation string
		code        codes.Code
	}{{"", codes.OK}, {second, codes.OK}, {first, codes.NotFound}, {"rubbish", codes.NotFound}} {
		stream, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "alpha", Incarnation: c.incarnation})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, c.code, status.Code(err), "%q: %v", c.incarnation, err)
	}
}

// TestPagesFitTheirMessage: the most that one page may hold does, also of memories
// that are all attributes.
func TestPagesFitTheirMessage(t *testing.T) {
	w := newWired(t, Options{})
	space := w.create("alpha")
	attributes := map[string]string{}
	for n := range engram.MaxAttributes {
		attributes[fmt.Sprintf("%0*d", engram.MaxAttributeBytes, n)] = strings.Repeat("x", engram.MaxAttributeBytes)
	}
	const stored = 270 // of 128 KiB
	batch := make([]engram.Memory, 30)
	for i := range batch {
		batch[i] = engram.Memory{Content: "x", Attributes: attributes}
	}
	for range stored / len(batch) {
		_, err := space.RememberBatch(t.Context(), batch)
		require.NoError(t, err)
	}
	request := &engramv1.ListMemoriesRequest{MemorySpaceId: "alpha", Limit: maxPageMemories}
	listed := 0
	for {
		page, err := w.memories.ListMemories(t.Context(), request, grpc.MaxCallRecvMsgSize(maxAnswerBytes))
		require.NoError(t, err)
		listed += len(page.GetMemories())
		if request.After = page.GetNext(); request.After == "" {
			break
		}
	}
	require.Equal(t, stored, listed)
}

// TestImportBoundOverGRPC: an export may be as large as the server takes and no
// larger, however it is cut.
func TestImportBoundOverGRPC(t *testing.T) {
	const export = `{"format":"engram-export","version":1}` + "\n" + `{"content":"x"}` + "\n"
	for over, limit := range []int64{int64(len(export)), int64(len(export)) - 1} {
		w := newWired(t, Options{MaxImportBytes: limit})
		for _, first := range []int{0, 1, len(export) - 1, len(export)} {
			stream, err := w.spaces.Import(t.Context())
			require.NoError(t, err)
			id := fmt.Sprintf("cut-%d", first)
			require.NoError(t, stream.Send(&engramv1.ImportRequest{MemorySpaceId: id, Chunk: []byte(export[:first])}))
			if first < len(export) {
				require.NoError(t, stream.Send(&engramv1.ImportRequest{Chunk: []byte(export[first:])}))
			}
			_, err = stream.CloseAndRecv()
			if over == 0 {
				require.NoError(t, err, id)
				continue
			}
			refused(t, err, codes.ResourceExhausted, "BODY_TOO_LARGE")
		}
	}
}
