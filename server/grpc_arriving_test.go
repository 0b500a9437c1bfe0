package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
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

// TestArriving: a message that came in time does not end the stream, and one that did
// not, does.
func TestArriving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.WithValue(newArriving(t.Context(), time.Second), callKey{}, 1)
		time.Sleep(time.Second - 1)
		arrived(ctx)
		time.Sleep(time.Hour)
		require.NoError(t, ctx.Err())

		late := newArriving(t.Context(), time.Second)
		time.Sleep(time.Second)
		<-late.Done()
		require.ErrorIs(t, late.Err(), context.DeadlineExceeded)
		left, leave := context.WithCancel(t.Context())
		leave()
		require.ErrorIs(t, newArriving(left, time.Second).Err(), context.Canceled)
		arrived(t.Context()) // as of another method
	})
}
