package engram

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// withoutPlace is the memory as it is compared between spaces and incarnations.
func withoutPlace(m Memory) string {
	m.Space, m.Seq = "", 0
	return asJSON(m)
}

// salvaged copies what is left of the damaged registry, and returns what each
// space of the new one holds, which must be whole.
func salvageCopy(t *testing.T, damaged *memoryFS, spaces ...SpaceID) (SalvageReport, map[SpaceID][]string) {
	t.Helper()
	before := damaged.files(".")
	from, err := Open("", damageOptions(damaged, true))
	require.NoError(t, err)
	out, clock := newMemoryFS(), new(salvageClock)
	opts := damageOptions(out, false)
	opts.Durability, opts.Clock = None, clock
	to := openMemory(t, out, opts)
	report, err := salvage(t.Context(), from, to, clock, spaces)
	require.NoError(t, err)
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())
	requireUnchanged(t, before, damaged)

	to = openMemory(t, out, damageOptions(out, true))
	held := make(map[SpaceID][]string)
	for _, s := range report.Spaces {
		if s.Failed != "" {
			_, err := to.Get(t.Context(), s.Space)
			require.ErrorIs(t, err, ErrSpaceNotFound)
			continue
		}
		held[s.Space] = []string{}
		for _, m := range list(t, get(t, to, s.Space), Filter{}) {
			require.Equal(t, s.Space, m.Space)
			held[s.Space] = append(held[s.Space], withoutPlace(m))
		}
		require.Len(t, held[s.Space], int(s.Saved))
	}
	require.NoError(t, to.Close())
	return report, held
}

// salvageOracle is what a salvage of a damaged registry is held to.
type salvageOracle struct {
	stored *storedRegistry
	all    map[SpaceID][]string        // that each space held last
	ever   map[SpaceID]map[string]bool // that it held at any time
}

func newSalvageOracle(t *testing.T, s *storedRegistry) *salvageOracle {
	t.Helper()
	o := &salvageOracle{stored: s, all: make(map[SpaceID][]string), ever: make(map[SpaceID]map[string]bool)}
	for _, then := range append(slices.Clone(s.history), s.fs) {
		r := openMemory(t, then.clone(), damageOptions(then.clone(), true))
		for id := range r.Spaces("") {
			if o.ever[id] == nil {
				o.ever[id] = make(map[string]bool)
			}
			o.all[id] = nil
			for _, m := range list(t, get(t, r, id), Filter{}) {
				o.all[id] = append(o.all[id], withoutPlace(m))
				o.ever[id][withoutPlace(m)] = true
			}
		}
		require.NoError(t, r.Close())
	}
	return o
}

// judge salvages the damaged registry: nothing is made up, nothing is missing
// without a word, and who is not damaged is saved whole.
func (o *salvageOracle) judge(t *testing.T, damaged *memoryFS, what string, victims ...SpaceID) SalvageReport {
	t.Helper()
	report, held := salvageCopy(t, damaged)
	require.Len(t, report.Spaces, 2, what)
	for _, s := range report.Spaces {
		if !slices.Contains(victims, s.Space) {
			require.True(t, s.Whole(), "%s: %+v", what, s)
		}
		for _, m := range held[s.Space] {
			require.True(t, o.ever[s.Space][m], "%s: made up: %s", what, m)
		}
		if s.Whole() {
			require.Equal(t, o.all[s.Space], held[s.Space], what)
		} else {
			require.NotEqual(t, 0, report.ExitCode(), what)
			require.True(t, s.Failed != "" || len(s.Damage) > 0, "%s: %+v", what, s)
		}
	}
	return report
}

func TestSalvageOfDamagedFiles(t *testing.T) {
	t.Parallel()
	for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t), unpoweredRegistry(t)} {
		o := newSalvageOracle(t, s)
		o.judge(t, s.fs.clone(), "undamaged")
		for _, file := range s.targets() {
			t.Run(s.name+"/"+file, func(t *testing.T) {
				t.Parallel()
				content := s.fs.files(".")[file]
				all := mutations()
				list := offsets(content, s.kindOf(file), 97)
				for i, at := range list {
					if !damageFull() && i%4 != 0 {
						continue
					}
					for _, way := range []mutation{all[i%len(all)], all[(i*5+1)%4]} {
						if s.journalEnd(t, file, way, at) {
							continue
						}
						damaged := s.fs.clone()
						damaged.put(file, way.apply(content, at))
						o.judge(t, damaged, file+": "+way.name, s.victims(file)...)
					}
				}
				for i, d := range s.singleFileDamages(file) {
					if !damageFull() && i%3 != 0 {
						continue
					}
					damaged := s.fs.clone()
					d.apply(damaged)
					if s.name != "unpowered" || !strings.HasPrefix(file, journalDir) {
						o.judge(t, damaged, d.name, d.victims...)
					}
				}
			})
		}
	}
}

// journalEnd reports whether the damage takes away the journal's last groups,
// which alone held them, so that nobody can know of them.
func (s *storedRegistry) journalEnd(t *testing.T, file string, way mutation, at int) bool {
	t.Helper()
	if s.name != "unpowered" || s.kindOf(file) != "journal file" {
		return false
	}
	groups := s.groupsOf(t)
	last := groups[len(groups)-1]
	return file == last.file && (at >= last.start || way.name == "truncated")
}

// Behind damage the rest is saved, and what is lost is named.
func TestSalvageBehindDamage(t *testing.T) {
	s := closedRegistry(t)
	o := newSalvageOracle(t, s)
	of := func(report SalvageReport) SpaceSalvage { return report.Spaces[0] }
	damage := func(change func(m *memoryFS)) SpaceSalvage {
		m := s.fs.clone()
		change(m)
		return of(o.judge(t, m, "", damagedSpace))
	}
	mark := s.mark(damagedSpace)
	active := path.Join(string(damagedSpace), segmentPath(mark.segment))
	space := path.Join(string(damagedSpace), spaceFile)
	all := int64(len(o.all[damagedSpace]))
	require.Greater(t, all, int64(10))

	whole := damage(func(*memoryFS) {})
	require.Equal(t, SpaceSalvage{Space: damagedSpace, Saved: all, LastSeq: mark.seq}, whole)

	early, seq := s.replayedSegment(t)
	one := damage(func(m *memoryFS) { m.flip(early, segmentHeaderBytes+frameHeaderBytes+20) })
	require.Equal(t, []SeqRange{{seq, seq}}, one.Missing)
	require.Equal(t, mark.seq, one.LastSeq, "the frames behind were found")
	require.GreaterOrEqual(t, one.Saved, all-1)

	shifted := damage(func(m *memoryFS) {
		content := m.files(".")[active]
		m.put(active, slices.Insert(slices.Clone(content), segmentHeaderBytes, 1, 2, 3))
	})
	require.Empty(t, shifted.Missing)
	require.Equal(t, all, shifted.Saved)

	cut := damage(func(m *memoryFS) { m.put(active, m.files(".")[active][:mark.offset-60]) })
	require.Equal(t, mark.seq, cut.Missing[len(cut.Missing)-1].Last)

	unstated := damage(func(m *memoryFS) {
		m.flip(space, pageBytes+40)
		m.flip(space, 2*pageBytes+40)
	})
	require.True(t, unstated.OpenEnd)
	require.Equal(t, all, unstated.Saved)

	unidentified := damage(func(m *memoryFS) { m.put(space, nil) })
	require.True(t, unidentified.OpenEnd)
	require.Equal(t, all, unidentified.Saved)

	bodies := damage(func(m *memoryFS) {
		for file := range s.fs.files(".") {
			if s.kindOf(file) == "segment of bodies" && strings.HasPrefix(file, string(damagedSpace)+"/") {
				m.put(file, nil)
			}
		}
	})
	require.NotEmpty(t, bodies.Unreadable)
	require.Equal(t, all, bodies.Saved+int64(len(bodies.Unreadable)))

	returned := damage(func(m *memoryFS) {
		for file := range s.fs.files(".") {
			if s.kindOf(file) == "checkpoint" && strings.HasPrefix(file, string(damagedSpace)+"/") {
				m.put(file, nil)
			}
		}
	})
	require.True(t, returned.Returned)
	require.GreaterOrEqual(t, returned.Saved, all)
}

// replayedSegment is a segment of the damaged space's log that waking replays
// and another one follows, and the seq of its first frame, which holds one operation.
func (s *storedRegistry) replayedSegment(t *testing.T) (file string, seq uint64) {
	t.Helper()
	_, state, err := decodeSpaceFile(s.fs.files(string(damagedSpace))[spaceFile])
	require.NoError(t, err)
	file = path.Join(string(damagedSpace), segmentPath(state.checkpoint.segment))
	require.Less(t, state.checkpoint.segment, state.mark.segment)
	f, _, err := decodeFrame(s.fs.files(".")[file][segmentHeaderBytes:], decodeIdentity(s.fs.files(".")[file][16:]).key)
	require.NoError(t, err)
	require.EqualValues(t, 1, f.count)
	return file, f.firstSeq
}

// Memories of one space never get into the salvaged copy of another.
func TestSalvageOfForeignDirectories(t *testing.T) {
	s := closedRegistry(t)
	space := func(id SpaceID) string { return path.Join(string(id), spaceFile) }
	for name, c := range map[string]struct {
		damage func(m *memoryFS)
		failed []SpaceID
	}{
		"swapped":               {func(m *memoryFS) { m.swap(string(damagedSpace), string(otherSpace)) }, []SpaceID{damagedSpace, otherSpace}},
		"another space's SPACE": {func(m *memoryFS) { m.copy(space(otherSpace), space(damagedSpace)) }, []SpaceID{damagedSpace}},
		"a copy without SPACE": {func(m *memoryFS) {
			m.copy(string(otherSpace), string(damagedSpace))
			m.put(space(damagedSpace), nil)
		}, []SpaceID{damagedSpace}},
		"a copy whose SPACE is cut": {func(m *memoryFS) {
			m.copy(string(otherSpace), string(damagedSpace))
			m.put(space(damagedSpace), m.files(".")[space(damagedSpace)][:pageBytes])
		}, []SpaceID{damagedSpace}},
		"a copy whose slots are damaged": {func(m *memoryFS) {
			m.copy(string(otherSpace), string(damagedSpace))
			m.flip(space(damagedSpace), pageBytes+40)
			m.flip(space(damagedSpace), 2*pageBytes+40)
		}, []SpaceID{damagedSpace}},
		"segments of both, no SPACE": {func(m *memoryFS) {
			m.copy(string(otherSpace)+"/"+segmentPath(s.mark(otherSpace).segment), string(damagedSpace)+"/"+segmentPath(99))
			m.put(space(damagedSpace), nil)
		}, []SpaceID{damagedSpace}},
		"nothing but SPACE, destroyed": {func(m *memoryFS) {
			m.put(string(damagedSpace), nil)
			m.put(space(damagedSpace), []byte("?"))
		}, []SpaceID{damagedSpace}},
		"not even a directory": {func(m *memoryFS) {
			m.put(string(damagedSpace)+"/"+walDir, nil)
			m.put(string(damagedSpace)+"/"+walDir, []byte("a file"))
			m.put(space(damagedSpace), nil)
		}, []SpaceID{damagedSpace}},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := s.fs.clone()
			c.damage(damaged)
			report, held := salvageCopy(t, damaged)
			require.Len(t, report.Spaces, 2)
			for _, r := range report.Spaces {
				require.Equal(t, slices.Contains(c.failed, r.Space), r.Failed != "", r)
				for _, m := range held[r.Space] {
					require.Contains(t, m, `"content":"`+string(r.Space)+" was told")
				}
			}
			require.Equal(t, len(c.failed), report.ExitCode())
		})
	}
}

// What is copied is all that a memory is, and only of the spaces that are asked for.
func TestSalvageCopies(t *testing.T) {
	dir := t.TempDir()
	source, out := filepath.Join(dir, "data"), filepath.Join(dir, "out")
	clock := newStepClock()
	r := openIn(t, source, Options{Clock: clock})
	cfg := SpaceConfig{MaxMemories: 3, MaxBytes: 1 << 20, TextK1: 1.5, TextB: 0.25}
	s, err := r.Create(background, "alpha", cfg)
	require.NoError(t, err)
	remember(t, s, Memory{
		ID: "one", Content: "all of it", Time: clock.Now().Add(-time.Hour), Episode: "e",
		Attributes: map[string]string{"k": "v"}, Embedding: []float32{1, -2}, Confidence: 0.25, Kind: Semantic,
	}, Memory{Content: "as little as possible"})
	remember(t, s, Memory{ID: "three", Content: "later"})
	associate(t, s, "one", "three", "before", 0.5)
	associate(t, s, "three", "one", "", 1)
	associations := associationsOf(t, s, "one")
	_, err = s.Configure(background, SpaceConfig{MaxMemories: 1, TextK1: 1.5, TextB: 0.25, AutoAssociate: 2})
	require.NoError(t, err)
	want, info := list(t, s, Filter{}), s.Info()
	create(t, r, "beta")
	require.NoError(t, r.Close())
	before := treeHash(t, source)

	report, err := Salvage(background, source, out, "alpha", "alpha")
	require.NoError(t, err)
	require.Equal(t, SalvageReport{Spaces: []SpaceSalvage{{Space: "alpha", Saved: 3, LastSeq: 7}}}, report)
	require.Equal(t, 0, report.ExitCode())
	require.Equal(t, before, treeHash(t, source))

	r = openIn(t, out, Options{ReadOnly: true})
	require.Equal(t, []SpaceID{"alpha"}, spaceIDs(r, ""))
	got := list(t, get(t, r, "alpha"), Filter{})
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, withoutPlace(want[i]), withoutPlace(got[i]))
	}
	require.Equal(t, associations, associationsOf(t, get(t, r, "alpha"), "one"))
	now := infoOf(t, get(t, r, "alpha"))
	require.Equal(t, info.Config, now.Config)
	require.NotEqual(t, info.Incarnation, now.Incarnation)
	require.NoError(t, r.Close())
}

// A configuration whose operation is damaged stands in SPACE too, as far as the
// space was settled; what came later counts.
func TestSalvageOfALostConfiguration(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	first, second := SpaceConfig{Analyzer: CJK, MaxMemories: 7}, SpaceConfig{Analyzer: CJK, TextB: 0.25}
	for _, id := range []SpaceID{"alpha", "beta"} {
		s, err := r.Create(background, id, first)
		require.NoError(t, err)
		remember(t, s, Memory{ID: "one", Content: "x"})
	}
	require.NoError(t, r.Settle(background))
	_, err := get(t, r, "beta").Configure(background, second)
	require.NoError(t, err)
	killed := m.clone()
	require.NoError(t, r.Close())
	for _, id := range []string{"alpha", "beta"} {
		killed.flip(path.Join(id, segmentPath(1)), segmentHeaderBytes+frameHeaderBytes+12)
	}
	from, out := openMemory(t, killed, Options{ReadOnly: true}), newMemoryFS()
	clock := new(salvageClock)
	to := openMemory(t, out, Options{Durability: None, Clock: clock})
	report, err := salvage(background, from, to, clock, nil)
	require.NoError(t, err)
	for i, want := range []SpaceConfig{first, second} {
		require.Equal(t, []SeqRange{{First: 1, Last: 1}}, report.Spaces[i].Missing)
		require.Equal(t, want, infoOf(t, get(t, to, report.Spaces[i].Space)).Config)
	}
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())
}

// salvageWithout damages the operation behind that position of alpha's log, which has
// another space behind it, and returns what is said of alpha, and what all hold.
func salvageWithout(t *testing.T, m *memoryFS, at mark) (SpaceSalvage, map[SpaceID][]string) {
	t.Helper()
	m.flip(path.Join("alpha", segmentPath(at.segment)), int(at.offset)+frameHeaderBytes+12)
	report, held := salvageCopy(t, m)
	require.Len(t, report.Spaces, 2)
	require.Equal(t, []SeqRange{{at.seq + 1, at.seq + 1}}, report.Spaces[0].Missing)
	return report.Spaces[0], held
}

// A space that lost the operation which made room for an association has one more
// than a memory may have: the others are copied, and the spaces behind it.
func TestSalvageOfTooManyAssociations(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "alpha")
	to := func(i int) string { return fmt.Sprint("m", i) }
	all := []Memory{{ID: "from", Content: "x"}}
	for i := range MaxAssociations + 1 {
		all = append(all, Memory{ID: to(i), Content: "x"})
	}
	remember(t, s, all...)
	for i := range MaxAssociations {
		associate(t, s, "from", to(i), "k", 0.5)
	}
	removed := s.awake.Load().log.position()
	_, err := s.Dissociate(background, Association{From: "from", To: to(0), Kind: "k"})
	require.NoError(t, err)
	associate(t, s, "from", to(MaxAssociations), "k", 0.5)
	create(t, r, "beta")
	require.NoError(t, r.Close())
	_, held := salvageWithout(t, m, removed)
	require.Len(t, held["alpha"], len(all))
}

// Before a space has embeddings of another dimension, it has none. Where what had
// removed one is lost, its memory is copied without it.
func TestSalvageOfEmbeddingsOfTwoDimensions(t *testing.T) {
	for _, content := range []string{"content", ""} {
		m, e := newMemoryFS(), newMeanings()
		r := openMemory(t, m, Options{})
		s := create(t, r, "alpha")
		remember(t, s, Memory{ID: "early", Content: content, Embedding: []float32{1, 2, 3}})
		removed := s.awake.Load().log.position()
		forget(t, s, "early")
		_, err := s.reembed(background, e)
		require.NoError(t, err)
		require.NoError(t, s.switchVectors(background, viewOf(t, s)))
		remember(t, s, Memory{ID: "late", Embedding: e.vector("dog")})
		late, err := s.Lookup(background, "late")
		require.NoError(t, err)
		create(t, r, "beta")
		require.NoError(t, r.Close())
		of, held := salvageWithout(t, m, removed)
		require.Contains(t, held["alpha"], withoutPlace(late))
		if content == "" {
			require.Equal(t, []string{"early"}, of.Unreadable)
			require.Len(t, held["alpha"], 1)
		} else {
			require.Empty(t, of.Unreadable)
			require.Len(t, held["alpha"], 2)
		}
	}
}

// The time at which a memory was stored is copied, whichever it is.
func TestSalvageKeepsTimes(t *testing.T) {
	dir := t.TempDir()
	source, out := filepath.Join(dir, "data"), filepath.Join(dir, "out")
	r := openIn(t, source, Options{})
	stored := []time.Time{earliestTime, time.Unix(0, 0).UTC(), latestTime}
	export := `{"format":"engram-export","version":1}` + "\n"
	for _, at := range stored {
		export += asJSON(Memory{Content: "x", StoredAt: at}) + "\n"
	}
	imported(t, r, "alpha", export)
	require.NoError(t, r.Close())
	_, err := Salvage(background, source, out)
	require.NoError(t, err)
	r = openIn(t, out, Options{ReadOnly: true})
	for i, m := range list(t, get(t, r, "alpha"), Filter{}) {
		require.Equal(t, stored[i], m.StoredAt)
	}
	require.NoError(t, r.Close())
}

func TestSalvageRefuses(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "data")
	r := openIn(t, source, Options{})
	create(t, r, "alpha")
	_, err := Salvage(background, source, filepath.Join(dir, "out"))
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, r.Close())
	for _, out := range []string{source, filepath.Join(source, "below"), dir} {
		_, err := Salvage(background, source, out)
		require.ErrorIs(t, err, ErrInvalid, out)
	}
	_, err = Salvage(background, filepath.Join(dir, "nothing"), filepath.Join(dir, "out"))
	require.Error(t, err)
	require.NoDirExists(t, filepath.Join(dir, "nothing"))
	for id, want := range map[SpaceID]error{"beta": ErrSpaceNotFound, "..": ErrInvalidSpaceID} {
		_, err = Salvage(background, source, filepath.Join(dir, "out"), "alpha", id)
		require.ErrorIs(t, err, want)
		require.NoDirExists(t, filepath.Join(dir, "out"))
	}
	_, err = Salvage(background, source, filepath.Join(source, ".lock"))
	require.Error(t, err)
}

func TestSalvageExitCode(t *testing.T) {
	whole, holed, failed := SpaceSalvage{Saved: 1}, SpaceSalvage{OpenEnd: true}, SpaceSalvage{Failed: "why"}
	for code, reports := range map[int][]SalvageReport{
		0: {{}, {Spaces: []SpaceSalvage{whole, whole}}},
		1: {{Spaces: []SpaceSalvage{whole, holed}}, {Spaces: []SpaceSalvage{failed, whole}}, {Spaces: []SpaceSalvage{holed}}},
		2: {{Spaces: []SpaceSalvage{failed}}, {Damage: "no journal"}},
	} {
		for _, report := range reports {
			require.Equal(t, code, report.ExitCode(), report)
		}
	}
}
