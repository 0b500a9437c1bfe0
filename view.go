package engram

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// view is a snapshot at seq. It is immutable but for the deaths of its
// documents, which carry the seq that they hold from.
//
// Its documents are numbered: those of the image first, by their ordinals, then
// the recent ones.
type view struct {
	seq    uint64
	config SpaceConfig
	vectorState
	counts
	image          *image
	recent         recent
	graph          graph
	episodeNumbers uint32 // the highest
}

// documents is how many there are, dead ones among them.
func (v *view) documents() uint32 { return v.image.documents() + uint32(len(v.recent.documents)) }

func (v *view) recentDocuments() int { return len(v.recent.documents) }

// recentDocument returns document d, which is not the image's.
func (v *view) recentDocument(d uint32) *document { return v.recent.documents[d-v.image.documents()] }

func (v *view) imaged(d uint32) bool { return d < v.image.documents() }

func (v *view) visible(d uint32) bool {
	if v.imaged(d) {
		return v.image.visibleAt(d, v.seq)
	}
	return v.recentDocument(d).visibleAt(v.seq)
}

func (v *view) id(d uint32) []byte {
	if v.imaged(d) {
		return v.image.ids.at(d)
	}
	return []byte(v.recentDocument(d).id)
}

func (v *view) hasID(d uint32, id string) bool {
	if v.imaged(d) {
		return string(v.image.ids.at(d)) == id
	}
	return v.recentDocument(d).id == id
}

func (v *view) seqOf(d uint32) uint64 {
	if v.imaged(d) {
		return v.image.seqs.at(d)
	}
	return v.recentDocument(d).seq
}

func (v *view) timeOf(d uint32) int64 {
	if v.imaged(d) {
		return int64(v.image.times.at(d))
	}
	return v.recentDocument(d).time
}

func (v *view) sizeOf(d uint32) uint32 {
	if v.imaged(d) {
		return v.image.sizes.at(d)
	}
	return v.recentDocument(d).size
}

func (v *view) lengthOf(d uint32) uint32 {
	if v.imaged(d) {
		return v.image.lengths.at(d)
	}
	return v.recentDocument(d).length
}

func (v *view) flagsOf(d uint32) uint8 {
	if v.imaged(d) {
		return v.image.flags[d]
	}
	return v.recentDocument(d).flags
}

// questionsOf returns the share of the document's sentences that are questions,
// of 255.
func (v *view) questionsOf(d uint32) uint8 {
	if v.imaged(d) {
		return v.image.questions[d]
	}
	return v.recentDocument(d).questions
}

func (v *view) locator(d uint32) locator {
	if v.imaged(d) {
		return v.image.locator(d)
	}
	x := v.recentDocument(d)
	return locatorOf(x.place, x.size)
}

// episodeOf returns the number of the document's episode, 0 for none.
func (v *view) episodeOf(d uint32) uint32 {
	if v.imaged(d) {
		return v.image.episodes.at(d)
	}
	return v.recentDocument(d).episode.numberOr0()
}

// episodeName returns the name of the document's episode, which it has.
func (v *view) episodeName(d uint32) string {
	if v.imaged(d) {
		return string(v.image.episodeNames.at(v.image.episodes.at(d) - 1))
	}
	return v.recentDocument(d).episode.name
}

// attributes returns the document's pairs in key order.
func (v *view) attributes(d uint32) []attribute {
	if !v.imaged(d) {
		return v.recentDocument(d).attributes
	}
	var list []attribute
	v.image.attributesOf(d, func(pair uint32) bool {
		a, _ := pairOf(v.image.pairs.at(pair))
		list = append(list, a)
		return true
	})
	return list
}

func (v *view) compareTime(a, b uint32) int {
	if x, y := v.timeOf(a), v.timeOf(b); x != y {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(v.seqOf(a), v.seqOf(b))
}

func (v *view) compareEpisode(a, b uint32) int {
	if x, y := v.episodeOf(a), v.episodeOf(b); x != y {
		return cmp.Compare(x, y)
	}
	return v.compareTime(a, b)
}

// living returns the documents that live, in the order in which they were stored.
func (v *view) living() []uint32 {
	list := make([]uint32, 0, v.live)
	for d := range v.documents() {
		if v.visible(d) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b uint32) int { return cmp.Compare(v.seqOf(a), v.seqOf(b)) })
	return list
}

// lookup returns the living document of that id.
func (v *view) lookup(id string) (uint32, bool) {
	if d, found := v.recent.byID.Get(&document{id: id}); found {
		return v.image.documents() + d.ordinal, true
	}
	i, found := v.image.byID.lookup(&v.image.ids, id)
	return i, found && v.image.visibleAt(i, v.seq)
}

// list appends the postings of the term that are visible.
func (v *view) list(list []posting, term string) []posting {
	list = v.image.appendList(list, term, v.seq)
	return v.appendRecent(list, v.recent.terms.find(term))
}

// appendRecent appends those of p, which may be nil, that are visible.
func (v *view) appendRecent(list []posting, p *postings) []posting {
	first := v.image.documents()
	for _, p := range p.below(v.recentDocuments()) {
		if v.recent.documents[p.ordinal].visibleAt(v.seq) {
			list = append(list, posting{first + p.ordinal, p.count})
		}
	}
	return list
}

// members appends the living documents of the episode, in time order.
func (v *view) members(list []uint32, number uint32) []uint32 {
	if number <= v.image.episodeNames.len() {
		from, to := v.image.episodeRange(number)
		for d := from; d < to; d++ {
			if v.image.visibleAt(d, v.seq) {
				list = append(list, d)
			}
		}
	}
	if _, changed := v.recent.episodes.Get(episodeUse{number: number}); !changed {
		return list
	}
	imaged := len(list)
	pivot := &document{episode: &episode{number: number}, time: math.MinInt64}
	v.recent.byEpisode.AscendGreaterOrEqual(pivot, func(x *document) bool {
		if x.episode.number == number {
			list = append(list, v.image.documents()+x.ordinal)
		}
		return x.episode.number == number
	})
	if imaged > 0 && imaged < len(list) && v.compareTime(list[imaged-1], list[imaged]) > 0 {
		list = append(list[:0], mergeDocuments(list[:imaged], list[imaged:], v.compareTime)...)
	}
	return list
}

// episodeUse returns what of the episode lives.
func (v *view) episodeUse(number uint32) episodeUse { return episodeUseIn(v.image, &v.recent, number) }

func episodeUseIn(m *image, x *recent, number uint32) episodeUse {
	if x.episodes.Len() > 0 {
		if use, found := x.episodes.Get(episodeUse{number: number}); found {
			return use
		}
	}
	if number > m.episodeNames.len() {
		return episodeUse{number: number}
	}
	from, to := m.episodeRange(number)
	return episodeUse{number: number, documents: int64(to - from), tokens: int64(m.episodeTokens.at(number - 1))}
}

// noDocument is no document's number.
const noDocument = math.MaxUint32

// neighbours returns the two living documents before d and the two after it in
// its episode, noDocument where there are none. dead is the caller's.
func (v *view) neighbours(d uint32, dead *deadRuns) [4]uint32 {
	list := [4]uint32{noDocument, noDocument, noDocument, noDocument}
	e := v.episodeOf(d)
	if e == 0 {
		return list
	}
	s := spot{episode: e, document: d, dead: dead}
	_, s.changed = v.recent.episodes.Get(episodeUse{number: e})
	at := s
	for i := 1; i >= 0; i-- {
		if at.document = v.before(at); at.document == noDocument {
			break
		}
		list[i] = at.document
	}
	at = s
	for i := 2; i < 4; i++ {
		if at.document = v.after(at); at.document == noDocument {
			break
		}
		list[i] = at.document
	}
	return list
}

// spot is the place of a document in its episode.
type spot struct {
	episode  uint32
	document uint32
	changed  bool // it may have recent documents
	dead     *deadRuns
}

// before returns the living document before the spot.
func (v *view) before(s spot) uint32 {
	found := uint32(noDocument)
	if s.episode <= v.image.episodeNames.len() {
		from, _ := v.image.episodeRange(s.episode)
		found = s.dead.lastVisible(v, from, v.imagedBefore(s))
	}
	if !s.changed {
		return found
	}
	v.recent.byEpisode.DescendLessOrEqual(v.pivot(s), func(x *document) bool {
		d := v.image.documents() + x.ordinal
		if x.episode.number != s.episode || d == s.document {
			return x.episode.number == s.episode
		}
		if found == noDocument || v.compareTime(d, found) > 0 {
			found = d
		}
		return false
	})
	return found
}

// after returns the living document after the spot.
func (v *view) after(s spot) uint32 {
	found := uint32(noDocument)
	if s.episode <= v.image.episodeNames.len() {
		_, to := v.image.episodeRange(s.episode)
		at := v.imagedBefore(s)
		if v.imaged(s.document) {
			at++
		}
		found = s.dead.firstVisible(v, at, to)
	}
	if !s.changed {
		return found
	}
	v.recent.byEpisode.AscendGreaterOrEqual(v.pivot(s), func(x *document) bool {
		d := v.image.documents() + x.ordinal
		if x.episode.number != s.episode || d == s.document {
			return x.episode.number == s.episode
		}
		if found == noDocument || v.compareTime(d, found) < 0 {
			found = d
		}
		return false
	})
	return found
}

// imagedBefore returns the end of the episode's documents of the image that
// stand before the spot.
func (v *view) imagedBefore(s spot) uint32 {
	if v.imaged(s.document) {
		return s.document
	}
	from, to := v.image.episodeRange(s.episode)
	for from < to {
		middle := (from + to) / 2
		if v.compareTime(middle, s.document) < 0 {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from
}

// pivot stands where the spot is among the recent documents.
func (v *view) pivot(s spot) *document {
	if !v.imaged(s.document) {
		return v.recentDocument(s.document)
	}
	return &document{
		episode: &episode{number: s.episode}, time: v.timeOf(s.document), seq: v.seqOf(s.document),
	}
}

// scan calls yield for each memory that satisfies f, in time order, until it
// returns false.
func (v *view) scan(f *Filter, yield func(d uint32) bool) {
	v.scanFrom(f, math.MinInt64, 0, yield)
}

// scanFrom is scan without the memories before that time, and those of it whose
// seqs are lower.
func (v *view) scanFrom(f *Filter, time int64, seq uint64, yield func(d uint32) bool) {
	m := v.matcher(f)
	if time < m.lower {
		time, seq = m.lower, 0
	}
	imaged := v.image.scan(&m, time, seq, false)
	going := true
	v.recent.byTime.AscendGreaterOrEqual(&document{time: time, seq: seq}, func(x *document) bool {
		d := v.image.documents() + x.ordinal
		for going && imaged.before(v, d) {
			going = imaged.yield(v, &m, yield)
		}
		if going && x.time <= m.upper && m.matchesRecent(x) {
			going = yield(d)
		}
		return going && x.time <= m.upper
	})
	for going && imaged.left() {
		going = imaged.yield(v, &m, yield)
	}
}

// newest is scan, the latest first.
func (v *view) newest(f *Filter, yield func(d uint32) bool) {
	m := v.matcher(f)
	imaged := v.image.scan(&m, m.lower, 0, true)
	going := true
	v.recent.byTime.DescendLessOrEqual(&document{time: m.upper, seq: math.MaxUint64}, func(x *document) bool {
		d := v.image.documents() + x.ordinal
		for going && imaged.after(v, d) {
			going = imaged.yield(v, &m, yield)
		}
		if going && x.time >= m.lower && m.matchesRecent(x) {
			going = yield(d)
		}
		return going && x.time >= m.lower
	})
	for going && imaged.left() {
		going = imaged.yield(v, &m, yield)
	}
}

// imageScan goes through the documents of an image that are within a matcher's
// times and episode, in time order or against it.
type imageScan struct {
	order    column32 // what the places are of; nil: documents themselves
	from, to uint32   // places that are left
	backward bool
}

// scan begins at the first document that is neither before that time nor, at it,
// of a lower seq.
func (m *image) scan(match *matcher, time int64, seq uint64, backward bool) imageScan {
	s := imageScan{order: m.byTime, to: m.documents(), backward: backward}
	if match.episodeName != "" {
		s.order, s.to = nil, 0
		if match.episode != 0 {
			s.from, s.to = m.episodeRange(match.episode)
		}
	}
	s.from = s.place(m, time, seq)
	if match.upper < math.MaxInt64 {
		s.to = s.place(m, match.upper+1, 0)
	}
	return s
}

// place returns the place of the first document that is left and neither before that
// time nor, at it, of a lower seq, and the end where there is none.
func (s *imageScan) place(m *image, time int64, seq uint64) uint32 {
	return s.from + uint32(sort.Search(int(s.to-s.from), func(i int) bool {
		d := s.at(s.from + uint32(i))
		t := int64(m.times.at(d))
		return t > time || t == time && m.seqs.at(d) >= seq
	}))
}

func (s *imageScan) left() bool { return s.from < s.to }

// head is the next document; one is left.
func (s *imageScan) head() uint32 {
	if s.backward {
		return s.at(s.to - 1)
	}
	return s.at(s.from)
}

// at is the document at the place.
func (s *imageScan) at(place uint32) uint32 {
	if s.order == nil {
		return place
	}
	return s.order.at(place)
}

func (s *imageScan) before(v *view, d uint32) bool { return s.left() && v.compareTime(s.head(), d) < 0 }

func (s *imageScan) after(v *view, d uint32) bool { return s.left() && v.compareTime(s.head(), d) > 0 }

// yield passes the next document on, if it matches, and returns whether to go on.
func (s *imageScan) yield(v *view, m *matcher, yield func(d uint32) bool) bool {
	d := s.head()
	if s.backward {
		s.to--
	} else {
		s.from++
	}
	return !v.image.visibleAt(d, v.seq) || !m.matchesImaged(v.image, d) || yield(d)
}

// bounds are the times that f admits, both inclusive.
func (f *Filter) bounds() (lower, upper int64) {
	lower, upper = math.MinInt64, math.MaxInt64
	if !f.After.IsZero() {
		lower = f.After.UnixNano()
	}
	if !f.Before.IsZero() {
		upper = f.Before.UnixNano() - 1
	}
	return lower, upper
}

// matcher is a filter made ready to test many documents of a view.
type matcher struct {
	lower, upper int64
	episodeName  string
	episode      uint32 // its number in the image, 0 if it is not there
	attributes   []attribute
	pairs        []uint32 // the places of attributes in the image
	nowhere      bool     // the image lacks one of them
	kind         Kind
}

func (v *view) matcher(f *Filter) matcher {
	m := matcher{episodeName: f.Episode, kind: f.Kind}
	m.lower, m.upper = f.bounds()
	if i, found := v.image.byEpisode.lookup(&v.image.episodeNames, f.Episode); found {
		m.episode = i + 1
	}
	for _, key := range sortedKeys(f.Attributes) {
		a := attribute{key, f.Attributes[key]}
		m.attributes = append(m.attributes, a)
		pair, found := v.image.findPair(a)
		m.pairs = append(m.pairs, pair)
		m.nowhere = m.nowhere || !found
	}
	return m
}

// matches reports whether document d of v satisfies the filter.
func (m *matcher) matches(v *view, d uint32) bool {
	if v.imaged(d) {
		return m.matchesImaged(v.image, d)
	}
	return m.matchesRecent(v.recentDocument(d))
}

func (m *matcher) matchesImaged(x *image, d uint32) bool {
	time := int64(x.times.at(d))
	if m.nowhere || time < m.lower || time > m.upper || !m.matchesKind(x.flags[d]) ||
		m.episodeName != "" && (m.episode == 0 || x.episodes.at(d) != m.episode) {
		return false
	}
	return x.hasPairs(d, m.pairs)
}

func (m *matcher) matchesRecent(d *document) bool {
	if d.time < m.lower || d.time > m.upper || !m.matchesKind(d.flags) ||
		m.episodeName != "" && (d.episode == nil || d.episode.name != m.episodeName) {
		return false
	}
	wanted := m.attributes
	for i := 0; i < len(d.attributes) && len(wanted) > 0; i++ {
		if d.attributes[i] == wanted[0] {
			wanted = wanted[1:]
		}
	}
	return len(wanted) == 0
}

// admitsAll reports whether every document satisfies the filter.
func (m *matcher) admitsAll() bool {
	return m.lower == math.MinInt64 && m.upper == math.MaxInt64 && m.episodeName == "" && len(m.attributes) == 0 && m.kind == ""
}

func (m *matcher) matchesKind(flags uint8) bool {
	return m.kind == "" || (m.kind == Semantic) == (flags&documentSemantic != 0)
}
