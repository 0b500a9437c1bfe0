package main

import "slices"

// leaks are ways in which one space shows in another: what a developer may do
// wrong who has forgotten that there are others.
func leaks() []mutant {
	return slices.Concat(libraryLeaks(), serverLeaks())
}

// libraryLeaks show in the library's own answers, events and files.
func libraryLeaks() []mutant {
	all := slices.Concat(leakingAnswers(), leakingTexts(), leakingIndexes(), leakingFiles(), leakingStreams())
	for i := range all {
		all[i].layer = "library"
		if all[i].tests == "" {
			all[i].tests = "TestNoninterference"
		}
	}
	return all
}

// leakingAnswers are answers out of something that spaces share.
func leakingAnswers() []mutant {
	const lookup = `	m, err := r.memory(d)
	if err != nil {
		return Memory{}, err
	}
	return m, a.damaged()
}`
	cache := func(key string) []edit {
		return []edit{
			{"registry.go", "// Registry ", "var leaked sync.Map\n\n// Registry "},
			{"space.go", lookup, `	m, err := r.memory(d)
	if err != nil {
		return Memory{}, err
	}
	if known, found := leaked.LoadOrStore(` + key + `, m); found {
		m = known.(Memory)
		m.Space = s.ID()
	}
	return m, a.damaged()
}`},
		}
	}
	return []mutant{
		{
			name: "cache-without-space", what: "looked up memories are cached by id and seq, not by space",
			edits: cache("fmt.Sprint(m.ID, m.Seq, a.registry.ended)"),
		},
		{
			name: "key-without-separator", what: "the key of a cache is space and id with nothing between them",
			edits: cache("fmt.Sprint(string(s.ID())+m.ID, m.Seq/4, a.registry.ended)"),
		},
		{
			name: "shared-iterator", what: "the order of the living is kept by seq, not by space",
			edits: []edit{
				{"view.go", "// lookup returns the living document of that id.", `type leakedLiving struct {
	seq  uint64
	live int64
}

var leaked sync.Map

// lookup returns the living document of that id.`},
				{"view.go", `	"sort"
)`, `	"sort"
	"sync"
)`},
				{"view.go", `	list := make([]uint32, 0, v.live)
`, `	if list, found := leaked.Load(leakedLiving{v.seq, v.live}); found {
		return list.([]uint32)
	}
	list := make([]uint32, 0, v.live)
	defer func() { leaked.Store(leakedLiving{v.seq, v.live}, list) }()
`},
			},
		},
		{
			name: "space-echo", what: "a memory's space is that of the last one that was read",
			edits: []edit{
				{"awake.go", "// take implements committed:", "var leaked atomic.Pointer[SpaceID]\n\n// take implements committed:"},
				{"awake.go", `	op.memory.Space = a.space.ID()
`, `	id := a.space.ID()
	op.memory.Space = id
	if other := leaked.Swap(&id); other != nil {
		op.memory.Space = *other
	}
`},
			},
		},
		{
			name: "request-table", what: "request ids are kept for all spaces together",
			edits: []edit{
				{"awake.go", "// take implements committed:", "var leaked sync.Map\n\n// take implements committed:"},
				{"awake.go", `	for _, other := range t.requests {`, `	if done, found := leaked.LoadOrStore(fmt.Sprint(a.registry.ended, id), requestRecord{hash: w.hash}); found && done.(requestRecord).hash != w.hash {
		return false, ErrRequestReused
	}
	for _, other := range t.requests {`},
			},
		},
		{
			name: "quota-of-all", what: "the quota counts what other spaces that are awake hold",
			edits: []edit{{"awake.go", `	c, x := a.store.config, a.store.counts
`, `	c, x := a.store.config, a.store.counts
	a.registry.mu.Lock()
	x.live += int64(len(a.registry.awake)) - 1
	a.registry.mu.Unlock()
`}},
		},
		{
			name: "shared-quarantine", what: "the writes of every space stop with those of a damaged one",
			edits: []edit{{"awake.go", `	if err := a.unwritable(); err != nil {`, `	a.registry.mu.Lock()
	for _, other := range a.registry.awake {
		if other.damage != nil {
			a.registry.mu.Unlock()
			return false, ErrStopped
		}
	}
	a.registry.mu.Unlock()
	if err := a.unwritable(); err != nil {`}},
		},
		{
			name: "delete-by-prefix", what: "a deletion takes the spaces whose ids begin alike",
			edits: []edit{
				{"lifecycle.go", `	r.spaces.Delete(s.ID())
	r.journal.drop(incarnation)`, `	for other := range r.Spaces(s.ID()) {
		if len(other) > len(s.ID()) && other[:len(s.ID())] == s.ID() {
			r.spaces.Delete(other)
		}
	}
	r.spaces.Delete(s.ID())
	r.journal.drop(incarnation)`},
			},
		},
		{
			name: "id-from-global-counter", what: "generated ids count the writes of all spaces",
			edits: []edit{
				{"awake.go", "// take implements committed:", "var leaked atomic.Uint64\n\n// take implements committed:"},
				{"awake.go", `generatedID(op.storedAt, op.seq)`, `generatedID(op.storedAt, op.seq+leaked.Add(1))`},
			},
		},
	}
}

// leakingTexts are errors and logs that say too much.
func leakingTexts() []mutant {
	return []mutant{
		{
			name: "count-in-error", what: "an error tells how many spaces there are",
			edits: []edit{{
				"space.go", `		return Memory{}, fmt.Errorf("memory %q: %w", id, ErrMemoryNotFound)`,
				`		return Memory{}, fmt.Errorf("memory %q, in one of %d spaces: %w", id, s.registry.Stats().Spaces, ErrMemoryNotFound)`,
			}},
		},
		{
			name: "existence-by-class", what: "whether another space exists decides which error a probe gets",
			edits: []edit{{"write.go", `	operations, err := rememberOperations(s.ID(), ms, nanosOf(s.registry.options.Clock), hash)
`, `	operations, err := rememberOperations(s.ID(), ms, nanosOf(s.registry.options.Clock), hash)
	if errors.Is(err, ErrWrongSpace) {
		for i := range ms {
			if _, missing := s.registry.Get(ctx, ms[i].Space); ms[i].Space != "" && missing != nil {
				return nil, &InvalidError{Field: "space", Reason: "is another one"}
			}
		}
	}
`}},
		},
		{
			name: "existence-by-text", what: "the text of an error names spaces that resemble the one asked for",
			edits: []edit{{
				"errors.go", `	return fmt.Sprintf("space %q not found, create it first", string(e.Space))`,
				`	return fmt.Sprintf("space %q not found, create it first, or use one of %q", string(e.Space), e.Near)`,
			}},
		},
		{
			name: "content-logged", what: "the log shows what is remembered",
			edits: []edit{{"write.go", `	a.linkSimilar(operations)
	w, err`, `	s.registry.options.Logger.Debug("remember " + ms[0].Content)
	a.linkSimilar(operations)
	w, err`}},
		},
	}
}

// leakingIndexes are statistics and tables that spaces share.
func leakingIndexes() []mutant {
	return []mutant{
		{
			name: "shared-document-frequency", what: "a term is as rare as it is in all spaces",
			edits: []edit{
				{"recall_text.go", "// bound is what a score can reach.", "var leaked sync.Map\n\n// bound is what a score can reach."},
				{
					"recall_text.go", `		idf := inverseDocumentFrequency(int(t.view.live), end-from)`,
					`		known, _ := leaked.LoadOrStore(t.names[len(t.terms)], new(atomic.Int64))
		frequency := known.(*atomic.Int64)
		frequency.Store(max(frequency.Load(), int64(end-from)))
		idf := inverseDocumentFrequency(max(int(t.view.live), int(frequency.Load())), int(frequency.Load()))`,
				},
				{"recall_text.go", `	"slices"
`, `	"slices"
	"sync"
	"sync/atomic"
`},
			},
		},
		{
			name: "shared-terms", what: "the terms of a memory are cached by its id",
			edits: []edit{
				{"registry.go", "// Registry ", "var leaked sync.Map\n\n// Registry "},
				{"write.go", `		op.analysis = analyzer.analyzeMemory(op.memory.Content)
`, `		op.analysis = analyzer.analyzeMemory(op.memory.Content)
		if op.memory.ID != "" {
			known, _ := leaked.LoadOrStore(op.memory.ID, op.analysis)
			op.analysis = known.(analysis)
		}
`},
			},
		},
		{
			name: "trained-rotation", what: "the rotation of the vectors depends on what all spaces have stored",
			edits: []edit{
				{"vector.go", `	"sync"
`, `	"sync"
	"sync/atomic"
`},
				{"vector.go", "// rotations has the rotation", "var leaked atomic.Uint64\n\n// rotations has the rotation"},
				{"vector.go", `rabitq.NewRotation(dimension, rotationSeed))
	}`, `rabitq.NewRotation(dimension, rotationSeed+leaked.Add(1)))
	}`},
			},
		},
		{
			name: "trained-partition", what: "the vectors are partitioned by what another space has stored",
			edits: []edit{{"train.go", `	v := a.store.view()
	p := v.train(`, `	v := a.store.view()
	for _, other := range a.registry.awake {
		if other != a {
			v = other.store.view()
		}
	}
	p := v.train(`}},
			tests: "TestPartitionIsOfItsSpaceAlone",
		},
		{
			name: "vectors-by-id", what: "the vectors that an embedder makes are cached by the memory's id and seq",
			edits: []edit{
				{"embedder.go", "// embed has e make the vectors", "var leaked sync.Map\n\n// embed has e make the vectors"},
				{"embedder.go", `	for i, v := range vectors {
`, `	for i, v := range vectors {
		known, _ := leaked.LoadOrStore(fmt.Sprint(t.ids[i], t.versions[i]), v)
		v = known.([]float32)
`},
				{"embedder.go", `	"fmt"
	"time"
`, `	"fmt"
	"sync"
	"time"
`},
			},
			tests: "TestVectorsAreOfTheSpacesTexts",
		},
		{
			name: "skipped-of-all", what: "which texts the embedder does not take is noted for all spaces together",
			edits: []edit{
				{"embedding.go", "func newEmbedding(r *Registry)", "var leaked = make(map[uint64]bool)\n\nfunc newEmbedding(r *Registry)"},
				{"embedding.go", `texts: embedTexts}`, `texts: embedTexts, skip: leaked}`},
				{"embedding.go", `e.skip = make(map[uint64]bool)`, `e.skip = leaked`},
			},
			tests: "TestOneTextHoldsUpNoOther",
		},
		{
			name: "failed-cue-of-all", what: "an embedder that has failed a cue of one space is left alone by all",
			edits: []edit{
				{"embedding.go", "func newEmbedding(r *Registry)", "var leaked breaker\n\nfunc newEmbedding(r *Registry)"},
				{"embedder.go", `s.cues.admit(`, `leaked.admit(`},
				{"embedder.go", `s.cues.failed(`, `leaked.failed(`},
				{"embedder.go", `s.cues.succeeded(`, `leaked.succeeded(`},
			},
			tests: "TestRecallsDoNotAllWaitForAnEmbedderThatIsDown",
		},
		{
			name: "shared-scratch", what: "what recalls compute in is shared, and not zero again",
			edits: []edit{
				{"recall.go", "// scratch is what a recall computes in", "var leaked sync.Pool\n\n// scratch is what a recall computes in"},
				{"recall.go", `a.scratch.Get()`, `leaked.Get()`},
				{"recall.go", `	s.text.reset()
	a.scratch.Put(s)`, `	for i := range s.text.episodes {
		s.text.met[s.text.episodes[i].number] = 0
	}
	s.text.terms, s.text.matches, s.text.runs = s.text.terms[:0], s.text.matches[:0], s.text.runs[:0]
	s.text.episodes, s.text.candidates = s.text.episodes[:0], s.text.candidates[:0]
	s.text.loneOnes, s.text.labelled, s.text.fed = s.text.loneOnes[:0], s.text.labelled[:0], s.text.fed[:0]
	leaked.Put(s)`},
				{"recall.go", `	"context"
`, `	"context"
	"sync"
`},
			},
		},
	}
}

// leakingFiles are bytes in a space's files that depend on others.
func leakingFiles() []mutant {
	return []mutant{
		{
			name: "pooled-buffer", what: "frames are made in pooled buffers whose padding is not zeroed",
			edits: []edit{
				{"record.go", "// sealFrame completes", "var leaked sync.Pool\n\n// sealFrame completes"},
				{"record.go", `	"hash/crc32"
)`, `	"hash/crc32"
	"slices"
	"sync"
)`},
				{"record.go", `	for len(b) < encodedLen(payload) {
		b = append(b, 0)
	}`, `	padding := encodedLen(payload) - len(b)
	last, _ := leaked.Get().([]byte)
	leaked.Put(slices.Clone(b[len(b)-8:]))
	if last == nil {
		last = make([]byte, 8)
	}
	b = append(b, last[:padding]...)`},
			},
		},
		{
			name: "checkpoint-cadence", what: "checkpoints fall due by what all spaces have written",
			edits: []edit{
				{"checkpoint.go", "// checkpointIfDue begins", "var leaked atomic.Int64\n\n// checkpointIfDue begins"},
				{"awake.go", `	a.maintenance.logged += int64(len(a.buf))
`, `	a.maintenance.logged += int64(len(a.buf)) + leaked.Add(1)%97
`},
			},
		},
		{
			name: "cadence-after-sleep", what: "a space that others have put to sleep makes its next checkpoint later",
			edits: []edit{{"space.go", `a.maintenance.logged, a.maintenance.frames = rec.replayed, rec`, `a.maintenance.logged, a.maintenance.frames = 0, rec`}},
			tests: "TestSleepDoesNotMoveCheckpoints",
		},
		{
			name: "segment-numbers", what: "segments are numbered through all spaces",
			edits: []edit{
				{"wal.go", "// rotate flushes the active", "var leaked atomic.Uint64\n\n// rotate flushes the active"},
				{"wal.go", `	number := l.number + 1
	l.mu.Unlock()`, `	number := l.number + 1 + leaked.Add(1)%7
	l.mu.Unlock()`},
			},
		},
		{
			name: "checkpoint-of-another", what: "loaded checkpoints are cached by their name in the directory",
			edits: []edit{
				{"recovery.go", `	"strings"

	"github.com`, `	"strings"
	"sync"

	"github.com`},
				{"recovery.go", "// readCheckpoint returns", "var leaked sync.Map\n\n// readCheckpoint returns"},
				{"recovery.go", `	name := ref.name()
	b, err := readFile(dir, name, ref.size)`, `	name := ref.name()
	if b, found := leaked.Load(name); found {
		return b.([]byte), nil
	}
	b, err := readFile(dir, name, ref.size)
	leaked.Store(name, b)`},
			},
		},
		{
			name: "frame-routed", what: "the journal files a frame under the space that is next to it in the group",
			edits: []edit{{"commit.go", `	return frames, c.log.append(frames)`, `	if len(frames) > 1 {
		frames[0].space, frames[1].space = frames[1].space, frames[0].space
	}
	return frames, c.log.append(frames)`}},
			tests: "TestCrashConcurrent",
		},
		{
			name: "temporary-name", what: "spaces that are being made share the name of a temporary directory",
			edits: []edit{{"lifecycle.go", `	temporary := path.Join(tmpDir, id.incarnation.String())`, `	temporary := path.Join(tmpDir, "new")`}},
			tests: "TestRegistryConcurrently",
		},
	}
}

// leakingStreams are subscriptions that tell of another space.
func leakingStreams() []mutant {
	return []mutant{
		{
			name: "global-event-sequence", what: "events are numbered through all spaces",
			edits: []edit{
				{"event.go", "// event is what the operation alone says.", "var leaked atomic.Uint64\n\n// event is what the operation alone says."},
				{"event.go", `	e := Event{Seq: op.seq,`, `	e := Event{Seq: max(op.seq, leaked.Add(1)),`},
				{"event.go", `	"iter"
`, `	"iter"
	"sync/atomic"
`},
			},
		},
		{
			name: "broadcast", what: "a commit is announced to the subscribers of every space",
			edits: []edit{{"awake.go", `	a.space.feed.apply(a.store.seq, a.registry.options.Durability == Sync)
`, `	a.registry.mu.Lock()
	defer a.registry.mu.Unlock()
	for _, other := range a.registry.awake {
		other.space.feed.apply(a.store.seq, a.registry.options.Durability == Sync)
	}
`}},
		},
		{
			name: "stream-of-successor", what: "the subscription of a deleted space goes on in the one that takes its id",
			edits: []edit{
				{"history.go", `	a, err := h.space.use(ctx)
	if err != nil {
		return frame{}, err
	}
	defer a.done()
	pins`, `	if other, err := h.space.registry.Get(ctx, h.space.ID()); err == nil {
		h.space = other
	}
	a, err := h.space.use(ctx)
	if err != nil {
		return frame{}, err
	}
	defer a.done()
	pins`},
				{"feed.go", `		if err := s.gone(); err != nil {
			return err
		}
		if stopped`, `		if err := s.gone(); err != nil {
			if other, err := s.registry.Get(ctx, s.ID()); err == nil {
				return other.await(ctx, seq)
			}
			return err
		}
		if stopped`},
				{"event.go", `	a, err := h.space.use(ctx)
	if err != nil {
		return Event{}, err
	}
	op, err`, `	if other, err := h.space.registry.Get(ctx, h.space.ID()); err == nil {
		h.space = other
	}
	a, err := h.space.use(ctx)
	if err != nil {
		return Event{}, err
	}
	op, err`},
			},
			tests: "TestSubscriptionDoesNotFollowASuccessor",
		},
	}
}
