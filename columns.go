package engram

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// The sections of a checkpoint are arrays of little-endian numbers and texts
// that are read where they lie: loading one costs its checksum and a look at
// each value, and no allocation for any of them.

// column32 and column64 are arrays of numbers.
type (
	column32 []byte
	column64 []byte
)

func (c column32) len() int           { return len(c) / 4 }
func (c column32) at(i uint32) uint32 { return binary.LittleEndian.Uint32(c[4*int(i):]) }

func (c column64) at(i uint32) uint64 { return binary.LittleEndian.Uint64(c[8*int(i):]) }

// texts is an array of byte strings: where each ends, and all of them in a row.
type texts struct {
	ends  column32
	bytes []byte
}

func (t *texts) len() uint32 { return uint32(t.ends.len()) }

func (t *texts) at(i uint32) []byte {
	from := uint32(0)
	if i > 0 {
		from = t.ends.at(i - 1)
	}
	return t.bytes[from:t.ends.at(i)]
}

// sorted reports whether the texts ascend, each once.
func (t *texts) sorted() bool {
	for i := uint32(1); i < t.len(); i++ {
		if bytes.Compare(t.at(i-1), t.at(i)) >= 0 {
			return false
		}
	}
	return true
}

// sectionReader takes columns from a section. After the first thing that does
// not fit, failed is set and everything reads as empty.
type sectionReader struct{ decoder }

func (r *sectionReader) column32(n uint32) column32 { return column32(r.array(uint64(n), 4)) }
func (r *sectionReader) column64(n uint32) column64 { return column64(r.array(uint64(n), 8)) }

// array takes n things of size bytes.
func (r *sectionReader) array(n, size uint64) []byte {
	if n > uint64(len(r.b))/size {
		r.failed = true
		return nil
	}
	return r.take(int(n * size))
}

// texts takes n texts: their ends, then their bytes.
func (r *sectionReader) texts(n uint32) texts {
	t := texts{ends: r.column32(n)}
	last := uint32(0)
	for i := range uint32(t.ends.len()) {
		end := t.ends.at(i)
		r.failed = r.failed || end < last
		last = end
	}
	if t.bytes = r.array(uint64(last), 1); r.failed {
		return texts{}
	}
	return t
}

// end says that the section has been read: nothing may be left.
func (r *sectionReader) end() bool { return !r.failed && len(r.b) == 0 }

func appendU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

func appendTexts[T string | []byte](b []byte, list []T) []byte {
	end := uint32(0)
	for _, text := range list {
		end += uint32(len(text))
		b = appendU32(b, end)
	}
	for _, text := range list {
		b = append(b, text...)
	}
	return b
}

// textsBuilder makes texts: what is appended to bytes is one with each end.
type textsBuilder struct {
	ends  []uint32
	bytes []byte
}

func (t *textsBuilder) end() { t.ends = append(t.ends, uint32(len(t.bytes))) }

// append appends the texts as a section has them.
func (t *textsBuilder) append(b []byte) []byte {
	for _, end := range t.ends {
		b = appendU32(b, end)
	}
	return append(b, t.bytes...)
}

// hashTable finds a text's place in an array that is in another order. It is
// seeded anew each time, so that no texts can be written to make it slow.
type hashTable struct {
	seed  maphash.Seed
	slots []uint32 // 1 + place; 0: free
}

// newHashTable indexes the texts. unique is false if one occurs twice.
func newHashTable(t *texts) (table hashTable, unique bool) {
	n := t.len()
	if n == 0 {
		return hashTable{}, true
	}
	table = hashTable{seed: maphash.MakeSeed(), slots: make([]uint32, 1<<bits.Len32(n+n/2))}
	for i := range n {
		text := t.at(i)
		slot, found := table.find(t, text)
		if found {
			return hashTable{}, false
		}
		table.slots[slot] = i + 1
	}
	return table, true
}

// find returns the slot that holds the text, or the free one where it belongs.
func (h *hashTable) find(t *texts, text []byte) (slot uint64, found bool) {
	mask := uint64(len(h.slots) - 1)
	for slot = maphash.Bytes(h.seed, text) & mask; h.slots[slot] != 0; slot = (slot + 1) & mask {
		if bytes.Equal(t.at(h.slots[slot]-1), text) {
			return slot, true
		}
	}
	return slot, false
}

// lookup returns the text's place.
func (h *hashTable) lookup(t *texts, text string) (uint32, bool) {
	if len(h.slots) == 0 {
		return 0, false
	}
	slot, found := h.find(t, []byte(text))
	if !found {
		return 0, false
	}
	return h.slots[slot] - 1, true
}
