package engram

import (
	"sync"
	"sync/atomic"
	"time"
)

// keptRequests is how many request ids a space remembers.
const keptRequests = 4096

// store is the state of one space: a pure function of its operations. It does
// no I/O, asks no clock and starts no goroutine. apply has one caller at a
// time; readers work on views, and wait for it, or it for them, only where a view
// has to be made.
//
// What the last checkpoint holds is read in its image, what was stored since is
// in recent. Contents and embeddings are in neither: a document has the place of
// its record in the log.
type store struct {
	seq    uint64
	config SpaceConfig
	vectorState
	counts

	image      *image
	recent     recent
	graph      graph
	interned   interned // of the recent documents
	rotations  rotations
	segments   map[uint64]*segmentUse
	requests   map[string]requestRecord
	requestIDs []string // in seq order, at most keptRequests

	// mu guards everything above between apply and a reader that has to make its
	// own view, or the end of a checkpoint that puts its image in place.
	mu      sync.Mutex
	current atomic.Pointer[view] // nil: stale, the next reader makes it
	viewed  atomic.Bool          // somebody reads: publish views at once

	// For writers without a view: as of the last publish.
	autoAssociate      atomic.Int32 // config's
	embeddingDimension atomic.Int32 // dimension
}

// locator is where the record of an operation stands in the log.
type locator struct {
	segment uint64 // below 2^32
	offset  int64  // in the segment, below 2^32
	length  int
}

// place is the locator without the length, in one number.
func (l locator) place() uint64 { return l.segment<<32 | uint64(l.offset) }

func locatorOf(place uint64, length uint32) locator {
	return locator{segment: place >> 32, offset: int64(place & (1<<32 - 1)), length: int(length)}
}

// segmentUse says what of a segment is needed, in bytes. Live are the records of
// living memories and of the derived vectors that these have. Dead are those of
// memories and vectors that are gone, the other operations but configure, which repeat
// ids or are in the checkpoint, and what stands behind a sealed segment's end.
//
// Memories come and go in [store.count]. A derived vector comes in [store.embed] and
// goes in [store.drop]: with its memory, or with its whole generation. [store.rebase]
// takes over what a checkpoint counted of the segments that it wrote, and
// [store.carryDrops] then counts there what went while it was made.
type segmentUse struct {
	live int64
	dead int64
}

type requestRecord struct {
	seq        uint64
	storedAt   int64
	hash       uint64
	operations uint32
	forgotten  uint32
}

func newStore() *store {
	m := new(image)
	s := &store{
		image:    m,
		recent:   newRecent(),
		graph:    newGraph(),
		interned: newInterned(m),
		segments: make(map[uint64]*segmentUse),
		requests: make(map[string]requestRecord),
	}
	s.publish()
	return s
}

// load fills an empty store from a checkpoint.
func (s *store) load(c *checkpoint) {
	s.seq, s.config, s.vectorState = c.start.seq, c.config, c.image.vectorState()
	s.image, s.counts = c.image, c.image.counts
	s.interned = newInterned(c.image)
	s.graph.fill(&c.associations, int(c.image.documents()), func(d uint32) string { return string(c.image.ids.at(d)) })
	for _, e := range c.segments {
		*s.use(e.number) = e.use
	}
	for _, r := range c.requests {
		s.requestIDs = append(s.requestIDs, r.id)
		s.requests[r.id] = r.requestRecord
	}
}

// publish makes what has been applied visible to readers. A view costs the
// writes behind it a copy of each tree node they touch, so while nobody reads
// none is made. The caller holds mu, if there are readers.
func (s *store) publish() {
	s.recent.terms.invert()
	s.current.Store(nil)
	s.autoAssociate.Store(int32(s.config.AutoAssociate))
	s.embeddingDimension.Store(int32(s.dimension))
	if s.viewed.Swap(false) {
		s.makeView()
	}
}

func (s *store) makeView() *view {
	v := &view{
		seq: s.seq, config: s.config, vectorState: s.vectorState,
		counts: s.counts, image: s.image, recent: s.recent.clone(),
		graph: s.graph.snapshot(), episodeNumbers: s.interned.lastEpisode,
	}
	s.current.Store(v)
	return v
}

// now is a view that is good until the next operation is applied, and costs
// nothing. Its terms are those of the last publish.
func (s *store) now() view {
	return view{seq: s.seq, vectorState: s.vectorState, image: s.image, recent: s.recent}
}

// view returns the last published snapshot. Readers that follow each other
// closely find it made; the first one after a pause waits for a frame that is
// being applied, at most.
func (s *store) view() *view {
	if !s.viewed.Load() {
		s.viewed.Store(true)
	}
	if v := s.current.Load(); v != nil {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.current.Load(); v != nil {
		return v
	}
	return s.makeView()
}

// version returns the seq of the living version of a memory, 0 for none, and
// the seq that this holds at. It is for who asks for one memory now and then:
// unlike a view it costs the writes behind it nothing.
func (s *store) version(id string) (version, at uint64) {
	return s.versionOf(&document{id: id})
}

// versionOf is version for the id of probe, which is not kept.
func (s *store) versionOf(probe *document) (version, at uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, found := s.recent.byID.Get(probe); found {
		return d.seq, s.seq
	}
	if i, found := s.image.byID.lookup(&s.image.ids, probe.id); found && s.image.visibleAt(i, s.seq) {
		return s.image.seqs.at(i), s.seq
	}
	return 0, s.seq
}

// apply does one operation, which must be the next. It returns how many
// memories it forgot.
func (s *store) apply(op *operation) int {
	s.seq = op.seq
	forgotten := 0
	switch op.kind {
	case opConfigure:
		s.config = op.config
	case opRemember:
		s.remember(op)
	case opForget:
		forgotten = s.forget(op)
		s.use(op.record.segment).dead += int64(op.record.length)
	case opAssociate:
		s.associate(&op.association)
		s.use(op.record.segment).dead += int64(op.record.length)
	case opEmbed:
		s.embed(op)
	case opEmbedder, opReembed, opSwitch, opPartition:
		s.changeVectors(op)
		s.use(op.record.segment).dead += int64(op.record.length)
	}
	s.keepRequest(op, forgotten)
	return forgotten
}

func (s *store) remember(op *operation) {
	m := &op.memory
	if s.killID(m.ID) && s.config.AutoAssociate > 0 {
		s.graph.dropSimilar(m.ID)
	}
	d := &document{
		id:         m.ID,
		seq:        op.seq,
		time:       m.Time.UnixNano(),
		attributes: s.interned.attributes(m.Attributes),
		place:      op.record.place(),
		size:       uint32(op.record.length),
		length:     uint32(op.length),
	}
	d.questions, d.flags = op.questions, op.tells
	if m.Kind == Semantic {
		d.flags |= documentSemantic
	}
	if len(m.Embedding) > 0 {
		d.flags |= documentEmbedded
	}
	if m.Episode != "" {
		d.episode = s.interned.episode(m.Episode)
	}
	if s.dimension == 0 {
		s.dimension = len(m.Embedding)
	}
	s.recent.insert(d)
	s.link(d.id, op.links)
	if len(m.Embedding) > 0 {
		codes := op.codes
		if codes == nil {
			codes = s.rotations.encode(m.Embedding)
		}
		s.recent.vectors.add(d.ordinal, codes, 0)
		s.vectors++
	}
	s.count(d.episode.numberOr0(), d.place, int64(d.size), int64(d.length), 1)
	s.recent.terms.gather(op.terms, op.label)
}

// labelTerm is what the indexes know a term of a label as. No word contains it.
func labelTerm(term string) string { return "\x01" + term }

// numberOr0 is the number of an episode that may not be there.
func (e *episode) numberOr0() uint32 {
	if e == nil {
		return 0
	}
	return e.number
}

// count counts a document that comes to life, n 1, or dies, n -1.
func (s *store) count(episode uint32, place uint64, size, length, n int64) {
	s.live += n
	s.bytes += n * size
	s.tokens += n * length
	if use := s.use(place >> 32); n > 0 {
		use.live += size
	} else {
		use.live -= size
		use.dead += size
	}
	if episode == 0 {
		return
	}
	s.episodeTokens += n * length
	use := s.episodeUse(episode)
	if use.documents == 0 {
		s.episodes++
	}
	use.documents += n
	use.tokens += n * length
	if use.documents == 0 {
		s.episodes--
	}
	s.recent.episodes.ReplaceOrInsert(use)
}

func (s *store) episodeUse(number uint32) episodeUse {
	return episodeUseIn(s.image, &s.recent, number)
}

// killID kills the memory of that id, if there is one.
func (s *store) killID(id string) bool {
	if d, found := s.recent.byID.Get(&document{id: id}); found {
		s.killRecent(d)
		return true
	}
	i, found := s.image.byID.lookup(&s.image.ids, id)
	if !found || !s.image.visibleAt(i, s.seq) {
		return false
	}
	s.killImaged(i)
	return true
}

func (s *store) killRecent(d *document) {
	s.dropVector(s.image.documents() + d.ordinal)
	d.died.Store(s.seq)
	s.recent.remove(d)
	s.count(d.episode.numberOr0(), d.place, int64(d.size), int64(d.length), -1)
}

func (s *store) killImaged(i uint32) {
	m := s.image
	s.dropVector(i)
	m.kill(i, s.seq)
	s.count(m.episodes.at(i), m.places.at(i), int64(m.sizes.at(i)), int64(m.lengths.at(i)), -1)
}

func (s *store) forget(op *operation) int {
	if op.filter == nil {
		forgotten := 0
		for _, id := range op.ids {
			if s.killID(id) { // an id may be named twice
				forgotten++
			}
		}
		s.graph.drop(op.ids...)
		return forgotten
	}
	v := s.now()
	var doomed []uint32
	v.scan(op.filter, func(d uint32) bool {
		doomed = append(doomed, d)
		return true
	})
	var ids []string
	for _, d := range doomed {
		if s.graph.last > 0 {
			ids = append(ids, string(v.id(d)))
		}
		if d < v.image.documents() {
			s.killImaged(d)
		} else {
			s.killRecent(v.recentDocument(d))
		}
	}
	s.graph.drop(ids...)
	return len(doomed)
}

// associate makes or, of weight 0, removes an association. Both memories exist
// where admitAssociation has seen to it, but for what is only removed.
func (s *store) associate(a *Association) {
	v := s.now()
	_, foundFrom := v.lookup(a.From)
	_, foundTo := v.lookup(a.To)
	switch {
	case !foundFrom || !foundTo || a.From == a.To || a.Kind == "" || len(a.Kind) > MaxAssociationKindBytes:
	case a.Weight > 0:
		s.graph.associate(a.From, a.To, a.Kind, min(a.Weight, 1))
	default:
		s.graph.dissociate(a.From, a.To, a.Kind)
	}
}

// sizeOf returns the length of the record of the id's memory, if there is one.
func (s *store) sizeOf(id string) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.now()
	d, found := v.lookup(id)
	if !found {
		return 0, false
	}
	return int64(v.sizeOf(d)), true
}

func (s *store) use(segment uint64) *segmentUse {
	use := s.segments[segment]
	if use == nil {
		use = new(segmentUse)
		s.segments[segment] = use
	}
	return use
}

// wasteful reports whether any segment holds records that nobody needs.
func (s *store) wasteful() bool {
	for _, use := range s.segments {
		if use.dead > 0 {
			return true
		}
	}
	return false
}

func (s *store) keepRequest(op *operation, forgotten int) {
	if op.request.id == "" {
		return
	}
	if len(s.requestIDs) == keptRequests {
		delete(s.requests, s.requestIDs[0])
		s.requestIDs = s.requestIDs[1:]
	}
	s.requestIDs = append(s.requestIDs, op.request.id)
	s.requests[op.request.id] = requestRecord{
		seq: op.seq, storedAt: op.storedAt, hash: op.request.hash,
		operations: op.request.operations, forgotten: uint32(forgotten),
	}
}

// requestList returns the requests that the store remembers, oldest first.
func (s *store) requestList() []keptRequest {
	list := make([]keptRequest, 0, len(s.requestIDs))
	for _, id := range s.requestIDs {
		list = append(list, keptRequest{id, s.requests[id]})
	}
	return list
}

// unixTime is the inverse of Time.UnixNano, in UTC.
func unixTime(ns int64) time.Time { return time.Unix(0, ns).UTC() }
