package server

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram/server/engramv1"
)

// TestMessagesThatDoNotArrive: an import that stands still is given up, as over HTTP,
// and makes no space. Streams that may wait are not.
func TestMessagesThatDoNotArrive(t *testing.T) {
	w := newWired(t, Options{})
	alpha := w.create("alpha")
	const timeout = 500 * time.Millisecond
	w.server.bodyTimeout = timeout

	writes, err := w.memories.RememberStream(t.Context())
	require.NoError(t, err)
	events, err := w.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "alpha", AfterSeq: alpha.Info().Seq})
	require.NoError(t, err)
	_, err = events.Header()
	require.NoError(t, err)

	began := time.Now()
	for name, sent := range map[string][]*engramv1.ImportRequest{
		"a part": {{MemorySpaceId: "copy", Chunk: []byte(`{"format":"engram-export",`)}},
		"two":    {{MemorySpaceId: "copy", Chunk: []byte(`{"format":`)}, {Chunk: []byte(`"engram-export",`)}},
	} {
		imported, err := w.spaces.Import(t.Context())
		require.NoError(t, err)
		for _, message := range sent {
			require.NoError(t, imported.Send(message))
		}
		refused(t, imported.RecvMsg(&engramv1.ImportResponse{}), codes.DeadlineExceeded, "BODY_TIMEOUT")
		require.Len(t, w.fixture.spaces(), 1, name)
	}
	silent, err := w.spaces.Import(t.Context())
	require.NoError(t, err)
	require.Equal(t, codes.DeadlineExceeded, status.Code(silent.RecvMsg(&engramv1.ImportResponse{})))

	require.Greater(t, time.Since(began), timeout)
	require.NoError(t, writes.Send(&engramv1.RememberStreamRequest{MemorySpaceId: "alpha", Memory: memoryOf("x", "late, but welcome")}))
	answer, err := writes.Recv()
	require.NoError(t, err)
	require.NotNil(t, answer.GetReceipt())
	event, err := events.Recv()
	require.NoError(t, err)
	require.Equal(t, "x", event.GetEvent().GetMemory().GetId())
}

// TestExportsThatNobodyTakes are broken off, as over HTTP: each keeps files and memory.
func TestExportsThatNobodyTakes(t *testing.T) {
	w := newWired(t, Options{})
	remember(t, w.create("alpha"), slices.Repeat([]string{strings.Repeat("x", 200<<10)}, 10)...)
	const timeout = 500 * time.Millisecond
	w.server.writeTimeout = timeout
	began := time.Now()
	stream, err := w.spaces.Export(t.Context(), &engramv1.ExportRequest{MemorySpaceId: "alpha"})
	require.NoError(t, err)
	answer, err := stream.Recv()
	require.NoError(t, err)
	require.LessOrEqual(t, len(answer.GetChunk()), partBytes)
	require.Eventually(t, func() bool { return w.server.underWay.exports.Taken() == 0 }, time.Minute, time.Millisecond)
	require.GreaterOrEqual(t, time.Since(began), timeout)
	for err == nil {
		answer, err = stream.Recv()
		require.LessOrEqual(t, len(answer.GetChunk()), partBytes)
	}
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
}

// TestCallsWhoseRequestDoesNotCome end, and keep no place of their caller; but not those
// of a RememberStream, whose client writes when it has something to write.
func TestCallsWhoseRequestDoesNotCome(t *testing.T) {
	log, logged := observer.New(zap.ErrorLevel)
	w := newWired(t, Options{MaxCallerRequests: 1, Logger: zap.New(log)})
	w.server.bodyTimeout = 20 * time.Millisecond
	for method, rule := range rules() {
		if rule.about == aboutEach {
			continue
		}
		stream, err := w.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		require.NoError(t, err)
		err = stream.RecvMsg(&engramv1.LookupResponse{})
		require.Equal(t, codes.DeadlineExceeded, status.Code(err), "%s: %v", method, err)
		require.Eventually(t, func() bool { return w.server.underWay.requests.Taken() == 0 }, time.Minute, time.Millisecond, method)
	}
	require.Empty(t, logged.All(), "no fault of the server")
}

// TestArriving: a message that came in time does not end the stream, and one that did
// not, does.
func TestArriving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.WithValue(newArriving(t.Context()), callKey{}, 1)
		require.NoError(t, within(ctx, time.Second, func() error {
			time.Sleep(time.Second - 1)
			return nil
		}))
		time.Sleep(time.Hour)
		require.NoError(t, ctx.Err())

		late := newArriving(t.Context())
		require.ErrorIs(t, within(late, time.Second, func() error {
			<-late.Done()
			return late.Err()
		}), context.DeadlineExceeded)
		left, leave := context.WithCancel(t.Context())
		leave()
		require.ErrorIs(t, newArriving(left).Err(), context.Canceled)
	})
}
