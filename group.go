package engram

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"iter"
	"slices"
)

// This file is the byte format of the journal: HEAD, which says which files
// hold which generation, and groups, which hold the frames of many spaces.
// Everything here is a pure function over bytes.

const (
	headMagic      = "ENGRAMJH"
	headBytes      = 2 * pageBytes
	headEntryBytes = 32
	headFixedBytes = 40
	maxHeadFiles   = (pageBytes - headFixedBytes - 4) / headEntryBytes

	tagBytes         = 16
	groupHeaderBytes = 64
	groupEntryBytes  = 45 // and the id
	maxGroupBytes    = 1 << 20
	maxGroupTable    = 1 << 20 // of header and table: what a reader believes
	maxGroupTotal    = maxGroupBytes + 2*maxFrameBytes
)

// generationTag is random for each generation, so that no content, and no
// bytes that an earlier generation left behind, look like a group.
type generationTag [tagBytes]byte

// head is the content of one slot of HEAD.
type head struct {
	counter    uint64
	epoch      uint32 // raised by each writable open
	generation uint64 // the last one used
	files      []headFile
}

// headFile says what a journal file holds; generation 0 is nothing.
type headFile struct {
	number     uint64
	generation uint64
	tag        generationTag
}

// excludes reports whether f and other cannot both be files of one journal.
func (f headFile) excludes(other headFile) bool {
	return f.number == other.number || f.generation != 0 && f.generation == other.generation
}

func encodeHead(h head) []byte {
	b := make([]byte, 0, pageBytes)
	b = append(b, headMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, h.epoch)
	b = binary.LittleEndian.AppendUint64(b, h.counter)
	b = binary.LittleEndian.AppendUint64(b, h.generation)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.files)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	for _, f := range h.files {
		b = binary.LittleEndian.AppendUint64(b, f.number)
		b = binary.LittleEndian.AppendUint64(b, f.generation)
		b = append(b, f.tag[:]...)
	}
	return sealBlock(b[:pageBytes])
}

func decodeHead(b []byte) (head, error) {
	if len(b) < pageBytes {
		return head{}, errBlock
	}
	b = b[:pageBytes]
	if err := openBlock(b, headMagic); err != nil {
		return head{}, err
	}
	h := head{
		epoch:      binary.LittleEndian.Uint32(b[12:]),
		counter:    binary.LittleEndian.Uint64(b[16:]),
		generation: binary.LittleEndian.Uint64(b[24:]),
	}
	n := binary.LittleEndian.Uint32(b[32:])
	if n > maxHeadFiles {
		return head{}, errBlock
	}
	for i := range int(n) {
		e := b[headFixedBytes+i*headEntryBytes:]
		f := headFile{
			number:     binary.LittleEndian.Uint64(e),
			generation: binary.LittleEndian.Uint64(e[8:]),
		}
		copy(f.tag[:], e[16:])
		if slices.ContainsFunc(h.files, f.excludes) {
			return head{}, errBlock
		}
		h.files = append(h.files, f)
	}
	return h, nil
}

// promise is a place in the journal that was durable when the group that
// carries it was written.
type promise struct {
	generation uint64
	offset     int64
}

// groupFrame is a frame on its way through the journal.
type groupFrame struct {
	space    incarnation
	id       SpaceID
	firstSeq uint64
	count    uint32
	bytes    []byte // the encoded frame
	feed     *feed  // hears when it is durable; nil: nobody does
}

func (f *groupFrame) lastSeq() uint64 { return f.firstSeq + uint64(f.count) - 1 }

// size is what the frame takes of a group, table included, at most.
func (f *groupFrame) size() int { return len(f.bytes) + groupEntryBytes + maxSpaceIDBytes }

// group is what one write and one flush make durable.
//
//	0     16       24         32         40      44      48      56    60   64
//	+-----+--------+----------+----------+-------+-------+-------+-----+----+
//	| tag | number | promised | promised | frames| table | total | crc | 0  |
//	|     |        | generat. | offset   |       | bytes | bytes |     |    |
//	+-----+--------+----------+----------+-------+-------+-------+-----+----+
//
// The table follows, an entry for each frame:
//
//	incarnation 16 | firstSeq 8 | offset 8 | length 4 | crc 4 | count 4 | id length 1 | id
//
// and then, each 8-aligned, the frames. crc covers header (but itself) and table.
type group struct {
	number  uint64
	promise promise
	entries []groupEntry
	total   int
}

type groupEntry struct {
	space    incarnation
	id       SpaceID
	firstSeq uint64
	count    uint32
	offset   int64 // from the start of the group
	length   int
	sum      uint32 // of the frame's bytes
}

func (e *groupEntry) lastSeq() uint64 { return e.firstSeq + uint64(e.count) - 1 }

// groupTableLen is the padded length of header and table.
func groupTableLen(frames []groupFrame) int {
	n := groupHeaderBytes
	for i := range frames {
		n += groupEntryBytes + len(frames[i].id)
	}
	return paddedLen(n)
}

func groupLen(frames []groupFrame) int {
	n := groupTableLen(frames)
	for i := range frames {
		n += len(frames[i].bytes)
	}
	return n
}

// appendGroup encodes a group to b, which must be empty.
func appendGroup(b []byte, tag generationTag, number uint64, p promise, frames []groupFrame) []byte {
	table := groupTableLen(frames)
	b = append(b, tag[:]...)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = binary.LittleEndian.AppendUint64(b, p.generation)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.offset))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frames)))
	b = binary.LittleEndian.AppendUint32(b, uint32(table))
	b = binary.LittleEndian.AppendUint64(b, uint64(groupLen(frames)))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	at := table
	for i := range frames {
		f := &frames[i]
		b = append(b, f.space[:]...)
		b = binary.LittleEndian.AppendUint64(b, f.firstSeq)
		b = binary.LittleEndian.AppendUint64(b, uint64(at))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.bytes)))
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(f.bytes, castagnoli))
		b = binary.LittleEndian.AppendUint32(b, f.count)
		b = append(b, byte(len(f.id)))
		b = append(b, f.id...)
		at += len(f.bytes)
	}
	for len(b) < table {
		b = append(b, 0)
	}
	binary.LittleEndian.PutUint32(b[56:], tableSum(b))
	for i := range frames {
		b = append(b, frames[i].bytes...)
	}
	return b
}

// tableSum is the checksum of header and table b without itself.
func tableSum(b []byte) uint32 {
	sum := crc32.Checksum(b[:56], castagnoli)
	return crc32.Update(sum, castagnoli, b[60:])
}

// decodeGroup reads header and table of the group at the start of b. It does
// not look at the frames, which may reach beyond b.
func decodeGroup(b []byte, tag generationTag) (group, bool) {
	if len(b) < groupHeaderBytes || !bytes.Equal(b[:tagBytes], tag[:]) {
		return group{}, false
	}
	table := binary.LittleEndian.Uint32(b[44:])
	if table < groupHeaderBytes || table > maxGroupTable || int(table) > len(b) {
		return group{}, false
	}
	b = b[:table]
	if tableSum(b) != binary.LittleEndian.Uint32(b[56:]) {
		return group{}, false
	}
	g := group{
		number: binary.LittleEndian.Uint64(b[16:]),
		promise: promise{
			generation: binary.LittleEndian.Uint64(b[24:]),
			offset:     int64(binary.LittleEndian.Uint64(b[32:])),
		},
		total: int(binary.LittleEndian.Uint64(b[48:])),
	}
	if g.total < len(b) || g.total > maxGroupTotal {
		return group{}, false
	}
	at := groupHeaderBytes
	for range binary.LittleEndian.Uint32(b[40:]) {
		e, n, ok := decodeGroupEntry(b[at:], g.total)
		if !ok {
			return group{}, false
		}
		g.entries = append(g.entries, e)
		at += n
	}
	return g, true
}

// findGroups yields the groups of the generation in b, with where they stand: also
// those behind damage and inserted bytes, as it looks for the tag at every byte.
func findGroups(b []byte, tag generationTag) iter.Seq2[int, group] {
	return func(yield func(int, group) bool) {
		for at := 0; ; {
			i := bytes.Index(b[at:], tag[:])
			if i < 0 {
				return
			}
			at += i
			g, ok := decodeGroup(b[at:], tag)
			if !ok {
				at++
				continue
			}
			if !yield(at, g) {
				return
			}
			at += groupHeaderBytes
		}
	}
}

func decodeGroupEntry(b []byte, total int) (groupEntry, int, bool) {
	if len(b) < groupEntryBytes {
		return groupEntry{}, 0, false
	}
	e := groupEntry{
		firstSeq: binary.LittleEndian.Uint64(b[16:]),
		offset:   int64(binary.LittleEndian.Uint64(b[24:])),
		length:   int(binary.LittleEndian.Uint32(b[32:])),
		sum:      binary.LittleEndian.Uint32(b[36:]),
		count:    binary.LittleEndian.Uint32(b[40:]),
	}
	copy(e.space[:], b)
	n := groupEntryBytes + int(b[44])
	if n > len(b) || e.offset < 0 || e.offset > int64(total-e.length) || e.count == 0 {
		return groupEntry{}, 0, false
	}
	e.id = SpaceID(b[groupEntryBytes:n])
	return e, n, e.id.Validate() == nil
}

// intact reports whether the entry's frame, in the group's bytes b, is whole.
func (e *groupEntry) intact(b []byte) bool {
	end := e.offset + int64(e.length)
	return end <= int64(len(b)) && crc32.Checksum(b[e.offset:end], castagnoli) == e.sum
}
