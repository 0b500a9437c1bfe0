package engram

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/engramdb/engram/internal/crashfs"
	"github.com/engramdb/engram/internal/rabitq"
)

// The steps that a crash test takes. Each does one call and says in the model
// what may have become of it.

// begin opens the registry on the disk as it is.
func (x *crashRun) begin() error {
	opts := x.opts
	opts.seams.fs, opts.seams.settleHang = x.fs, patient
	r, err := Open("", opts)
	if err != nil {
		return err
	}
	x.r = r
	r.journal.mu.Lock()
	r.journal.fileBytes = x.journal
	r.journal.mu.Unlock()
	return nil
}

// options chooses small files, so that a short script crosses every limit.
func (x *crashRun) options() {
	x.opts = Options{Clock: newStepClock()}
	x.opts.Durability = []Durability{Sync, Sync, Sync, None, Interval(1)}[x.random.IntN(5)]
	x.opts.seams.segmentBytes = []int64{1 << 10, 4 << 10, 64 << 10}[x.random.IntN(3)]
	x.opts.seams.checkpointBytes = []int64{1 << 10, 4 << 10, 1 << 20}[x.random.IntN(3)]
	x.journal = []int64{4 << 10, 16 << 10, 64 << 10}[x.random.IntN(3)]
	x.opts.seams.extentBytes = []int64{8 << 10, 32 << 10}[x.random.IntN(2)]
}

// quiet waits until what a step has started in the background has ended, so
// that a seed makes nearly the same calls each time.
func (x *crashRun) quiet() {
	x.r.work.Wait()
	j := x.r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.settling {
		j.changed.Wait()
	}
}

// step takes one step and returns false when the process has ended.
func (x *crashRun) step() bool {
	id := crashNames[x.random.IntN(len(crashNames))]
	h := x.spaces[id]
	if slices.ContainsFunc(x.intent, func(in intent) bool { return in.id == id || in.to == id }) {
		return true
	}
	switch n := x.random.IntN(100); {
	case h == nil && n < 50:
		x.create(id)
	case h == nil: // stays free, so that another can be renamed to it
	case h.unknown() && n < 60:
		// Writes have stopped, or it would not be the last one.
		_, err := x.space(id).Remember(background, Memory{Content: "x"})
		if err == nil {
			x.fatal("space %q takes writes behind one of unknown outcome", id)
		}
	case n < 28:
		x.remember(id, h, 1)
	case n < 34:
		x.associate(id, h)
	case n < 38:
		for range 1 + x.random.IntN(8) {
			if h.unknown() || x.fs.Ended() {
				break
			}
			x.embed(id, h)
		}
	case n < 46:
		x.remember(id, h, 2+x.random.IntN(6))
	case n < 54:
		x.forget(id, h)
	case n < 57:
		x.forgetEpisode(id, h)
	case n < 60:
		x.configure(id, h)
	case n < 65:
		x.delete(id, h)
	case n < 73:
		x.rename(id, h)
	case n < 81:
		x.checkpoint(id, h)
	case n < 88:
		x.sleep(id, h)
	case n < 94:
		x.settle()
	default:
		x.look(id, h)
	}
	x.publish()
	x.quiet()
	return !x.fs.Ended()
}

// look reads the space, which has every write that was acknowledged, and
// recalls from it.
func (x *crashRun) look(id SpaceID, h *history) {
	x.log("read %s", id)
	_, state, err := x.read(id)
	x.tolerate(err)
	if err == nil {
		if diff := h.writes[h.acked].state.differs(state); diff != "" {
			x.fatal("space %q: %s", id, diff)
		}
		_, err = x.space(id).Recall(background, Cue{Text: "memory", Limit: 5})
		x.tolerate(err)
	}
}

// tolerate judges an error that leaves everything as it was.
func (x *crashRun) tolerate(err error) {
	x.t.Helper()
	if err != nil {
		x.log("error: %v", err)
	}
	switch {
	case err == nil || !x.alive(err):
	case !x.failing:
		x.fatal("%v", err)
	case errors.Is(err, ErrCorrupt) && !x.evicted:
		x.fatal("a failed call is taken for damage: %v", err)
	}
}

// tolerateOf is tolerate for an error of one space, which only calls of its own
// or the registry's may bring about.
func (x *crashRun) tolerateOf(id SpaceID, err error) {
	x.t.Helper()
	x.tolerate(err)
	if x.fault != nil && x.alive(err) && !x.concerned(id) {
		x.fatal("%s: %v, though all calls that failed are of %v", id, err, x.fault.Hit())
	}
}

// concerned reports whether an error of the space may be due to the fault: a
// call failed on its files, or on one that is no space's own.
func (x *crashRun) concerned(id SpaceID) bool {
	return slices.ContainsFunc(x.fault.Hit(), func(c crashfs.Call) bool {
		dir, _, below := strings.Cut(c.Name, "/")
		if dir == tmpDir && below {
			inc, _, _ := strings.Cut(c.Name[len(tmpDir)+1:], "/")
			dir = tmpDir + "/" + inc
		}
		owned := below && dir != journalDir && dir != trashDir || SpaceID(dir).Validate() == nil
		return !owned || slices.Contains(x.spaces[id].dirs, dir)
	})
}

// space returns the space of that id, which is known to be there.
func (x *crashRun) space(id SpaceID) *Space {
	x.t.Helper()
	s, err := x.r.Get(background, id)
	if err != nil {
		x.fatal("%v", err)
	}
	return s
}

// content is text that only this incarnation stores.
func (x *crashRun) content(h *history) string {
	x.tags++
	size := x.random.IntN(300)
	if x.random.IntN(10) == 0 {
		size = x.random.IntN(6000)
	}
	// Neighbouring contents differ in every byte. They are not words: analyzing
	// them would be most of what a crash costs.
	return fmt.Sprintf("%s memory %d %s", h.tag, x.tags, strings.Repeat(".,;:!?+*#="[x.tags%10:][:1], size))
}

// wrote says what became of the last write that was added to h.
func (x *crashRun) wrote(id SpaceID, h *history, seq uint64, err error) {
	x.t.Helper()
	switch {
	case err == nil:
		if seq != h.last().seq {
			x.fatal("a write was acknowledged with seq %d, not %d", seq, h.last().seq)
		}
		h.ack(x.durable())
	case x.fs.Ended() || errors.Is(err, ErrUnknownOutcome):
		x.log("unknown: %v", err)
		x.tolerateOf(id, err)
	default:
		x.log("refused: %v", err)
		x.tolerateOf(id, err)
		h.writes = h.writes[:len(h.writes)-1]
	}
}

func (x *crashRun) remember(id SpaceID, h *history, n int) {
	s := x.space(id)
	state := h.last().state
	ms := make([]Memory, n)
	for i := range ms {
		m := crashMemory{content: x.content(h), episode: fmt.Sprint("e", x.random.IntN(3))}
		ms[i] = Memory{ID: fmt.Sprint("m", x.random.IntN(12)), Content: m.content, Episode: m.episode}
		m.to = state[ms[i].ID].to
		state = state.with(ms[i].ID, m)
	}
	x.log("remember %d in %s", n, id)
	h.add(n, state)
	x.publish()
	receipts, err := s.RememberBatch(background, ms)
	var seq uint64
	if err == nil {
		seq = receipts[n-1].Seq
	}
	x.wrote(id, h, seq, err)
}

// associate makes an association between two memories, or removes it.
func (x *crashRun) associate(id SpaceID, h *history) {
	state := h.last().state
	ids := slices.Sorted(maps.Keys(state))
	if len(ids) < 2 {
		return
	}
	from := x.random.IntN(len(ids))
	a := Association{From: ids[from], To: ids[(from+1+x.random.IntN(len(ids)-1))%len(ids)], Weight: 0.5}
	m, write := state[a.From], x.space(id).Associate
	to := strings.Fields(m.to)
	if i, there := slices.BinarySearch(to, a.To); there {
		to, write = slices.Delete(to, i, i+1), x.space(id).Dissociate
	} else {
		to = slices.Insert(to, i, a.To)
	}
	m.to = ""
	for _, other := range to {
		m.to += other + " "
	}
	x.log("associate %s with %s in %s, or not", a.From, a.To, id)
	h.add(1, state.with(a.From, m))
	x.publish()
	receipt, err := write(background, a)
	x.wrote(id, h, receipt.Seq, err)
}

// embed goes a step on the way to vectors. It is called here, not in the background,
// so that a seed takes the same steps each time.
func (x *crashRun) embed(id SpaceID, h *history) {
	step, err := nextVectorStep(x.space(id), h.last().state, x.random.IntN)
	if err != nil {
		x.tolerate(err)
	}
	if step.do == nil {
		return
	}
	x.log("%s %s", step.what, id)
	h.add(step.operations, step.after)
	if last := &h.writes[len(h.writes)-1]; step.partitions != nil {
		last.partition = step.partitions(last.seq)
	}
	x.publish()
	x.wrote(id, h, h.last().seq, step.do())
}

// vectorStep is a write that has to do with vectors.
type vectorStep struct {
	what       string
	operations int
	after      crashState
	partitions func(seq uint64) uint64 // number of the partition behind it; nil: as before
	do         func() error            // nil: there is none
}

// nextVectorStep gives the space an embedder, begins to give it another's, gives
// some memories a vector that they lack, or switches to those of the other.
func nextVectorStep(s *Space, state crashState, pick func(n int) int) (vectorStep, error) {
	a, err := s.use(background)
	if err != nil {
		return vectorStep{}, err
	}
	v := a.store.view()
	a.uses.Add(-1)
	other := crashEmbedder(1 + pick(3))
	switch {
	case v.generation == 0:
		return vectorStep{what: "give its embedder to", operations: 1, after: state, do: func() error { return s.adopt(background, other) }}, nil
	case pick(4) == 0 && v.next.generation == 0:
		return partitionStep(s, v, state), nil
	case pick(4) == 0 && !v.next.isOf(other) && (!v.isOf(other) || v.next.generation > 0):
		return vectorStep{what: "re-embed", operations: 1, after: state.changed(func(m *crashMemory) { m.next = "" }), do: func() error {
			_, err := s.reembed(background, other)
			return err
		}}, nil
	case v.next.generation > 0:
		return embeddingStep(s, state, embedderNamed(v.next.embedder))
	}
	return embeddingStep(s, state, embedderNamed(v.embedder))
}

// embeddingStep gives some memories a vector of e, or switches to those where all
// have one.
func embeddingStep(s *Space, state crashState, e *meanings) (vectorStep, error) {
	t, err := s.withoutVector(background, e, 6, nil, embeddedRange{})
	switch {
	case err != nil || len(t.ids) == 0 && !t.next():
		return vectorStep{}, err
	case len(t.ids) == 0:
		return vectorStep{
			what: "switch", operations: 1, after: state.changed(func(m *crashMemory) { m.vector, m.next = m.next, "" }),
			partitions: func(uint64) uint64 { return 0 },
			do:         func() error { return s.switchVectors(background, t.view) },
		}, nil
	}
	for _, id := range t.ids {
		m := state[id]
		if t.next() {
			m.next = e.id
		} else {
			m.vector = e.id
		}
		state = state.with(id, m)
	}
	return vectorStep{what: "embed", operations: len(t.ids), after: state, do: func() error { return s.embed(background, e, &t) }}, nil
}

// partitionStep divides the vectors, which are too few to be trained on.
func partitionStep(s *Space, v *view, state crashState) vectorStep {
	r, random := rabitq.NewRotation(v.dimension, rotationSeed), rand.New(rand.NewPCG(1, 2))
	var codes rabitq.Codes
	for range 40 {
		vector := make([]float32, v.dimension)
		for i := range vector {
			vector[i] = random.Float32() // as those of the embedders, none is negative
		}
		rabitq.NewEncoder(r).Append(&codes, vector)
	}
	p := partition{trained: 40, scanned: 20, depth: 40, leaves: rabitq.Train(r, codes.Fine, 4, func() bool { return true })}
	return vectorStep{
		what: "partition", operations: 1, after: state,
		partitions: func(seq uint64) uint64 { return seq },
		do:         func() error { return s.divide(v, &p) },
	}
}

// crashEmbedder returns one of three embedders, of which two make vectors of one
// dimension.
func crashEmbedder(n int) *meanings {
	return &meanings{id: fmt.Sprint("meanings-", n), dimension: []int{16, 8, 16}[n-1]}
}

func embedderNamed(id string) *meanings {
	return crashEmbedder(int(id[len(id)-1] - '0'))
}

func (x *crashRun) rememberEverywhere() {
	for _, id := range slices.Sorted(maps.Keys(x.spaces)) {
		x.remember(id, x.spaces[id], 1)
	}
}

func (x *crashRun) forget(id SpaceID, h *history) {
	var ids []string
	for range 1 + x.random.IntN(3) {
		ids = append(ids, fmt.Sprint("m", x.random.IntN(12)))
	}
	state, n := h.last().state.without(func(id string, _ crashMemory) bool { return slices.Contains(ids, id) })
	x.log("forget %d in %s", n, id)
	x.forgot(id, h, state, n, func(s *Space) (ForgetReceipt, error) { return s.Forget(background, ids) })
}

func (x *crashRun) forgetEpisode(id SpaceID, h *history) {
	episode := fmt.Sprint("e", x.random.IntN(3))
	state, n := h.last().state.without(func(_ string, m crashMemory) bool { return m.episode == episode })
	x.log("forget episode of %d in %s", n, id)
	x.forgot(id, h, state, n, func(s *Space) (ForgetReceipt, error) {
		return s.ForgetWhere(background, Filter{Episode: episode})
	})
}

func (x *crashRun) forgot(id SpaceID, h *history, state crashState, n int, do func(*Space) (ForgetReceipt, error)) {
	s := x.space(id)
	if n > 0 {
		h.add(1, state)
		x.publish()
	}
	receipt, err := do(s)
	switch {
	case n > 0:
		x.wrote(id, h, receipt.Seq, err)
	default:
		x.tolerate(err)
	}
	if err == nil && receipt.Forgotten != n {
		x.fatal("forgot %d memories, not %d", receipt.Forgotten, n)
	}
}

func (x *crashRun) configure(id SpaceID, h *history) {
	x.log("configure %s", id)
	h.add(1, h.last().state)
	x.publish()
	receipt, err := x.space(id).Configure(background, SpaceConfig{MaxMemories: int64(100 + x.random.IntN(10))})
	x.wrote(id, h, receipt.Seq, err)
}

// changed says what became of a change of the catalogue.
func (x *crashRun) changed(in intent, err error) {
	x.t.Helper()
	switch {
	case err == nil:
		if delete(x.spaces, in.id); in.after != nil {
			name := in.id
			if in.to != "" {
				name = in.to
			}
			in.after.settled() // a rename settles the space
			x.spaces[name] = in.after
		}
	case x.fs.Ended() || errors.Is(err, ErrUnknownOutcome):
		x.log("unknown: %v", err)
		x.tolerate(err)
		x.intent = append(x.intent, in)
		if s, err := x.r.Get(background, in.id); err == nil && in.h != nil {
			if _, err := s.Remember(background, Memory{Content: "x"}); err == nil {
				x.fatal("space %q takes writes, and may not be there when the registry is reopened", in.id)
			}
		}
	default:
		x.log("refused: %v", err)
		x.tolerate(err)
	}
}

func (x *crashRun) create(id SpaceID) {
	x.tags++
	x.log("create %s", id)
	in := intent{id: id, after: newHistory(fmt.Sprintf("%s-%d", id, x.tags))}
	x.publish(in)
	s, err := x.r.Create(background, id, SpaceConfig{})
	if err == nil {
		in.after.dirs = []string{string(id), tmpDir + "/" + s.awake.Load().identity.incarnation.String()}
	}
	x.changed(in, err)
}

func (x *crashRun) delete(id SpaceID, h *history) {
	x.log("delete %s", id)
	in := intent{id: id, h: h}
	x.publish(in)
	x.changed(in, x.r.Delete(background, id))
}

func (x *crashRun) rename(id SpaceID, h *history) {
	free := slices.DeleteFunc(slices.Clone(crashNames), func(to SpaceID) bool {
		return x.spaces[to] != nil || slices.ContainsFunc(x.intent, func(in intent) bool { return in.id == to || in.to == to })
	})
	if len(free) > 0 {
		x.renameTo(id, free[x.random.IntN(len(free))], h)
	}
}

func (x *crashRun) renameTo(id, to SpaceID, h *history) {
	x.log("rename %s to %s", id, to)
	h.dirs = append(slices.Clip(h.dirs), string(to))
	in := intent{id: id, to: to, h: h, after: h}
	x.publish(in)
	x.changed(in, x.r.Rename(background, id, to))
}

// settled says that a space's own files have everything.
func (h *history) settled() { h.stable = h.acked }

func (x *crashRun) checkpoint(id SpaceID, h *history) {
	x.log("checkpoint %s", id)
	err := x.space(id).Checkpoint(background)
	x.tolerate(err)
	if err == nil {
		h.settled()
	}
}

func (x *crashRun) sleep(id SpaceID, h *history) {
	s := x.space(id)
	awake := s.awake.Load() != nil
	s.sleep()
	if awake && s.awake.Load() == nil {
		x.log("sleep %s", id)
		h.settled()
	}
}

func (x *crashRun) settle() {
	x.log("settle")
	err := x.r.Settle(background)
	x.tolerate(err)
	if err == nil {
		for _, h := range x.spaces {
			h.settled()
		}
	}
}

// cut ends the process before the n-th call from now on that changes anything.
func (x *crashRun) cut(n int) { x.cutAfter(n, crashfs.Op.Mutates) }

// cutAfter ends the process before the n-th call from now on that counts. A
// negative n never does.
func (x *crashRun) cutAfter(n int, counts func(crashfs.Op) bool) {
	if n < 0 {
		n = math.MaxInt
	}
	var calls atomic.Int64
	x.fs.SetHook(func(c crashfs.Call) error {
		if counts(c.Op) && calls.Add(1) > int64(n) {
			return crashfs.ErrCut
		}
		return nil
	})
}

// end ends the life with a power cut or a kill, and what is left of the
// registry's process.
func (x *crashRun) end(power bool) {
	x.t.Helper()
	next := x.fs.Kill
	x.power = x.power || power // a kill after a power cut brings nothing back
	if power {
		seed := x.random.Uint64()
		next = func() *crashfs.FS { return x.fs.Crash(seed) }
	}
	after := next()
	if x.r != nil {
		_ = x.r.Close() // its process has ended: whatever it says is about that
		if left := x.fs.Handles(); len(left) > 0 {
			x.fatal("closed with open handles %q", left)
		}
		x.r = nil
	}
	x.fs = after
}
