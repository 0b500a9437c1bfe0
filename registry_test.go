package engram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// requireLocked requires that the directory is held by the process, and that
// opening it says so instead of waiting.
func requireLocked(t *testing.T, dir string, pid int) {
	t.Helper()
	for _, readOnly := range []bool{false, true} {
		_, err := Open(dir, Options{ReadOnly: readOnly})
		require.ErrorIs(t, err, ErrLocked)
		var locked *LockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, LockedError{Dir: dir, PID: pid}, *locked)
	}
}

func TestOpenLocksTheDirectory(t *testing.T) {
	dir := t.TempDir()
	r := openIn(t, dir, Options{})
	requireLocked(t, dir, os.Getpid())
	create(t, r, "alpha") // the attempts disturb nothing
	require.NoError(t, r.Close())

	reader := openIn(t, dir, Options{ReadOnly: true})
	_, err := Open(dir, Options{})
	require.ErrorIs(t, err, ErrLocked, "a reader keeps writers out")
	other := openIn(t, dir, Options{ReadOnly: true})
	require.NoError(t, other.Close())
	require.NoError(t, reader.Close())

	r = openIn(t, dir, Options{})
	require.Equal(t, []SpaceID{"alpha"}, spaceIDs(r, ""))
	require.NoError(t, r.Close())
}

// registryChildDir tells the test binary that it is the child of the test below.
const registryChildDir = "ENGRAM_TEST_REGISTRY_DIR"

func TestOpenLockedByAnotherProcess(t *testing.T) {
	if dir := os.Getenv(registryChildDir); dir != "" {
		r := openIn(t, dir, Options{})
		remember(t, create(t, r, "alpha"), Memory{ID: "one", Content: "of the child"})
		_, err := os.Stdout.WriteString("open\n")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
		require.NoError(t, err)
		return
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestOpenLockedByAnotherProcess$")
	child.Env = append(os.Environ(), registryChildDir+"="+dir)
	_, err := child.StdinPipe() // ends with this process, and the child with it
	require.NoError(t, err)
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	said := make([]byte, len("open\n"))
	_, err = io.ReadFull(stdout, said)
	require.NoError(t, err)
	require.Equal(t, "open\n", string(said))

	requireLocked(t, dir, child.Process.Pid)
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait(), "it was killed")

	r := openIn(t, dir, Options{})
	m, err := get(t, r, "alpha").Lookup(background, "one")
	require.NoError(t, err)
	require.Equal(t, "of the child", m.Content)
	require.NoError(t, r.Close())
}

func TestOpenRefusesOptions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for _, opts := range []Options{
		{Durability: None - 1},
		{JournalBytes: minJournalBytes - 1},
		{JournalBytes: -1},
	} {
		_, err := Open(dir, opts)
		require.ErrorIs(t, err, ErrInvalid)
	}
	_, err := Open(dir, Options{JournalBytes: maxJournalBytes + 1})
	require.ErrorIs(t, err, ErrLimit)
	_, err = Open(dir, Options{ReadOnly: true})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoDirExists(t, dir)
	require.Equal(t, Sync, Interval(-time.Second))
}

// A directory of something else may hold names that a space could have.
func TestOpenMakesNothingBesideStrangers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "docs"), 0o700))
	_, err := Open(dir, Options{})
	require.ErrorIs(t, err, ErrCorrupt)
	require.True(t, isDamage("", err), err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, lockFile, entries[0].Name())
	require.Equal(t, "docs", entries[1].Name())
}

// A caller could change the options of an open registry by a field that is promoted.
func TestHandlesShowNoFields(t *testing.T) {
	t.Parallel()
	for _, handle := range []reflect.Type{reflect.TypeFor[Registry](), reflect.TypeFor[Space]()} {
		for _, field := range reflect.VisibleFields(handle) {
			require.False(t, field.IsExported(), "%s.%s", handle.Name(), field.Name)
		}
	}
}

func TestGetNeverCreates(t *testing.T) {
	r, m := newRegistry(t, Options{})
	for _, id := range []SpaceID{"alice", "alice-2", "alicia", "bob", "zzz-alice"} {
		create(t, r, id)
	}
	before := m.files(".")
	for _, unknown := range []struct {
		id   SpaceID
		near []SpaceID
	}{
		{"alica", []SpaceID{"alice", "alicia"}},
		{"ali", []SpaceID{"alice", "alice-2", "alicia"}},
		{"bobb", []SpaceID{"bob"}},
		{"quite-another", nil},
	} {
		_, err := r.Get(background, unknown.id)
		require.ErrorIs(t, err, ErrSpaceNotFound)
		var notFound *SpaceNotFoundError
		require.ErrorAs(t, err, &notFound)
		require.Equal(t, unknown.id, notFound.Space)
		require.Equal(t, unknown.near, notFound.Near)
		for _, near := range unknown.near {
			require.NotContains(t, err.Error(), `"`+string(near)+`"`, "a name of another space in the text")
		}
		_, err = r.Info(background, unknown.id)
		require.ErrorIs(t, err, ErrSpaceNotFound)
		require.ErrorIs(t, r.Delete(background, unknown.id), ErrSpaceNotFound)
		require.ErrorIs(t, r.Rename(background, unknown.id, "other"), ErrSpaceNotFound)
	}
	requireUnchanged(t, before, m)
	require.Len(t, spaceIDs(r, ""), 5)
}

func TestSpaceIDRules(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	longest := SpaceID(strings.Repeat("x", 64))
	for _, id := range []SpaceID{"abc", "0-_", "a--", longest, "com", "com10", "lpt", "nul0", "console", DefaultSpace} {
		require.NoError(t, id.Validate(), id)
		create(t, r, id)
	}
	refused := []SpaceID{
		"", "a", "ab", longest + "x", "-ab", "_ab", "Abc", "aBc", "a.b", "a b", "a/b", "../a", ".journal", "ab\x00",
		"äbc", "abc\n", "con", "prn", "aux", "nul", "com0", "com9", "lpt1", "\xff\xfe\xfd",
	}
	for _, id := range refused {
		require.ErrorIs(t, id.Validate(), ErrInvalidSpaceID, "%q", id)
		_, err := r.Create(background, id, SpaceConfig{})
		require.ErrorIs(t, err, ErrInvalidSpaceID)
		_, err = r.GetOrCreate(background, id, SpaceConfig{})
		require.ErrorIs(t, err, ErrInvalidSpaceID)
		_, err = r.Get(background, id)
		require.ErrorIs(t, err, ErrInvalidSpaceID)
		_, err = r.Info(background, id)
		require.ErrorIs(t, err, ErrInvalidSpaceID)
		require.ErrorIs(t, r.Delete(background, id), ErrInvalidSpaceID)
		require.ErrorIs(t, r.Rename(background, "abc", id), ErrInvalidSpaceID)
	}
	require.Len(t, spaceIDs(r, ""), 10)
}

func TestSpacesAreOrderedAndResumable(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	for _, id := range []SpaceID{"aaab", "b-1", "aaa", "zzz", "aaa-b", "b_1", "0aa"} {
		create(t, r, id)
	}
	ordered := []SpaceID{"0aa", "aaa", "aaa-b", "aaab", "b-1", "b_1", "zzz"}
	require.Equal(t, ordered, spaceIDs(r, ""))
	for i, id := range ordered {
		require.Equal(t, append([]SpaceID(nil), ordered[i+1:]...), spaceIDs(r, id))
	}
	require.Equal(t, ordered[3:], spaceIDs(r, "aaaa"), "after an id that does not exist")
	require.Empty(t, spaceIDs(r, "zzzz"))

	var met []SpaceID
	for id := range r.Spaces("") { // the catalogue as it was, whatever happens meanwhile
		if id == "0aa" {
			require.NoError(t, r.Delete(background, "aaa"))
			create(t, r, "aab")
		}
		met = append(met, id)
		if id == "b-1" {
			break
		}
	}
	require.Equal(t, ordered[:5], met)
	require.Equal(t, []SpaceID{"0aa", "aaa-b", "aaab", "aab"}, spaceIDs(r, "")[:4])
}

func TestGetOrCreateConcurrently(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	const callers = 32
	handles := make([]*Space, callers)
	errs := make([]error, callers)
	created := make([]error, callers)
	var work sync.WaitGroup
	for i := range callers {
		work.Go(func() {
			handles[i], errs[i] = r.GetOrCreate(background, "alpha", SpaceConfig{MaxMemories: int64(i + 1)})
		})
		work.Go(func() { _, created[i] = r.Create(background, "beta", SpaceConfig{}) })
	}
	work.Wait()
	for i := range callers {
		require.NoError(t, errs[i])
		require.Same(t, handles[0], handles[i])
	}
	require.Same(t, handles[0], get(t, r, "alpha"))
	require.Equal(t, 1, int(r.Stats().Epoch))
	created = slices.DeleteFunc(created, func(err error) bool { return err == nil })
	require.Len(t, created, callers-1, "one creator wins")
	for _, err := range created {
		require.ErrorIs(t, err, ErrSpaceExists)
	}
	first := handles[0].Info()
	again, err := r.GetOrCreate(background, "alpha", SpaceConfig{MaxMemories: 999})
	require.NoError(t, err)
	require.Equal(t, first, again.Info(), "the configuration matters only when it is created")
}

func TestCreateRefusesConfig(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	nan := 0.0
	nan /= nan
	for _, cfg := range []SpaceConfig{
		{MaxMemories: -1},
		{MaxBytes: -1},
		{TextK1: -0.1},
		{TextK1: 10.1},
		{TextK1: nan},
		{TextB: -0.1},
		{TextB: 1.1},
		{TextB: nan},
	} {
		_, err := r.Create(background, "beta", cfg)
		require.ErrorIs(t, err, ErrInvalid)
		_, err = r.GetOrCreate(background, "alpha", cfg)
		require.ErrorIs(t, err, ErrInvalid)
		_, err = s.Configure(background, cfg)
		require.ErrorIs(t, err, ErrInvalid)
	}
	require.Equal(t, []SpaceID{"alpha"}, spaceIDs(r, ""))
	require.Equal(t, uint64(1), s.Info().Seq)
	_, err := s.Configure(background, SpaceConfig{TextK1: 10, TextB: 1})
	require.NoError(t, err)
}

// TestInfoOfAnothersDirectory: the figures of a space that sleeps are its own.
func TestInfoOfAnothersDirectory(t *testing.T) {
	r, m := newRegistry(t, Options{})
	remember(t, create(t, r, "alpha"), Memory{Content: "secret"})
	create(t, r, "beta")
	require.NoError(t, r.Close())
	m.copy("alpha", "beta")
	r = openMemory(t, m, Options{})
	info, err := r.Info(t.Context(), "beta")
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "names another space")
	require.Zero(t, info)
	info, err = r.Info(t.Context(), "alpha")
	require.NoError(t, err)
	require.Equal(t, int64(1), info.Memories)
	require.NoError(t, r.Close())
}

func TestInfoKeepsWhatCreationFixed(t *testing.T) {
	m, clock := newMemoryFS(), newStepClock()
	r := openMemory(t, m, Options{Clock: clock})
	config := SpaceConfig{MaxMemories: 10, MaxBytes: 1 << 20, TextK1: 1.5, TextB: 0.5}
	s, err := r.Create(background, "alpha", config)
	require.NoError(t, err)
	want := s.Info()
	require.Equal(t, want.Config, config)
	require.Equal(t, want.Created, newStepClock().Now())
	require.Len(t, want.Incarnation, 32)
	for range 3 {
		remember(t, s, Memory{Content: "one more", Embedding: []float32{1, 2}})
		want = s.Info()
		require.NoError(t, r.Close())
		clock.set(clock.Now().AddDate(-50, 0, 0)) // clocks may step back
		r = openMemory(t, m, Options{Clock: clock})
		asleep, err := r.Info(background, "alpha")
		require.NoError(t, err)
		require.Zero(t, r.Stats().Awake, "it was not woken")
		want.State = Asleep
		require.Equal(t, want, asleep)
		s = get(t, r, "alpha")
		require.Equal(t, want, s.Info())
		require.Zero(t, r.Stats().Awake, "nor did its handle wake it")
		require.Equal(t, SpaceStats{Operator: OperatorStats{State: Asleep}}, s.Stats())
		_, err = s.Lookup(background, "none")
		require.ErrorIs(t, err, ErrMemoryNotFound)
		want.State = Awake
		require.Equal(t, want, s.Info())
		info, err := r.Info(background, "alpha")
		require.NoError(t, err)
		require.Equal(t, want, info)
	}
	require.NoError(t, r.Close())
}

func TestRecoverAll(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	for i, id := range []SpaceID{"delta", "alpha", "gamma", "beta"} {
		s := create(t, r, id)
		for range i {
			remember(t, s, Memory{Content: "waits in the journal"})
		}
	}
	killed := m.clone()
	killed.put("delta/SPACE", []byte("damaged"))
	require.NoError(t, r.Close())

	want := []RecoveryReport{
		{Space: "alpha", LastSeq: 2, Verdict: Completed},
		{Space: "beta", LastSeq: 4, Verdict: Completed},
		{Space: "delta", Verdict: Refused},
		{Space: "gamma", LastSeq: 3, Verdict: Completed},
	}
	for _, readOnly := range []bool{true, false} {
		r = openMemory(t, killed, Options{ReadOnly: readOnly})
		reports, err := r.RecoverAll(background)
		require.NoError(t, err, "a damaged space stops nothing")
		require.Len(t, reports, len(want))
		for i, got := range reports {
			require.Equal(t, got.Verdict == Refused, got.Damage != "")
			if !readOnly && got.Verdict == Clean {
				got.Verdict = Completed // in the background already
			}
			expected := RecoveryReport{Space: got.Space, LastSeq: got.LastSeq, Verdict: got.Verdict}
			require.Equal(t, expected, want[i])
		}
		if readOnly {
			require.Zero(t, r.Stats().Awake, "they sleep again")
			require.NoError(t, r.Close())
		}
	}
	alpha, err := r.Get(background, "alpha")
	require.NoError(t, err)
	asleep(t, alpha) // what recovers it in the background may have kept it awake
	again, err := r.RecoverAll(background)
	require.NoError(t, err)
	require.Equal(t, Clean, again[0].Verdict)
	cancelled, cancel := context.WithCancel(background)
	cancel()
	_, err = r.RecoverAll(cancelled)
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "\n", "it is said once")
	require.NoError(t, r.Delete(background, "delta"), "damaged spaces can be deleted")
	require.NoError(t, r.Close())
}

// A space of which nobody knows what is in it has no verdict, and one that is
// deleted before its turn no report.
func TestRecoverAllOfSpacesThatCannotBeRead(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	ids := make([]SpaceID, 2*runtime.GOMAXPROCS(0)+1)
	for i := range ids {
		ids[i] = SpaceID(fmt.Sprintf("space-%04d", i))
		asleep(t, create(t, r, ids[i]))
	}
	last := ids[len(ids)-1]
	reading, released := make(chan struct{}, len(ids)), make(chan struct{})
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpOpen && path.Base(c.Name) == spaceFile && !strings.HasPrefix(c.Name, string(last)) {
			reading <- struct{}{}
			<-released
			return syscall.EIO
		}
		return nil
	})
	type result struct {
		reports []RecoveryReport
		err     error
	}
	got := make(chan result, 1)
	go func() {
		reports, err := r.RecoverAll(background)
		got <- result{reports, err}
	}()
	<-reading // the last one's turn comes when another's has ended
	require.NoError(t, r.Delete(background, last))
	close(released)
	all := <-got
	require.ErrorIs(t, all.err, syscall.EIO)
	require.NotErrorIs(t, all.err, ErrSpaceNotFound)
	require.Len(t, all.reports, len(ids)-1)
	for i, report := range all.reports {
		require.Equal(t, RecoveryReport{Space: ids[i]}, report)
	}
	f.SetHook(nil)
	require.NoError(t, r.Close())
}

func TestSettleZeroesTheJournal(t *testing.T) {
	r, m := newRegistry(t, Options{JournalBytes: minJournalBytes})
	require.NoError(t, r.Settle(background))
	requireZeroJournal(t, m)
	for id := range 3 {
		s := create(t, r, SpaceID(fmt.Sprint("space-", id)))
		for range 20 { // the file of the journal changes on the way
			remember(t, s, Memory{Content: strings.Repeat("canary ", 10_000)})
		}
		require.Positive(t, r.Stats().JournalBytes)
		require.NoError(t, r.Settle(background))
		requireZeroJournal(t, m)
		require.Zero(t, r.Stats().JournalBytes)
		require.Equal(t, uint64(21), s.Stats().Operator.MarkSeq)
	}
	cancelled, cancel := context.WithCancel(background)
	cancel()
	require.ErrorIs(t, r.Settle(cancelled), context.Canceled)
}

func TestRegistryStats(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	require.Equal(t, RegistryStats{Epoch: 1, JournalFiles: 1, JournalGeneration: 1}, r.Stats())
	alpha, beta := create(t, r, "alpha"), create(t, r, "beta")
	remember(t, alpha, Memory{Content: "one"})
	remember(t, beta, Memory{Content: "two"})
	remember(t, beta, Memory{Content: "three"}, Memory{Content: "four"})
	stats := r.Stats()
	require.Positive(t, stats.JournalBytes)
	require.Positive(t, stats.AwakeBytes)
	stats.JournalBytes, stats.AwakeBytes = 0, 0
	require.Equal(t, RegistryStats{
		Spaces: 2, Awake: 2, Epoch: 1, JournalFiles: 1, JournalGeneration: 1, Groups: 3, Frames: 3, Flushes: 3,
	}, stats)
	asleep(t, alpha)
	require.Equal(t, 1, r.Stats().Awake)
	require.NoError(t, r.Delete(background, "beta"))
	require.Equal(t, 1, r.Stats().Spaces)
	require.Zero(t, r.Stats().Awake)
	remember(t, alpha, Memory{Content: "five"})
	require.Equal(t, uint64(1), r.Stats().Wakings)
	require.NoError(t, r.Close())
	r = openMemory(t, m, Options{})
	require.Equal(t, uint32(2), r.Stats().Epoch)
	require.NoError(t, r.Close())
}

// everyCallOf calls each method of the registry and of the space that can fail.
func everyCallOf(r *Registry, s *Space) map[string]error {
	errs := make(map[string]error)
	_, errs["Create"] = r.Create(background, "new", SpaceConfig{})
	_, errs["Get"] = r.Get(background, "alpha")
	_, errs["GetOrCreate"] = r.GetOrCreate(background, "alpha", SpaceConfig{})
	errs["Delete"] = r.Delete(background, "alpha")
	errs["Rename"] = r.Rename(background, "alpha", "other")
	_, errs["Registry.Info"] = r.Info(background, "alpha")
	_, errs["RecoverAll"] = r.RecoverAll(background)
	errs["Settle"] = r.Settle(background)
	_, errs["Import"] = r.Import(background, "imported", strings.NewReader(importHeader))
	for name, err := range everySpaceCall(s) {
		errs[name] = err
	}
	return errs
}

func everySpaceCall(s *Space) map[string]error {
	errs := make(map[string]error)
	_, errs["Remember"] = s.Remember(background, Memory{Content: "x"})
	_, errs["RememberBatch"] = s.RememberBatch(background, []Memory{{Content: "x"}, {Content: "y"}})
	_, errs["Lookup"] = s.Lookup(background, "x")
	_, errs["Recall"] = s.Recall(background, Cue{Text: "x"})
	_, errs["Forget"] = s.Forget(background, []string{"x"})
	_, errs["ForgetWhere"] = s.ForgetWhere(background, Filter{Kind: Semantic})
	_, errs["Configure"] = s.Configure(background, SpaceConfig{})
	errs["Checkpoint"] = s.Checkpoint(background)
	_, errs["Export"] = s.Export(background, io.Discard)
	_, errs["Verify"] = s.Verify(background)
	errs["Subscribe"] = errors.New("nothing was yielded")
	for _, err := range s.Subscribe(background, 0) {
		errs["Subscribe"] = err
		break
	}
	errs["Memories"] = errors.New("nothing was yielded")
	for _, err := range s.Memories(background, Filter{}) {
		errs["Memories"] = err
	}
	return errs
}

func TestEveryCallAfterClose(t *testing.T) {
	for _, sleeps := range []bool{false, true} {
		r := openMemory(t, newMemoryFS(), Options{})
		s := create(t, r, "alpha")
		remember(t, s, Memory{ID: "x", Content: "x"})
		if sleeps {
			asleep(t, s)
		}
		require.NoError(t, r.Close())
		require.NoError(t, r.Close(), "closing again does nothing")
		for name, err := range everyCallOf(r, s) {
			require.ErrorIs(t, err, ErrClosed, name)
		}
		require.Equal(t, SpaceID("alpha"), s.ID())
		r.Stats()
		s.Stats()
		s.Info()
	}
}
