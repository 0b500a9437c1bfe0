package engram

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/engramdb/engram/internal/crashfs"
)

// Concurrent callers of one space, while it is checkpointed, falls asleep and
// shares its journal with another one, over kills, power cuts and failing calls:
// whatever they are told must be explained by one order of their calls.
func TestLinearizable(t *testing.T) {
	calls, unknown, refused := 0, 0, 0
	forSchedules(t, runCounts{sampled: 30, full: 200, nightly: 5000}, func(x *schedule) {
		h := &linearRun{schedule: x, fs: crashfs.New()}
		h.options()
		h.open()
		create(t, h.r, "aaa")
		create(t, h.r, "bbb")
		for range 2 + x.random.IntN(2) {
			h.live()
		}
		h.read(0)
		x.must(h.r.Close())
		if !linearizable(h.history) {
			slices.SortFunc(h.history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
			for _, op := range h.history {
				x.log("%3d to %3d: %v gets %v", op.Call, op.Return, op.Input, op.Output)
			}
			x.fatal("no order explains what the callers were told")
		}
		calls += len(h.history)
		unknown += h.unknown
		refused += int(h.refused.Load())
	})
	t.Logf("%d calls, %d of unknown outcome, %d refused", calls, unknown, refused)
}

// linearRun is one history: lives of one registry on one disk.
type linearRun struct {
	*schedule
	fs      *crashfs.FS
	left    *crashfs.FS // by the process that has ended
	opts    Options
	journal int64
	r       *Registry
	faulty  bool // calls may fail

	clock   atomic.Int64
	refused atomic.Int64 // calls without effect and answer

	mu      sync.Mutex // guards the fields below
	history []porcupine.Operation
	pending []int // of history: writes of this life whose outcome is not known
	unknown int
	failed  error
}

func (h *linearRun) options() {
	h.opts = Options{
		Durability:   one(h.random, Sync, Sync, Sync, None, Interval(time.Millisecond)),
		MemoryBudget: one[int64](h.random, 0, 1),
	}
	h.opts.seams.segmentBytes = one[int64](h.random, 700, 4<<10, 64<<10)
	h.opts.seams.checkpointBytes = one[int64](h.random, 1<<10, 8<<10, 1<<20)
	h.journal = one[int64](h.random, 2<<10, 16<<10, 1<<20)
}

// open opens the registry. What the life before has left unknown is decided.
func (h *linearRun) open() {
	h.t.Helper()
	h.opts.seams.fs, h.opts.seams.settleHang = h.fs, patient
	r, err := Open("", h.opts)
	h.must(err)
	r.journal.mu.Lock()
	r.journal.fileBytes = h.journal
	r.journal.mu.Unlock()
	h.r = r
	if s, err := r.Get(background, "aaa"); err == nil {
		_, err = s.use(background)
		h.must(err)
		s.awake.Load().uses.Add(-1)
	}
	for _, i := range h.pending {
		h.history[i].Return = h.clock.Add(1)
	}
	h.pending = nil
}

// live has callers at work at the same time, and ends the process somehow.
func (h *linearRun) live() {
	h.t.Helper()
	h.fault()
	var work, beside sync.WaitGroup
	done := make(chan struct{})
	for client := range 2 + h.random.IntN(3) {
		random := rand.New(rand.NewPCG(h.seed, h.random.Uint64()))
		work.Go(func() {
			for range 4 + random.IntN(8) {
				if !h.call(client, h.choose(random), random) {
					return
				}
			}
		})
	}
	for _, busy := range []func(*rand.Rand) error{h.maintain, h.noise} {
		random := rand.New(rand.NewPCG(h.seed, h.random.Uint64()))
		if random.IntN(2) == 0 {
			continue // what it flushes beside the callers would hide what they did not
		}
		beside.Go(func() {
			for busy(random) == nil {
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	work.Wait()
	h.end()
	close(done)
	beside.Wait()
	h.must(h.failed)
	h.restart()
}

// fault chooses what goes wrong in this life.
func (h *linearRun) fault() {
	var calls atomic.Int64
	at := int64(h.random.IntN(120))
	failing := func(op crashfs.Op, count int64, err error) crashfs.Hook {
		return func(c crashfs.Call) error {
			if op != "" && c.Op != op {
				return nil
			}
			if n := calls.Add(1); n > at && n <= at+count {
				return err
			}
			return nil
		}
	}
	h.faulty = true
	switch kind := h.random.IntN(8); kind {
	case 0, 1:
		h.log("cut after %d calls", at)
		h.fs.SetHook(func(c crashfs.Call) error {
			if c.Op.Mutates() && calls.Add(1) > at {
				return crashfs.ErrCut
			}
			return nil
		})
	case 2:
		at /= 3
		h.log("flush %d fails", at)
		h.fs.SetHook(failing(crashfs.OpSync, 1, syscall.EIO))
	case 3:
		h.log("calls from %d on fail", at)
		h.fs.SetHook(failing("", 1<<40, syscall.EIO))
	case 4:
		at /= 2
		h.log("writes from %d find no room", at)
		h.fs.SetHook(failing(crashfs.OpWrite, 1+at, syscall.ENOSPC))
	default:
		h.faulty = false
	}
}

// end ends the process: by closing, by a kill or by a power cut.
func (h *linearRun) end() {
	h.t.Helper()
	how := one(h.random, "close", "kill", "power cut", "power cut")
	if how == "power cut" && h.opts.Durability != Sync {
		how = "kill" // a power cut may lose what was acknowledged
	}
	h.log("%s", how)
	if how == "close" && !h.fs.Ended() {
		h.fs.SetHook(nil)
		if err := h.r.Close(); err != nil && !h.faulty {
			h.fatal("close: %v", err)
		}
	}
	h.left = h.fs.Kill()
	if how == "power cut" {
		h.left = h.fs.Crash(h.random.Uint64())
	}
}

// restart goes on with what the process has left, once nothing of it runs.
func (h *linearRun) restart() {
	h.t.Helper()
	_ = h.r.Close() // its process has ended, or it is closed
	h.fs = h.left
	h.open()
}

// choose makes up a call.
func (h *linearRun) choose(random *rand.Rand) spaceCall {
	id := func() string { return fmt.Sprint("m", random.IntN(4)) }
	episode := func() string { return one(random, "", "e1", "e2") }
	var c spaceCall
	switch random.IntN(10) {
	case 0, 1, 2, 3:
		c.kind = callRemember
		for range 1 + random.IntN(3) {
			c.memories = append(c.memories, spaceMemory{
				id: id(), episode: episode(), time: int64(random.IntN(5)),
				content: fmt.Sprint(random.Uint32(), " ", strings.Repeat("dolor ", random.IntN(60))),
			})
		}
	case 4:
		c.kind, c.ids = callForget, []string{id(), id()}
	case 5:
		c.kind, c.episode = callForgetEpisode, one(random, "e1", "e2")
	case 6, 7:
		c.kind, c.ids = callLookup, []string{id()}
	case 8:
		c.kind, c.episode = callList, episode()
	default:
		c.kind, c.episode = callRecall, episode()
	}
	if !c.kind.writes() {
		return c
	}
	switch random.IntN(6) {
	case 0: // few ids, so that some are used again, with this payload or another
		c.request = fmt.Sprint("r", random.IntN(6))
		if random.IntN(2) == 0 {
			c = spaceCall{kind: callRemember, request: c.request, memories: []spaceMemory{{id: "m0", content: "of " + c.request}}}
		}
	case 1:
		if s, err := h.r.Get(background, "aaa"); err == nil {
			seq := s.Stats().Content.Seq
			c.expect = &seq
		}
	}
	return c
}

// call makes the call and records it. It returns false when the process has ended.
func (h *linearRun) call(client int, c spaceCall, random *rand.Rand) bool {
	ctx := background
	if c.kind.writes() && random.IntN(8) == 0 {
		cancelled, cancel := context.WithCancel(background)
		yields := random.IntN(50)
		go func() {
			for range yields {
				runtime.Gosched()
			}
			cancel()
		}()
		ctx = cancelled
	}
	began := h.clock.Add(1)
	a, err := h.make(ctx, c)
	returned := h.clock.Add(1)
	if err != nil && !c.kind.writes() || err != nil && !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, crashfs.ErrCut) {
		h.refused.Add(1)
		if errors.Is(err, ErrCorrupt) || !h.faulty && !errors.Is(err, context.Canceled) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.failed = fmt.Errorf("%v: %w", c, err)
			return false
		}
		return !h.fs.Ended()
	}
	a.unknown = err != nil
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.unknown {
		h.unknown++
		h.pending = append(h.pending, len(h.history))
	}
	h.history = append(h.history, porcupine.Operation{ClientId: client, Input: c, Output: a, Call: began, Return: returned})
	return !h.fs.Ended()
}

// make makes the call on the space. What the specification knows of is an
// answer, not an error.
func (h *linearRun) make(ctx context.Context, c spaceCall) (a spaceAnswer, err error) {
	s, err := h.r.Get(ctx, "aaa")
	if err != nil {
		return a, err
	}
	var opts []WriteOption
	if c.request != "" {
		opts = append(opts, RequestID(c.request))
	}
	if c.expect != nil {
		opts = append(opts, ExpectSeq(*c.expect))
	}
	switch c.kind {
	case callRemember:
		var receipts []Receipt
		if receipts, err = s.RememberBatch(ctx, c.batch(), opts...); err == nil {
			a.seq = receipts[0].Seq
		}
	case callForget, callForgetEpisode:
		var receipt ForgetReceipt
		if c.kind == callForget {
			receipt, err = s.Forget(ctx, c.ids, opts...)
		} else {
			receipt, err = s.ForgetWhere(ctx, Filter{Episode: c.episode}, opts...)
		}
		a.seq, a.forgotten = receipt.Seq, receipt.Forgotten
	case callLookup:
		var m Memory
		if m, err = s.Lookup(ctx, c.ids[0]); err == nil {
			a.found = append(a.found, specMemory(m))
		}
	case callList:
		for m, failed := range s.Memories(ctx, Filter{Episode: c.episode}) {
			if err = failed; err == nil {
				a.found = append(a.found, specMemory(m))
			}
		}
	case callRecall:
		var answer Recall
		answer, err = s.Recall(ctx, Cue{Filter: Filter{Episode: c.episode}, Limit: MaxLimit})
		a.seq = answer.Seq
		for _, r := range answer.Recollections {
			a.found = append(a.found, specMemory(r.Memory))
		}
	}
	var conflict *ConflictError
	switch {
	case errors.As(err, &conflict):
		return spaceAnswer{refusal: refusedConflict, seq: conflict.Actual}, nil
	case errors.Is(err, ErrRequestReused):
		return spaceAnswer{refusal: refusedReuse}, nil
	case errors.Is(err, ErrMemoryNotFound):
		return spaceAnswer{refusal: refusedMissing}, nil
	}
	return a, err
}

func (c spaceCall) batch() []Memory {
	ms := make([]Memory, len(c.memories))
	for i, m := range c.memories {
		ms[i] = Memory{ID: m.id, Content: m.content, Episode: m.episode, Time: time.Unix(m.time, 0)}
	}
	return ms
}

func specMemory(m Memory) spaceMemory {
	return spaceMemory{id: m.ID, content: m.Content, episode: m.Episode, time: m.Time.Unix(), seq: m.Seq}
}

// read lists everything, which the history has to explain.
func (h *linearRun) read(client int) {
	h.faulty = false
	for _, kind := range []callKind{callList, callRecall} {
		h.call(client, spaceCall{kind: kind}, h.random)
	}
	h.must(h.failed)
}

// maintain does what changes no answer.
func (h *linearRun) maintain(random *rand.Rand) error {
	s, err := h.r.Get(background, one[SpaceID](random, "aaa", "aaa", "bbb"))
	if err != nil {
		return err
	}
	switch random.IntN(4) {
	case 0:
		return s.Checkpoint(background)
	case 1, 2:
		s.sleep()
		return nil
	default:
		return h.r.Settle(background)
	}
}

// noise writes to another space, whose frames share the groups.
func (h *linearRun) noise(random *rand.Rand) error {
	s, err := h.r.Get(background, "bbb")
	if err == nil {
		_, err = s.Remember(background, Memory{ID: "m0", Content: strings.Repeat("noise ", 1+random.IntN(50))})
	}
	return err
}
