package engram

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/engramdb/engram/internal/crashfs"
)

// What the crash tests know of a registry: for each space every state that it
// has had, so that what is found after a crash can be told from what must not be.

// crashState is the content of a space: memories by id.
type crashState map[string]crashMemory

type crashMemory struct {
	content, episode string
	vector           string // the embedder that has made one of the content
	next             string // and one of the space's next generation
	to               string // ids that it has associations to, each with a space behind it
}

// crashWrite is one write and the state behind it.
type crashWrite struct {
	seq       uint64 // of its last operation
	state     crashState
	partition uint64 // number of that of its vectors; 0: there is none
}

// history is one incarnation of a space: all writes that it was given, in order.
type history struct {
	tag    string   // begins every content that was stored in it
	dirs   []string // that its files have been in, and what is in their place
	writes []crashWrite
	acked  int // index of the last write that was acknowledged: a kill loses nothing up to it
	stable int // index of the last write that a power cut must not lose either
}

func newHistory(tag string) *history {
	return &history{tag: tag, writes: []crashWrite{{seq: 1, state: crashState{}}}}
}

func (h *history) last() crashWrite { return h.writes[len(h.writes)-1] }

// add adds a write of n operations whose outcome is not known yet.
func (h *history) add(n int, state crashState) {
	h.writes = append(h.writes, crashWrite{seq: h.last().seq + uint64(n), state: state, partition: h.last().partition})
}

// unknown reports whether the outcome of the last write is not known.
func (h *history) unknown() bool { return h.acked < len(h.writes)-1 }

// ack says that the last write was acknowledged.
func (h *history) ack(durable bool) {
	h.acked = len(h.writes) - 1
	if durable {
		h.stable = h.acked
	}
}

// intent is a change of the catalogue whose outcome is not known.
type intent struct {
	id, to SpaceID  // to is empty but for a rename
	h      *history // what id has if the change did not happen; nil: nothing
	after  *history // what id, or to, has if it did; nil: nothing
}

// fork returns the run with a model of its own, to follow another outcome.
func (x *crashRun) fork() *crashRun {
	forked := *x
	forked.r, forked.watch = nil, nil
	forked.spaces = make(map[SpaceID]*history)
	copies := make(map[*history]*history)
	copied := func(h *history) *history {
		if h != nil && copies[h] == nil {
			c := *h
			c.writes = slices.Clone(h.writes)
			copies[h] = &c
		}
		return copies[h]
	}
	for id, h := range x.spaces {
		forked.spaces[id] = copied(h)
	}
	forked.intent = slices.Clone(x.intent)
	for i := range forked.intent {
		in := &forked.intent[i]
		in.h, in.after = copied(in.h), copied(in.after)
	}
	forked.steps = slices.Clip(x.steps)
	return &forked
}

// crashRun is one seed at work: lives of one registry, each of which ends with
// a cut or a kill, on one disk.
type crashRun struct {
	t       *testing.T
	row     *faultRun
	seed    uint64
	random  *rand.Rand
	opts    Options
	journal int64 // size of a journal file

	fs     *crashfs.FS
	r      *Registry
	spaces map[SpaceID]*history
	intent []intent
	found  map[SpaceID]*history // what a read-only opening of the same disk has shown
	power  bool                 // the last life ended with a power cut
	tags   int
	steps  []string

	watch  *crashWatch // keeps what each call would leave; nil: nobody does
	killed int         // the call before which the watched run's predecessor was killed

	failing bool           // calls may fail though the process goes on
	fault   *crashfs.Fault // which ones; nil: any
	evicted bool           // what they have lost may be read as damage meanwhile
}

var crashNames = []SpaceID{"aaa", "aaab", "aaa-b", "aaa_"}

// forCrashSeeds runs seeds until the row is complete.
func forCrashSeeds(t *testing.T, row faultRow, run func(x *crashRun)) {
	t.Helper()
	row.run(t, func(t *testing.T, r *faultRun, seed uint64) {
		run(newCrashRun(t, r, seed))
	})
}

func newCrashRun(t *testing.T, r *faultRun, seed uint64) *crashRun {
	return &crashRun{
		t: t, row: r, seed: seed, random: rand.New(rand.NewPCG(seed, 1)),
		fs: crashfs.New(), spaces: make(map[SpaceID]*history),
	}
}

// fatal ends the test with what happened and the line that makes it happen again.
func (x *crashRun) fatal(format string, args ...any) {
	x.t.Helper()
	x.t.Fatalf("%s\nafter %s\nreproduce with: %s", fmt.Sprintf(format, args...), strings.Join(x.steps, ", "), reproduceFault(x.t, x.seed))
}

func (x *crashRun) log(format string, args ...any) {
	x.steps = append(x.steps, fmt.Sprintf(format, args...))
}

// durable reports whether an acknowledged write survives a power cut.
func (x *crashRun) durable() bool { return x.opts.Durability == Sync }

// check compares the registry with what is known: every space is there, whole,
// its own, and in a state that it has had and that loses nothing it must not
// lose. What it finds is what is known from then on. It returns false if the
// process ended meanwhile.
func (x *crashRun) check() bool {
	x.t.Helper()
	x.resolve()
	found := slices.Collect(x.r.Spaces(""))
	if known := slices.Sorted(maps.Keys(x.spaces)); !slices.Equal(found, known) {
		x.fatal("there are spaces %q, there should be %q", found, known)
	}
	if x.random.IntN(2) == 0 {
		if _, err := x.r.RecoverAll(background); err != nil && x.alive(err) {
			x.fatal("recover all: %v", err)
		}
	}
	for _, id := range found {
		if !x.checkSpace(id, x.spaces[id]) {
			return false
		}
	}
	return true
}

// resolve decides from the catalogue which changes of it have happened.
func (x *crashRun) resolve() {
	found := slices.Collect(x.r.Spaces(""))
	for _, in := range x.intent {
		there := slices.Contains(found, in.id)
		switch {
		case in.to != "":
			moved := slices.Contains(found, in.to)
			if moved == there {
				x.fatal("rename of %q to %q left spaces %q", in.id, in.to, found)
			}
			if moved {
				delete(x.spaces, in.id)
				x.spaces[in.to] = in.after
			}
		case there && in.h == nil:
			x.spaces[in.id] = in.after
		case !there && in.after == nil:
			delete(x.spaces, in.id)
		}
	}
	x.intent = nil
}

// checkSpace reads the space and judges its state.
func (x *crashRun) checkSpace(id SpaceID, h *history) bool {
	x.t.Helper()
	seq, state, err := x.read(id)
	if err != nil {
		if x.alive(err) {
			x.fatal("space %q cannot be read: %v", id, err)
		}
		return false
	}
	i := slices.IndexFunc(h.writes, func(w crashWrite) bool { return w.seq == seq })
	if i < 0 {
		x.fatal("space %q is at seq %d, which no write of it ended with (the last one: %d)", id, seq, h.last().seq)
	}
	least := h.acked
	if x.power {
		least = h.stable
	}
	if i < least {
		x.fatal("space %q is at seq %d and has lost writes up to seq %d", id, seq, h.writes[least].seq)
	}
	if diff := h.writes[i].state.differs(state); diff != "" {
		x.fatal("space %q at seq %d: %s", id, seq, diff)
	}
	if partition, err := x.partition(id); err == nil && partition != h.writes[i].partition {
		x.fatal("space %q at seq %d has the partition %d, not %d", id, seq, partition, h.writes[i].partition)
	}
	if r := x.space(id).Stats().Operator.Recovery; r.CutBytes > 0 && r.Verdict != TornTail || r.MarkSeq > r.LastSeq || r.LastSeq > seq {
		x.fatal("space %q at seq %d: its recovery reports %+v", id, seq, r)
	}
	for id, m := range state {
		if !strings.HasPrefix(m.content, h.tag+" ") {
			x.fatal("memory %q of space %q is not its own: %.40q", id, h.tag, m.content)
		}
	}
	h.writes, h.acked, h.stable = h.writes[:i+1], i, min(h.stable, i)
	if x.durable() {
		h.stable = i // nothing undurable is visible
	}
	return true
}

// read returns everything that the space shows.
func (x *crashRun) read(id SpaceID) (uint64, crashState, error) {
	s, err := x.r.Get(background, id)
	if err != nil {
		return 0, nil, err
	}
	state := make(crashState)
	for m, err := range s.Memories(background, Filter{}) {
		if err != nil {
			return 0, nil, err
		}
		state[m.ID] = crashMemory{content: m.Content, episode: m.Episode}
	}
	if err := readVectors(s, state); err != nil {
		return 0, nil, err
	}
	for id, m := range state {
		associations, err := s.Associations(background, id)
		if err != nil {
			return 0, nil, err
		}
		for _, a := range associations {
			if a.From == id {
				m.to += a.To + " "
			}
		}
		state[id] = m
	}
	stats := s.Stats()
	if stats.Operator.State == Asleep { // it was settled in the background, and its figures are gone
		return x.read(id)
	}
	if x.failing {
		return stats.Content.Seq, state, nil
	}
	if stats.Operator.State != Awake || stats.Operator.Recovery.Verdict == Refused {
		return 0, nil, fmt.Errorf("it is %s, %s", stats.Operator.State, stats.Operator.Stopped)
	}
	if stats.Content.Memories != int64(len(state)) {
		return 0, nil, fmt.Errorf("it counts %d memories and lists %d", stats.Content.Memories, len(state))
	}
	return stats.Content.Seq, state, nil
}

// partition returns the number of the partition of the space's vectors, once it has
// answered a recall.
func (x *crashRun) partition(id SpaceID) (uint64, error) {
	s, err := x.r.Get(background, id)
	if err != nil {
		return 0, err
	}
	a, err := s.use(background)
	if err != nil {
		return 0, err
	}
	defer a.uses.Add(-1)
	v := a.store.view()
	if v.partition == nil {
		return 0, nil
	}
	_, err = s.Recall(background, Cue{Embedding: crashEmbedder(1).vector("memory")[:v.dimension], Limit: 5})
	return v.partition.number, err
}

// readVectors notes which memories have a derived vector, which is that of their
// content.
func readVectors(s *Space, state crashState) error {
	a, err := s.use(background)
	if err != nil {
		return err
	}
	defer a.uses.Add(-1)
	r := a.read()
	defer r.close()
	for id, m := range state {
		d, found := r.view.lookup(id)
		if !found {
			return fmt.Errorf("memory %q has gone", id)
		}
		if row, found := r.view.derivedOf(d); found {
			if m.vector, err = r.maker(d, &row, r.view.embedder, m.content); err != nil {
				return err
			}
		}
		if row, found := r.view.nextOf(d); found {
			if m.next, err = r.maker(d, &row, r.view.next.embedder, m.content); err != nil {
				return err
			}
		}
		state[id] = m
	}
	return nil
}

// maker returns the embedder's id if the vector is what it makes of the content.
func (r *reader) maker(d uint32, row *derivedRow, embedder, content string) (string, error) {
	e := embedderNamed(embedder)
	vector, err := r.readVector(d, row, e.dimension)
	if err == nil && !slices.Equal(vector, e.vector(content)) {
		err = fmt.Errorf("%q has the vector of another content or embedder", content[:min(len(content), 30)])
	}
	return embedder, err
}

// alive reports whether the process still runs, so that an error is its own.
func (x *crashRun) alive(err error) bool { return !x.fs.Ended() && err != nil }

// differs returns the first difference.
func (s crashState) differs(found crashState) string {
	for _, id := range slices.Sorted(maps.Keys(s)) {
		switch m, there := found[id]; {
		case !there:
			return fmt.Sprintf("memory %q is missing", id)
		case m != s[id]:
			return fmt.Sprintf("memory %q is %.60q, not %.60q", id, m, s[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if _, known := s[id]; !known {
			return fmt.Sprintf("memory %q is there", id)
		}
	}
	return ""
}

// without returns the state without those memories, and how many they are.
func (s crashState) without(gone func(id string, m crashMemory) bool) (crashState, int) {
	left := maps.Clone(s)
	maps.DeleteFunc(left, gone)
	for id, m := range left {
		for _, to := range strings.Fields(m.to) {
			if _, there := left[to]; !there {
				m.to = strings.Replace(m.to, to+" ", "", 1)
			}
		}
		left[id] = m
	}
	return left, len(s) - len(left)
}

// changed returns the state with every memory changed.
func (s crashState) changed(change func(m *crashMemory)) crashState {
	more := maps.Clone(s)
	for id, m := range more {
		change(&m)
		more[id] = m
	}
	return more
}

// with returns the state with that memory.
func (s crashState) with(id string, m crashMemory) crashState {
	more := maps.Clone(s)
	more[id] = m
	return more
}
