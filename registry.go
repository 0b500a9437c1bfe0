package engram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/btree"
	"go.uber.org/zap"

	"github.com/engramdb/engram/internal/edits"
	"github.com/engramdb/engram/internal/vfs"
)

// Names in the registry's directory that are no spaces. None is a valid id.
const (
	lockFile     = ".lock"
	tmpDir       = ".tmp"
	trashDir     = ".trash"
	reserveFile  = ".reserve"
	reserveBytes = 1 << 20
)

// Registry owns one data directory and the spaces in it. Its methods may be
// called concurrently; spaces never wait for each other but in the group
// commit that they share.
type Registry struct {
	options   Options // with every default filled in
	dir       string
	root      vfs.Dir
	lock      io.Closer
	journal   *journal
	commits   *committer
	embedding *embedding
	epoch     uint32
	ended     chan struct{}  // closed when Close has finished
	work      sync.WaitGroup // calls that admit has let in, checkpoints, embedding, training
	training  sync.Mutex     // held by the space that is being partitioned
	occupancy occupancy
	spaces    sync.Map    // from SpaceID to *Space, also of those that are being created
	closed    atomic.Bool // set while mu is held

	mu         sync.Mutex // guards the fields below; nothing else is locked while it is held
	catalogue  *btree.BTreeG[row]
	awake      map[incarnation]*awake
	found      map[incarnation]SpaceID // by reading every SPACE, once it was needed
	tombstones map[incarnation]bool
	swept      uint64 // the oldest generation when all tombstones were looked at last
	spares     []vfs.File
	life       spaceEvents

	reserve  sync.Mutex // guards reserved and the file; held over the calls on it
	reserved bool       // the reserve file is there
}

// row is a space's place in the catalogue.
type row struct {
	id    SpaceID
	space *Space
}

// Open opens the registry in the directory dir, which it creates, with its parents,
// if there is none and opts are not ReadOnly. Another holder of the directory is a
// [LockedError], at once; bad options are [ErrInvalid] or [ErrLimit], a format that
// this version does not know is a [VersionError]. Open reads names and the journal,
// one of its files in memory at a time, not the spaces: those that a crash left
// behind recover when they are first used, or in the background.
//
// Damage to the journal's own tables is a [CorruptionError]. With
// Options.ReadOnly such a registry opens, and each of its spaces is quarantined:
// its last operations may be missing. An error leaves nothing behind but the file of
// the lock and, in a new directory, the files of an empty registry.
func Open(dir string, opts Options) (*Registry, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	root, err := opts.seams.fs.OpenDir(dir, !opts.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	r := &Registry{
		options: opts, dir: dir, ended: make(chan struct{}),
		catalogue:  btree.NewG(treeDegree, func(a, b row) bool { return a.id < b.id }),
		awake:      make(map[incarnation]*awake),
		tombstones: make(map[incarnation]bool),
	}
	r.root = thriftyDir{root, r}
	r.occupancy.sleepers = make(chan struct{}, sleepersAtOnce)
	r.embedding = newEmbedding(r)
	if err := r.open(); err != nil {
		if r.journal != nil {
			err = errors.Join(err, r.journal.close())
		}
		return nil, errors.Join(err, r.releaseDirectory())
	}
	return r, nil
}

func (r *Registry) open() error {
	lock, holder, err := r.root.Lock(lockFile, r.options.ReadOnly, processID()+"\n")
	if errors.Is(err, vfs.ErrLocked) {
		pid, _ := strconv.Atoi(strings.TrimSpace(holder)) // 0 where the holder has not written it yet
		return &LockedError{Dir: r.dir, PID: pid}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", r.dir, err)
	}
	r.lock = lock
	if err := r.readNames(); err != nil {
		return err
	}
	if !r.options.ReadOnly {
		if err := r.prepareDirectory(); err != nil {
			return err
		}
	}
	r.journal, err = openJournal(r.root, r.options, r, r.catalogue.Len() > 0)
	if err != nil {
		return err
	}
	r.holdSpares()
	r.epoch = r.journal.head.epoch
	r.commits = &committer{log: r.journal, gather: r.options.Durability == Sync}
	if r.options.ReadOnly {
		return nil
	}
	if err := r.sweepTombstones(); err != nil {
		return err
	}
	r.journal.recover()
	return nil
}

// prepareDirectory makes what a registry has beside its spaces, and removes
// what a crash left of spaces that were being created or deleted.
func (r *Registry) prepareDirectory() error {
	for _, name := range []string{journalDir, tmpDir, trashDir} {
		if err := r.root.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
			return diskFull(fmt.Errorf("make %s: %w", name, err))
		}
	}
	// Those of a killed process, too, may never have reached the disk, and from here
	// on spaces are served, or removed, on the word of names.
	for _, name := range []string{".", trashDir} {
		if err := r.root.Sync(name); err != nil {
			return fmt.Errorf("flush %s: %w", name, err)
		}
	}
	if err := removeChildren(r.root, tmpDir, false); err != nil {
		return err
	}
	if err := removeChildren(r.root, trashDir, true); err != nil {
		return err
	}
	entries, err := r.root.ReadDir(trashDir)
	if err != nil {
		return fmt.Errorf("list %s: %w", trashDir, err)
	}
	for _, e := range entries {
		if inc, ok := parseIncarnation(e.Name()); ok {
			r.tombstones[inc] = true
		}
	}
	return r.makeReserve()
}

// makeReserve sets disk space aside that forgetting can use when the disk is full,
// unless that is done or there is none.
func (r *Registry) makeReserve() error {
	r.reserve.Lock()
	defer r.reserve.Unlock()
	if r.reserved {
		return nil
	}
	file, err := r.root.Open(reserveFile, false)
	switch {
	case err == nil:
		size, err := file.Size()
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
		if size == reserveBytes {
			r.reserved = true
			return nil
		}
		if err := removeIfExists(r.root, reserveFile); err != nil { // it was cut short
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open %s: %w", reserveFile, err)
	}
	err = writeNewFile(r.root, reserveFile, zeros[:reserveBytes])
	if errors.Is(err, ErrDiskFull) {
		return removeIfExists(r.root, reserveFile) // what there is, is in use already
	}
	if err != nil {
		return err
	}
	r.reserved = true
	return r.root.Sync(".")
}

// giveUpReserve frees the reserve, once, and reports whether it did.
func (r *Registry) giveUpReserve() bool {
	r.reserve.Lock()
	defer r.reserve.Unlock()
	if !r.reserved {
		return false
	}
	err := removeIfExists(r.root, reserveFile)
	r.reserved = outOfDescriptors(err) // then it is there for the next who needs it
	if err != nil {
		r.options.Logger.Warn("reserve could not be given up", zap.Error(err))
	}
	return err == nil
}

// readNames fills the catalogue. Directories that stand beside no journal are another
// program's, or their last operations are lost: nothing is to be made there.
func (r *Registry) readNames() error {
	entries, err := r.root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("list %s: %w", r.dir, err)
	}
	journalFound := false
	for _, e := range entries {
		journalFound = journalFound || e.Name() == journalDir
		if id := SpaceID(e.Name()); e.IsDir() && id.Validate() == nil {
			s := newSpace(r, id)
			r.spaces.Store(id, s)
			r.catalogue.ReplaceOrInsert(row{id, s})
		}
	}
	if r.catalogue.Len() > 0 && !journalFound && !r.options.ReadOnly {
		return &CorruptionError{File: journalDir, Offset: -1, Reason: "is missing, and there are directories named like spaces"}
	}
	return nil
}

// Get returns the space of that id. It neither creates nor wakes it, and reads no
// file: a damaged one says so when it is used. An unknown id is a
// [SpaceNotFoundError], one that no space can have [ErrInvalidSpaceID]. Of a space
// that is being created, or renamed to id, it waits for the end of that, or of ctx.
// Calls for one id return the same *Space for as long as it exists.
func (r *Registry) Get(ctx context.Context, id SpaceID) (*Space, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if err := r.usable(ctx); err != nil {
		return nil, err
	}
	for {
		s := r.space(id)
		if s == nil {
			return nil, &SpaceNotFoundError{Space: id, Near: r.near(id)}
		}
		if err := s.awaitCreation(ctx); err == nil {
			return s, nil
		} else if !errors.Is(err, errNotCreated) {
			return nil, err
		}
		// Who had claimed the id has given it back, or to a space that was renamed.
	}
}

// space returns the space that has the id, or is being created with it; nil: none.
func (r *Registry) space(id SpaceID) *Space {
	if s, ok := r.spaces.Load(id); ok {
		return s.(*Space)
	}
	return nil
}

// usable returns why no call can be served.
func (r *Registry) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.closed.Load() {
		return ErrClosed
	}
	return nil
}

// Spaces yields the ids of the spaces after the given one ("" for all), in
// order. It reads the catalogue as it was when the iteration began: no file,
// and no space is woken.
func (r *Registry) Spaces(after SpaceID) iter.Seq[SpaceID] {
	return func(yield func(SpaceID) bool) {
		r.mu.Lock()
		catalogue := r.catalogue.Clone()
		r.mu.Unlock()
		catalogue.AscendGreaterOrEqual(row{id: after}, func(at row) bool {
			return at.id == after || yield(at.id)
		})
	}
}

// Info describes a space without waking it: of a sleeping space it reads SPACE, 16
// KiB. Errors are those of Get and, where SPACE is damaged, a [CorruptionError], or of
// a format that this version does not know, a [VersionError].
func (r *Registry) Info(ctx context.Context, id SpaceID) (SpaceInfo, error) {
	s, err := r.Get(ctx, id)
	if err != nil {
		return SpaceInfo{}, err
	}
	info, err := s.info()
	if errors.Is(err, ErrCorrupt) { // or it is just being deleted
		if err := s.mu.LockContext(ctx); err != nil {
			return SpaceInfo{}, err
		}
		info, err = s.info()
		s.mu.Unlock()
	}
	if gone := s.missing(id); gone != nil { // perhaps only while its file was looked for
		return SpaceInfo{}, gone
	}
	if err != nil {
		err = inSpace(id, err)
		s.quarantined(err)
		return SpaceInfo{}, err
	}
	return info, nil
}

// readState reads the SPACE of a space without waking it.
func (r *Registry) readState(id SpaceID) (*stateFile, error) {
	dir, err := r.root.OpenDir(string(id))
	if err != nil {
		return nil, damageOrError(err, string(id))
	}
	file, err := readStateFile(dir)
	return file, errors.Join(err, dir.Close())
}

// begin admits a call that changes files beside the group commit.
func (r *Registry) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.options.ReadOnly {
		return ErrReadOnly
	}
	return r.admit()
}

// admit has Close wait until the caller counts work down, unless it has begun.
func (r *Registry) admit() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() {
		return ErrClosed
	}
	r.work.Add(1)
	return nil
}

// Stats returns the registry's figures, and reads no file. They are for its operator.
func (r *Registry) Stats() RegistryStats {
	r.mu.Lock()
	stats := RegistryStats{Spaces: r.catalogue.Len(), Awake: len(r.awake), Epoch: r.epoch}
	r.mu.Unlock()
	stats.AwakeBytes, stats.Wakings = r.occupancy.bytes.Load(), r.occupancy.wakings.Load()
	r.journal.stats(&stats)
	return stats
}

// Settle makes durable, in every space's own log, what the journal holds of it,
// moves their marks and empties the journal, whose files then are zeros on disk. It
// wakes spaces that a crash has left unsettled. It costs two flushes for each space
// that has written since it was settled last, and a few of the journal's own. Writes go
// on meanwhile; what they write may stay in the journal. Where forgetting on a full disk
// has used the reserve, it makes another, if there is room again: also where a space
// could not be settled, unless for want of room.
//
// An error names what could not be settled, which stays in the journal: nothing is
// lost by it. When ctx is done Settle returns its error, and settling goes on.
func (r *Registry) Settle(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.work.Done()
	err := errors.Join(r.journal.settle(ctx), r.sweepTombstones())
	if errors.Is(err, ErrDiskFull) || r.journal.failure() != nil || ctx.Err() != nil {
		return err // who waits for room has it first, and a failed journal forgets nothing
	}
	if err := r.makeReserve(); err != nil {
		r.options.Logger.Warn("reserve could not be made", zap.Error(err))
	}
	return err
}

// Close finishes the writes that are under way, settles every space, joins
// every goroutine and releases the directory. Calls after it, and writes that
// no group had taken, get ErrClosed, and so may reads that are under way. Close
// waits for calls that create, wake, import, rename, delete, checkpoint or settle, also
// to export, and cancels those of the Embedder. A space that hangs while it is settled
// is given up after half a minute; the directory is then released when that has ended,
// or with the process. Calling Close again only waits for the first call. An error says
// what could not be settled; the next Open recovers it.
func (r *Registry) Close() error {
	r.mu.Lock()
	if r.closed.Swap(true) {
		r.mu.Unlock()
		<-r.ended // another caller is closing it
		return nil
	}
	r.life.wakeLocked()
	defer close(r.ended)
	var spaces []*Space
	r.catalogue.Ascend(func(at row) bool {
		spaces = append(spaces, at.space)
		return true
	})
	r.mu.Unlock()
	r.embedding.close()
	for _, s := range spaces {
		s.end(ErrClosed)
	}
	for _, a := range r.loaded() {
		a.retire(ErrClosed)
	}
	r.work.Wait()
	var errs []error
	if !r.options.ReadOnly {
		errs = append(errs, r.settleAtLast(), r.sweepTombstones())
	}
	errs = append(errs, r.journal.close())
	if r.journal.hangs() {
		// What hangs may still change the directory: nobody else may have it yet.
		go func() {
			r.journal.awaitSettlers(context.Background())
			if err := r.releaseSpaces(); err != nil {
				r.options.Logger.Warn("files of a closed registry", zap.Error(err))
			}
		}()
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, r.releaseSpaces())...)
}

// settleAtLast settles all spaces, again if all that hung have ended meanwhile.
func (r *Registry) settleAtLast() error {
	err := r.journal.settle(context.Background())
	if errors.Is(err, errHangs) {
		patience, cancel := context.WithTimeout(context.Background(), r.options.seams.closeHang)
		defer cancel()
		if r.journal.awaitSettlers(patience); patience.Err() == nil {
			err = r.journal.settle(context.Background())
		}
	}
	return err
}

// loaded returns the spaces that are awake.
func (r *Registry) loaded() []*awake {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.awake))
}

// releaseSpaces closes the files of the spaces, and then the directory.
func (r *Registry) releaseSpaces() error {
	var errs []error
	for _, a := range r.loaded() {
		a.space.mu.Lock() // a caller may just put it to sleep
		if a.space.awake.Load() == a {
			errs = append(errs, a.log.close())
		}
		a.space.mu.Unlock()
	}
	return errors.Join(append(errs, r.releaseDirectory())...)
}

// releaseDirectory closes the directory, last of all the lock.
func (r *Registry) releaseDirectory() error {
	r.releaseSpares()
	errs := []error{r.root.Close()}
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
	}
	return errors.Join(errs...)
}

const (
	nearNames   = 3
	nearScanned = 10_000
	nearEdits   = 2
)

// near returns existing ids that id may have been meant as: few edits away, or
// begun alike. It looks at a bounded number around id's place in the order.
func (r *Registry) near(id SpaceID) []SpaceID {
	r.mu.Lock()
	catalogue := r.catalogue.Clone()
	r.mu.Unlock()
	type candidate struct {
		id    SpaceID
		edits int
	}
	var candidates []candidate
	scanned := 0
	look := func(at row) bool {
		other := at.id
		distance := edits.Distance(string(id), string(other), nearEdits)
		if strings.HasPrefix(string(other), string(id)) {
			distance = min(distance, nearEdits)
		}
		if distance <= nearEdits && other != id {
			candidates = append(candidates, candidate{other, distance})
		}
		scanned++
		return scanned < nearScanned
	}
	catalogue.AscendGreaterOrEqual(row{id: id}, look)
	scanned = 0
	catalogue.DescendLessOrEqual(row{id: id}, look)
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		if a.edits != b.edits {
			return a.edits - b.edits
		}
		return strings.Compare(string(a.id), string(b.id))
	})
	var ids []SpaceID
	for _, c := range candidates[:min(len(candidates), nearNames)] {
		ids = append(ids, c.id)
	}
	return ids
}
