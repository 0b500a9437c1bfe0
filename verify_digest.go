package engram

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"slices"

	"github.com/engramdb/engram/internal/rabitq"
)

// stateDigest makes the digest of a space's state: of all that its indexes,
// configuration and requests say, but where records stand and whose they are.
//
// How a store came to its state shows in how it numbers documents, episodes and
// attributes. So they are written here by what they are, in the order of their
// seqs, which are the same for all that say the same.
type stateDigest struct {
	view     *view
	requests []keptRequest
	living   []uint32 // in seq order
	ranks    []uint32 // places in living, by document
	hash     hash.Hash
	buf      []byte
}

// digested is a snapshot of the present state.
func (s *store) digested() stateDigest {
	s.mu.Lock()
	v := s.current.Load()
	if v == nil {
		v = s.makeView()
	}
	x := stateDigest{view: v, requests: s.requestList()}
	s.mu.Unlock()
	x.living = v.living()
	return x
}

// sum returns the digest, in hexadecimal.
func (x *stateDigest) sum() string {
	v := x.view
	x.hash = sha256.New()
	c := checkpoint{config: v.config, dimension: v.dimension, requests: x.requests}
	x.write(x.appendVectorState(c.appendRequests(c.appendState(appendU64(nil, v.seq)))))
	for _, n := range []int64{v.live, v.bytes, v.tokens, v.episodes, v.episodeTokens} {
		x.write(appendU64(nil, uint64(n)))
	}
	x.ranks = make([]uint32, v.documents())
	for i, d := range x.living {
		x.ranks[d] = uint32(i)
		x.write(x.appendDocument(x.buf[:0], d))
		x.write(x.appendAssociations(x.buf[:0], d))
	}
	for _, term := range v.sortedTerms() {
		x.write(x.appendPostings(x.buf[:0], term))
	}
	return fmt.Sprintf("%x", x.hash.Sum(nil))
}

// write hashes b, which may be used again.
func (x *stateDigest) write(b []byte) {
	_, _ = x.hash.Write(b) // a hash does not fail
	x.buf = b
}

func (x *stateDigest) appendDocument(b []byte, d uint32) []byte {
	v := x.view
	b = appendU64(appendU64(appendCounted(b, string(v.id(d))), v.seqOf(d)), uint64(v.timeOf(d)))
	b = appendU32(appendU32(b, v.sizeOf(d)), v.lengthOf(d))
	b = append(b, v.embeddedFlags(d), v.questionsOf(d))
	episode := ""
	if v.episodeOf(d) != 0 {
		episode = v.episodeName(d)
	}
	b = appendCounted(b, episode) // no name is empty
	attributes := v.attributes(d)
	b = binary.AppendUvarint(b, uint64(len(attributes)))
	for _, a := range attributes {
		b = appendCounted(appendCounted(b, a.key), a.value)
	}
	if v.embedded(d) {
		if r, found := v.derivedOf(d); found {
			b = appendU64(b, r.seq)
		}
		b = appendCodes(b, v.codesOf, d)
		if v.partition.pays() {
			b = appendU32(b, uint32(v.leafOf(d)))
		}
	}
	if r, found := v.nextOf(d); found {
		b = appendCodes(appendU64(b, r.seq), v.nextCodesOf, d)
	}
	return b
}

// appendAssociations appends those that the document's memory has to others, and
// nothing for one that has none.
func (x *stateDigest) appendAssociations(b []byte, d uint32) []byte {
	n := x.view.graph.of(string(x.view.id(d)))
	if n == nil || len(n.out) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(n.out)))
	for _, a := range x.view.graph.outgoingOf(n) {
		b = appendU64(appendCounted(appendCounted(b, a.To), a.Kind), math.Float64bits(a.Weight))
	}
	return b
}

// appendCodes appends the codes of a vector of the document.
func appendCodes(b []byte, of func(d uint32) (codes *rabitq.Codes, row int), d uint32) []byte {
	codes, row := of(d)
	words, fine := len(codes.Binary)/codes.Rows(), len(codes.Fine)/codes.Rows()
	for _, word := range codes.Binary[row*words:][:words] {
		b = appendU64(b, word)
	}
	b = append(b, codes.Fine[row*fine:][:fine]...)
	for _, column := range [][]float32{codes.Ones, codes.BinaryScales, codes.FineScales} {
		b = appendU32(b, math.Float32bits(column[row]))
	}
	return b
}

// appendPostings appends the term with its living documents, and nothing for one
// that has none.
func (x *stateDigest) appendPostings(b []byte, term string) []byte {
	list := x.view.list(nil, term)
	if len(list) == 0 {
		return b
	}
	for i := range list {
		list[i].ordinal = x.ranks[list[i].ordinal]
	}
	slices.SortFunc(list, func(p, q posting) int { return cmp.Compare(p.ordinal, q.ordinal) })
	b = binary.AppendUvarint(appendCounted(b, term), uint64(len(list)))
	for _, p := range list {
		b = appendU32(appendU32(b, p.ordinal), p.count)
	}
	return b
}
