package engram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

// operationKind says what an operation does. The numbers are part of the format.
type operationKind uint8

const (
	opConfigure operationKind = 1
	opRemember  operationKind = 2
	opForget    operationKind = 3
	opAssociate operationKind = 4
	opEmbed     operationKind = 8  // gives a memory its vector
	opEmbedder  operationKind = 9  // says whose vectors the space has
	opReembed   operationKind = 10 // says whose it is to have
	opSwitch    operationKind = 11 // says that it has them
	opPartition operationKind = 12 // divides them into leaves
)

// operationHeaderBytes precede the fields of an operation's record.
const operationHeaderBytes = 12

// flagReplaced marks a remember that replaced a memory of its id: who reads the
// log alone cannot know. Like every flag it is part of the format.
const flagReplaced = 1

// Field tags of a record: tag u8, length uvarint, value. They ascend within a
// record. A reader skips an unknown tag from tagOptional on and refuses an
// unknown one below it. The numbers are part of the format.
const (
	tagRequest     = 1
	tagStoredAt    = 2
	tagID          = 3
	tagTime        = 4
	tagKind        = 5
	tagConfidence  = 6
	tagEpisode     = 7
	tagAttributes  = 8
	tagContent     = 9
	tagEmbedding   = 10
	tagMaxMemories = 20
	tagMaxBytes    = 21
	tagTextK1      = 22
	tagTextB       = 23
	tagAnalyzer    = 24
	tagAuto        = 25
	tagIDs         = 30
	tagFilter      = 31
	tagAfter       = 32
	tagBefore      = 33
	tagFrom        = 40
	tagTo          = 41
	tagAssociation = 42
	tagWeight      = 43
	tagLinks       = 44
	tagVersion     = 80
	tagGeneration  = 81
	tagEmbedder    = 82
	tagDimension   = 83
	tagTrained     = 84
	tagSlack       = 85
	tagScanned     = 86
	tagDepth       = 87
	tagLeaves      = 88
	tagOptional    = 128
)

var errNotOperation = errors.New("no intact operation")

// operation is one change of a space, with everything that applying it needs:
// replaying it asks no clock, no random number and no network.
type operation struct {
	kind        operationKind
	seq         uint64
	request     request
	storedAt    int64  // Unix time in nanoseconds
	memory      Memory // opRemember
	replaced    bool   // opRemember: a memory of that id, which the space held
	links       []link // opRemember: what it resembles
	config      SpaceConfig
	ids         []string    // opForget: these
	filter      *Filter     // opForget: or those that satisfy this
	association Association // opAssociate; a weight of 0 removes it
	version     uint64      // opEmbed: seq of what the memory's vector was made of
	generation  uint64      // opEmbed, opEmbedder, opSwitch, opPartition: of the space's vectors
	embedder    string      // opEmbedder, opReembed, opSwitch: its id
	dimension   int         // opEmbedder, opReembed, opPartition: of its vectors
	partition   partition   // opPartition; its number is the operation's seq

	// Derived from the memory, not stored.
	analysis
	codes  *rabitq.Codes // of the embedding; nil: apply makes them
	record locator
}

// request makes a retried write take effect once. It stands in the first
// operation of a write.
type request struct {
	id         string // empty: none
	hash       uint64 // of the payload
	operations uint32 // of the write
}

// encodeOperation returns op's record. Its seq and checksum are not in it yet,
// nor the id of a memory that is to be given one: sealOperation adds them when
// the operation's place is known.
//
//	0     4     8      9       10    12
//	+-----+-----+------+-------+-----+-----------+
//	| len | crc | kind | flags | 0   | fields... |
//	+-----+-----+------+-------+-----+-----------+
func encodeOperation(op *operation) []byte {
	b := make([]byte, operationHeaderBytes, operationHeaderBytes+estimateFields(op))
	b[8] = byte(op.kind)
	if op.request.id != "" {
		b = appendTag(b, tagRequest, 12+len(op.request.id))
		b = binary.LittleEndian.AppendUint64(b, op.request.hash)
		b = binary.LittleEndian.AppendUint32(b, op.request.operations)
		b = append(b, op.request.id...)
	}
	b = appendInt64(b, tagStoredAt, op.storedAt)
	switch op.kind {
	case opRemember:
		b = appendMemory(b, &op.memory)
		b = appendLinks(b, op.links)
	case opConfigure:
		b = appendInt64(b, tagMaxMemories, op.config.MaxMemories)
		b = appendInt64(b, tagMaxBytes, op.config.MaxBytes)
		b = appendInt64(b, tagTextK1, int64(math.Float64bits(op.config.TextK1)))
		b = appendInt64(b, tagTextB, int64(math.Float64bits(op.config.TextB)))
		if op.config.Analyzer.number() != English.number() {
			b = appendString(b, tagAnalyzer, string(op.config.Analyzer))
		}
		if op.config.AutoAssociate != 0 {
			b = appendInt64(b, tagAuto, int64(op.config.AutoAssociate))
		}
	case opForget:
		if op.filter != nil {
			filter := appendFilter(nil, op.filter)
			b = appendTag(b, tagFilter, len(filter))
			b = append(b, filter...)
		} else {
			b = appendStrings(b, tagIDs, op.ids)
		}
	case opAssociate:
		b = appendString(b, tagFrom, op.association.From)
		b = appendString(b, tagTo, op.association.To)
		b = appendString(b, tagAssociation, op.association.Kind)
		if op.association.Weight != 0 {
			b = appendInt64(b, tagWeight, int64(math.Float64bits(op.association.Weight)))
		}
	case opEmbed:
		b = appendString(b, tagID, op.memory.ID)
		b = appendEmbedding(b, op.memory.Embedding)
		b = appendInt64(b, tagVersion, int64(op.version))
		b = appendInt64(b, tagGeneration, int64(op.generation))
	case opEmbedder:
		b = appendInt64(b, tagGeneration, int64(op.generation))
		b = appendString(b, tagEmbedder, op.embedder)
		b = appendInt64(b, tagDimension, int64(op.dimension))
	case opReembed:
		b = appendString(b, tagEmbedder, op.embedder)
		b = appendInt64(b, tagDimension, int64(op.dimension))
	case opSwitch:
		b = appendInt64(b, tagGeneration, int64(op.generation))
		b = appendString(b, tagEmbedder, op.embedder)
	case opPartition:
		b = appendInt64(b, tagGeneration, int64(op.generation))
		b = appendInt64(b, tagDimension, int64(op.dimension))
		b = appendPartition(b, &op.partition)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	return b
}

func estimateFields(op *operation) int {
	m := &op.memory
	n := 96 + linkBytes*len(op.links) + len(op.request.id) + len(m.ID) + generatedIDBytes + len(m.Content) + len(m.Episode) + 4*len(m.Embedding)
	for k, v := range m.Attributes {
		n += len(k) + len(v) + 6
	}
	for _, id := range op.ids {
		n += len(id) + 2
	}
	return n
}

func appendMemory(b []byte, m *Memory) []byte {
	id := m.ID
	if id == "" {
		id = unsetID
	}
	b = appendString(b, tagID, id)
	b = appendInt64(b, tagTime, m.Time.UnixNano())
	if m.Kind == Semantic {
		b = appendString(b, tagKind, string(m.Kind))
	}
	if m.Confidence != 1 {
		b = appendInt64(b, tagConfidence, int64(math.Float64bits(m.Confidence)))
	}
	if m.Episode != "" {
		b = appendString(b, tagEpisode, m.Episode)
	}
	if len(m.Attributes) > 0 {
		b = appendAttributes(b, m.Attributes)
	}
	if m.Content != "" {
		b = appendString(b, tagContent, m.Content)
	}
	if len(m.Embedding) > 0 {
		b = appendEmbedding(b, m.Embedding)
	}
	return b
}

func appendEmbedding(b []byte, v []float32) []byte {
	b = appendTag(b, tagEmbedding, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func appendLinks(b []byte, links []link) []byte {
	if len(links) == 0 {
		return b
	}
	b = appendTag(b, tagLinks, linkBytes*len(links))
	for _, l := range links {
		b = binary.LittleEndian.AppendUint64(b, l.seq)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(l.weight))
	}
	return b
}

func appendFilter(b []byte, f *Filter) []byte {
	if f.Kind != "" {
		b = appendString(b, tagKind, string(f.Kind))
	}
	if f.Episode != "" {
		b = appendString(b, tagEpisode, f.Episode)
	}
	if len(f.Attributes) > 0 {
		b = appendAttributes(b, f.Attributes)
	}
	if !f.After.IsZero() {
		b = appendInt64(b, tagAfter, f.After.UnixNano())
	}
	if !f.Before.IsZero() {
		b = appendInt64(b, tagBefore, f.Before.UnixNano())
	}
	return b
}

func appendTag(b []byte, tag byte, n int) []byte {
	return binary.AppendUvarint(append(b, tag), uint64(n))
}

func appendInt64(b []byte, tag byte, v int64) []byte {
	return binary.LittleEndian.AppendUint64(appendTag(b, tag, 8), uint64(v))
}

func appendString(b []byte, tag byte, s string) []byte {
	return append(appendTag(b, tag, len(s)), s...)
}

// appendStrings appends a list: each its length as uvarint, then its bytes.
func appendStrings(b []byte, tag byte, list []string) []byte {
	n := 0
	for _, s := range list {
		n += uvarintLen(len(s)) + len(s)
	}
	b = appendTag(b, tag, n)
	for _, s := range list {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func uvarintLen(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n))
}

// appendAttributes appends the pairs in key order: equal memories have equal bytes.
func appendAttributes(b []byte, attributes map[string]string) []byte {
	list := make([]string, 0, 2*len(attributes))
	for _, key := range sortedKeys(attributes) {
		list = append(list, key, attributes[key])
	}
	return appendStrings(b, tagAttributes, list)
}

// sealOperation gives the record its place: it fills in the id of a memory that
// has none and whether it replaced another, and writes the checksum.
func sealOperation(record []byte, key, seq uint64, generatedID string, replaced bool) {
	if generatedID != "" {
		copy(record[idOffset(record):], generatedID)
	}
	if replaced {
		record[9] |= flagReplaced
	}
	binary.LittleEndian.PutUint32(record[4:], operationSum(record, key, seq))
}

// idOffset finds the value of the id field in a record of ours.
func idOffset(record []byte) int {
	for at := operationHeaderBytes; ; {
		tag := record[at]
		n, width := binary.Uvarint(record[at+1:])
		at += 1 + width
		if tag == tagID {
			return at
		}
		at += int(n)
	}
}

func operationSum(record []byte, key, seq uint64) uint32 {
	return sumExcept(sumNumber(keyedSum(key), seq), record)
}

// splitRecord returns the length of the record at the start of b.
func splitRecord(b []byte) (int, error) {
	if len(b) < operationHeaderBytes {
		return 0, errNotOperation
	}
	n := binary.LittleEndian.Uint32(b)
	if n < operationHeaderBytes || uint64(n) > uint64(len(b)) {
		return 0, errNotOperation
	}
	return int(n), nil
}

// decodeOperation returns the operation that decode makes of the record.
func decodeOperation(record []byte, key, seq uint64) (op operation, err error) {
	err = op.decode(record, key, seq)
	return op, err
}

// openRecord verifies the record, which must be exactly one, and returns what its
// header says.
func openRecord(record []byte, key, seq uint64) (kind operationKind, replaced bool, err error) {
	n, err := splitRecord(record)
	if err != nil {
		return 0, false, err
	}
	if n != len(record) || operationSum(record, key, seq) != binary.LittleEndian.Uint32(record[4:]) {
		return 0, false, errNotOperation
	}
	kind, flags := operationKind(record[8]), record[9]
	if kind == opRemember {
		replaced = flags&flagReplaced != 0
		flags &^= flagReplaced
	}
	if !kind.known() || flags != 0 {
		return 0, false, fmt.Errorf("operation kind %d flags %d: %w", record[8], record[9], errUnknownVersion)
	}
	return kind, replaced, nil
}

// decode verifies the record, which must be exactly one, and decodes it into a
// zero op, which shares no memory with it and means nothing beside an error.
func (op *operation) decode(record []byte, key, seq uint64) error {
	var err error
	if op.kind, op.replaced, err = openRecord(record, key, seq); err != nil {
		return err
	}
	op.seq = seq
	op.memory.Confidence, op.memory.Kind, op.memory.Seq = 1, Episodic, seq
	err = decodeFields(record[operationHeaderBytes:], op.decodeField)
	if err == nil && op.dimension == 0 && (op.kind == opEmbedder || op.kind == opReembed || op.kind == opPartition) {
		err = errNotOperation // nothing but a dimension says how long its vectors are
	}
	if err == nil && op.kind == opPartition && !op.partition.whole() {
		err = errNotOperation
	}
	op.memory.StoredAt = unixTime(op.storedAt)
	return err
}

// known reports whether this version of the format has the kind.
func (k operationKind) known() bool {
	return k >= opConfigure && k <= opAssociate || k >= opEmbed && k <= opPartition
}

// decodeFields calls field for each field of b.
func decodeFields(b []byte, field func(tag byte, value []byte) error) error {
	for len(b) > 0 {
		tag := b[0]
		n, width := binary.Uvarint(b[1:])
		if width <= 0 || n > uint64(len(b)-1-width) {
			return errNotOperation
		}
		b = b[1+width:]
		if err := field(tag, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (op *operation) decodeField(tag byte, value []byte) error {
	var err error
	var n int64
	switch tag {
	case tagRequest:
		if len(value) < 12 {
			return errNotOperation
		}
		op.request = request{
			hash:       binary.LittleEndian.Uint64(value),
			operations: binary.LittleEndian.Uint32(value[8:]),
			id:         string(value[12:]),
		}
	case tagStoredAt:
		op.storedAt, err = decodeInt64(value)
	case tagMaxMemories:
		op.config.MaxMemories, err = decodeInt64(value)
	case tagMaxBytes:
		op.config.MaxBytes, err = decodeInt64(value)
	case tagTextK1:
		n, err = decodeInt64(value)
		op.config.TextK1 = math.Float64frombits(uint64(n))
	case tagTextB:
		n, err = decodeInt64(value)
		op.config.TextB = math.Float64frombits(uint64(n))
	case tagAnalyzer:
		if op.config.Analyzer = Analyzer(value); op.config.Analyzer.number() == 0 {
			err = fmt.Errorf("analyzer: %w", errUnknownVersion)
		}
	case tagAuto:
		n, err = decodeInt64(value)
		op.config.AutoAssociate = int(n)
	case tagLinks:
		op.links, err = decodeLinks(value)
	case tagIDs:
		op.ids, err = decodeStrings(value)
	case tagFilter:
		op.filter = new(Filter)
		err = decodeFields(value, op.filter.decodeField)
	case tagFrom:
		op.association.From = string(value)
	case tagTo:
		op.association.To = string(value)
	case tagAssociation:
		op.association.Kind = string(value)
	case tagWeight:
		n, err = decodeInt64(value)
		op.association.Weight = math.Float64frombits(uint64(n))
	case tagVersion, tagGeneration, tagEmbedder, tagDimension, tagTrained, tagSlack, tagScanned, tagDepth, tagLeaves:
		err = op.decodeVectorField(tag, value)
	default:
		err = decodeMemoryField(&op.memory, tag, value)
	}
	return err
}

// decodeVectorField decodes what only operations on vectors have.
func (op *operation) decodeVectorField(tag byte, value []byte) error {
	switch tag {
	case tagEmbedder:
		op.embedder = string(value)
		return nil
	case tagLeaves:
		return op.decodeLeaves(value)
	}
	n, err := decodeInt64(value)
	switch tag {
	case tagVersion:
		op.version = uint64(n)
	case tagGeneration:
		op.generation = uint64(n)
	case tagDimension:
		op.dimension = int(n)
		if n < MinDimension || n > MaxDimension || op.partition.leaves != nil {
			err = errNotOperation
		}
	case tagTrained:
		op.partition.trained = n
		if n < 0 {
			err = errNotOperation
		}
	case tagSlack:
		op.partition.slack = math.Float64frombits(uint64(n))
	case tagScanned:
		op.partition.scanned = int(n)
		if n < 0 || n > math.MaxUint32 {
			err = errNotOperation
		}
	case tagDepth:
		op.partition.depth = int(n)
		if n < 0 || n > math.MaxUint32 {
			err = errNotOperation
		}
	}
	return err
}

func decodeMemoryField(m *Memory, tag byte, value []byte) error {
	var err error
	var n int64
	switch tag {
	case tagID:
		m.ID = string(value)
	case tagTime:
		n, err = decodeInt64(value)
		m.Time = unixTime(n)
	case tagKind:
		m.Kind = Kind(value)
	case tagConfidence:
		n, err = decodeInt64(value)
		m.Confidence = math.Float64frombits(uint64(n))
	case tagEpisode:
		m.Episode = string(value)
	case tagAttributes:
		m.Attributes, err = decodeAttributes(value)
	case tagContent:
		m.Content = string(value)
	case tagEmbedding:
		m.Embedding, err = decodeEmbedding(value)
	default:
		return unknownTag(tag)
	}
	return err
}

func (f *Filter) decodeField(tag byte, value []byte) error {
	var err error
	var n int64
	switch tag {
	case tagKind:
		f.Kind = Kind(value)
	case tagEpisode:
		f.Episode = string(value)
	case tagAttributes:
		f.Attributes, err = decodeAttributes(value)
	case tagAfter:
		n, err = decodeInt64(value)
		f.After = unixTime(n)
	case tagBefore:
		n, err = decodeInt64(value)
		f.Before = unixTime(n)
	default:
		return unknownTag(tag)
	}
	return err
}

func unknownTag(tag byte) error {
	if tag >= tagOptional {
		return nil
	}
	return fmt.Errorf("field %d: %w", tag, errUnknownVersion)
}

func decodeInt64(value []byte) (int64, error) {
	if len(value) != 8 {
		return 0, errNotOperation
	}
	return int64(binary.LittleEndian.Uint64(value)), nil
}

func decodeStrings(value []byte) ([]string, error) {
	var list []string
	for len(value) > 0 {
		n, width := binary.Uvarint(value)
		if width <= 0 || n > uint64(len(value)-width) {
			return nil, errNotOperation
		}
		list = append(list, string(value[width:width+int(n)]))
		value = value[width+int(n):]
	}
	return list, nil
}

func decodeAttributes(value []byte) (map[string]string, error) {
	list, err := decodeStrings(value)
	if err != nil || len(list)%2 != 0 {
		return nil, errNotOperation
	}
	attributes := make(map[string]string, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		attributes[list[i]] = list[i+1]
	}
	return attributes, nil
}

func decodeEmbedding(value []byte) ([]float32, error) {
	if len(value)%4 != 0 || len(value) > 4*MaxDimension {
		return nil, errNotOperation
	}
	v := make([]float32, len(value)/4)
	simd.CopyFloat32s(v, value)
	return v, nil
}

// linkBytes is a seq and a weight.
const linkBytes = 16

func decodeLinks(value []byte) ([]link, error) {
	if len(value)%linkBytes != 0 || len(value) > linkBytes*MaxAutoAssociate {
		return nil, errNotOperation
	}
	var links []link
	for ; len(value) > 0; value = value[linkBytes:] {
		links = append(links, link{
			seq:    binary.LittleEndian.Uint64(value),
			weight: math.Float64frombits(binary.LittleEndian.Uint64(value[8:])),
		})
	}
	return links, nil
}

// Generated ids are time-ordered and unique within a space: 48 bits of
// milliseconds when the memory was stored and its 64-bit seq, in Crockford's
// base 32 (the alphabet of ULID, which sorts as it counts).
const (
	idAlphabet       = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	idTimeDigits     = 10
	idSeqDigits      = 13
	generatedIDBytes = idTimeDigits + idSeqDigits
	unsetID          = "00000000000000000000000" // as long as a generated id
)

func generatedID(storedAt int64, seq uint64) string {
	var b [generatedIDBytes]byte
	ms := uint64(max(storedAt, 0)) / uint64(time.Millisecond)
	for i := idTimeDigits - 1; i >= 0; i-- {
		b[i] = idAlphabet[ms&31]
		ms >>= 5
	}
	for i := generatedIDBytes - 1; i >= idTimeDigits; i-- {
		b[i] = idAlphabet[seq&31]
		seq >>= 5
	}
	return string(b[:])
}
