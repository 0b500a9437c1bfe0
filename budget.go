package engram

import (
	"cmp"
	"errors"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// defaultMemoryBudget is that of a process that has no limit of memory.
	defaultMemoryBudget = 1 << 30
	// memoryShare: half of the process's limit is not for its spaces.
	memoryShare = 2
	// sleepersAtOnce is how many put spaces to sleep at a time because others grow: each
	// waits for the disk.
	sleepersAtOnce = 4
)

// What parts of an awake space take in memory beside the bytes that are counted one by
// one, fitted to the heap (BenchmarkHeap).
const (
	awakeBytes    = 10 << 10 // an empty one
	rotationBytes = 16       // for each dimension of its embeddings
	documentBytes = 200      // a recent document in all trees
	internedBytes = 100      // an episode of recent documents, and a key or value of attributes
	pairBytes     = 32       // an attribute of a recent document
	termBytes     = 120      // a recent term
	useBytes      = 5        // for each byte of recentTerms.uses: the posting of it
	rowBytes      = 64       // a recent vector, beside its codes
	deathBytes    = 140
	nodeBytes     = 240 // a memory with associations
	edgeBytes     = 32  // an association
	requestBytes  = 200
)

// occupancy is what the spaces that are awake take of memory, and which of them are to
// fall asleep next.
type occupancy struct {
	bytes    atomic.Int64  // as each has counted itself last
	turn     atomic.Uint64 // raised by each waking and creation, and by each look for idle spaces
	wakings  atomic.Uint64 // since Open
	sleepers chan struct{} // has room for as many as put spaces to sleep at a time

	mu   sync.Mutex  // guards idle. Order: occupancy.mu > Registry.mu
	idle []idleSpace // those that were awake when it was made, the least recently used first
}

// idleSpace is one that was awake, with the turn in which it was used last.
type idleSpace struct {
	space *Space
	turn  uint64
}

// memoryBudget is that of a registry whose options name none.
func memoryBudget() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return max(limit/memoryShare, 1)
	}
	return defaultMemoryBudget
}

// touch notes that the space is used.
func (a *awake) touch() {
	if turn := a.registry.occupancy.turn.Load(); a.turn.Load() != turn {
		a.turn.Store(turn)
	}
}

// done ends a use of the space.
func (a *awake) done() {
	if a.uses.Add(-1) == 0 && a.passed.Load() && a.passed.Swap(false) {
		a.registry.makeRoomBeside()
	}
}

// idle reports whether nobody uses the space.
func (a *awake) idle() bool { return a.uses.Load() == 0 }

// count counts anew what the space takes. The caller keeps it from falling asleep.
func (a *awake) count() {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	bytes := awakeBytes + a.kept.Load() + a.store.footprint()
	a.registry.occupancy.bytes.Add(bytes - a.bytes.Swap(bytes))
}

// grow is count for a space that has changed: room is made for it by others.
func (a *awake) grow() {
	a.count()
	a.registry.makeRoomBeside()
}

// unload forgets that the space is awake.
func (r *Registry) unload(a *awake) {
	r.mu.Lock()
	delete(r.awake, a.identity.incarnation)
	r.mu.Unlock()
	r.occupancy.bytes.Add(-a.bytes.Swap(0))
}

func (r *Registry) overBudget() bool { return r.occupancy.bytes.Load() > r.options.MemoryBudget }

// makeRoom puts idle spaces to sleep as long as those that are awake take more than they
// may. Who wakes a space does it, so that no more can wake than fall asleep.
func (r *Registry) makeRoom() {
	if r.overBudget() && r.admit() == nil { // else Close settles all
		defer r.work.Done()
		r.sleepToBudget()
	}
}

// makeRoomBeside is makeRoom for who writes, who does not wait for it.
func (r *Registry) makeRoomBeside() {
	if !r.overBudget() {
		return
	}
	select {
	case r.occupancy.sleepers <- struct{}{}:
	default:
		return // enough are at it
	}
	if r.admit() != nil {
		<-r.occupancy.sleepers
		return
	}
	go func() {
		defer r.work.Done()
		defer func() { <-r.occupancy.sleepers }()
		r.sleepToBudget()
	}()
}

func (r *Registry) sleepToBudget() {
	for r.overBudget() && r.sleepLongestIdle((*awake).settleInTime) {
	}
}

// settleInTime settles the space, if that is to be done. One that takes as long as what
// hangs is errHangs, and in use until that has ended.
func (a *awake) settleInTime() error {
	if !a.settles() {
		return nil
	}
	settled, hangs := make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(settled)
		_, err = a.settleInUse()
	}()
	stop := afterFunc(a.registry.options.seams.settleHang, func() { close(hangs) })
	defer stop()
	select {
	case <-settled:
		return err
	case <-hangs:
		// Close has to know of it: it may still change the directory.
		a.registry.journal.hangsUntil(a.identity.incarnation, settled)
		return errHangs
	}
}

// sleepLongestIdle puts the least recently used of the idle spaces to sleep that can be
// prepared for it, unless they are used meanwhile, and reports whether there was one. It
// waits for no space's lock: the caller may hold another's, and that of the journal; and
// for one space that hangs, at most.
func (r *Registry) sleepLongestIdle(prepare func(*awake) error) bool {
	for looked := false; ; {
		next, found := r.nextIdle(&looked)
		if !found {
			return false
		}
		s := next.space
		a := s.awake.Load()
		if a == nil || a.passOver() {
			continue
		}
		if err := prepare(a); errors.Is(err, errHangs) {
			return false
		} else if err != nil || !s.mu.TryLock() {
			continue
		}
		if a.turn.Load() == next.turn {
			s.sleepLocked()
		}
		slept := s.awake.Load() == nil
		s.mu.Unlock()
		if slept {
			return true
		}
	}
}

// passOver reports whether the space is in use. The end of that looks again who may sleep.
func (a *awake) passOver() bool {
	if a.idle() {
		return false
	}
	a.passed.Store(true)
	return !a.idle() // the use may have ended before it could know
}

// nextIdle takes the space that was not used for the longest, if there is one.
// Where it knows of none it looks which are awake, unless the caller has *looked.
func (r *Registry) nextIdle(looked *bool) (next idleSpace, found bool) {
	o := &r.occupancy
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.idle) > 0 {
			next = o.idle[0]
			o.idle = o.idle[1:]
			if a := next.space.awake.Load(); a != nil && a.turn.Load() == next.turn {
				return next, true // nobody has used it since
			}
		}
		if *looked {
			return idleSpace{}, false
		}
		*looked = true
		o.idle = r.longestIdle()
	}
}

// longestIdle returns the spaces that are awake, the least recently used first, without
// the last of them: one that takes more than all may would fall asleep after each use.
func (r *Registry) longestIdle() []idleSpace {
	r.mu.Lock()
	list := make([]idleSpace, 0, len(r.awake))
	for _, a := range r.awake {
		list = append(list, idleSpace{a.space, a.turn.Load()})
	}
	r.mu.Unlock()
	r.occupancy.turn.Add(1) // what is used from here on is told from these
	slices.SortFunc(list, func(x, y idleSpace) int { return cmp.Compare(x.turn, y.turn) })
	return list[:max(len(list)-1, 0)]
}

// footprint estimates what the store takes in memory. The caller holds mu, or is the
// only one that knows the store.
func (s *store) footprint() int64 {
	interned := s.interned.text + internedBytes*(len(s.interned.strings)+len(s.interned.episodes))
	rotations := rotationBytes * (s.dimension + s.next.dimension)
	graph := nodeBytes*int64(s.graph.last-s.graph.gone) + edgeBytes*s.graph.edges
	return s.image.footprint() + s.recent.footprint() + int64(interned+rotations) + graph +
		requestBytes*int64(len(s.requests))
}

// footprint estimates what the image takes in memory, also for what it makes when it is
// first needed.
func (m *image) footprint() int64 {
	tables := len(m.byID.slots) + len(m.byPair.slots) + len(m.byEpisode.slots) + len(m.byTerm.slots) + len(m.bySeq)
	forward := len(m.postings.bytes) + 8*int(m.documents())
	return m.size + int64(4*tables+forward+deathBytes*len(m.deaths.all()))
}

func (x *recent) footprint() int64 {
	n := documentBytes*len(x.documents) + x.bytes + termBytes*len(x.terms.list) + useBytes*cap(x.terms.uses)
	for _, v := range []*vectors{&x.vectors, &x.derived.codes, &x.next.codes} {
		n += rowBytes*len(v.documents) + 8*cap(v.codes.Binary) + cap(v.codes.Fine)
	}
	return int64(n)
}
