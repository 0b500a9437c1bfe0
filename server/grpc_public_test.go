package server

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// halfSent calls a method of which it sends this much and no end, and returns the code
// that it is answered with.
func (w *wired) halfSent(method string, sent []byte) codes.Code {
	w.t.Helper()
	connection, err := net.Dial("tcp", w.conn.Target())
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, connection.Close()) }()
	header, err := headerOf(method)
	require.NoError(w.t, err)
	_, err = io.WriteString(connection, http2.ClientPreface)
	require.NoError(w.t, err)
	framer := http2.NewFramer(connection, connection)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(w.t, framer.WriteSettings())
	require.NoError(w.t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header, EndHeaders: true}))
	require.NoError(w.t, framer.WriteData(1, false, sent))
	for {
		frame, err := framer.ReadFrame()
		require.NoError(w.t, err)
		answer, ok := frame.(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		for _, field := range answer.RegularFields() {
			if field.Name == "grpc-status" {
				code, err := strconv.Atoi(field.Value)
				require.NoError(w.t, err)
				return codes.Code(code)
			}
		}
	}
}

// announced is what stands before a message of that many bytes.
func announced(bytes int) []byte {
	return binary.BigEndian.AppendUint32([]byte{0}, uint32(bytes))
}

// publicMethods returns the RPCs that ask for no credential.
func publicMethods() []string {
	table := rules()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(table)), func(method string) bool {
		return table[method].verb != verbPublic
	})
}

// TestPublicMessagesAreSmall: a longer one, be it the second, is refused before it is
// read, and one that does not come is given up.
func TestPublicMessagesAreSmall(t *testing.T) {
	w := newWired(t, Options{})
	brief := newWired(t, Options{})
	brief.server.bodyTimeout = 20 * time.Millisecond
	whole := append(announced(2), 0x3a, 0) // it asks reflection for a list, and health for nothing
	compressed := []byte{1, 0, 0, 0, 1, 0}
	for _, method := range publicMethods() {
		require.Equal(t, codes.ResourceExhausted, w.halfSent(method, announced(maxPublicBytes+1)), method)
		require.Equal(t, codes.ResourceExhausted, w.halfSent(method, slices.Concat(whole, announced(maxRequestBytes))), method)
		require.Equal(t, codes.Unimplemented, w.halfSent(method, compressed), method)
		require.Equal(t, codes.DeadlineExceeded, brief.halfSent(method, announced(maxPublicBytes)), method)
		require.Equal(t, codes.DeadlineExceeded, brief.halfSent(method, whole), method)
		require.Equal(t, codes.DeadlineExceeded, brief.halfSent(method, slices.Concat(whole, announced(1))), method)
	}
	for _, method := range []string{grpc_health_v1.Health_Check_FullMethodName, grpc_health_v1.Health_Watch_FullMethodName} {
		require.Equal(t, codes.Internal, w.halfSent(method, slices.Concat(whole, whole)), "two: %s", method)
	}
	// A field of three bytes or more before its text.
	const most = maxPublicBytes - 3
	health := grpc_health_v1.NewHealthClient(w.conn)
	for length, code := range map[int]codes.Code{most: codes.NotFound, most + 1: codes.ResourceExhausted} {
		request := &grpc_health_v1.HealthCheckRequest{Service: strings.Repeat("x", length)}
		require.Equal(t, maxPublicBytes+length-most, proto.Size(request))
		_, err := health.Check(t.Context(), request)
		require.Equal(t, code, status.Code(err), "%v", err)
	}
	w.end()
	brief.end()
	w.idle()
	brief.idle()
}

// TestPublicMessageOfAnotherStream is received as the transport receives it.
func TestPublicMessageOfAnotherStream(t *testing.T) {
	received := &grpc_health_v1.HealthCheckRequest{}
	require.NoError(t, receivePublic(context.Background(), received, true, func(message any) error {
		message.(*grpc_health_v1.HealthCheckRequest).Service = "x"
		return nil
	}))
	require.Equal(t, "x", received.GetService())
}
