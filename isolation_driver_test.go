package engram

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	ni "github.com/engramdb/engram/internal/noninterference"
)

// libraryLayer is the library's API, on a file system in memory, with segments,
// checkpoints and a journal so small that a few dozen operations turn them over.
func libraryLayer() ni.Layer {
	opts := Options{JournalBytes: minJournalBytes, MemoryBudget: 100 << 10} // of a few spaces
	opts.seams.segmentBytes, opts.seams.checkpointBytes, opts.seams.extentBytes = 900, 1800, 16<<10
	empty := newMemoryFS() // copying an empty registry is quicker than making one
	first := opts
	first.seams.fs = empty
	r, err := Open("", first)
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		panic(err)
	}
	return ni.Layer{
		Name:     "library",
		Supports: func(ni.Kind) bool { return true },
		Open:     func(now func() time.Time) ni.Driver { return newLibraryDriver(empty.clone(), opts, now) },
	}
}

// libraryDriver implements [ni.Driver].
type libraryDriver struct {
	fs   *memoryFS
	opts Options
	r    *Registry
	logs ni.Log

	creating sync.Mutex // guards identity: who is being created
	identity identity

	mu       sync.Mutex // guards the maps
	deleted  map[int]*Space
	stalled  map[int][]func()
	a        *Space // A's
	name     SpaceID
	standing *subscription
	stale    *subscription // of the space that A has deleted
	killed   bool
	damaged  bool
}

// subscription is a call of Subscribe that is pulled one event at a time.
type subscription struct {
	next func() (Event, error, bool)
	stop func()
	last uint64
}

func newLibraryDriver(m *memoryFS, opts Options, now func() time.Time) *libraryDriver {
	d := &libraryDriver{fs: m, opts: opts, deleted: make(map[int]*Space), stalled: make(map[int][]func())}
	d.opts.Clock = ni.Clock(now)
	d.opts.Logger = d.logs.Logger()
	d.opts.seams.newIdentity = func() (identity, error) { return d.identity, nil }
	d.open()
	return d
}

func (d *libraryDriver) open() {
	d.opts.seams.fs = d.fs
	r, err := Open("", d.opts)
	if err != nil {
		panic(err)
	}
	tinyJournal(r)
	d.r = r
}

func (d *libraryDriver) isA(op *ni.Op) bool { return op.Tenant == 0 }

// Do implements [ni.Driver].
func (d *libraryDriver) Do(op ni.Op) string {
	switch op.Kind {
	case ni.Create:
		return shown(d.create(&op, func() (*Space, error) {
			return d.r.Create(background, SpaceID(op.Space), isolationConfig(op.Config))
		}))
	case ni.Restart, ni.Kill:
		d.restart(op.Kind == ni.Kill)
		return ""
	case ni.Delete:
		return shown(nil, d.delete(&op))
	case ni.Rename:
		err := d.r.Rename(background, SpaceID(op.Space), SpaceID(op.Other))
		if err == nil && d.isA(&op) {
			d.name = SpaceID(op.Other)
		}
		return shown(nil, err)
	}
	s, err := d.r.Get(background, SpaceID(op.Space))
	if err != nil {
		return shown(nil, err)
	}
	switch op.Kind {
	case ni.Reimport:
		return d.reimport(&op, s)
	case ni.Checkpoint:
		return shown(nil, s.Checkpoint(background))
	case ni.Verify:
		return d.verify(s)
	case ni.Sleep:
		return d.sleep(&op, s)
	case ni.Damage:
		s.sleep()
		d.damage(&op)
		return ""
	case ni.Stall:
		return d.stall(&op, s)
	case ni.Probe:
		return d.probe(&op, s)
	}
	answer := doInSpace(d, &op, s)
	if d.isA(&op) {
		settleDown(s)
	}
	return answer
}

// settleDown waits for a checkpoint that the last write has begun: until it is
// in place it depends on the scheduler which history is still there.
func settleDown(s *Space) {
	if a := s.awake.Load(); a != nil {
		a.maintenance.running.Lock()
		defer a.maintenance.running.Unlock()
	}
}

func doInSpace(d *libraryDriver, op *ni.Op, s *Space) string {
	switch op.Kind {
	case ni.Remember:
		return shown(s.RememberBatch(background, isolationMemories(op.Memories), isolationOptions(op)...))
	case ni.Forget:
		return shown(s.Forget(background, op.IDs, isolationOptions(op)...))
	case ni.ForgetWhere:
		return shown(s.ForgetWhere(background, isolationFilter(op.Filter)))
	case ni.Lookup:
		return shown(s.Lookup(background, op.IDs[0]))
	case ni.List:
		return listed(s, isolationFilter(op.Filter))
	case ni.Recall:
		return shown(s.Recall(background, isolationCue(op)))
	case ni.Associate:
		return shown(s.Associate(background, Association(op.Association)))
	case ni.Dissociate:
		return shown(s.Dissociate(background, Association(op.Association)))
	case ni.Associated:
		return shown(s.Associations(background, op.IDs[0]))
	case ni.Configure:
		return shown(s.Configure(background, isolationConfig(op.Config), isolationOptions(op)...))
	case ni.Events:
		return d.events(op, s)
	case ni.Export:
		var b bytes.Buffer
		seq, err := s.Export(background, &b)
		return shown([]any{seq, b.String()}, err)
	case ni.Figures:
		return figures(s)
	}
	panic("unknown operation " + string(op.Kind))
}

// figures are what a space says of itself. Whether it sleeps is its host's
// affair, and so are the figures of one that does.
func figures(s *Space) string {
	a, err := s.use(background)
	if err != nil {
		return shown(nil, err)
	}
	defer a.uses.Add(-1)
	return shown([]any{s.Info(), s.Stats().Content}, nil)
}

// events reads what is there behind the position. Behind a kill how much of the
// history is kept depends on when the journal was settled: only what follows
// is A's.
func (d *libraryDriver) events(op *ni.Op, s *Space) string {
	if d.isA(op) && d.killed { // which only A's goroutine touches
		return ""
	}
	var events []Event
	for e, err := range s.Subscribe(&noWait{Context: background}, op.After) {
		if err != nil {
			return shown(events, err)
		}
		events = append(events, e)
	}
	return shown(events, nil)
}

func (d *libraryDriver) create(op *ni.Op, create func() (*Space, error)) (any, error) {
	d.creating.Lock()
	defer d.creating.Unlock()
	d.identity = identity{key: uint64(1 + op.Tenant<<8 + op.Generation)}
	d.identity.incarnation[0], d.identity.incarnation[15] = byte(1+op.Tenant), byte(op.Generation)
	s, err := create()
	if err != nil {
		return nil, err
	}
	if d.isA(op) {
		d.a, d.name = s, s.ID()
		d.subscribe(0)
	}
	return s.Info(), nil
}

func (d *libraryDriver) delete(op *ni.Op) error {
	s, err := d.r.Get(background, SpaceID(op.Space))
	if err != nil {
		return err
	}
	if err := d.r.Delete(background, SpaceID(op.Space)); err != nil {
		return err
	}
	d.mu.Lock()
	d.deleted[op.Tenant] = s
	d.mu.Unlock()
	if d.isA(op) {
		d.unsubscribe(&d.stale)
		d.stale, d.standing = d.standing, nil
		d.a, d.killed = nil, false
	}
	return nil
}

// reimport takes the space out of the registry and in again.
func (d *libraryDriver) reimport(op *ni.Op, s *Space) string {
	var b bytes.Buffer
	if _, err := s.Export(background, &b); err != nil {
		return shown(nil, err)
	}
	if err := d.delete(op); err != nil {
		return shown(nil, err)
	}
	return shown(d.create(op, func() (*Space, error) { return d.r.Import(background, SpaceID(op.Space), &b) }))
}

func (d *libraryDriver) verify(s *Space) string {
	report, err := s.Verify(background)
	if d.killed || err != nil {
		report = VerifyReport{Space: report.Space, Seq: report.Seq, Memories: report.Memories, Digest: report.Digest}
	}
	report.Spare = nil // of the mark's slots
	return shown(report, err)
}

// sleep puts the space to sleep. A's wakes again and reports what it found.
func (d *libraryDriver) sleep(op *ni.Op, s *Space) string {
	if !d.isA(op) {
		s.sleep()
		return ""
	}
	fallAsleep(s)
	return d.report(s)
}

func fallAsleep(s *Space) {
	for s.awake.Load() != nil {
		settleDown(s)
		s.sleep()
	}
}

// report wakes the space and returns how its recovery went, without what
// depends on when the journal was settled.
func (d *libraryDriver) report(s *Space) string {
	a, err := s.use(background)
	if err != nil {
		return shown(nil, err)
	}
	report := a.report
	a.uses.Add(-1)
	report.Duration, report.MarkSeq, report.FromJournal = 0, 0, 0
	if d.killed {
		report = RecoveryReport{Space: report.Space, LastSeq: report.LastSeq, Damage: report.Damage}
	}
	return shown(report, nil)
}

// damage changes a byte of one of the space's files.
func (d *libraryDriver) damage(op *ni.Op) {
	files := d.fs.files(op.Space)
	names := slices.Sorted(maps.Keys(files))
	if len(names) == 0 || d.isA(op) {
		return
	}
	name := names[op.After%uint64(len(names))]
	if n := len(files[name]); n > 0 {
		d.mu.Lock()
		d.damaged = true
		d.mu.Unlock()
		d.fs.flip(path.Join(op.Space, name), int(op.After>>8%uint64(n)))
	}
}

// stall begins to read, and holds what that holds until the next time.
func (d *libraryDriver) stall(op *ni.Op, s *Space) string {
	memory, stopMemories := iter.Pull2(s.Memories(background, Filter{}))
	event, stopEvents := iter.Pull2(s.Subscribe(&noWait{Context: background}, 0))
	m, err, _ := memory()
	text := shown(m, err)
	e, err, _ := event()
	text += shown(e, err)
	d.mu.Lock()
	before := d.stalled[op.Tenant]
	d.stalled[op.Tenant] = []func(){stopMemories, stopEvents}
	d.mu.Unlock()
	for _, stop := range before {
		stop()
	}
	return text
}

// probe asks for what is not the tenant's, in every way that a tenant has.
func (d *libraryDriver) probe(op *ni.Op, s *Space) string {
	other := SpaceID(op.Other)
	var answers []string
	_, err := s.Remember(background, Memory{ID: op.IDs[0], Content: "of another space", Space: other})
	answers = append(answers, shown(nil, err))
	for _, id := range []string{op.Other + "/" + op.IDs[0], op.Other + op.IDs[0], op.Other} {
		m, err := s.Lookup(background, id)
		answers = append(answers, shown(m, err))
	}
	answers = append(answers, shown(s.Recall(background, Cue{IDs: []string{op.Other + "/" + op.IDs[0]}})))
	if op.Unused {
		_, err := d.r.Get(background, other)
		answers = append(answers, shown(nil, err))
	}
	d.mu.Lock()
	old := d.deleted[op.Tenant]
	d.mu.Unlock()
	if old != nil {
		answers = append(answers, shown(old.Recall(background, Cue{})), listed(old, Filter{}))
	}
	return strings.Join(answers, "\n")
}

// restart starts again with what a clean end, or a kill, has left.
func (d *libraryDriver) restart(kill bool) {
	d.unstall()
	before, left := d.r, d.fs
	if kill {
		left = d.fs.clone()
	}
	err := before.Close()
	if err != nil && !d.damaged {
		panic(err)
	}
	d.unsubscribe(&d.stale)
	d.fs, d.killed = left, d.killed || kill && d.a != nil
	d.open()
	d.mu.Lock()
	clear(d.deleted)
	d.mu.Unlock()
	if d.a == nil {
		return
	}
	if d.a, err = d.r.Get(background, d.name); err != nil {
		panic(err)
	}
	if standing := d.standing; standing != nil {
		d.unsubscribe(&d.standing)
		if !d.killed { // a checkpoint may trim what it has not read, or not
			d.subscribe(standing.last)
		}
	}
}

func (d *libraryDriver) unstall() {
	for _, stops := range d.stalled {
		for _, stop := range stops {
			stop()
		}
	}
	clear(d.stalled)
}

func (d *libraryDriver) subscribe(after uint64) {
	d.standing = &subscription{last: after}
	d.standing.next, d.standing.stop = iter.Pull2(d.a.Subscribe(background, after))
}

func (d *libraryDriver) unsubscribe(s **subscription) {
	if *s != nil {
		(*s).stop()
		*s = nil
	}
}

// Follow implements [ni.Driver].
func (d *libraryDriver) Follow() []string {
	if d.a == nil {
		return nil
	}
	a, err := d.a.use(background)
	if err != nil {
		return []string{shown(nil, err)}
	}
	seq := a.store.view().seq
	a.uses.Add(-1)
	var events []string
	for d.standing != nil && d.standing.last < seq {
		e, err, more := d.standing.next()
		events = append(events, shown(e, err))
		if err != nil || !more {
			return events
		}
		d.standing.last = e.Seq
	}
	// One that would follow into the space's successor has something to show by now.
	if d.stale != nil && d.stale.last < seq {
		e, err, _ := d.stale.next()
		events = append(events, shown(e, err))
		d.unsubscribe(&d.stale)
	}
	return events
}

// Press implements [ni.Driver].
func (d *libraryDriver) Press() {
	if d.a != nil {
		fallAsleep(d.a)
	}
}

// Close implements [ni.Driver].
func (d *libraryDriver) Close() ni.Remains {
	var remains ni.Remains
	if d.a != nil {
		var b bytes.Buffer
		seq, err := d.a.Export(background, &b)
		fallAsleep(d.a)
		remains.View = append(remains.View, figures(d.a), listed(d.a, Filter{}), d.report(d.a), d.verify(d.a), shown([]any{seq, b.String()}, err))
	}
	d.unstall()
	err := d.r.Close()
	if err != nil && !d.damaged {
		panic(err)
	}
	if d.standing != nil { // nothing more was to come
		e, err, _ := d.standing.next()
		remains.View = append(remains.View, shown(e, err))
	}
	d.unsubscribe(&d.standing)
	d.unsubscribe(&d.stale)
	if d.a != nil && !d.killed {
		remains.Files = d.files()
	}
	remains.Shared = map[string]string{"the log": d.logs.String()}
	return remains
}

// files are A's, but for what of SPACE says how often and up to where it was
// settled.
func (d *libraryDriver) files() map[string]string {
	files := make(map[string]string)
	for name, content := range d.fs.files(string(d.name)) {
		files[name] = string(content)
		if name == spaceFile {
			id, state, err := decodeSpaceFile(content)
			state.counter, state.mark = 0, mark{}
			files[name] = fmt.Sprintf("%+v %+v %v", id, state, err)
		}
	}
	return files
}
