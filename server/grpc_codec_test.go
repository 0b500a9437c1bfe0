package server

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/engramdb/engram/server/engramv1"
)

// TestRequestsOfManyElements are refused before they are decoded, compressed or not, in
// whichever field they have them.
func TestRequestsOfManyElements(t *testing.T) {
	w := newWired(t, Options{})
	w.create("alpha")
	const more = maxElements + 1
	memories, ids := make([]*engramv1.Memory, more), make([]string, more)
	for i := range memories {
		memories[i] = &engramv1.Memory{}
	}
	batch := &engramv1.RememberBatchRequest{MemorySpaceId: "alpha", Memories: memories}
	cue := &engramv1.Cue{Ids: ids}
	_, remembered := w.memories.RememberBatch(t.Context(), batch)
	_, zipped := w.memories.RememberBatch(t.Context(), batch, grpc.UseCompressor(gzip.Name))
	_, forgotten := w.memories.Forget(t.Context(), &engramv1.ForgetRequest{MemorySpaceId: "alpha", Ids: ids})
	_, recalled := w.memories.Recall(t.Context(), &engramv1.RecallRequest{MemorySpaceId: "alpha", Cue: cue})
	stream, err := w.memories.RecallStream(t.Context(), &engramv1.RecallStreamRequest{MemorySpaceId: "alpha", Cue: cue})
	require.NoError(t, err)
	_, streamed := stream.Recv()
	for _, err := range []error{remembered, zipped, forgotten, recalled, streamed} {
		refused(t, err, codes.InvalidArgument, "LIMIT_EXCEEDED")
		require.Equal(t, "elements of lists and maps: 131073, at most 131072", status.Convert(err).Message())
	}
	_, err = w.memories.RememberBatch(t.Context(), &engramv1.RememberBatchRequest{MemorySpaceId: "alpha", Memories: memories[1:]})
	refused(t, err, codes.InvalidArgument, "LIMIT_EXCEEDED")
	require.Contains(t, status.Convert(err).Message(), "memories in a batch")
}

func TestBoundedCodec(t *testing.T) {
	codec := newBoundedCodec()
	receive := func(text []byte, message proto.Message) error {
		bounded := &boundedMessage{Message: message}
		require.NoError(t, codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(text)}, bounded))
		return bounded.refused
	}
	encode := func(message proto.Message) []byte {
		text, err := proto.Marshal(message)
		require.NoError(t, err)
		return text
	}
	// A field that is given again adds to its lists.
	half := encode(&engramv1.RecallRequest{Cue: &engramv1.Cue{Ids: make([]string, maxElements/2)}})
	var recall engramv1.RecallRequest
	require.NoError(t, receive(append(half, half...), &recall))
	require.Len(t, recall.GetCue().GetIds(), maxElements)
	recall.Reset()
	one := encode(&engramv1.RecallRequest{Cue: &engramv1.Cue{Ids: []string{""}}})
	require.Error(t, receive(append(append(half, half...), one...), &recall))
	require.Nil(t, recall.GetCue(), "it is not decoded")

	vectors := &engramv1.RememberBatchRequest{}
	for range 20 {
		vectors.Memories = append(vectors.Memories, &engramv1.Memory{Embedding: make([]float32, 4096)})
	}
	var batch engramv1.RememberBatchRequest
	require.NoError(t, receive(encode(vectors), &batch))
	require.True(t, proto.Equal(vectors, &batch))

	attributes := make(map[string]string, maxElements)
	for i := range maxElements {
		attributes[strconv.Itoa(i)] = ""
	}
	many := encode(&engramv1.RememberBatchRequest{Memories: []*engramv1.Memory{{Attributes: attributes}}})
	require.Error(t, receive(many, &batch), "with the memory, one too many")

	bounded := &boundedMessage{Message: &batch}
	require.Error(t, codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer{0x12, 5}}, bounded), "malformed")
}
