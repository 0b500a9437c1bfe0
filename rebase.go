package engram

import (
	"cmp"
	"slices"
)

// A checkpoint ends with its image in the place of the present one, and of the
// recent documents that are in it. Those that came later are copied, since they
// have other numbers, terms and episodes beside another image. Writers, and readers
// who begin, wait for the end of that only: most of it is done beside them.
const (
	// successorRounds bounds how often a successor follows the writes before they
	// wait for it; less than successorRest is not worth another round.
	successorRounds = 4
	successorRest   = 128
)

// successor is the image of an earlier seq with the recent documents that a store
// has beside it, in the making.
type successor struct {
	image    *image
	recent   recent
	interned interned
	terms    copier
	origin   []*document // what its recent documents are copies of
	seen     int         // recent documents of the store that it has followed
}

// newSuccessor returns one for m that has followed nothing of x, the store's recent
// part.
func newSuccessor(m *image, x *recent) *successor {
	next := &successor{image: m, recent: newRecent(), interned: newInterned(m)}
	next.terms = newCopier(x.terms.table.seed, &next.recent.terms)
	next.seen, _ = slices.BinarySearchFunc(x.documents, m.seq, func(d *document, seq uint64) int {
		return cmp.Compare(d.seq, seq+1)
	})
	return next
}

// follow copies what of x lives and is new, buries what has died since it was
// copied, and returns how many documents were new. x is the store's recent part, or
// a snapshot of it that is later than those before.
func (next *successor) follow(x *recent) int {
	for i, d := range next.origin {
		if died := d.died.Load(); died != 0 {
			next.bury(next.recent.documents[i], died)
		}
	}
	fresh := x.documents[next.seen:]
	next.seen = len(x.documents)
	for _, d := range fresh {
		if d.died.Load() == 0 {
			next.copy(x, d)
		}
	}
	next.recent.terms.invert()
	return len(fresh)
}

// copy adds a document of x. Views of x keep theirs.
func (next *successor) copy(x *recent, d *document) {
	copied := &document{
		id: d.id, seq: d.seq, time: d.time,
		place: d.place, size: d.size, length: d.length, flags: d.flags, questions: d.questions,
	}
	if d.episode != nil {
		copied.episode = next.interned.episode(d.episode.name)
		next.useEpisode(copied.episode.number, d.length, 1)
	}
	for _, a := range d.attributes {
		copied.attributes = append(copied.attributes, next.interned.attribute(a.key, a.value))
	}
	next.origin = append(next.origin, d)
	next.recent.insert(copied)
	next.terms.copy(&x.terms, d.ordinal)
	next.copyVector(x, d, copied)
}

// copyVector adds the vector that a caller gave d of x, if one did.
func (next *successor) copyVector(x *recent, d, copied *document) {
	if d.flags&documentEmbedded != 0 {
		next.recent.vectors.add(copied.ordinal, &x.vectors.codes, x.vectors.row(d.ordinal))
	}
}

// replaceVectors copies the vectors anew that callers gave, of what lives: a switch
// came since the image was made, and those before it are another generation's.
func (next *successor) replaceVectors(x *recent) {
	next.recent.vectors = vectors{}
	for i, d := range next.origin {
		if d.died.Load() == 0 {
			next.copyVector(x, d, next.recent.documents[i])
		}
	}
}

// bury makes a copied document dead, unless it is.
func (next *successor) bury(copied *document, died uint64) {
	if copied.died.Load() != 0 {
		return
	}
	copied.died.Store(died)
	next.recent.remove(copied)
	if copied.episode != nil {
		next.useEpisode(copied.episode.number, copied.length, -1)
	}
}

// useEpisode counts a document of the episode that comes to life, n 1, or dies,
// n -1.
func (next *successor) useEpisode(number, length uint32, n int64) {
	use := episodeUseIn(next.image, &next.recent, number)
	use.documents += n
	use.tokens += n * int64(length)
	next.recent.episodes.ReplaceOrInsert(use)
}

// prepare makes the successor that m is the image of, while writes go on, but for
// the last of them.
func (s *store) prepare(m *image) *successor {
	v := s.view()
	next := newSuccessor(m, &v.recent)
	for range successorRounds {
		if next.follow(&v.recent) < successorRest {
			break
		}
		v = s.view()
	}
	return next
}

// rebase puts the successor in place. rewritten are the segments that replace the
// victims. The caller holds mu; views keep what they have.
func (s *store) rebase(next *successor, rewritten []segmentEntry, victims []*segment) {
	old, recent, m := s.image, s.recent, next.image
	next.follow(&recent)
	if m.present.generation != s.generation {
		next.replaceVectors(&recent)
	}
	s.carryDeaths(next)
	s.image, s.recent, s.interned = m, next.recent, next.interned
	if p := m.present.partition; p != nil && s.partition != nil && p.number == s.partition.number {
		s.partition = p // one of them is enough
	}
	for _, v := range victims {
		delete(s.segments, v.number)
	}
	fresh := make(map[uint64]*segmentUse, len(rewritten))
	for _, e := range rewritten {
		*s.use(e.number) = e.use
		fresh[e.number] = s.use(e.number)
	}
	s.carryDrops(fresh)
	s.carryDerived(&s.recent.derived, &recent.derived, old, &recent)
	s.carryDerived(&s.recent.next, &recent.next, old, &recent)
	s.graph.compact()
	s.publish()
}

// carryDeaths marks in the successor's image what has died since that was made.
func (s *store) carryDeaths(next *successor) {
	m := next.image
	kill := func(id string, seq, died uint64) {
		if i, found := m.byID.lookup(&m.ids, id); found && m.seqs.at(i) == seq {
			m.kill(i, died)
			if e := m.episodes.at(i); e != 0 {
				next.useEpisode(e, m.lengths.at(i), -1)
			}
		}
	}
	old := s.image
	for _, dead := range old.deaths.all() {
		if dead.seq > m.seq {
			kill(string(old.ids.at(dead.ordinal)), old.seqs.at(dead.ordinal), dead.seq)
		}
	}
	for _, d := range s.recent.documents {
		if died := d.died.Load(); died > m.seq {
			kill(d.id, d.seq, died)
		}
	}
}

// carryDrops counts what was rewritten and is needed no more: records of what has
// died since the image was made, and vectors of a generation that was given up.
// The uses of segments that were there then have counted it.
func (s *store) carryDrops(fresh map[uint64]*segmentUse) {
	m := s.image
	drop := func(place uint64, size uint32) {
		if use := fresh[place>>32]; use != nil {
			use.live -= int64(size)
			use.dead += int64(size)
		}
	}
	sets := [...]*vectorSet{&m.present, &m.next}
	for _, dead := range m.deaths.all() {
		i := dead.ordinal
		drop(m.places.at(i), m.sizes.at(i))
		for _, set := range sets {
			if row, found := set.derived.find(i); found {
				drop(set.derived.places.at(row), set.derived.sizes.at(row))
			}
		}
	}
	for _, set := range sets {
		if set.generation == s.generation || set.generation == s.next.generation {
			continue
		}
		for row := range uint32(set.derived.documents.len()) {
			if m.visibleAt(set.derived.documents.at(row), s.seq) {
				drop(set.derived.places.at(row), set.derived.sizes.at(row))
			}
		}
	}
}
