package server

import (
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/engramdb/engram"
)

// maxElements bounds the lists and maps of a request, all together, but numbers in them:
// the largest batch of memories with all of their attributes has about half as many. An
// element of two bytes may take a hundred times as many once it is decoded.
const maxElements = 1 << 17

// boundedMessage is a message that is not decoded where it has too many elements.
type boundedMessage struct {
	proto.Message

	refused error
}

// receiveBounded receives a message unless it has too many elements.
func receiveBounded(message any, receive func(any) error) error {
	bounded := &boundedMessage{Message: message.(proto.Message)}
	if err := receive(bounded); err != nil {
		return err
	}
	return bounded.refused
}

// boundedCodec is the one of Protocol Buffers, which looks at a boundedMessage before it
// decodes it.
type boundedCodec struct{ encoding.CodecV2 }

func newBoundedCodec() boundedCodec { return boundedCodec{encoding.GetCodecV2(grpcproto.Name)} }

// Unmarshal implements [encoding.CodecV2].
func (c boundedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	bounded, ok := v.(*boundedMessage)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	text := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer text.Free()
	if n := elementsOf(text.ReadOnlyData(), bounded.ProtoReflect().Descriptor()); n > maxElements {
		bounded.refused = &engram.LimitError{What: "elements of lists and maps", Got: n, Max: maxElements}
		return nil
	}
	return proto.Unmarshal(text.ReadOnlyData(), bounded.Message)
}

// elementsOf counts the elements of the lists and maps of a message, and of those of the
// messages in it. Numbers are not counted: they take as much as they are long. A text
// that is malformed is counted up to there.
func elementsOf(text []byte, message protoreflect.MessageDescriptor) (n int64) {
	for len(text) > 0 {
		number, kind, tagged := protowire.ConsumeTag(text)
		if tagged < 0 {
			return n
		}
		length := protowire.ConsumeFieldValue(number, kind, text[tagged:])
		if length < 0 {
			return n
		}
		value := text[tagged : tagged+length]
		text = text[tagged+length:]
		field := message.Fields().ByNumber(number)
		if field == nil || kind != protowire.BytesType {
			continue
		}
		isMessage := field.Kind() == protoreflect.MessageKind
		if field.IsMap() || field.IsList() && (isMessage || field.Kind() == protoreflect.StringKind) {
			n++
		}
		if isMessage && !field.IsMap() {
			within, _ := protowire.ConsumeBytes(value)
			n += elementsOf(within, field.Message())
		}
	}
	return n
}
