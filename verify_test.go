package engram

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
	"github.com/engramdb/engram/internal/vfs"
)

// verifiedSpace is a space with segments of both kinds, a checkpoint, a log
// behind it, and frames that are not settled.
func verifiedSpace(t *testing.T, fs vfs.FS) (*Registry, *Space) {
	t.Helper()
	r := openMemory(t, fs, Options{Clock: newStepClock(), seams: seams{segmentBytes: 800}})
	s := create(t, r, "alpha")
	for i := range 12 {
		remember(t, s, Memory{
			ID: fmt.Sprint("m", i%9), Content: strings.Repeat("words and words ", i), Episode: fmt.Sprint("e", i%2),
			Attributes: map[string]string{"k": fmt.Sprint(i % 3)}, Embedding: []float32{1, float32(i)},
		})
	}
	forget(t, s, "m5")
	associate(t, s, "m7", "m8", AssociationRelated, 1)
	require.NoError(t, s.Checkpoint(background))
	for i := range 4 {
		_, err := s.Remember(background, Memory{
			ID: fmt.Sprint("m", i), Content: "behind the checkpoint", Episode: "later", Embedding: []float32{float32(i), 1},
		}, RequestID(fmt.Sprint(i)))
		require.NoError(t, err)
	}
	return r, s
}

func verified(t tester, s *Space) VerifyReport {
	t.Helper()
	report, err := s.Verify(background)
	require.NoError(t, err)
	require.Empty(t, report.Damage)
	require.Equal(t, infoOf(t, s).Memories, report.Memories)
	return report
}

func TestVerifyReadsEveryByte(t *testing.T) {
	m := newMemoryFS()
	r, s := verifiedSpace(t, m)
	report := verified(t, s)
	sum := 0
	for _, content := range m.files("alpha") {
		sum += len(content)
	}
	require.Equal(t, int64(sum), report.Bytes)
	require.Equal(t, SpaceID("alpha"), report.Space)
	require.Equal(t, infoOf(t, s).Seq, report.Seq)
	require.Positive(t, report.CheckpointSeq)
	require.Empty(t, report.Spare)
	kinds := make(map[uint16]int)
	a := s.awake.Load()
	for _, e := range a.log.extents(a.log.pin()) {
		kinds[e.kind]++
	}
	require.Positive(t, kinds[kindLog])
	require.Positive(t, kinds[kindBodies])
	require.Equal(t, kinds[kindLog]+kinds[kindBodies], report.Segments)

	left := m.clone()
	require.NoError(t, r.Close())
	for _, readOnly := range []bool{true, false} {
		r = openMemory(t, left, Options{ReadOnly: readOnly})
		require.Equal(t, report.Digest, verified(t, get(t, r, "alpha")).Digest)
		require.NoError(t, r.Close())
	}
}

// No byte of the space's files can change and not be noticed. Where another copy
// holds, that is said too.
func TestVerifyFindsEveryChangedByte(t *testing.T) {
	m := newMemoryFS()
	r, s := verifiedSpace(t, m)
	flips := 0
	files := m.files("alpha")
	require.Greater(t, len(files), 2)
	for name, content := range files {
		step := max(1, len(content)/scaled(200))
		for at := 0; at < len(content); at += step {
			m.flipOpen("alpha/"+name, at)
			report, err := s.Verify(background)
			m.flipOpen("alpha/"+name, at)
			flips++
			if err == nil {
				require.Equal(t, spaceFile, name, "byte %d", at)
				require.Equal(t, []string{fmt.Sprintf("SPACE at byte %d", at/pageBytes*pageBytes)}, report.Spare)
				continue
			}
			var damage *CorruptionError
			require.ErrorAs(t, err, &damage, "%s byte %d", name, at)
			require.Equal(t, SpaceID("alpha"), damage.Space)
			require.Equal(t, name, damage.File)
			require.NotEmpty(t, report.Damage)
		}
	}
	require.Greater(t, flips, min(scaled(500), 5000)) // more than 8,000 bytes are not there
	require.Equal(t, Quarantined, s.Stats().Operator.State)
	_, err := s.Remember(background, Memory{Content: "x"})
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, r.Rename(background, "alpha", "beta"), ErrCorrupt)
	require.NotEmpty(t, list(t, s, Filter{}), "reads go on")
	require.NoError(t, r.Close())
}

func TestVerifyFindsMissingAndShortFiles(t *testing.T) {
	for _, change := range []func(m *memoryFS, name string){
		func(m *memoryFS, name string) { m.put("alpha/"+name, nil) },
		func(m *memoryFS, name string) {
			m.put("alpha/"+name, m.files("alpha")[name][:len(m.files("alpha")[name])-1])
		},
	} {
		m := newMemoryFS()
		r, _ := verifiedSpace(t, m)
		require.NoError(t, r.Close())
		for name := range m.files("alpha") {
			left := m.clone()
			r := openMemory(t, left, Options{})
			s := get(t, r, "alpha")
			a, err := s.use(background) // which leaves no file open
			require.NoError(t, err)
			change(left, name)
			_, err = s.Verify(background)
			var damage *CorruptionError
			require.ErrorAs(t, err, &damage, name)
			require.Equal(t, name, damage.File)
			a.uses.Add(-1)
			_ = r.Close() // it may not settle
		}
	}
}

// A frame that is whole, and not the one that was written there, is found.
func TestVerifyFollowsTheChain(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "alpha")
	name := "alpha/" + segmentPath(1)
	start := len(m.files(".")[name])
	remember(t, s, Memory{ID: "a", Content: "x"})
	key := s.awake.Load().identity.key
	content := bytes.Clone(m.files(".")[name])
	f, _, err := decodeFrame(content[start:], key)
	require.NoError(t, err)
	f.prev++
	m.mu.Lock()
	m.root.at(name).content = append(content[:start], sealFrame(content[start:start+frameHeaderBytes+len(f.payload)], key, &f)...)
	m.mu.Unlock()
	_, err = s.Verify(background)
	var damage *CorruptionError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, int64(start), damage.Offset)
	_ = r.Close()
}

// A state in memory that is not that of the files is found.
func TestVerifyComparesTheLoadedState(t *testing.T) {
	for name, spoil := range map[string]func(s *store){
		"a time":     func(s *store) { aDocument(s).time++ },
		"a length":   func(s *store) { aDocument(s).length++ },
		"an episode": func(s *store) { aDocument(s).episode.name = "x" },
		"a place":    func(s *store) { aDocument(s).place += 8 },
		"a term": func(s *store) {
			terms := &s.recent.terms
			terms.postings(maphash.String(terms.table.seed, "spoilt"), "spoilt").add([]posting{{ordinal: aDocument(s).ordinal, count: 1}})
		},
		"a request": func(s *store) { s.requests[s.requestIDs[0]] = requestRecord{} },
		"the quota": func(s *store) { s.config.MaxMemories++ },
		"the seq":   func(s *store) { s.seq++ },
		"a death":   func(s *store) { aDocument(s).died.Store(2) },
		"a flag":    func(s *store) { aDocument(s).flags ^= documentSemantic },
		"a code":    func(s *store) { s.recent.vectors.codes.Ones[0]++ },
		"a count":   func(s *store) { s.tokens++ },
		"the image": func(s *store) { s.image.flags[0] ^= documentSemantic },
		"a death in the image": func(s *store) {
			i, _ := s.image.byID.lookup(&s.image.ids, "m8")
			s.image.kill(i, s.seq)
		},
		"a dimension":    func(s *store) { s.dimension++ },
		"an association": func(s *store) { s.graph.associate("m1", "m2", AssociationRelated, 0.5) },
		"a weight":       func(s *store) { s.graph.associate("m7", "m8", AssociationRelated, 0.5) },
		"a lost association": func(s *store) {
			s.graph.dissociate("m7", "m8", AssociationRelated)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := verifiedSpace(t, newMemoryFS())
			require.NoError(t, r.Settle(background))
			a, err := s.use(background)
			require.NoError(t, err)
			a.store.mu.Lock()
			spoil(a.store)
			a.store.publish()
			a.store.mu.Unlock()
			_, err = s.Verify(background)
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorIs(t, *a.stopped.Load(), ErrCorrupt)
			a.uses.Add(-1)
			_ = r.Close()
		})
	}
}

// aDocument returns one that was stored since the checkpoint, and lives.
func aDocument(s *store) *document {
	d, _ := s.recent.byID.Max()
	return d
}

// A state that could not be flushed for want of room may stand in SPACE all the same: it
// is no damage.
func TestVerifyBesideAStateThatFoundNoRoom(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "m", Content: "content"})
	flushes := &crashfs.Fault{Applies: func(c crashfs.Call) bool {
		return c.Op == crashfs.OpSync && strings.HasSuffix(c.Name, spaceFile)
	}, First: 1, Err: syscall.ENOSPC}
	f.SetHook(flushes.Hook)
	require.ErrorIs(t, r.Settle(background), ErrDiskFull)
	require.NotEmpty(t, flushes.Hit())
	f.SetHook(nil)
	verified(t, s)
	remember(t, s, Memory{ID: "n", Content: "content"})
	f.SetHook((&crashfs.Fault{Applies: func(c crashfs.Call) bool { // the next one is not written at all
		return c.Op == crashfs.OpWrite && strings.HasSuffix(c.Name, spaceFile)
	}, First: 1, Err: &crashfs.PartialWrite{Err: syscall.ENOSPC}}).Hook)
	require.ErrorIs(t, r.Settle(background), ErrDiskFull)
	f.SetHook(nil)
	verified(t, s)
	require.NoError(t, r.Settle(background))
	verified(t, s)
	require.NoError(t, r.Close())
}

// Verifying goes on beside everything else, finds nothing, and holds nothing up.
func TestVerifyMeanwhile(t *testing.T) {
	opts := Options{JournalBytes: minJournalBytes}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = 4000, 10_000
	m := newMemoryFS()
	r := openMemory(t, m, opts)
	s := create(t, r, "alpha")
	var writing, verifying sync.WaitGroup
	ctx, written := context.WithCancel(background)
	for worker := range 2 {
		writing.Go(func() {
			for i := range scaled(400) {
				remember(t, s, Memory{ID: fmt.Sprint(worker, i%50), Content: strings.Repeat("x ", i%100+1)})
				switch i % 40 {
				case 13:
					require.NoError(t, s.Checkpoint(background))
				case 17:
					forget(t, s, fmt.Sprint(worker, i%50))
				case 19:
					s.sleep()
				}
			}
		})
	}
	seen := 0
	verifying.Go(func() {
		for ctx.Err() == nil {
			report, err := s.Verify(background)
			require.NoError(t, err)
			require.Empty(t, report.Damage)
			seen++
		}
	})
	writing.Wait()
	written()
	verifying.Wait()
	require.Positive(t, seen)
	verified(t, s)
	require.NoError(t, r.Close())
}

func TestVerifyEnds(t *testing.T) {
	m := newMemoryFS()
	r, s := verifiedSpace(t, m)
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err := s.Verify(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, Awake, s.Stats().Operator.State)
	require.NoError(t, r.Close())
	for name := range m.files("alpha") {
		if strings.HasPrefix(name, walDir) {
			m.flipOpen("alpha/"+name, len(m.files("alpha")[name])-1)
		}
	}
	r = openMemory(t, m, Options{})
	report, err := get(t, r, "alpha").Verify(background)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NotEmpty(t, report.Damage)
	require.NoError(t, r.Close())
}

// A space is verified once at a time: each takes the memory of the loaded space.
func TestVerifyTakesTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, s := verifiedSpace(t, newMemoryFS())
		let, verifying := make(chan struct{}), atomic.Int64{}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				_, err := s.Verify(&stallingContext{Context: background, stall: sync.OnceFunc(func() {
					verifying.Add(1)
					<-let
				})})
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		require.EqualValues(t, 1, verifying.Load())
		close(let)
		all.Wait()
		require.EqualValues(t, 3, verifying.Load())
		require.NoError(t, r.Close())
	})
}
