package engram

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ids that are prefixes of each other, with memories of the same ids.
const (
	damagedSpace SpaceID = "aaa"
	otherSpace   SpaceID = "aaa-b"
)

// storedRegistry is a registry at rest, and what its spaces answer.
type storedRegistry struct {
	name    string
	fs      *memoryFS
	history []*memoryFS // what fs was after each write
	answers map[SpaceID]answers
	// files of each space as a writable opening that reads everything leaves
	// them where nothing is damaged.
	left map[SpaceID]map[string][]byte
	past past
}

// answers are what a space answers, by call.
type answers map[string]answer

type answer struct {
	text     string // as JSON
	memories []string
	err      error
}

func damageOptions(m *memoryFS, readOnly bool) Options {
	return Options{
		Clock: fixedClock(time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)), ReadOnly: readOnly,
		JournalBytes: minJournalBytes, seams: seams{fs: m, segmentBytes: 1200},
	}
}

// closedRegistry is one that was closed: everything is settled.
func closedRegistry(t *testing.T) *storedRegistry {
	t.Helper()
	m := newMemoryFS()
	r, err := Open("", damageOptions(m, false))
	require.NoError(t, err)
	history := writeStory(t, r, m)
	require.NoError(t, r.Close())
	return atRest(t, "closed", m, history)
}

// killedRegistry is one whose process was killed: frames of both spaces are
// above their marks, in the journal and in the logs.
func killedRegistry(t *testing.T) *storedRegistry {
	t.Helper()
	m := newMemoryFS()
	r, err := Open("", damageOptions(m, false))
	require.NoError(t, err)
	history := writeStory(t, r, m)
	killed := m.clone()
	require.NoError(t, r.Close())
	return atRest(t, "killed", killed, history)
}

// unpoweredRegistry is a killed one whose power failed, too: nothing of the
// logs above their marks has reached the disk, so that only the journal has it.
func unpoweredRegistry(t *testing.T) *storedRegistry {
	t.Helper()
	s := killedRegistry(t)
	for _, id := range []SpaceID{damagedSpace, otherSpace} {
		mark := s.mark(id)
		for name, content := range s.fs.files(string(id)) {
			file := path.Join(string(id), name)
			if s.aboveMark(id, file) {
				s.fs.put(file, nil)
			} else if name == segmentPath(mark.segment) {
				s.fs.put(file, content[:mark.offset])
			}
		}
	}
	return atRest(t, "unpowered", s.fs, s.history)
}

// writeStory fills two spaces so that each has several segments, one of kind
// bodies, a checkpoint with a log behind it, and frames that are not settled.
func writeStory(t *testing.T, r *Registry, m *memoryFS) (history []*memoryFS) {
	t.Helper()
	ctx := t.Context()
	for _, id := range []SpaceID{damagedSpace, otherSpace} {
		s, err := r.Create(ctx, id, SpaceConfig{MaxMemories: 1000})
		require.NoError(t, err)
		for i := range 12 {
			rememberStory(t, s, i)
			history = append(history, m.clone())
		}
		rememberStory(t, s, 3) // replaces
		history = append(history, m.clone())
		_, err = s.Forget(ctx, []string{"m5", "m7"})
		require.NoError(t, err)
		history = append(history, m.clone())
		require.NoError(t, s.Checkpoint(ctx))
		history = append(history, m.clone())
		for i := range 4 {
			rememberStory(t, s, 20+i)
			history = append(history, m.clone())
		}
		_, err = s.Configure(ctx, SpaceConfig{MaxMemories: 500})
		require.NoError(t, err)
		history = append(history, m.clone())
	}
	require.NoError(t, r.Settle(ctx))
	history = append(history, m.clone())
	for i := range 6 {
		for _, id := range []SpaceID{damagedSpace, otherSpace} {
			s, err := r.Get(ctx, id)
			require.NoError(t, err)
			rememberStory(t, s, 40+i)
			if i == 2 {
				history = append(history, m.clone())
				rememberStory(t, s, 2) // replaces
				history = append(history, m.clone())
				_, err = s.ForgetWhere(ctx, Filter{Episode: "e3"})
				require.NoError(t, err)
			}
			history = append(history, m.clone())
		}
	}
	return history
}

func rememberStory(t *testing.T, s *Space, i int) {
	t.Helper()
	m := Memory{
		ID: fmt.Sprint("m", i), Episode: fmt.Sprint("e", i/3),
		Content: fmt.Sprintf("%s was told that number %d of the harbour lights burns %s", s.ID(), i, strings.Repeat("green ", i%4)),
		Time:    time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC),
	}
	if i%2 == 0 {
		m.Attributes = map[string]string{"told by": string(s.ID())}
	}
	if i%5 == 0 {
		m.Embedding = []float32{float32(i), 1, 0.5}
	}
	_, err := s.Remember(t.Context(), m, RequestID(fmt.Sprint(i, s.Info().Seq)))
	require.NoError(t, err)
}

// atRest reads what the undamaged registry answers and leaves.
func atRest(t *testing.T, name string, m *memoryFS, history []*memoryFS) *storedRegistry {
	t.Helper()
	s := &storedRegistry{
		name: name, fs: m, history: history,
		answers: make(map[SpaceID]answers), left: make(map[SpaceID]map[string][]byte),
	}
	opened := m.clone()
	r, err := Open("", damageOptions(opened, false))
	require.NoError(t, err)
	for _, id := range []SpaceID{damagedSpace, otherSpace} {
		s.answers[id] = readAnswers(t, r, id)
		require.NoError(t, s.answers[id]["memories"].err)
	}
	require.NoError(t, r.Close())
	for id := range s.answers {
		s.left[id] = opened.files(string(id))
	}
	return s
}

// readAnswers asks a space everything.
func readAnswers(t *testing.T, r *Registry, id SpaceID) answers {
	t.Helper()
	all, err := askEverything(t.Context(), r, id)
	require.NoError(t, err)
	return all
}

// askEverything is readAnswers; the error is that the space is not there.
func askEverything(ctx context.Context, r *Registry, id SpaceID) (answers, error) {
	all := make(answers)
	add := func(call string, v any, err error, memories ...Memory) {
		a := answer{text: asJSON(v), err: err}
		for _, m := range memories {
			if m.ID != "" { // of a quarantined space there may be none
				a.memories = append(a.memories, asJSON(m))
			}
		}
		all[call] = a
	}
	s, err := r.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	var list []Memory
	var failed error
	for m, err := range s.Memories(ctx, Filter{}) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		list = append(list, m)
	}
	add("memories", list, failed, list...)
	for _, i := range []int{0, 2, 3, 5, 9, 10, 23, 40, 45, 99} {
		m, err := s.Lookup(ctx, fmt.Sprint("m", i))
		add(fmt.Sprint("lookup ", i), m, err, m)
	}
	for name, cue := range map[string]Cue{
		"words":   {Text: "green harbour light number 10", Limit: 5},
		"newest":  {Filter: Filter{Attributes: map[string]string{"told by": string(id)}}, Limit: 4},
		"episode": {Text: "lights", Filter: Filter{Episode: "e1"}},
		"ids":     {IDs: []string{"m1", "m41"}},
	} {
		answer, err := s.Recall(ctx, cue)
		var memories []Memory
		for _, r := range answer.Recollections {
			memories = append(memories, r.Memory)
		}
		add("recall "+name, answer, err, memories...)
	}
	info, err := r.Info(ctx, id)
	if info.State == Quarantined && info.Incarnation == "" && info.Created.IsZero() {
		err = &CorruptionError{Space: id, File: spaceFile, Reason: "its identity is not known"}
	}
	add("info", []any{info.ID, info.Incarnation, info.Created}, err)
	return all, nil
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	must(err)
	return string(b)
}

// requireSameOrDamaged requires of each answer that it is the expected one, or
// an error that says that the space is damaged. It returns the first such error.
func requireSameOrDamaged(t *testing.T, s *storedRegistry, id SpaceID, got answers, what string) (damage error) {
	t.Helper()
	h := s.hold(id, s.answers[id], got)
	require.Empty(t, h.wrong, what)
	require.Empty(t, h.lost, what)
	return h.damage
}

// isDamage reports whether err says that the space (of id "", the registry) is
// damaged, or of a version that is not known.
func isDamage(id SpaceID, err error) bool {
	var damage *CorruptionError
	var version *VersionError
	switch {
	case errors.As(err, &damage):
		return damage.Space == id && damage.File != "" && damage.Reason != ""
	case errors.As(err, &version):
		return version.Space == id && version.File != ""
	}
	return false
}

// verdict is how a damaged registry took it.
type verdict struct {
	registry error             // the error of Open
	spaces   map[SpaceID]error // that a space is damaged
}

func (v verdict) noticed() bool { return v.registry != nil || len(v.spaces) > 0 }

// judge opens the damaged registry in every way and holds it to the oracle. The
// victims are the spaces that the damage may be felt in; the others answer as
// ever, and their files are what they would be.
func (s *storedRegistry) judge(t *testing.T, damaged *memoryFS, what string, victims ...SpaceID) verdict {
	t.Helper()
	what = s.name + ": " + what
	before := damaged.files(".")
	v := s.judgeOpening(t, damaged, true, what+", read-only", victims)
	requireSameFiles(t, before, damaged.files("."), what+": changed by a read-only registry")

	written := s.judgeOpening(t, damaged, false, what, victims)
	if written.registry != nil {
		requireOpensToRead(t, v, written.registry, what)
		return written
	}
	require.NoError(t, v.registry, what)
	for id := range s.answers {
		if slices.Contains(victims, id) {
			continue
		}
		after, expected := damaged.files(string(id)), maps.Clone(s.left[id])
		delete(after, spaceFile) // its mark moves when the registry settles
		delete(expected, spaceFile)
		requireSameFiles(t, expected, after, what+": files of the other space")
	}
	again := s.judgeOpening(t, damaged, false, what+", opened again", victims)
	require.NoError(t, again.registry, what)
	return written
}

// requireOpensToRead requires that a registry whose journal is damaged opens
// read-only, and that each of its spaces says so.
func requireOpensToRead(t *testing.T, v verdict, damage error, what string) {
	t.Helper()
	if errors.Is(damage, ErrVersion) {
		require.ErrorIs(t, v.registry, ErrVersion, what)
		return
	}
	require.NoError(t, v.registry, what)
	for _, id := range []SpaceID{damagedSpace, otherSpace} {
		require.ErrorIs(t, v.spaces[id], ErrCorrupt, "%s: %s", what, id)
	}
}

// judgeOpening opens and closes the registry once.
func (s *storedRegistry) judgeOpening(t *testing.T, damaged *memoryFS, readOnly bool, what string, victims []SpaceID) verdict {
	t.Helper()
	v := verdict{spaces: make(map[SpaceID]error)}
	r, err := Open("", damageOptions(damaged, readOnly))
	if err != nil {
		require.True(t, isDamage("", err), "%s: %v", what, err)
		v.registry = err
		return v
	}
	for id := range s.answers {
		damage := requireSameOrDamaged(t, s, id, readAnswers(t, r, id), what)
		if damage == nil {
			continue
		}
		require.Contains(t, victims, id, "%s: %v", what, damage)
		v.spaces[id] = damage
		if errors.Is(damage, ErrCorrupt) && !readOnly {
			requireRefusal(t, r, id, what)
		}
	}
	if err := r.Close(); err != nil {
		require.NotEmpty(t, v.spaces, "%s: close: %v", what, err)
		require.ErrorIs(t, err, ErrCorrupt, what)
	}
	return v
}

// requireRefusal requires that the damaged space takes no write.
func requireRefusal(t *testing.T, r *Registry, id SpaceID, what string) {
	t.Helper()
	s, err := r.Get(t.Context(), id)
	require.NoError(t, err, what)
	_, err = s.Remember(t.Context(), Memory{ID: "new", Content: "it must not be taken"})
	require.ErrorIs(t, err, ErrCorrupt, what)
}

func requireSameFiles(t *testing.T, expected, got map[string][]byte, what string) {
	t.Helper()
	require.Equal(t, slices.Sorted(maps.Keys(expected)), slices.Sorted(maps.Keys(got)), what)
	for name := range expected {
		require.True(t, bytes.Equal(expected[name], got[name]), "%s: %s", what, name)
	}
}

// aboveMark reports whether the file is a segment of the log that begins where
// its space is not settled.
func (s *storedRegistry) aboveMark(id SpaceID, file string) bool {
	number, ok := segmentNumber(path.Base(file))
	if !ok || number <= s.mark(id).segment {
		return false
	}
	h, err := decodeSegmentHeader(s.fs.files(".")[file])
	return err == nil && h.kind == kindLog
}

// mark returns how far the space says that it is settled.
func (s *storedRegistry) mark(id SpaceID) mark {
	_, state, err := decodeSpaceFile(s.fs.files(string(id))[spaceFile])
	if err != nil {
		panic(err) // nothing is damaged here
	}
	return state.mark
}
