package server

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/auth"
)

// withToken shows a key or token with the calls of a context.
func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, authorizationMetadata, "Bearer "+token)
}

// messageOf returns an empty message of the name.
func messageOf(t *testing.T, name protoreflect.FullName) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
	require.NoError(t, err)
	return kind.New().Interface()
}

// askRPC calls a method about the space with one request and returns the error
// of its first answer.
func (w *wired) askRPC(method, space, token string) error {
	w.t.Helper()
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	require.NoError(w.t, err)
	described := found.(protoreflect.MethodDescriptor)
	request, answer := messageOf(w.t, described.Input().FullName()), messageOf(w.t, described.Output().FullName())
	for field, value := range map[protoreflect.Name]string{"memory_space_id": space, "to": "renamed"} {
		if d := described.Input().Fields().ByName(field); d != nil && d.Kind() == protoreflect.StringKind {
			request.ProtoReflect().Set(d, protoreflect.ValueOfString(value))
		}
	}
	ctx, cancel := context.WithTimeout(withToken(w.t.Context(), token), time.Minute)
	defer cancel()
	if !described.IsStreamingClient() && !described.IsStreamingServer() {
		return w.conn.Invoke(ctx, method, request, answer)
	}
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	require.NoError(w.t, err)
	if err := stream.SendMsg(request); !errors.Is(err, io.EOF) {
		require.NoError(w.t, err)
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(answer); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if each, ok := answer.(*engramv1.RememberStreamResponse); ok && each.GetFailure() != nil {
		return status.Error(codes.Code(each.GetFailure().GetCode()), each.GetFailure().GetMessage())
	}
	return nil
}

// TestRPCMatrix calls every RPC with every kind of credential.
func TestRPCMatrix(t *testing.T) {
	columns, gate := callers(t)
	w := newWired(t, Options{Auth: gate})
	w.create("other")
	table := rules()
	for _, method := range slices.Sorted(maps.Keys(table)) {
		rule := table[method]
		if rule.verb == verbPublic {
			continue
		}
		t.Run(method, func(t *testing.T) {
			w := &wired{fixture: &fixture{t: t, registry: w.registry, server: w.server}, conn: w.conn}
			for _, c := range columns {
				w.reset()
				err := w.askRPC(method, "alpha", c.token)
				code := status.Code(err)
				switch {
				case !c.known:
					require.Equal(t, codes.Unauthenticated, code, "%s: %v", c.name, err)
				case c.all, rule.about == aboutVisible, c.granted&rule.verb.permission() != 0 && rule.about != aboutRegistry:
					require.NotContains(t, []codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.NotFound}, hiddenCode(err), "%s: %v", c.name, err)
				case rule.about == aboutRegistry, method == engramv1.SpaceService_CreateSpace_FullMethodName, c.granted != 0:
					require.Equal(t, codes.PermissionDenied, code, "%s: %v", c.name, err)
				default:
					require.Equal(t, codes.NotFound, code, "%s: %v", c.name, err)
					require.Equal(t, `space "alpha" not found, create it first`, status.Convert(err).Message())
				}
			}
		})
	}
}

// TestRPCIsRefusedBeforeItsRequestIsRead: whoever may not call it has nothing of it in
// memory. The client ends its side with no request sent, of which only who has a
// credential is told.
func TestRPCIsRefusedBeforeItsRequestIsRead(t *testing.T) {
	columns, gate := callers(t)
	w := newWired(t, Options{Auth: gate})
	for method, rule := range rules() {
		if rule.verb == verbPublic {
			continue
		}
		for _, c := range columns[:6] {
			stream, err := w.conn.NewStream(withToken(t.Context(), c.token), &grpc.StreamDesc{ClientStreams: true}, method)
			require.NoError(t, err)
			require.NoError(t, stream.CloseSend())
			err = stream.RecvMsg(&engramv1.LookupResponse{})
			if c.known {
				require.NotEqual(t, codes.Unauthenticated, status.Code(err), "%s: %v", method, err)
				continue
			}
			refused(t, err, codes.Unauthenticated, "UNAUTHENTICATED")
		}
	}
	tooLong := &engramv1.RememberRequest{Memory: &engramv1.Memory{Content: strings.Repeat("x", maxRequestBytes+1)}}
	_, err := w.memories.Remember(t.Context(), tooLong)
	refused(t, err, codes.Unauthenticated, "UNAUTHENTICATED")
}

// TestUnreadRequestIsNoFault of the server, and does not stand in its log as one.
func TestUnreadRequestIsNoFault(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	w := newWired(t, Options{Logger: zap.New(core)})
	for _, method := range []string{engramv1.MemoryService_Lookup_FullMethodName, engramv1.MemoryService_Subscribe_FullMethodName} {
		stream, err := w.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, method)
		require.NoError(t, err)
		require.NoError(t, stream.CloseSend())
		require.Equal(t, codes.Internal, status.Code(stream.RecvMsg(&engramv1.LookupResponse{})))
		require.Empty(t, logs.All(), method)
	}
}

// hiddenCode is the code of an error about the caller or the space: that a memory
// is not found is another matter.
func hiddenCode(err error) codes.Code {
	if told := status.Convert(err); strings.Contains(told.Message(), "space") || told.Code() != codes.NotFound {
		return told.Code()
	}
	return codes.OK
}

// TestRPCListsWhatTheCallerSees: spaces of others are not there.
func TestRPCListsWhatTheCallerSees(t *testing.T) {
	columns, gate := callers(t)
	w := newWired(t, Options{Auth: gate})
	w.create("alpha")
	w.create("other")
	for _, c := range columns {
		if !c.known {
			continue
		}
		want := []string{"alpha"}
		switch {
		case c.all:
			want = []string{"alpha", "other"}
		case c.granted == 0:
			want = []string{"other"}
		}
		page, err := w.spaces.ListSpaces(withToken(t.Context(), c.token), &engramv1.ListSpacesRequest{})
		require.NoError(t, err)
		require.Equal(t, want, page.GetIds(), c.name)
	}
}

// TestRPCFallbackIsSaidToWhoIsRefused: a call that names no space is told which
// one it meant, also where the caller may not reach that.
func TestRPCFallbackIsSaidToWhoIsRefused(t *testing.T) {
	scopes, err := auth.ParseScopes([]string{"team-*:read,write"})
	require.NoError(t, err)
	key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
	w := newWired(t, Options{Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}}})
	ctx := withToken(t.Context(), token)
	var header metadata.MD
	_, err = w.memories.Lookup(ctx, &engramv1.LookupRequest{Id: "any"}, grpc.Header(&header))
	refused(t, err, codes.NotFound, "SPACE_NOT_FOUND")
	require.Equal(t, []string{"default"}, header.Get(fallbackMetadata))

	stream, err := w.memories.Subscribe(ctx, &engramv1.SubscribeRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	refused(t, err, codes.NotFound, "SPACE_NOT_FOUND")
	header, err = stream.Header()
	require.NoError(t, err)
	require.Equal(t, []string{"default"}, header.Get(fallbackMetadata))
}

// TestRPCStreamEndsWithTheKey: a key that is revoked ends what it has open.
func TestRPCStreamEndsWithTheKey(t *testing.T) {
	ring, token, revoke := revocable(t, "alpha:read,write", "copy:admin")
	w := newWired(t, Options{Auth: &Auth{auth.Gate{Keys: ring}}})
	w.create("alpha")
	ctx := withToken(t.Context(), token)
	events, err := w.memories.Subscribe(ctx, &engramv1.SubscribeRequest{MemorySpaceId: "alpha"})
	require.NoError(t, err)
	_, err = events.Recv()
	require.NoError(t, err)
	writes, err := w.memories.RememberStream(ctx)
	require.NoError(t, err)
	remember := func() {
		t.Helper()
		require.NoError(t, writes.Send(&engramv1.RememberStreamRequest{
			MemorySpaceId: "alpha", Memory: &engramv1.Memory{Content: "x"},
		}))
	}
	remember()
	answer, err := writes.Recv()
	require.NoError(t, err)
	require.Nil(t, answer.GetFailure())
	imported, err := w.spaces.Import(ctx)
	require.NoError(t, err)
	require.NoError(t, imported.Send(&engramv1.ImportRequest{MemorySpaceId: "copy", Chunk: []byte(`{"format":`)}))

	revoke()
	for err == nil {
		_, err = events.Recv()
	}
	require.Equal(t, codes.Unauthenticated, status.Code(err), "%v", err)
	_, err = writes.Recv() // nothing was sent
	require.Equal(t, codes.Unauthenticated, status.Code(err), "%v", err)
	require.Equal(t, codes.Unauthenticated, status.Code(imported.RecvMsg(&engramv1.ImportResponse{})))
	space, err := w.registry.Get(t.Context(), "alpha")
	require.NoError(t, err)
	require.Equal(t, 1, memoryCount(t, space))
	require.Equal(t, []engram.SpaceID{"alpha"}, w.fixture.spaces())
}
