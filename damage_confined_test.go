package engram

import (
	"path"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// spaceDamages are all kinds of damage of one space's files, by name.
func (s *storedRegistry) spaceDamages() map[string]func(m *memoryFS) {
	own := func(name string) string { return path.Join(string(damagedSpace), name) }
	theirs := func(name string) string { return path.Join(string(otherSpace), name) }
	space, at := own(spaceFile), s.mark(damagedSpace)
	_, state, err := decodeSpaceFile(s.fs.files(".")[space])
	must(err)
	active, settled := own(segmentPath(at.segment)), own(segmentPath(state.checkpoint.segment))
	checkpoint := own(state.checkpoint.name())
	c, err := decodeCheckpoint(s.fs.files(".")[checkpoint], decodeIdentity(s.fs.files(".")[space][16:]))
	must(err)
	listed := c.segments
	last := listed[slices.IndexFunc(listed, func(e segmentEntry) bool { return e.kind == kindBodies })]
	bodies := own(segmentPath(last.number))
	content := func(m *memoryFS, name string) []byte { return m.files(".")[name] }
	return map[string]func(m *memoryFS){
		"SPACE missing":                    func(m *memoryFS) { m.put(space, nil) },
		"SPACE cut":                        func(m *memoryFS) { m.put(space, content(m, space)[:pageBytes]) },
		"SPACE of the other":               func(m *memoryFS) { m.copy(theirs(spaceFile), space) },
		"SPACE's identities":               func(m *memoryFS) { m.flip(space, 20); m.flip(space, 3*pageBytes+20) },
		"SPACE's slots":                    func(m *memoryFS) { m.flip(space, pageBytes+40); m.flip(space, 2*pageBytes+40) },
		"SPACE a directory":                func(m *memoryFS) { m.put(space, nil); m.put(path.Join(space, "x"), []byte{1}) },
		"log missing":                      func(m *memoryFS) { m.put(own(walDir), nil) },
		"first settled segment missing":    func(m *memoryFS) { m.put(settled, nil) },
		"settled segments swapped":         func(m *memoryFS) { m.swap(settled, bodies) },
		"settled header":                   func(m *memoryFS) { m.flip(settled, 20) },
		"settled frame":                    func(m *memoryFS) { m.flip(settled, segmentHeaderBytes+40) },
		"settled tail cut":                 func(m *memoryFS) { m.put(active, content(m, active)[:at.offset-1]) },
		"segment of the other":             func(m *memoryFS) { m.copy(theirs(segmentPath(s.mark(otherSpace).segment)), active) },
		"segment of the other beside":      func(m *memoryFS) { m.copy(theirs(segmentPath(s.mark(otherSpace).segment)), own(segmentPath(99))) },
		"bodies missing":                   func(m *memoryFS) { m.put(bodies, nil) },
		"record of a body":                 func(m *memoryFS) { m.flip(bodies, segmentHeaderBytes+frameHeaderBytes+60) },
		"last frame of the bodies":         func(m *memoryFS) { m.put(bodies, content(m, bodies)[:len(content(m, bodies))-8]) },
		"checkpoint missing":               func(m *memoryFS) { m.put(checkpoint, nil) },
		"checkpoint changed":               func(m *memoryFS) { m.flip(checkpoint, 300) },
		"checkpoint of the other":          func(m *memoryFS) { m.copy(s.checkpointOf(otherSpace), checkpoint) },
		"checkpoint of the other, besides": func(m *memoryFS) { m.copy(s.checkpointOf(otherSpace), own("checkpoint-999-99")) },
		"a copy of the other's directory":  func(m *memoryFS) { m.copy(string(otherSpace), string(damagedSpace)) },
	}
}

// checkpointOf is the path of the space's checkpoint.
func (s *storedRegistry) checkpointOf(id SpaceID) string {
	_, state, err := decodeSpaceFile(s.fs.files(string(id))[spaceFile])
	must(err)
	return path.Join(string(id), state.checkpoint.name())
}

// Whatever is damaged in one space, the other's answers, reports and files are
// byte for byte what they are where nothing is damaged. The damaged one can be
// read up to the damage, checked, dumped, salvaged and deleted, and another space
// can have its name.
func TestDamageConfined(t *testing.T) {
	for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
		o := newSalvageOracle(t, s)
		_, undamaged := s.liveBeside(t, s.fs.clone(), false)
		for name, damage := range s.spaceDamages() {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				damaged := s.fs.clone()
				damage(damaged)
				before := damaged.files(".")
				s.requireChecked(t, damaged)
				o.judge(t, damaged, name, damagedSpace)
				dumpOf(t, damaged, DumpOptions{Space: damagedSpace})
				requireSameFiles(t, without(before, lockFile), without(damaged.files("."), lockFile), "changed by reading")

				noticed, beside := s.liveBeside(t, damaged, true)
				require.True(t, noticed, "this damage goes unnoticed")
				require.Equal(t, undamaged.report, beside.report)
				require.Equal(t, undamaged.answers, beside.answers)
				require.Equal(t, undamaged.again, beside.again)
				requireSameFiles(t, undamaged.files, beside.files, "files of the other space")
			})
		}
	}
}

func without(files map[string][]byte, name string) map[string][]byte {
	delete(files, name)
	return files
}

// requireChecked requires that a check names the damage, and finds the other
// space as it is.
func (s *storedRegistry) requireChecked(t *testing.T, damaged *memoryFS) {
	t.Helper()
	r := openMemory(t, damaged, damageOptions(damaged, true))
	bad, err := r.check(t.Context(), damagedSpace)
	require.NoError(t, err)
	require.Equal(t, CheckCorrupt, bad.Verdict)
	require.NotEmpty(t, bad.Damage)
	for _, text := range bad.Damage {
		require.Contains(t, text, `space "`+string(damagedSpace)+`": `)
	}
	good, err := r.check(t.Context(), otherSpace)
	require.NoError(t, err)
	require.Empty(t, good.Damage)
	require.NotEqual(t, CheckCorrupt, good.Verdict)
	require.NoError(t, r.Close())
}

// neighbour is all that can be seen of the other space.
type neighbour struct {
	report  RecoveryReport
	answers answers
	again   answers
	files   map[string][]byte
}

// liveBeside uses the registry as an operator would who finds a space damaged:
// reads, deletes it, and creates another of its name. It returns whether the
// damage was noticed, and all that was seen of the other space.
func (s *storedRegistry) liveBeside(t *testing.T, m *memoryFS, damaged bool) (noticed bool, seen neighbour) {
	t.Helper()
	ctx := t.Context()
	seen.report = s.report(t, m, otherSpace)
	seen.report.Duration = 0

	r := openMemory(t, m, damageOptions(m, false))
	got := readAnswers(t, r, damagedSpace)
	noticed = requireSameOrDamaged(t, s, damagedSpace, got, "the damaged space") != nil
	seen.answers = readAnswers(t, r, otherSpace)
	_, err := get(t, r, damagedSpace).Remember(ctx, Memory{ID: "new", Content: "written beside"})
	require.Equal(t, damaged, err != nil, "%v", err)
	reports, err := r.RecoverAll(ctx)
	require.NoError(t, err)
	require.Len(t, reports, 2)
	require.NotEqual(t, Refused, reports[1].Verdict)

	require.NoError(t, r.Delete(ctx, damagedSpace))
	again := create(t, r, damagedSpace)
	remember(t, again, Memory{ID: "fresh", Content: "in another space of that name"})
	require.Equal(t, []string{"fresh"}, idsOf(list(t, again, Filter{})))
	s.requireClosed(t, r)

	r = openMemory(t, m, damageOptions(m, false))
	require.Equal(t, []string{"fresh"}, idsOf(list(t, get(t, r, damagedSpace), Filter{})))
	seen.again = readAnswers(t, r, otherSpace)
	s.requireClosed(t, r)
	require.Equal(t, CheckClean, checkIn(t, m, damagedSpace).Verdict)
	require.Equal(t, CheckClean, checkIn(t, m, otherSpace).Verdict)
	seen.files = m.files(string(otherSpace))
	if !slices.Contains([]string{"closed"}, s.name) {
		// How often the background settled it while it was used shows in SPACE.
		seen.files = without(seen.files, spaceFile)
	}
	return noticed, seen
}

// requireClosed closes the registry. Where the deleted space could not say who it
// was, nobody knows that the journal's operations of it are to be dropped: they
// stay there, and closing says so.
func (s *storedRegistry) requireClosed(t *testing.T, r *Registry) {
	t.Helper()
	if err := r.Close(); s.name == "closed" {
		require.NoError(t, err)
	} else if err != nil {
		require.ErrorIs(t, err, errHomeless)
	}
}

func checkIn(t *testing.T, m *memoryFS, id SpaceID) SpaceCheck {
	t.Helper()
	r := openMemory(t, m, damageOptions(m, true))
	c, err := r.check(t.Context(), id)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return c
}
