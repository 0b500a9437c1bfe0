package engram

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/engramdb/engram/internal/crashfs"
)

// Each operation is stopped before each of its calls of the file system while
// another one runs, for all pairs of operations. Both finish with an error that
// is documented for one of their two orders, what the registry holds is what
// that order leaves, and so it is after a restart, a kill or a power cut. Or the
// power goes while the first one stands: then what the second one acknowledged
// is there, and the first one happened or did not.
func TestInterleavings(t *testing.T) {
	var table []interleaving
	for _, options := range interleavedOptions() {
		for _, first := range interleaved() {
			calls := countCalls(t, first, options)
			for _, second := range interleaved() {
				if second.name == "recover" {
					continue // it needs a registry that is not open
				}
				for call := range calls {
					for _, cut := range []bool{false, true} {
						table = append(table, interleaving{first, second, options, call, cut})
					}
				}
			}
		}
	}
	met := 0
	// A prime that is larger than the table has no factor in common with its
	// length: a sample is spread over it, and as many runs as it is long cover it.
	const step = 1_000_003
	forSchedules(t, runCounts{sampled: 300, full: 2000, nightly: 200_000}, func(x *schedule) {
		m := &meeting{schedule: x, interleaving: table[x.seed*step%uint64(len(table))]}
		m.log("%s stopped before its call %d, %s meanwhile, power cut %v", m.first.name, m.call+1, m.second.name, m.cut)
		if m.run() {
			met++
		}
	})
	t.Logf("%d met, of a table of %d", met, len(table))
}

// interleaving is one schedule.
type interleaving struct {
	first, second interleavedOperation
	options       interleavedOption
	call          int // of the first operation, before which it stops
	cut           bool
}

// interleavedOption decides which files an operation touches.
type interleavedOption struct{ segment, checkpoint, journal int64 }

func interleavedOptions() []interleavedOption {
	return []interleavedOption{{2 << 10, 1 << 20, 16 << 10}, {1 << 20, 2 << 10, 1 << 20}}
}

// interleavedOperation is something that a caller does. effect is what it does
// to a registry that nothing else happens to.
type interleavedOperation struct {
	name   string
	asleep bool // the space, when it begins
	killed bool // so was the process; run opens the registry
	run    func(m *meeting, who string) error
	effect func(h *holding, who string) error
}

// holding is what a registry holds.
type holding struct {
	closed bool
	names  map[SpaceID]int // the space behind each id
	spaces []heldSpace
}

type heldSpace struct {
	seq   uint64
	empty uint64 // operations beyond seq that may be there: they forgot nothing
	state crashState
	gone  bool
}

func (h *holding) clone() *holding {
	return &holding{h.closed, maps.Clone(h.names), slices.Clone(h.spaces)}
}

// inSpace returns an effect on the space of that number, which a handle leads to
// whatever its name is.
func inHeld(number int, f func(s *heldSpace, who string) error) func(*holding, string) error {
	return func(h *holding, who string) error {
		switch s := &h.spaces[number]; {
		case h.closed:
			return ErrClosed
		case s.gone:
			return ErrSpaceDeleted
		default:
			return f(s, who)
		}
	}
}

func (s *heldSpace) remember(ms ...Memory) {
	for _, m := range ms {
		s.seq++
		s.state = s.state.with(m.ID, crashMemory{content: m.Content})
	}
}

func leaveHeld(*heldSpace, string) error { return nil }

// interleavedMemories are what one caller remembers: n memories of that size.
func interleavedMemories(who string, n, size int) []Memory {
	ms := make([]Memory, n)
	for i := range ms {
		ms[i] = Memory{ID: fmt.Sprint(who, i), Content: who + " " + strings.Repeat("x", size)}
	}
	return ms
}

// remembering returns an operation that remembers in the space of that number.
func interleavedRemember(name string, number, n, size int) interleavedOperation {
	return interleavedOperation{
		name: name,
		run: func(m *meeting, who string) error {
			_, err := m.handles[number].RememberBatch(background, interleavedMemories(who, n, size))
			return err
		},
		effect: inHeld(number, func(s *heldSpace, who string) error {
			s.remember(interleavedMemories(who, n, size)...)
			return nil
		}),
	}
}

const interleavedOld = "old" // a memory that is there from the beginning

// interleaved is the table of operations.
func interleaved() []interleavedOperation {
	lookup := func(m *meeting, _ string) error {
		found, err := m.handles[0].Lookup(background, interleavedOld)
		if err == nil && found.Content != interleavedOld {
			return fmt.Errorf("found %q", found.Content)
		}
		return err
	}
	looked := inHeld(0, func(s *heldSpace, _ string) error {
		if _, found := s.state[interleavedOld]; !found {
			return ErrMemoryNotFound
		}
		return nil
	})
	operations := []interleavedOperation{
		interleavedRemember("remember", 0, 1, 10),
		interleavedRemember("rotate", 0, 3, 900),
		interleavedRemember("remember elsewhere", 1, 1, 10),
		interleavedRemember("switch journal", 1, 1, 15<<10),
		{name: "lookup", run: lookup, effect: looked},
		{name: "wake", asleep: true, run: lookup, effect: looked},
		{name: "forget", run: func(m *meeting, _ string) error {
			_, err := m.handles[0].Forget(background, []string{interleavedOld})
			return err
		}, effect: inHeld(0, func(s *heldSpace, _ string) error {
			left, n := s.state.without(func(id string, _ crashMemory) bool { return id == interleavedOld })
			s.state, s.seq = left, s.seq+uint64(n)
			if n == 0 { // what it was to forget may have been there when it began
				s.empty++
			}
			return nil
		})},
		{name: "recall", run: func(m *meeting, _ string) error {
			_, err := m.handles[0].Recall(background, Cue{Text: "old fill"})
			return err
		}, effect: inHeld(0, leaveHeld)},
		{name: "checkpoint", run: func(m *meeting, _ string) error {
			return m.handles[0].Checkpoint(background)
		}, effect: inHeld(0, leaveHeld)},
		{name: "sleep", run: func(m *meeting, _ string) error {
			m.handles[0].sleep()
			return nil
		}, effect: func(*holding, string) error { return nil }},
	}
	return append(operations, interleavedInRegistry()...)
}

// interleavedInRegistry are the operations that are the registry's, not a space's.
func interleavedInRegistry() []interleavedOperation {
	creating := func(id SpaceID) interleavedOperation {
		return interleavedOperation{name: "create " + string(id), run: func(m *meeting, _ string) error {
			_, err := m.r.Create(background, id, SpaceConfig{})
			return err
		}, effect: inRegistry(func(h *holding) error {
			if _, found := h.names[id]; found {
				return ErrSpaceExists
			}
			h.names[id] = len(h.spaces)
			h.spaces = append(h.spaces, heldSpace{seq: 1, state: crashState{}})
			return nil
		})}
	}
	opened := interleavedOperation{name: "recover", killed: true, run: func(m *meeting, _ string) error {
		return m.open()
	}, effect: func(*holding, string) error { return nil }}
	return []interleavedOperation{
		opened, creating("aaa"), creating("fresh"),
		{name: "settle", run: func(m *meeting, _ string) error {
			return m.r.Settle(background)
		}, effect: inRegistry(func(*holding) error { return nil })},
		{name: "delete", run: func(m *meeting, _ string) error {
			return m.r.Delete(background, "aaa")
		}, effect: inRegistry(func(h *holding) error {
			number, found := h.names["aaa"]
			if !found {
				return ErrSpaceNotFound
			}
			h.spaces[number].gone = true
			delete(h.names, "aaa")
			return nil
		})},
		{name: "rename", run: func(m *meeting, _ string) error {
			return m.r.Rename(background, "aaa", "fresh")
		}, effect: inRegistry(func(h *holding) error {
			number, found := h.names["aaa"]
			if !found {
				return ErrSpaceNotFound
			}
			if _, taken := h.names["fresh"]; taken {
				return ErrSpaceExists
			}
			delete(h.names, "aaa")
			h.names["fresh"] = number
			return nil
		})},
		{name: "close", run: func(m *meeting, _ string) error {
			return m.r.Close()
		}, effect: func(h *holding, _ string) error {
			h.closed = true
			return nil
		}},
	}
}

func inRegistry(f func(h *holding) error) func(*holding, string) error {
	return func(h *holding, _ string) error {
		if h.closed {
			return ErrClosed
		}
		return f(h)
	}
}

// meeting is a schedule at work.
type meeting struct {
	*schedule
	interleaving

	fs       *crashfs.FS
	r        *Registry
	handles  []*Space    // of "aaa" and "bbb"
	opened   atomic.Bool // r and handles are set
	before   *holding
	calls    atomic.Int64
	paused   chan struct{}
	released chan struct{}
}

// open opens the registry and gets what the operations work on.
func (m *meeting) open() error {
	opts := Options{Clock: newStepClock()}
	opts.seams.fs, opts.seams.settleHang = m.fs, patient
	opts.seams.segmentBytes, opts.seams.checkpointBytes = m.options.segment, m.options.checkpoint
	r, err := Open("", opts)
	if err != nil {
		return err
	}
	r.journal.mu.Lock()
	r.journal.fileBytes = m.options.journal
	r.journal.mu.Unlock()
	m.r, m.handles = r, nil
	for _, id := range []SpaceID{"aaa", "bbb"} {
		if s, err := r.Get(background, id); err == nil {
			m.handles = append(m.handles, s)
		}
	}
	m.opened.Store(true)
	return nil
}

// prepare makes a registry in which every operation has something to do: a
// space with a checkpoint, forgotten bytes and a journal that is owed.
func (m *meeting) prepare() {
	m.t.Helper()
	m.fs = crashfs.New()
	m.before = &holding{names: map[SpaceID]int{"aaa": 0, "bbb": 1}, spaces: []heldSpace{
		{seq: 1, state: crashState{}}, {seq: 1, state: crashState{}},
	}}
	m.must(m.open())
	write := func(number int, ms ...Memory) {
		m.before.spaces[number].remember(ms...)
		remember(m.t, m.handles[number], ms...)
	}
	m.handles = []*Space{create(m.t, m.r, "aaa"), create(m.t, m.r, "bbb")}
	write(0, Memory{ID: interleavedOld, Content: interleavedOld}, Memory{ID: "kept", Content: "kept and replaced"})
	m.must(m.handles[0].Checkpoint(background))
	write(0, Memory{ID: "kept", Content: "kept " + strings.Repeat("fill ", 100)})
	write(1, Memory{ID: "other", Content: "other"})
	m.quiet()
	if m.first.asleep {
		asleep(m.t, m.handles[0])
	}
	if m.first.killed {
		left := m.fs.Kill()
		_ = m.r.Close() // its process has ended
		m.fs, m.r = left, nil
		m.opened.Store(false)
	}
}

// quiet waits until nothing goes on in the background.
func (m *meeting) quiet() {
	m.r.work.Wait()
	j := m.r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.settling {
		j.changed.Wait()
	}
}

// countCalls returns how many calls the operation makes when nothing else happens.
func countCalls(t *testing.T, operation interleavedOperation, options interleavedOption) int {
	t.Helper()
	m := &meeting{schedule: &schedule{t: t}, interleaving: interleaving{first: operation, options: options}}
	m.prepare()
	m.fs.SetHook(func(crashfs.Call) error {
		m.calls.Add(1)
		return nil
	})
	if err := operation.run(m, "first"); !errors.Is(err, ErrSpaceExists) {
		m.must(err)
	}
	m.quiet()
	n := int(m.calls.Load())
	m.must(m.r.Close())
	return n
}

// run plays the schedule and returns whether the two operations met.
func (m *meeting) run() bool {
	m.t.Helper()
	m.prepare()
	m.paused, m.released = make(chan struct{}), make(chan struct{})
	m.fs.SetHook(func(crashfs.Call) error {
		if m.calls.Add(1) == int64(m.call)+1 {
			close(m.paused)
			<-m.released
		}
		return nil
	})
	first, second := m.start(m.first, "first"), (*running)(nil)
	met := m.stopped(first) && m.opened.Load()
	if met {
		second = m.start(m.second, "second")
		m.standsStill(second)
	}
	if m.cut {
		after := m.fs.Crash(m.seed)
		unknown := []*running{first.now(), second.now()}
		close(m.released)
		first.wait()
		second.wait()
		m.endProcess()
		m.fs = after
		m.reopened(unknown...)
		return met
	}
	close(m.released)
	first.wait()
	second.wait()
	if first.err == nil && m.r != nil && !m.closes(first, second) {
		m.quiet()
		m.requireHeld("live", first, second)
	}
	m.restart()
	m.reopened(first, second)
	return met
}

// restart ends the process: in an orderly way, by a kill or by a power cut.
func (m *meeting) restart() {
	m.t.Helper()
	m.fs.SetHook(nil)
	after := m.fs
	switch m.seed % 3 {
	case 0:
		m.must(m.r.Close())
	case 1:
		after = m.fs.Kill()
	case 2:
		after = m.fs.Crash(m.seed)
	}
	m.endProcess()
	m.fs = after
}

// endProcess closes what is left of a process that has ended.
func (m *meeting) endProcess() {
	m.t.Helper()
	if m.r != nil {
		_ = m.r.Close() // whatever it says is about a process that has ended
	}
	if left := m.fs.Handles(); len(left) > 0 {
		m.fatal("closed with open handles %q", left)
	}
}

// reopened opens the registry again and requires that it holds what is left.
func (m *meeting) reopened(operations ...*running) {
	m.t.Helper()
	m.opened.Store(false)
	m.must(m.open())
	m.requireHeld("reopened", operations...)
	m.must(m.r.Close())
}

func (m *meeting) closes(operations ...*running) bool {
	return slices.ContainsFunc(operations, func(o *running) bool { return o != nil && o.name == "close" })
}

// running is an operation that was started.
type running struct {
	interleavedOperation
	who  string
	done chan struct{}
	err  error

	unknown bool // it had not finished when the power went
}

func (m *meeting) start(o interleavedOperation, who string) *running {
	r := &running{interleavedOperation: o, who: who, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = o.run(m, who)
	}()
	return r
}

func (r *running) wait() {
	if r != nil {
		<-r.done
	}
}

// now returns what is known of the operation at this moment.
func (r *running) now() *running {
	if r == nil {
		return nil
	}
	at := &running{interleavedOperation: r.interleavedOperation, who: r.who}
	select {
	case <-r.done:
		at.err = r.err
	default:
		at.unknown = true
	}
	return at
}

// glance is how long a goroutine may take to its next call of the file system
// before it is taken to wait for another one. It decides which schedule is
// played, not whether it passes.
const glance = 300 * time.Microsecond

// stopped waits until the first operation, or what it has left going on in the
// background, stands before its call, and returns false if it gets to its end.
func (m *meeting) stopped(first *running) bool {
	select {
	case <-m.paused:
		return true
	case <-first.done:
	}
	select {
	case <-m.paused:
		return true
	case <-time.After(glance):
		return false
	}
}

// standsStill waits until the operation has finished, or waits for the other one.
func (m *meeting) standsStill(second *running) {
	for {
		calls := m.fs.Calls()
		select {
		case <-second.done:
			return
		case <-time.After(glance):
			if m.fs.Calls() == calls {
				return
			}
		}
	}
}

// requireHeld requires that the registry holds what one order of the operations
// leaves, in which each has the error that it had; those of unknown outcome may
// be left out.
func (m *meeting) requireHeld(when string, operations ...*running) {
	m.t.Helper()
	found := m.look()
	var differences []string
	for _, order := range ordersOf(slices.DeleteFunc(slices.Clone(operations), func(r *running) bool { return r == nil })) {
		diff := m.explains(order, found)
		if diff == "" {
			return
		}
		differences = append(differences, diff)
	}
	m.fatal("%s, no order explains it:\n%s", when, strings.Join(differences, "\n"))
}

// explains returns why that order of the operations does not lead to what was
// found, or nothing.
func (m *meeting) explains(order []*running, found *holding) string {
	h := m.before.clone()
	said := ""
	for _, r := range order {
		said += fmt.Sprintf("%s %s, ", r.who, r.name)
		if err := r.effect(h, r.who); !r.unknown && !sameRefusal(err, r.err) {
			return said + fmt.Sprintf("should get %v and got %v", err, r.err)
		}
	}
	if diff := h.differs(found); diff != "" {
		return said + diff
	}
	return ""
}

// ordersOf returns every order of the operations, with and without those whose
// outcome is not known.
func ordersOf(operations []*running) [][]*running {
	var chosen [][]*running
	for with := range 1 << len(operations) {
		var some []*running
		complete := true
		for i, r := range operations {
			if with&(1<<i) != 0 {
				some = append(some, r)
			} else {
				complete = complete && r.unknown
			}
		}
		if !complete {
			continue
		}
		chosen = append(chosen, some)
		if len(some) == 2 {
			chosen = append(chosen, []*running{some[1], some[0]})
		}
	}
	return chosen
}

// sameRefusal reports whether the error is the one that the order calls for. A
// space that was deleted is not found by its name and deleted for its handle; a
// caller who has one and looks for the other may be told either.
func sameRefusal(want, got error) bool {
	switch {
	case want == nil || got == nil:
		return want == nil && got == nil
	case errors.Is(want, ErrSpaceNotFound) || errors.Is(want, ErrSpaceDeleted):
		return errors.Is(got, ErrSpaceNotFound) || errors.Is(got, ErrSpaceDeleted)
	}
	return errors.Is(got, want)
}

// look reads everything that the registry holds.
func (m *meeting) look() *holding {
	m.t.Helper()
	h := &holding{names: make(map[SpaceID]int)}
	for id := range m.r.Spaces("") {
		s := get(m.t, m.r, id)
		held := heldSpace{seq: infoOf(m.t, s).Seq, state: crashState{}}
		for _, memory := range list(m.t, s, Filter{}) {
			held.state[memory.ID] = crashMemory{content: memory.Content}
		}
		h.names[id] = len(h.spaces)
		h.spaces = append(h.spaces, held)
	}
	return h
}

// differs returns the first difference in what can be seen.
func (h *holding) differs(found *holding) string {
	if want, got := slices.Sorted(maps.Keys(h.names)), slices.Sorted(maps.Keys(found.names)); !slices.Equal(want, got) {
		return fmt.Sprintf("there are spaces %q, not %q", got, want)
	}
	for _, id := range slices.Sorted(maps.Keys(h.names)) {
		want, got := h.spaces[h.names[id]], found.spaces[found.names[id]]
		if diff := want.state.differs(got.state); diff != "" {
			return fmt.Sprintf("space %q: %s", id, diff)
		}
		if got.seq < want.seq || got.seq > want.seq+want.empty {
			return fmt.Sprintf("space %q is at seq %d, not %d", id, got.seq, want.seq)
		}
	}
	return ""
}
