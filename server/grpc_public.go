package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxPublicBytes is what a message may be of a call that asks for no credential: those
// of health and reflection hold little more than a name.
const maxPublicBytes = 4 << 10

// messageSource is what gRPC reads the messages of a call from.
type messageSource interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// receivePublic receives a message of a call that anybody may make. gRPC has one bound
// for the messages of all methods, which has to let a batch through; so the message is
// read from what lies beneath, where that is to be had. single: the call has no other.
func receivePublic(ctx context.Context, message any, single bool, receive func(any) error) error {
	source, ok := grpc.ServerTransportStreamFromContext(ctx).(messageSource)
	if !ok {
		return receive(message)
	}
	text, err := readPublic(source)
	switch {
	case errors.Is(err, io.EOF) && !single:
		return io.EOF
	case err == nil && single:
		if _, err = readPublic(source); err == nil {
			err = errors.New("there is more than one message")
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err == nil {
		err = proto.Unmarshal(text, message.(proto.Message))
	}
	if _, told := status.FromError(err); !told {
		return status.Error(codes.Internal, err.Error()) // which gRPC says of what it cannot read
	}
	return err
}

// readPublic reads the bytes of the next message. The error is io.EOF where there is
// none.
func readPublic(source messageSource) ([]byte, error) {
	var header [5]byte // whether it is compressed, and its length
	if err := source.ReadMessageHeader(header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[1:])
	switch {
	case header[0] != 0:
		return nil, status.Error(codes.Unimplemented, "messages of this call must not be compressed")
	case length > maxPublicBytes:
		return nil, status.Error(codes.ResourceExhausted, fmt.Sprintf("messages of this call have at most %d bytes", maxPublicBytes))
	}
	text, err := source.Read(int(length))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	defer text.Free()
	return text.Materialize(), nil
}
