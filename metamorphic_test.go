package engram

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/engramdb/engram/internal/crashfs"
)

// The same script gets the same answers whatever the options are and whatever
// happens between its steps: receipts, lookups, listings, recalls with their
// activations and reasons, seqs, counts and errors. Segment size, checkpoint
// cadence, size of the journal and durability differ, and the spaces are put to
// sleep, checkpointed, settled, restarted, killed, cut from power or looked at
// read-only in between.
func TestMetamorphic(t *testing.T) {
	t.Parallel()
	steps, restarts := 0, 0
	forSchedules(t, runCounts{sampled: 12, full: 100, nightly: 2000}, func(x *schedule) {
		script := metamorphicScript(x.random)
		plain := &metamorphosis{schedule: x, journal: defaultJournalBytes}
		want := plain.play(script)
		steps += len(script)
		for range 3 {
			changed := metamorphosisOf(x)
			got := changed.play(script)
			restarts += changed.restarts
			for i := range script {
				if want[i] != got[i] {
					x.log("options: segments of %d, checkpoints after %d, journal of %d, durability %v, budget %d",
						changed.opts.seams.segmentBytes, changed.opts.seams.checkpointBytes, changed.journal,
						changed.opts.Durability, changed.opts.MemoryBudget)
					x.steps = append(x.steps, changed.done...)
					x.fatal("step %d, %s, is answered with\n%s\nand with the default options and nothing in between\n%s", i, script[i].name, got[i], want[i])
				}
			}
		}
	})
	t.Logf("%d steps, each played 4 times, with %d restarts in between", steps, restarts)
}

// metamorphicStep is a step of a script: a call, and its answer as text.
type metamorphicStep struct {
	name string
	call func(r *Registry) any
}

// answered is an answer with its error.
func answered(answer any, err error) any {
	if err != nil {
		return "error: " + err.Error()
	}
	return answer
}

// metamorphosis plays scripts in one way.
type metamorphosis struct {
	*schedule
	opts     Options
	journal  int64
	between  float64 // how often something happens between two steps
	clock    *stepClock
	fs       *crashfs.FS
	r        *Registry
	restarts int
	done     []string
}

func metamorphosisOf(x *schedule) *metamorphosis {
	m := &metamorphosis{
		schedule: x, between: one(x.random, 0, 0.1, 0.5),
		journal: one[int64](x.random, 2<<10, 8<<10, 64<<10, defaultJournalBytes),
	}
	m.opts.Durability = one(x.random, Sync, Sync, None, Interval(time.Millisecond))
	m.opts.MemoryBudget = one[int64](x.random, 0, 1, 50<<10)
	m.opts.seams.segmentBytes = one[int64](x.random, 600, 4<<10, 1<<20)
	m.opts.seams.checkpointBytes = one[int64](x.random, 1500, 8<<10, 1<<20)
	return m
}

// play returns the answers to the script.
func (m *metamorphosis) play(script []metamorphicStep) []string {
	m.t.Helper()
	m.fs, m.clock = crashfs.New(), newStepClock()
	created := byte(0)
	m.opts.Clock = m.clock
	m.opts.seams.newIdentity = func() (identity, error) {
		created++
		id := exampleIdentity()
		id.incarnation[15] = created
		return id, nil
	}
	m.open(m.fs, false)
	answers := make([]string, len(script))
	for i, step := range script {
		if m.random.Float64() < m.between {
			m.happen(i)
		}
		m.clock.set(goldenTime(10 * i))
		b, err := json.MarshalIndent(step.call(m.r), "", " ")
		m.must(err)
		answers[i] = string(b)
	}
	m.must(m.r.Close())
	return answers
}

func (m *metamorphosis) open(f *crashfs.FS, readOnly bool) {
	m.t.Helper()
	opts := m.opts
	opts.seams.fs, opts.seams.settleHang, opts.ReadOnly = f, patient, readOnly
	r, err := Open("", opts)
	m.must(err)
	if !readOnly {
		r.journal.mu.Lock()
		r.journal.fileBytes = m.journal
		r.journal.mu.Unlock()
	}
	m.fs, m.r = f, r
}

// happen does one thing that no answer may depend on.
func (m *metamorphosis) happen(step int) {
	m.t.Helper()
	did := one(m.random, "checkpoint", "sleep", "settle", "reopen", "kill", "power cut", "read-only look")
	m.done = append(m.done, fmt.Sprintf("%s before step %d", did, step))
	switch did {
	case "checkpoint", "sleep":
		for id := range m.r.Spaces("") {
			if s := get(m.t, m.r, id); did == "sleep" {
				s.sleep()
			} else {
				m.must(s.Checkpoint(background))
			}
		}
	case "settle":
		m.must(m.r.Settle(background))
	case "reopen":
		m.restarts++
		m.must(m.r.Close())
		m.open(m.fs, false)
	case "kill":
		m.restart(m.fs.Kill())
	case "power cut":
		if m.opts.Durability == Sync {
			m.restart(m.fs.Crash(m.random.Uint64()))
		}
	case "read-only look":
		left := m.fs.Kill()
		m.restart(left)
		m.must(m.r.Close())
		m.open(left, true)
		for id := range m.r.Spaces("") {
			_ = list(m.t, get(m.t, m.r, id), Filter{})
		}
		m.must(m.r.Close())
		m.open(left, false)
	}
}

// restart goes on with what the process has left.
func (m *metamorphosis) restart(left *crashfs.FS) {
	m.t.Helper()
	m.restarts++
	_ = m.r.Close() // its process has ended
	m.open(left, false)
}

var metamorphicSpaces = []SpaceID{"aaa", "aaab"}

// metamorphicScript makes up a script. A space may be deleted and created again
// in it, so every call may fail, and then with the same error.
func metamorphicScript(random *rand.Rand) []metamorphicStep {
	var script []metamorphicStep
	for _, id := range metamorphicSpaces {
		script = append(script, metamorphicStep{"create", func(r *Registry) any {
			_, err := r.Create(background, id, SpaceConfig{})
			return answered(nil, err)
		}})
	}
	for range 60 {
		id := metamorphicSpaces[0]
		if random.IntN(4) == 0 {
			id = metamorphicSpaces[1]
		}
		make := one(random, metamorphicRemember, metamorphicRemember, metamorphicRemember, metamorphicForget,
			metamorphicRecall, metamorphicRecall, metamorphicLook, metamorphicLook, metamorphicAssociate, metamorphicAssociate,
			metamorphicConfigure, metamorphicCatalogue)
		name, call := make(random)
		script = append(script, metamorphicStep{fmt.Sprint(name, " in ", id), func(r *Registry) any {
			s, err := r.Get(background, id)
			if err != nil {
				return answered(nil, err)
			}
			return call(r, s)
		}})
	}
	return append(script, metamorphicStep{"everything", metamorphicEverything})
}

// metamorphicCall is a call with its name; the arguments are chosen already.
type metamorphicCall func(r *Registry, s *Space) any

func metamorphicID(random *rand.Rand) string { return fmt.Sprint("m", random.IntN(12)) }

func metamorphicWords(random *rand.Rand, n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = modelWords[random.IntN(len(modelWords))]
	}
	return strings.Join(words, " ")
}

func metamorphicEmbedding(random *rand.Rand) []float32 {
	if random.IntN(3) > 0 {
		return nil
	}
	v := make([]float32, 4+random.IntN(20)/19) // seldom of another dimension
	for i := range v {
		v[i] = float32(random.NormFloat64())
	}
	return v
}

// metamorphicOptions chooses a request id that may have been used before, and
// an expected seq that may be right.
func metamorphicOptions(random *rand.Rand) func(s *Space) []WriteOption {
	request := ""
	if random.IntN(8) == 0 {
		request = fmt.Sprint("r", random.IntN(6))
	}
	return metamorphicOptionsWith(random, request)
}

func metamorphicOptionsWith(random *rand.Rand, request string) func(s *Space) []WriteOption {
	back := uint64(0)
	expects := random.IntN(5) == 0
	if random.IntN(3) == 0 {
		back = 1
	}
	return func(s *Space) []WriteOption {
		var opts []WriteOption
		if request != "" {
			opts = append(opts, RequestID(request))
		}
		if expects {
			answer, err := s.Recall(background, Cue{Limit: 1})
			if err == nil {
				opts = append(opts, ExpectSeq(answer.Seq-back))
			}
		}
		return opts
	}
}

func metamorphicRemember(random *rand.Rand) (string, metamorphicCall) {
	ms := make([]Memory, 1+random.IntN(4))
	for i := range ms {
		ms[i] = Memory{
			Content: metamorphicWords(random, 1+random.IntN(30)), Episode: one(random, modelEpisodes...),
			Embedding: metamorphicEmbedding(random), Kind: one(random, "", Episodic, Semantic),
		}
		if random.IntN(4) > 0 {
			ms[i].ID = metamorphicID(random)
		}
		if random.IntN(2) == 0 {
			ms[i].Time = goldenTime(random.IntN(100_000) - 50_000)
			ms[i].Confidence = random.Float64()
			ms[i].Attributes = map[string]string{"shelf": fmt.Sprint(random.IntN(3))}
		}
	}
	if random.IntN(20) == 0 {
		ms[0].Content = "\xff"
	}
	options := metamorphicOptions(random)
	if random.IntN(5) == 0 { // a request that is repeated, perhaps
		id := fmt.Sprint("r", random.IntN(6))
		ms = []Memory{{Content: "of request " + id, Episode: "morning"}}
		options = metamorphicOptionsWith(random, id)
	}
	return "remember", func(_ *Registry, s *Space) any {
		return answered(s.RememberBatch(background, ms, options(s)...))
	}
}

func metamorphicForget(random *rand.Rand) (string, metamorphicCall) {
	options, ids := metamorphicOptions(random), []string{metamorphicID(random), metamorphicID(random)}
	f := metamorphicFilter(random)
	if random.IntN(2) == 0 {
		return "forget", func(_ *Registry, s *Space) any {
			return answered(s.Forget(background, ids, options(s)...))
		}
	}
	f.Kind = Semantic // or little would be left
	return "forget where", func(_ *Registry, s *Space) any {
		return answered(s.ForgetWhere(background, f, options(s)...))
	}
}

func metamorphicFilter(random *rand.Rand) Filter {
	f := Filter{Episode: one(random, modelEpisodes...), Kind: one(random, "", "", Episodic, Semantic)}
	switch random.IntN(4) {
	case 0:
		f.After = goldenTime(random.IntN(20_000) - 10_000)
	case 1:
		f.Before = goldenTime(random.IntN(20_000) - 10_000)
	case 2:
		f.Attributes = map[string]string{"shelf": fmt.Sprint(random.IntN(3))}
	}
	return f
}

func metamorphicRecall(random *rand.Rand) (string, metamorphicCall) {
	cue := Cue{Limit: 1 + random.IntN(20), Embedding: metamorphicEmbedding(random)}
	if random.IntN(4) > 0 {
		cue.Text = metamorphicWords(random, 1+random.IntN(3))
	}
	if random.IntN(3) == 0 {
		cue.IDs = []string{metamorphicID(random), metamorphicID(random)}
	}
	if random.IntN(3) == 0 {
		cue.Filter = metamorphicFilter(random)
	}
	if random.IntN(5) == 0 {
		cue.MinActivation = random.Float64() / 2
	}
	if random.IntN(3) == 0 {
		cue.Spread = Spread{
			Off: random.IntN(4) == 0, Hops: random.IntN(5), Nodes: random.IntN(20), Edges: random.IntN(20),
			MinActivation: one(random, 0, 1e-9),
		}
	}
	return "recall", func(_ *Registry, s *Space) any { return answered(s.Recall(background, cue)) }
}

func metamorphicLook(random *rand.Rand) (string, metamorphicCall) {
	id, f := metamorphicID(random), metamorphicFilter(random)
	if random.IntN(2) == 0 {
		return "lookup", func(_ *Registry, s *Space) any { return answered(s.Lookup(background, id)) }
	}
	return "list", func(_ *Registry, s *Space) any { return metamorphicList(s, f) }
}

func metamorphicList(s *Space, f Filter) any {
	all := []Memory{}
	for m, err := range s.Memories(background, f) {
		if err != nil {
			return answered(nil, err)
		}
		all = append(all, m)
	}
	return all
}

// metamorphicAssociate makes an association, or removes or lists what there is.
func metamorphicAssociate(random *rand.Rand) (string, metamorphicCall) {
	options := metamorphicOptions(random)
	a := Association{
		From: metamorphicID(random), To: metamorphicID(random), Kind: one(random, "", "cites", AssociationSimilar),
		Weight: one(random, 0.2, 0.5, 1, random.Float64()),
	}
	switch random.IntN(4) {
	case 0:
		return "dissociate", func(_ *Registry, s *Space) any {
			return answered(s.Dissociate(background, a, options(s)...))
		}
	case 1:
		return "associations", func(_ *Registry, s *Space) any { return answered(s.Associations(background, a.From)) }
	}
	return "associate", func(_ *Registry, s *Space) any { return answered(s.Associate(background, a, options(s)...)) }
}

func metamorphicConfigure(random *rand.Rand) (string, metamorphicCall) {
	cfg := SpaceConfig{MaxMemories: one[int64](random, 0, 0, 15), TextK1: one(random, 0, 1.2), TextB: one(random, 0, 0.5), AutoAssociate: one(random, 0, 2)}
	options := metamorphicOptions(random)
	return "configure", func(_ *Registry, s *Space) any {
		return answered(s.Configure(background, cfg, options(s)...))
	}
}

// metamorphicCatalogue changes which spaces there are, now and then.
func metamorphicCatalogue(random *rand.Rand) (string, metamorphicCall) {
	switch random.IntN(6) {
	case 0:
		return "delete and create", func(r *Registry, s *Space) any {
			id := s.ID()
			err := r.Delete(background, id)
			_, again := r.Create(background, id, SpaceConfig{MaxBytes: 1 << 16})
			return answered(nil, errors.Join(err, again))
		}
	case 1:
		return "rename there and back", func(r *Registry, s *Space) any {
			id := s.ID()
			return answered(nil, errors.Join(r.Rename(background, id, "elsewhere"), r.Rename(background, "elsewhere", id)))
		}
	}
	return "describe", func(_ *Registry, s *Space) any { return metamorphicInfo(s) }
}

// metamorphicInfo is what is known of a space that does not depend on how its
// files lie.
func metamorphicInfo(s *Space) any {
	a, err := s.use(background)
	if err != nil {
		return answered(nil, err)
	}
	defer a.uses.Add(-1)
	return []any{a.info(), s.Stats().Content}
}

// metamorphicEverything asks for all there is.
func metamorphicEverything(r *Registry) any {
	all := make(map[SpaceID]any)
	for id := range r.Spaces("") {
		s, err := r.Get(background, id)
		if err != nil {
			return answered(nil, err)
		}
		recalls := make(map[string]any)
		for _, word := range modelWords {
			recalls[word] = answered(s.Recall(background, Cue{Text: word, Limit: MaxLimit}))
		}
		associations := make(map[string]any)
		for i := range 12 {
			id := fmt.Sprint("m", i)
			associations[id] = answered(s.Associations(background, id))
		}
		all[id] = []any{metamorphicInfo(s), metamorphicList(s, Filter{}), recalls, associations}
	}
	return []any{slices.Sorted(maps.Keys(all)), all}
}
