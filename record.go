package engram

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
)

// This file is the byte format of what a space writes: frames and the headers
// of the segments that hold them. docs/format.md is its normative description.
// Everything here is a pure function over bytes. Integers are little-endian.

// formatVersion is the major version in every header. A reader refuses another.
const formatVersion = 1

// Limits that a reader checks before it believes a length.
const (
	frameHeaderBytes = 32
	frameAlign       = 8
	maxFrameBytes    = MaxBatchBytes + 1<<20 // one batch, with the headers of its operations
	softFrameBytes   = 256 << 10             // a frame takes no further write beyond this
)

// Kinds of frame and of segment. Zero is invalid, so that zeroed space is never a frame.
const (
	kindLog    uint16 = 1 // operations, in seq order
	kindBodies uint16 = 2 // records of older operations, moved here when their segment was rewritten
)

// errNotFrame says that the bytes are no intact frame. Whether that is a torn
// tail or damage is for the reader to judge by where it stands.
var errNotFrame = errors.New("no intact frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// incarnation identifies one creation of a space; it is never reused.
type incarnation [16]byte

func (i incarnation) String() string { return hex.EncodeToString(i[:]) }

// frame is the unit that is whole or absent: operations firstSeq to
// firstSeq+count-1 of one space.
//
//	0      4      8      12     16        24     28     30     32
//	+------+------+------+------+---------+------+------+------+---------+-----+
//	| len  | crc  | prev | count| firstSeq| epoch| kind | flags| payload | 0.. |
//	+------+------+------+------+---------+------+------+------+---------+-----+
//
// len counts the payload; zeros pad it to a multiple of 8.
type frame struct {
	prev     uint32 // checksum of the space's frame before this one
	count    uint32
	firstSeq uint64
	epoch    uint32
	kind     uint16
	payload  []byte
	checksum uint32
}

func (f *frame) lastSeq() uint64 { return f.firstSeq + uint64(f.count) - 1 }

// paddedLen rounds n up to the frame alignment.
func paddedLen(n int) int { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// encodedLen is the length of a frame with a payload of n bytes.
func encodedLen(n int) int { return frameHeaderBytes + paddedLen(n) }

// keyedSum starts a checksum from a space's key, so that bytes of another space
// (or of a tenant's making) never verify.
func keyedSum(key uint64) uint32 { return sumNumber(0, key) }

// sumNumber continues a checksum over the 8 bytes of n. It takes no memory, as
// crc32.Update would for what it is handed.
func sumNumber(sum uint32, n uint64) uint32 {
	sum = ^sum
	for range 8 {
		sum = castagnoli[byte(sum)^byte(n)] ^ sum>>8
		n >>= 8
	}
	return ^sum
}

// sealFrame completes the frame whose payload is in b[frameHeaderBytes:]: it
// writes header and padding and sets f.checksum. It returns b with the padding.
func sealFrame(b []byte, key uint64, f *frame) []byte {
	payload := len(b) - frameHeaderBytes
	for len(b) < encodedLen(payload) {
		b = append(b, 0)
	}
	binary.LittleEndian.PutUint32(b[0:], uint32(payload))
	binary.LittleEndian.PutUint32(b[8:], f.prev)
	binary.LittleEndian.PutUint32(b[12:], f.count)
	binary.LittleEndian.PutUint64(b[16:], f.firstSeq)
	binary.LittleEndian.PutUint32(b[24:], f.epoch)
	binary.LittleEndian.PutUint16(b[28:], f.kind)
	binary.LittleEndian.PutUint16(b[30:], 0)
	f.checksum = sumExcept(keyedSum(key), b)
	binary.LittleEndian.PutUint32(b[4:], f.checksum)
	f.payload = b[frameHeaderBytes : frameHeaderBytes+payload]
	return b
}

// sumExcept continues sum over b without b[4:8], where the checksum stands.
func sumExcept(sum uint32, b []byte) uint32 {
	return crc32.Update(crc32.Update(sum, castagnoli, b[:4]), castagnoli, b[8:])
}

// decodeFrame reads the frame at the start of b and returns it with its encoded
// length. The payload is part of b.
func decodeFrame(b []byte, key uint64) (frame, int, error) {
	f, n, err := splitFrame(b)
	if err != nil {
		return frame{}, 0, err
	}
	b = b[:n]
	if sumExcept(keyedSum(key), b) != f.checksum {
		return frame{}, 0, errNotFrame
	}
	return f, n, nil
}

// splitFrame is decodeFrame without a look at the checksum.
func splitFrame(b []byte) (frame, int, error) {
	n, err := frameLen(b)
	if err != nil {
		return frame{}, 0, err
	}
	if n > len(b) {
		return frame{}, 0, errNotFrame
	}
	b = b[:n]
	payload := int(binary.LittleEndian.Uint32(b))
	f := frame{
		checksum: binary.LittleEndian.Uint32(b[4:]),
		prev:     binary.LittleEndian.Uint32(b[8:]),
		count:    binary.LittleEndian.Uint32(b[12:]),
		firstSeq: binary.LittleEndian.Uint64(b[16:]),
		epoch:    binary.LittleEndian.Uint32(b[24:]),
		kind:     binary.LittleEndian.Uint16(b[28:]),
		payload:  b[frameHeaderBytes : frameHeaderBytes+payload],
	}
	if f.kind != kindLog && f.kind != kindBodies || binary.LittleEndian.Uint16(b[30:]) != 0 || f.count == 0 || f.firstSeq == 0 {
		return frame{}, 0, errNotFrame
	}
	return f, n, nil
}

// frameLen returns the encoded length that the header at the start of b claims,
// if that is a possible one. It does not verify the frame.
func frameLen(b []byte) (int, error) {
	if len(b) < frameHeaderBytes {
		return 0, errNotFrame
	}
	payload := binary.LittleEndian.Uint32(b)
	if payload == 0 || payload > maxFrameBytes {
		return 0, errNotFrame
	}
	return encodedLen(int(payload)), nil
}

// segmentHeaderBytes is the length of a segment's header; frames follow it.
const segmentHeaderBytes = 128

const segmentMagic = "ENGRAMWL"

// segmentHeader binds a segment to its space and to the segment before it.
//
//	0        8      12     14     16            32       40   48      56
//	+--------+------+------+------+-------------+--------+----+-------+----------+
//	| magic  | vers.| kind | flags| incarnation | created| key| number| firstSeq |
//	+--------+------+------+------+-------------+--------+----+-------+----------+
//	64           72        80         84         88           ...  124   128
//	+------------+---------+----------+----------+------------+----+-----+
//	| prevNumber | prevEnd | prevSum  | 0        | 0 ...           | crc |
//	+------------+---------+----------+----------+------------+----+-----+
//
// A segment of kind log continues the chain of frames where segment prevNumber
// ends, at byte prevEnd, after the frame with checksum prevSum. A segment of
// kind bodies replaces segment prevNumber, maybe with others behind it, and has a
// chain of its own.
type segmentHeader struct {
	kind       uint16
	identity   identity
	number     uint64
	firstSeq   uint64
	prevNumber uint64
	prevEnd    int64
	prevSum    uint32
}

// identity is what a space is made with and keeps: SPACE and every segment carry it.
type identity struct {
	incarnation incarnation
	created     int64  // Unix time in nanoseconds
	key         uint64 // starts every checksum; random, never shown
}

func appendIdentity(b []byte, id identity) []byte {
	b = append(b, id.incarnation[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(id.created))
	return binary.LittleEndian.AppendUint64(b, id.key)
}

func decodeIdentity(b []byte) identity {
	id := identity{
		created: int64(binary.LittleEndian.Uint64(b[16:])),
		key:     binary.LittleEndian.Uint64(b[24:]),
	}
	copy(id.incarnation[:], b)
	return id
}

func encodeSegmentHeader(h segmentHeader) []byte {
	b := make([]byte, 0, segmentHeaderBytes)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint16(b, h.kind)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = appendIdentity(b, h.identity)
	b = binary.LittleEndian.AppendUint64(b, h.number)
	b = binary.LittleEndian.AppendUint64(b, h.firstSeq)
	b = binary.LittleEndian.AppendUint64(b, h.prevNumber)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.prevEnd))
	b = binary.LittleEndian.AppendUint32(b, h.prevSum)
	return sealBlock(b[:segmentHeaderBytes])
}

// decodeSegmentHeader returns errUnknownVersion or errBlock where b is no header.
func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	if len(b) < segmentHeaderBytes {
		return segmentHeader{}, errBlock
	}
	b = b[:segmentHeaderBytes]
	if err := openBlock(b, segmentMagic); err != nil {
		return segmentHeader{}, err
	}
	h := segmentHeader{
		kind:       binary.LittleEndian.Uint16(b[12:]),
		identity:   decodeIdentity(b[16:]),
		number:     binary.LittleEndian.Uint64(b[48:]),
		firstSeq:   binary.LittleEndian.Uint64(b[56:]),
		prevNumber: binary.LittleEndian.Uint64(b[64:]),
		prevEnd:    int64(binary.LittleEndian.Uint64(b[72:])),
		prevSum:    binary.LittleEndian.Uint32(b[80:]),
	}
	if h.kind != kindLog && h.kind != kindBodies {
		return segmentHeader{}, errBlock
	}
	return h, nil
}

// A block is a fixed-length piece that stands for itself: 8 bytes of magic, the
// format version, content, and in the last 4 bytes a checksum of the rest.

// errBlock says that the bytes are no intact block; errUnknownVersion that they
// are one of another format version.
var (
	errBlock          = errors.New("no intact header")
	errUnknownVersion = errors.New("unknown format version")
)

// sealBlock writes the checksum into the last 4 bytes of b and returns b.
func sealBlock(b []byte) []byte {
	end := len(b) - 4
	binary.LittleEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
	return b
}

// openBlock verifies b. The version is judged after the checksum, so that a
// damaged version number is damage.
func openBlock(b []byte, magic string) error {
	end := len(b) - 4
	if string(b[:len(magic)]) != magic || crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return errBlock
	}
	if blockVersion(b) != formatVersion {
		return errUnknownVersion
	}
	return nil
}

func blockVersion(b []byte) uint32 { return binary.LittleEndian.Uint32(b[8:]) }
