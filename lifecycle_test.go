package engram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/engramdb/engram/internal/crashfs"
	"github.com/engramdb/engram/internal/vfs"
)

func TestDeletedHandlesAreStale(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	old := create(t, r, "alpha")
	remember(t, old, Memory{ID: "x", Content: "of the deleted"})
	before := old.Info()
	require.NoError(t, r.Delete(background, "alpha"))
	requireAll := func(want error, s *Space) {
		t.Helper()
		for name, err := range everySpaceCall(s) {
			require.ErrorIs(t, err, want, name)
		}
	}
	requireAll(ErrSpaceDeleted, old)
	_, err := r.Get(background, "alpha")
	require.ErrorIs(t, err, ErrSpaceNotFound)
	require.ErrorIs(t, r.Delete(background, "alpha"), ErrSpaceNotFound)

	again := create(t, r, "alpha")
	require.NotSame(t, old, again)
	require.NotEqual(t, before.Incarnation, again.Info().Incarnation)
	require.Empty(t, list(t, again, Filter{}))
	remember(t, again, Memory{ID: "x", Content: "of the new one"})
	requireAll(ErrSpaceDeleted, old)
	m, err := again.Lookup(background, "x")
	require.NoError(t, err)
	require.Equal(t, "of the new one", m.Content)
}

// fillers bring a new space "alpha", which holds a memory "x", into a state.
func fillers() map[string]func(t *testing.T, m *memoryFS, r *Registry, s *Space) (*memoryFS, *Registry) {
	same := func(f func(t *testing.T, r *Registry, s *Space)) func(*testing.T, *memoryFS, *Registry, *Space) (*memoryFS, *Registry) {
		return func(t *testing.T, m *memoryFS, r *Registry, s *Space) (*memoryFS, *Registry) {
			f(t, r, s)
			return m, r
		}
	}
	return map[string]func(*testing.T, *memoryFS, *Registry, *Space) (*memoryFS, *Registry){
		"only in the journal": same(func(*testing.T, *Registry, *Space) {}),
		"settled":             same(func(t *testing.T, r *Registry, _ *Space) { require.NoError(t, r.Settle(background)) }),
		"asleep":              same(func(t *testing.T, _ *Registry, s *Space) { asleep(t, s) }),
		"checkpointed":        same(func(t *testing.T, _ *Registry, s *Space) { require.NoError(t, s.Checkpoint(background)) }),
		"renamed": same(func(t *testing.T, r *Registry, _ *Space) {
			require.NoError(t, r.Rename(background, "alpha", "other"))
			require.NoError(t, r.Rename(background, "other", "alpha"))
		}),
		"damaged": func(t *testing.T, m *memoryFS, r *Registry, _ *Space) (*memoryFS, *Registry) {
			require.NoError(t, r.Close())
			m.put("alpha/wal/00000001.wal", []byte("damaged"))
			return m, openMemory(t, m, Options{})
		},
		"after a kill": func(t *testing.T, m *memoryFS, r *Registry, _ *Space) (*memoryFS, *Registry) {
			killed := m.clone()
			require.NoError(t, r.Close())
			return killed, openMemory(t, killed, Options{})
		},
	}
}

// Whatever state a space was in: deleted, its memories never come back, also
// not into a space of the same id, and its files are gone.
func TestDeleteInEveryState(t *testing.T) {
	for name, fill := range fillers() {
		t.Run(name, func(t *testing.T) {
			m := newMemoryFS()
			r := openMemory(t, m, Options{})
			s := create(t, r, "alpha")
			remember(t, s, Memory{ID: "x", Content: "the canary"})
			m, r = fill(t, m, r, s)
			require.NoError(t, r.Delete(background, "alpha"))

			afterDelete := m.clone()
			require.Empty(t, m.files("alpha"))
			remember(t, create(t, r, "alpha"), Memory{ID: "y", Content: "of the new one"})
			afterCreate := m.clone()
			require.NoError(t, r.Settle(background))
			require.Empty(t, m.files(trashDir))
			requireNowhere(t, m, "canary")
			require.NoError(t, r.Close())

			r = openMemory(t, afterDelete, Options{})
			require.Empty(t, spaceIDs(r, ""))
			require.NoError(t, r.Settle(background))
			require.Empty(t, afterDelete.root.at(trashDir).children, "tombstones go with the journal's last word of them")
			requireNowhere(t, afterDelete, "canary")
			require.NoError(t, r.Close())

			for _, m := range []*memoryFS{m, afterCreate} {
				r = openMemory(t, m, Options{})
				require.Equal(t, []string{"y"}, idsOf(list(t, get(t, r, "alpha"), Filter{})))
				require.NoError(t, r.Close())
			}
		})
	}
}

// sizes returns the length of every file.
func sizes(m *memoryFS) map[string]int {
	all := make(map[string]int)
	for name, content := range m.files(".") {
		all[name] = len(content)
	}
	return all
}

func TestDeleteReturnsTheDisk(t *testing.T) {
	r, m := newRegistry(t, Options{})
	for range 2 { // both files of the journal exist
		remember(t, create(t, r, "other"), Memory{Content: "x"})
		require.NoError(t, r.Settle(background))
		require.NoError(t, r.Delete(background, "other"))
	}
	require.NoError(t, r.Settle(background))
	before := sizes(m)
	s := create(t, r, "alpha")
	require.LessOrEqual(t, total(sizes(m))-total(before), 32<<10, "an empty space")
	for range 10 {
		remember(t, s, Memory{Content: strings.Repeat("x ", 1000), Episode: "e"})
		require.NoError(t, s.Checkpoint(background))
	}
	require.NoError(t, r.Delete(background, "alpha"))
	require.NoError(t, r.Settle(background))
	require.Equal(t, before, sizes(m))
}

func total(sizes map[string]int) int {
	sum := 0
	for _, size := range sizes {
		sum += size
	}
	return sum
}

// A tombstone stays as long as the journal may tell of the space again.
func TestTombstoneOutlivesTheJournal(t *testing.T) {
	r, m := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{Content: "x"})
	incarnation := s.Info().Incarnation
	require.NoError(t, r.Delete(background, "alpha"))
	tombstones := func() []string { return slices.Collect(maps.Keys(m.root.at(trashDir).children)) }
	require.Equal(t, []string{incarnation}, tombstones())
	require.NoError(t, r.Settle(background))
	require.Empty(t, tombstones())
	create(t, r, "alpha")
	require.NoError(t, r.Delete(background, "alpha"))
	require.Empty(t, tombstones(), "the journal never named it")
}

// What a deletion costs does not grow with the tombstones that the journal needs.
func TestDeleteLooksAtItsOwnTombstone(t *testing.T) {
	const others = 100_000
	r, _ := newRegistry(t, Options{})
	remember(t, create(t, r, "alpha"), Memory{Content: "x"})
	for i := range others {
		inc := incarnation{1, byte(i >> 16), byte(i >> 8), byte(i)}
		r.tombstones[inc], r.journal.current.named[inc] = true, true
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, r.Delete(background, "alpha"))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(others*len(incarnation{})), "or it has gathered them")
	require.Len(t, r.tombstones, others+1)
	clear(r.tombstones)
}

func TestRename(t *testing.T) {
	for name, fill := range fillers() {
		if name == "damaged" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m := newMemoryFS()
			r := openMemory(t, m, Options{})
			s := create(t, r, "alpha")
			remember(t, s, Memory{ID: "x", Content: "follows"})
			before := s.Info()
			m, r = fill(t, m, r, s)
			s = get(t, r, "alpha")
			require.NoError(t, r.Rename(background, "alpha", "beta"))

			require.Equal(t, SpaceID("beta"), s.ID())
			require.Same(t, s, get(t, r, "beta"))
			_, err := r.Get(background, "alpha")
			require.ErrorIs(t, err, ErrSpaceNotFound)
			require.Equal(t, []SpaceID{"beta"}, spaceIDs(r, ""))
			if recovery := s.Stats().Operator.Recovery; recovery != (RecoveryReport{}) {
				require.Equal(t, SpaceID("beta"), recovery.Space)
			}
			after := s.Info()
			require.Equal(t, SpaceID("beta"), after.ID)
			after.ID = before.ID
			after.State = before.State // what recovers it in the background lets it sleep again
			require.Equal(t, before, after)
			reports, err := r.RecoverAll(background)
			require.NoError(t, err)
			require.Equal(t, SpaceID("beta"), reports[0].Space)

			_, err = s.Remember(background, Memory{Space: "alpha", Content: "x"})
			require.ErrorIs(t, err, ErrWrongSpace)
			remember(t, s, Memory{ID: "y", Space: "beta", Content: "written after"})
			remember(t, create(t, r, "alpha"), Memory{ID: "z", Content: "of another space"})
			killed := m.clone()
			require.NoError(t, r.Close())
			for _, m := range []*memoryFS{m, killed} {
				r = openMemory(t, m, Options{})
				require.Equal(t, []SpaceID{"alpha", "beta"}, spaceIDs(r, ""))
				require.Equal(t, []string{"x", "y"}, idsOf(list(t, get(t, r, "beta"), Filter{})))
				require.Equal(t, []string{"z"}, idsOf(list(t, get(t, r, "alpha"), Filter{})))
				for _, m := range list(t, get(t, r, "beta"), Filter{}) {
					require.Equal(t, SpaceID("beta"), m.Space)
				}
				require.NoError(t, r.Close())
			}
		})
	}
}

func TestRenameRefuses(t *testing.T) {
	r, m := newRegistry(t, Options{})
	s, other := create(t, r, "alpha"), create(t, r, "beta")
	remember(t, s, Memory{ID: "x", Content: "x"})
	before := m.files(".")
	require.ErrorIs(t, r.Rename(background, "alpha", "beta"), ErrSpaceExists)
	require.NoError(t, r.Rename(background, "alpha", "alpha"))
	requireUnchanged(t, before, m)
	require.Same(t, s, get(t, r, "alpha"))
	require.Same(t, other, get(t, r, "beta"))
	remember(t, s, Memory{ID: "y", Content: "y"})
	require.NoError(t, r.Delete(background, "beta"))
	require.NoError(t, r.Rename(background, "alpha", "beta"), "a deleted space's id is free")
	require.NoError(t, r.Rename(background, "beta", "alpha"), "and so is a renamed one's")
	require.Equal(t, []string{"x", "y"}, idsOf(list(t, s, Filter{})))
}

// A space whose SPACE cannot be read for want of descriptors is not deleted under
// another name: what the journal holds of it would stay there for good.
func TestDeleteWithoutDescriptors(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	remember(t, create(t, r, "alpha"), Memory{ID: "m", Content: "content"})
	after := f.Kill()
	_ = r.Close() // its process has ended
	after.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpOpen && c.Name == "alpha/"+spaceFile {
			return syscall.EMFILE
		}
		return nil
	})
	r = openMemory(t, after, Options{})
	require.ErrorIs(t, r.Settle(background), syscall.EMFILE) // what recovers in the background has ended
	require.ErrorIs(t, r.Delete(background, "alpha"), syscall.EMFILE)
	after.SetHook(nil)
	require.Equal(t, []string{"m"}, idsOf(list(t, get(t, r, "alpha"), Filter{})))
	require.NoError(t, r.Delete(background, "alpha"))
	require.NoError(t, r.Settle(background))
	require.NoError(t, r.Close())
}

// Who asks for the id that a space is being renamed to waits, and gets the space.
func TestGetMeetsRename(t *testing.T) {
	for _, fails := range []error{nil, syscall.EIO} {
		synctest.Test(t, func(t *testing.T) {
			f := crashfs.New()
			r := openMemory(t, f, Options{})
			s := create(t, r, "alpha")
			released := make(chan struct{})
			f.SetHook(func(c crashfs.Call) error {
				if c.Op != crashfs.OpRename {
					return nil
				}
				<-released
				return fails
			})
			renamed, got := make(chan error, 1), make(chan error, 1)
			go func() { renamed <- r.Rename(background, "alpha", "beta") }()
			synctest.Wait()
			go func() {
				found, err := r.Get(background, "beta")
				if err == nil && found != s {
					err = errors.New("another space")
				}
				got <- err
			}()
			synctest.Wait()
			require.Empty(t, got)
			close(released)
			require.ErrorIs(t, <-renamed, fails)
			if fails == nil {
				require.NoError(t, <-got)
			} else {
				require.ErrorIs(t, <-got, ErrSpaceNotFound)
			}
			require.NoError(t, r.Close())
		})
	}
}

// A Rename that waits for a creation under the new id keeps nobody from the space.
func TestRenameWaitsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openMemory(t, newMemoryFS(), Options{})
		create(t, r, "alpha")
		source, stuck := io.Pipe()
		imported, renamed, deleted := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := r.Import(background, "beta", source)
			imported <- err
		}()
		synctest.Wait()
		go func() { renamed <- r.Rename(background, "alpha", "beta") }()
		synctest.Wait()
		go func() { deleted <- r.Delete(background, "alpha") }()
		synctest.Wait()
		require.Len(t, deleted, 1)
		require.NoError(t, <-deleted)
		require.NoError(t, stuck.Close())
		require.Error(t, <-imported, "nothing was in it")
		require.ErrorIs(t, <-renamed, ErrSpaceNotFound)
		create(t, r, "beta") // whose id is free
		require.NoError(t, r.Close())
	})
}

// A Rename that gave up waiting for another one of its space has left the id free.
func TestRenameGivesUpItsClaim(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	create(t, r, "alpha")
	hanging, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpRename && c.Name == "alpha" })
	renamed := make(chan error, 1)
	go func() { renamed <- r.Rename(background, "alpha", "gamma") }()
	<-hanging
	ctx, cancel := context.WithTimeout(background, 5*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Rename(ctx, "alpha", "beta"), context.DeadlineExceeded)
	release()
	require.NoError(t, <-renamed)
	create(t, r, "beta")
	require.NoError(t, r.Close())
}

// A Delete that waited for a Rename concerns the id, not the space that had it.
func TestDeleteOvertakenByRename(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "alpha")
	renaming, released := make(chan struct{}), make(chan struct{})
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpRename {
			close(renaming)
			<-released
		}
		return nil
	})
	renamed, deleted := make(chan error, 1), make(chan error, 1)
	go func() { renamed <- r.Rename(background, "alpha", "beta") }()
	<-renaming
	go func() { deleted <- r.Delete(background, "alpha") }()
	time.Sleep(5 * time.Millisecond) // most often it waits then; if not, it comes later still
	close(released)
	require.NoError(t, <-renamed)
	require.ErrorIs(t, <-deleted, ErrSpaceNotFound)
	require.Same(t, s, get(t, r, "beta"))
	remember(t, s, Memory{Content: "it is still there"})
}

// A space that goes between finding it and reading its files is not damaged.
func TestInfoOvertaken(t *testing.T) {
	for name, overtake := range map[string]func(r *Registry) error{
		"delete": func(r *Registry) error { return r.Delete(background, "alpha") },
		"rename": func(r *Registry) error { return r.Rename(background, "alpha", "beta") },
	} {
		t.Run(name, func(t *testing.T) {
			fs := newCountingFS(newMemoryFS())
			r := openMemory(t, fs, Options{})
			asleep(t, create(t, r, "alpha"))
			fs.opening = func(name string) {
				if name == "alpha" {
					fs.opening = nil
					require.NoError(t, overtake(r))
				}
			}
			_, err := r.Info(background, "alpha")
			require.ErrorIs(t, err, ErrSpaceNotFound)
			require.NoError(t, r.Close())
		})
	}
}

// A handle describes its space, not the one that has its old id.
func TestInfoFollowsARename(t *testing.T) {
	fs := newCountingFS(newMemoryFS())
	r := openMemory(t, fs, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{Content: "of the first"})
	want := s.Info()
	asleep(t, s)
	fs.opening = func(name string) {
		if name == "alpha" {
			fs.opening = nil
			require.NoError(t, r.Rename(background, "alpha", "beta"))
			create(t, r, "alpha")
		}
	}
	got := s.Info()
	want.ID = "beta"
	require.Equal(t, want, got)
	require.NoError(t, r.Close())
}

// While a space falls asleep, its SPACE does not say yet what was acknowledged.
func TestInfoMeetsSleep(t *testing.T) {
	for _, fails := range []bool{false, true} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "alpha")
		remember(t, s, Memory{Content: "x"})
		want := s.Info()
		flushing, release := make(chan struct{}), make(chan struct{})
		f.SetHook(func(c crashfs.Call) error {
			if c.Op != crashfs.OpSync || !strings.HasSuffix(c.Name, walSuffix) {
				return nil
			}
			close(flushing)
			<-release
			if fails {
				return syscall.EIO
			}
			return nil
		})
		slept := make(chan struct{})
		go func() {
			defer close(slept)
			s.sleep()
		}()
		<-flushing
		require.Equal(t, want, s.Info())
		close(release)
		<-slept
		f.SetHook(nil)
		want.State = Awake
		if !fails {
			want.State = Asleep
		}
		require.Equal(t, want, s.Info())
		require.Equal(t, fails, r.Close() != nil)
	}
}

// While a deletion waits for the disk, the space that it moves away is not damaged
// either.
func TestInfoMeetsDelete(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	asleep(t, create(t, r, "alpha"))
	moved, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpSyncDir && c.Name == trashDir })
	deleted, told := make(chan error, 1), make(chan error, 1)
	go func() { deleted <- r.Delete(background, "alpha") }()
	<-moved
	go func() {
		_, err := r.Info(background, "alpha")
		told <- err
	}()
	select {
	case err := <-told:
		told <- err
	case <-time.After(50 * time.Millisecond): // it waits
	}
	release()
	require.NoError(t, <-deleted)
	require.ErrorIs(t, <-told, ErrSpaceNotFound)
	require.NoError(t, r.Close())
}

// What a deletion of unknown outcome leaves behind, and a space that Close has
// retired, is not told for one that is not there: who deletes it would take that for
// done.
func TestEndedIsNotNotFound(t *testing.T) {
	ends := map[string]struct {
		end  func(t *testing.T, f *crashfs.FS, r *Registry, s *Space)
		want error
	}{
		"unknown outcome": {func(t *testing.T, f *crashfs.FS, r *Registry, s *Space) {
			f.SetHook(func(c crashfs.Call) error {
				if c.Op == crashfs.OpSyncDir && c.Name == "." {
					return syscall.EIO
				}
				return nil
			})
			require.ErrorIs(t, r.Delete(background, "alpha"), ErrUnknownOutcome)
			f.SetHook(nil)
		}, ErrUnknownOutcome},
		"closing": {func(_ *testing.T, _ *crashfs.FS, _ *Registry, s *Space) { s.end(ErrClosed) }, ErrClosed},
	}
	for name, x := range ends {
		for _, sleeps := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " asleep ", sleeps), func(t *testing.T) {
				f := crashfs.New()
				r := openMemory(t, f, Options{})
				s := create(t, r, "alpha")
				if sleeps {
					asleep(t, s)
				}
				x.end(t, f, r, s)
				_, err := r.Info(background, "alpha")
				for call, err := range map[string]error{
					"delete": r.Delete(background, "alpha"),
					"rename": r.Rename(background, "alpha", "beta"),
					"info":   err,
				} {
					require.ErrorIs(t, err, x.want, call)
					require.NotErrorIs(t, err, ErrSpaceNotFound, call)
				}
				require.NoError(t, r.Close())
			})
		}
	}
}

func TestReadOnlyChangesNoByte(t *testing.T) {
	dir := t.TempDir()
	r := openIn(t, dir, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "x", Content: "to be read"})
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, r.Close())
	before := treeHash(t, dir)

	first := openIn(t, dir, Options{ReadOnly: true})
	second := openIn(t, dir, Options{ReadOnly: true})
	for _, r := range []*Registry{first, second} {
		requireReadOnly(t, r)
	}
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	require.Equal(t, before, treeHash(t, dir))
}

// requireReadOnly reads a registry with the memory x in its space alpha and
// requires that writes are refused.
func requireReadOnly(t *testing.T, r *Registry) {
	t.Helper()
	s := get(t, r, "alpha")
	require.Equal(t, []string{"x"}, idsOf(list(t, s, Filter{})))
	require.Equal(t, []string{"x"}, recalledIDs(recall(t, s, Cue{Text: "read"})))
	reads := []string{"Get", "GetOrCreate", "Registry.Info", "RecoverAll", "Lookup", "Recall", "Memories", "Export", "Verify"}
	for name, err := range everyCallOf(r, s) {
		if slices.Contains(reads, name) {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, ErrReadOnly, name)
		}
	}
	require.ErrorIs(t, s.Checkpoint(background), ErrReadOnly)
	_, err := r.GetOrCreate(background, "beta", SpaceConfig{})
	require.ErrorIs(t, err, ErrReadOnly)
	_, err = r.Get(background, "beta")
	require.ErrorIs(t, err, ErrSpaceNotFound)
	require.Equal(t, []SpaceID{"alpha"}, spaceIDs(r, ""))
}

// What a killed writer left is read with the journal's frames, and left as it is.
func TestReadOnlyAfterAKill(t *testing.T) {
	r, m := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "x", Content: "to be read"})
	killed := m.clone()
	killed.put("alpha/wal/00000001.wal", killed.files("alpha")["wal/00000001.wal"][:300]) // only the journal has it whole
	before := killed.files(".")
	reader := openMemory(t, killed, Options{ReadOnly: true})
	requireReadOnly(t, reader)
	require.Equal(t, 1, get(t, reader, "alpha").Stats().Operator.Recovery.FromJournal)
	require.NoError(t, reader.Close())
	requireUnchanged(t, before, killed)
}

// A directory on a file system that is mounted read-only, as one is whose device is
// failing, can be read, checked and salvaged.
func TestReadOnlyFileSystem(t *testing.T) {
	r, m := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "x", Content: "to be read"})
	killed := m.clone()
	require.NoError(t, r.Settle(background))
	settled := m.clone()
	require.NoError(t, s.Checkpoint(background))
	for name, left := range map[string]*memoryFS{"killed": killed, "settled": settled, "checkpointed": m.clone()} {
		t.Run(name, func(t *testing.T) {
			from := openMemory(t, readOnlyFS{left}, Options{ReadOnly: true})
			requireReadOnly(t, from)
			check, err := from.checkAll(background)
			require.NoError(t, err)
			require.EqualValues(t, 1, check.Spaces[0].Memories)
			clock := new(salvageClock)
			to := openMemory(t, newMemoryFS(), Options{Durability: None, Clock: clock})
			salvaged, err := salvage(background, from, to, clock, nil)
			require.NoError(t, err)
			require.Zero(t, salvaged.ExitCode())
			require.NoError(t, from.Close())
			require.NoError(t, to.Close())
		})
	}
}

// readOnlyFS refuses what a file system that is mounted read-only does.
type readOnlyFS struct{ vfs.FS }

func (f readOnlyFS) OpenDir(path string, create bool) (vfs.Dir, error) {
	if create {
		return nil, syscall.EROFS
	}
	dir, err := f.FS.OpenDir(path, false)
	return readOnlyDir{dir}, err
}

type readOnlyDir struct{ vfs.Dir }

func (d readOnlyDir) OpenDir(name string) (vfs.Dir, error) {
	dir, err := d.Dir.OpenDir(name)
	return readOnlyDir{dir}, err
}

func (d readOnlyDir) Open(name string, write bool) (vfs.File, error) {
	if write {
		return nil, syscall.EROFS
	}
	return d.Dir.Open(name, false)
}

func (d readOnlyDir) Lock(name string, shared bool, note string) (io.Closer, string, error) {
	if !shared {
		return nil, "", syscall.EROFS
	}
	return d.Dir.Lock(name, true, note)
}

func (readOnlyDir) Mkdir(string) error              { return syscall.EROFS }
func (readOnlyDir) Create(string) (vfs.File, error) { return nil, syscall.EROFS }
func (readOnlyDir) Rename(string, string) error     { return syscall.EROFS }
func (readOnlyDir) Remove(string) error             { return syscall.EROFS }

// engramGoroutines returns the goroutines that run code of the library, but
// for tests.
func engramGoroutines() []string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var ours []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "engramdb/engram.") && !strings.Contains(stack, "_test.go") {
			ours = append(ours, stack)
		}
	}
	return ours
}

func TestCloseJoinsEveryGoroutine(t *testing.T) {
	require.Eventually(t, func() bool { return len(engramGoroutines()) == 0 }, time.Minute, time.Millisecond,
		"of the tests before this one")
	for _, durability := range []Durability{Sync, Interval(time.Hour), None} {
		r := openMemory(t, newMemoryFS(), Options{
			Durability: durability, JournalBytes: minJournalBytes, seams: seams{checkpointBytes: 10_000, segmentBytes: 20_000},
		})
		ctx, cancel := context.WithCancel(background)
		var work sync.WaitGroup
		for i := range 4 {
			s := create(t, r, SpaceID(fmt.Sprint("space-", i)))
			for range 2 {
				work.Go(func() {
					for ctx.Err() == nil {
						_, err := s.Remember(ctx, Memory{ID: "x", Content: strings.Repeat("x ", 2000)})
						if err != nil && !errors.Is(err, context.Canceled) {
							require.ErrorIs(t, err, ErrClosed)
							return
						}
					}
				})
			}
		}
		time.Sleep(20 * time.Millisecond)
		var closers sync.WaitGroup
		for range 2 {
			closers.Go(func() { require.NoError(t, r.Close()) })
		}
		closers.Wait()
		cancel()
		work.Wait()
		require.Eventually(t, func() bool { return len(engramGoroutines()) == 0 }, time.Minute, time.Millisecond,
			"a goroutine that has been joined may take a moment to be gone")
	}
}

// Opening reads names and the journal, however many spaces there are; waking
// one, or asking for one, reaches that one.
func TestOpenTouchesNoSpace(t *testing.T) {
	spaces := 10_000
	if testing.Short() {
		spaces = 1000
	}
	fs := newCountingFS(newMemoryFS())
	r := openMemory(t, fs, Options{})
	for i := range spaces {
		s := create(t, r, SpaceID(fmt.Sprintf("space-%05d", i)))
		s.sleep()
	}
	require.NoError(t, r.Close())
	require.Len(t, fs.touched(), spaces)

	r = openMemory(t, fs, Options{})
	require.Empty(t, fs.touched())
	require.Len(t, spaceIDs(r, ""), spaces)
	require.Equal(t, spaces, r.Stats().Spaces)
	s := get(t, r, "space-00042")
	require.Empty(t, fs.touched())
	_, err := r.Info(background, "space-00007")
	require.NoError(t, err)
	require.Equal(t, []SpaceID{"space-00007"}, fs.touched())
	remember(t, s, Memory{Content: "wakes"})
	require.Equal(t, []SpaceID{"space-00042"}, fs.touched())
	require.Equal(t, 1, r.Stats().Awake)
	require.NoError(t, r.Close())
	require.Equal(t, []SpaceID{"space-00042"}, fs.touched())
}

// An id that another call is about to create may stay free: Rename waits to see.
func TestRenameAwaitsCreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		create(t, r, "alpha")
		creating, released := make(chan struct{}), make(chan struct{})
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpRename && strings.HasPrefix(c.Name, tmpDir) {
				close(creating)
				<-released
				return syscall.EIO
			}
			return nil
		})
		created, renamed := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := r.Create(background, "beta", SpaceConfig{})
			created <- err
		}()
		<-creating
		go func() { renamed <- r.Rename(background, "alpha", "beta") }()
		synctest.Wait()
		require.Empty(t, renamed)
		close(released)
		require.ErrorIs(t, <-created, syscall.EIO)
		require.NoError(t, <-renamed)
		require.Equal(t, []SpaceID{"beta"}, spaceIDs(r, ""))
		require.NoError(t, r.Close())
	})
}

// A deletion that fails leaves the space as it was, also for those who wrote to
// it meanwhile: nobody is told that it was deleted before it is.
func TestDeletionThatFailsRefusesNobody(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "alpha")
	for round := range 3 {
		deleting, released := make(chan struct{}), make(chan struct{})
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpRename && c.Name == "alpha" {
				close(deleting)
				<-released
				return syscall.EIO
			}
			return nil
		})
		deleted, wrote := make(chan error, 1), make(chan error, 1)
		go func() { deleted <- r.Delete(background, "alpha") }()
		<-deleting
		go func() { wrote <- remembering(Memory{ID: fmt.Sprint(round), Content: "meanwhile"})(s) }()
		queued := func() bool {
			r.commits.mu.Lock()
			defer r.commits.mu.Unlock()
			return len(s.awake.Load().queue.writes) == 1
		}
		for !queued() && len(wrote) == 0 {
			runtime.Gosched()
		}
		close(released)
		require.ErrorIs(t, <-deleted, syscall.EIO)
		require.NoError(t, <-wrote)
		f.SetHook(nil)
	}
	require.Len(t, list(t, s, Filter{}), 3)
	require.NoError(t, r.Delete(background, "alpha"))
	require.ErrorIs(t, remembering(Memory{Content: "too late"})(s), ErrSpaceDeleted)
	require.NoError(t, r.Close())
}

// A creation that Close meets has happened when it returns, or has not.
func TestCreationMeetsClose(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	creating, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpRename })
	created, closed := make(chan error, 1), make(chan error, 1)
	var s *Space
	go func() {
		var err error
		s, err = r.Create(background, "alpha", SpaceConfig{})
		created <- err
	}()
	<-creating
	go func() { closed <- r.Close() }()
	for r.usable(background) == nil {
		runtime.Gosched()
	}
	release()
	require.NoError(t, <-created)
	require.NoError(t, <-closed)
	for name, err := range everySpaceCall(s) {
		require.ErrorIs(t, err, ErrClosed, name)
	}
	require.Empty(t, f.Handles())
	r = openMemory(t, f, Options{})
	require.Equal(t, []SpaceID{"alpha"}, spaceIDs(r, ""))
	require.NoError(t, r.Close())
}

// closeMeanwhile begins to close the registry, and returns when that has ended the
// space's handle.
func closeMeanwhile(r *Registry, s *Space) (closed chan error) {
	closed = make(chan error, 1)
	go func() { closed <- r.Close() }()
	for s.gone() == nil {
		runtime.Gosched()
	}
	return closed
}

// requireOpen fails the test if Close returns.
func requireOpen(t *testing.T, closed chan error, otherwise string) {
	t.Helper()
	select {
	case err := <-closed:
		closed <- err
		t.Errorf("%s (%v)", otherwise, err)
	case <-time.After(50 * time.Millisecond):
	}
}

// Close waits for who has begun to put a space to sleep, also after it has ended the
// space's handle: that may write its mark.
func TestSleepMeetsClose(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	create(t, r, "aaa")
	require.NoError(t, r.Close())
	r = openMemory(t, f, Options{})
	s := get(t, r, "aaa")
	list(t, s, Filter{})
	require.NoError(t, r.begin(background)) // a call that Close waits for
	closed := closeMeanwhile(r, s)
	writing, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpWrite && c.Name == "aaa/"+spaceFile })
	slept := make(chan struct{})
	go func() {
		defer close(slept)
		s.sleep()
	}()
	<-writing
	r.work.Done()
	requireOpen(t, closed, "the directory may be another process's when the mark is written")
	defer func() { require.NoError(t, <-closed) }()
	release()
	<-slept
}

// Who settles a space to export it is waited for, too: the directory may be another
// process's when Close returns.
func TestExportMeetsClose(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	create(t, r, "aaa")
	require.NoError(t, r.Close())
	r = openMemory(t, f, Options{Durability: None})
	s := get(t, r, "aaa")
	writing, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpWrite && c.Name == "aaa/"+spaceFile })
	exported := make(chan error, 1)
	go func() {
		_, err := s.Export(background, io.Discard)
		exported <- err
	}()
	<-writing
	closed := closeMeanwhile(r, s)
	requireOpen(t, closed, "the directory may be another process's when the mark is written")
	defer func() {
		require.NoError(t, <-closed)
		require.Empty(t, f.Handles())
	}()
	release()
	require.NoError(t, <-exported, "there was no memory to read")
	_, err := s.Export(background, io.Discard)
	require.ErrorIs(t, err, ErrClosed)
}

// Close waits for who has begun to wake a space, which takes no writes then.
func TestWakeMeetsClose(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	asleep(t, s)
	waking, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpReadDir && c.Name == "aaa/"+walDir })
	woken := make(chan *awake, 1)
	go func() {
		a, _ := s.wake(background, false)
		a.uses.Add(-1)
		woken <- a
	}()
	<-waking
	closed := closeMeanwhile(r, s)
	requireOpen(t, closed, "the space's files are open when Close returns")
	defer func() {
		require.NoError(t, <-closed)
		require.Empty(t, f.Handles())
	}()
	release()
	a := <-woken
	require.NotNil(t, a)
	require.ErrorIs(t, r.commits.submit(background, a.queue, &write{signal: make(chan step, 2)}), ErrClosed)
}

// Who waits for a space whose waking hangs, or whose falling asleep, leaves when its
// context ends, and has changed nothing.
func TestContextsEndTheWaitForASpaceThatHangs(t *testing.T) {
	for name, hang := range map[string]struct {
		op   crashfs.Op
		name string // of the file, its end
		have func(s *Space)
	}{
		"waking":         {crashfs.OpReadDir, walDir, func(s *Space) { _, _ = s.use(background) }},
		"falling asleep": {crashfs.OpSync, spaceFile, (*Space).sleep},
	} {
		t.Run(name, func(t *testing.T) {
			f := crashfs.New()
			r := openMemory(t, f, Options{})
			s := create(t, r, "alpha")
			remember(t, s, Memory{ID: "m", Content: "kept"})
			if name == "waking" {
				asleep(t, s)
			}
			hanging, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == hang.op && strings.HasSuffix(c.Name, hang.name) })
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				hang.have(s)
			}()
			<-hanging
			for name, call := range map[string]func(ctx context.Context) error{
				"Lookup": func(ctx context.Context) error { _, err := s.Lookup(ctx, "m"); return err },
				"Recall": func(ctx context.Context) error { _, err := s.Recall(ctx, Cue{Text: "kept"}); return err },
				"Remember": func(ctx context.Context) error {
					_, err := s.Remember(ctx, Memory{ID: "n", Content: "never"})
					return err
				},
				"Delete": func(ctx context.Context) error { return r.Delete(ctx, "alpha") },
				"Rename": func(ctx context.Context) error { return r.Rename(ctx, "alpha", "beta") },
			} {
				ctx, cancel := context.WithTimeout(background, 5*time.Millisecond)
				returned := make(chan error, 1)
				go func() { returned <- call(ctx) }()
				select {
				case err := <-returned:
					require.ErrorIs(t, err, context.DeadlineExceeded, name)
				case <-time.After(time.Minute):
					release()
					t.Fatal(name + " waits for a space that hangs")
				}
				cancel()
			}
			release()
			<-ended
			require.Equal(t, []string{"m"}, idsOf(list(t, s, Filter{})))
			require.NoError(t, r.Rename(background, "alpha", "beta"))
			require.NoError(t, r.Delete(background, "beta"))
			require.NoError(t, r.Close())
		})
	}
}

// Once the directory has its new name for good, the space is renamed, whatever
// becomes of tidying its state up.
func TestRenameFailsToTidyUp(t *testing.T) {
	for _, failure := range []error{syscall.EIO, syscall.ENOSPC} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "old")
		remember(t, s, Memory{ID: "m", Content: "content"})
		moved := false
		f.SetHook(func(c crashfs.Call) error {
			moved = moved || c.Op == crashfs.OpRename && c.Name == "old"
			if moved && c.Op == crashfs.OpSync {
				return failure
			}
			return nil
		})
		require.NoError(t, r.Rename(background, "old", "new"), "%v", failure)
		require.True(t, moved)
		f.SetHook(nil)
		require.Equal(t, []SpaceID{"new"}, spaceIDs(r, ""))
		_, err := s.Remember(background, Memory{ID: "n", Content: "more"})
		if errors.Is(failure, syscall.ENOSPC) {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrStopped)
		}
		after := openMemory(t, f.Crash(1), Options{})
		_ = r.Close() // its process has ended
		_, err = get(t, after, "new").Lookup(background, "m")
		require.NoError(t, err)
		require.NoError(t, after.Close())
	}
}

// Whichever call of a rename fails, its error says under which of the two ids
// the space is, or that this is not known.
func TestRenameSaysWhetherItHolds(t *testing.T) {
	for n, failed := 0, true; failed; n++ {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		remember(t, create(t, r, "alpha"), Memory{ID: "m", Content: "stays"})
		var calls atomic.Int64
		f.SetHook(func(c crashfs.Call) error {
			if !c.Op.Mutates() {
				return nil
			}
			if calls.Add(1) != int64(n+1) {
				return nil
			}
			return syscall.EIO
		})
		err := r.Rename(background, "alpha", "beta")
		failed = calls.Load() > int64(n)
		f.SetHook(nil)
		if !errors.Is(err, ErrUnknownOutcome) {
			id := SpaceID("alpha")
			if err == nil {
				id = "beta"
			}
			require.Equal(t, []SpaceID{id}, spaceIDs(r, ""), "call %d failed: %v", n, err)
		}
		_ = r.Close() // it may have an error of the failed call
		r = openMemory(t, f.Kill(), Options{})
		require.Equal(t, []string{"m"}, idsOf(list(t, get(t, r, spaceIDs(r, "")[0]), Filter{})))
		require.NoError(t, r.Close())
	}
}

// A space of which nobody knows whether it was created keeps its id until the next
// Open, and is in nobody's way but that.
func TestCreationOfUnknownOutcome(t *testing.T) {
	for name, creation := range map[string]func(*Registry) error{
		"create": func(r *Registry) error { _, err := r.Create(background, "alpha", SpaceConfig{}); return err },
		"import": func(r *Registry) error {
			_, err := r.Import(background, "alpha", strings.NewReader(importHeader))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := crashfs.New()
			r := openMemory(t, f, Options{})
			other := create(t, r, "other")
			named := false
			f.SetHook(func(c crashfs.Call) error {
				named = named || c.Op == crashfs.OpRename
				if named && c.Op == crashfs.OpSyncDir {
					return syscall.EIO
				}
				return nil
			})
			require.ErrorIs(t, creation(r), ErrUnknownOutcome)
			f.SetHook(nil)
			require.ErrorIs(t, creation(r), ErrSpaceExists)
			require.ErrorIs(t, r.Rename(background, "other", "alpha"), ErrSpaceExists)
			require.ErrorIs(t, r.Delete(background, "alpha"), ErrUnknownOutcome)
			_, err := get(t, r, "alpha").Remember(background, Memory{Content: "x"})
			require.ErrorIs(t, err, ErrUnknownOutcome)
			remember(t, other, Memory{Content: "goes on"})
			require.NoError(t, r.Close())
			for _, after := range []*crashfs.FS{f.Kill(), f.Crash(1)} {
				r = openMemory(t, after, Options{})
				if len(spaceIDs(r, "")) == 1 {
					create(t, r, "alpha")
				}
				require.Equal(t, []SpaceID{"alpha", "other"}, spaceIDs(r, ""))
				require.NoError(t, r.Close())
			}
		})
	}
}

// A creation that a crash cut short leaves nothing behind.
func TestOpenEmptiesTmp(t *testing.T) {
	r, m := newRegistry(t, Options{})
	create(t, r, "alpha")
	killed := m.clone()
	inc := incarnation{1}
	killed.copy("alpha", path.Join(tmpDir, inc.String()))
	require.NotEmpty(t, killed.files(tmpDir))
	r = openMemory(t, killed, Options{})
	require.Empty(t, killed.files(tmpDir))
	require.Equal(t, []SpaceID{"alpha"}, spaceIDs(r, ""))
	require.NoError(t, r.Close())
}

// What was logged before a space slept or its process ended counts for its next
// checkpoint: however short its lives are, waking replays no more than is due.
func TestCheckpointsAreDueOverManyLives(t *testing.T) {
	opts := Options{JournalBytes: minJournalBytes}
	opts.seams.checkpointBytes = 20_000
	m := newMemoryFS()
	r := openMemory(t, m, opts)
	create(t, r, "alpha")
	for round := range 60 {
		s := get(t, r, "alpha")
		remember(t, s, Memory{ID: fmt.Sprint(round), Content: strings.Repeat("x", 2000)})
		r.work.Wait()
		require.Less(t, s.Stats().Operator.Recovery.Frames, 15, "replayed in round %d", round)
		switch round % 3 {
		case 0:
			asleep(t, s)
		case 1:
			require.NoError(t, r.Close())
			r = openMemory(t, m, opts)
		default:
			killed := m.clone()
			require.NoError(t, r.Close())
			m = killed
			r = openMemory(t, m, opts)
		}
	}
	require.NoError(t, r.Close())
}

// The log hears of what a crash has left and not of each space that wakes, of which there
// may be hundreds a second.
func TestCleanWakingsAreQuiet(t *testing.T) {
	t.Parallel()
	r, m := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "m", Content: "is not settled"})
	left := m.clone()
	require.NoError(t, r.Close())
	core, logs := observer.New(zap.InfoLevel)
	r = openMemory(t, left, Options{Logger: zap.New(core)})
	for range 3 {
		_, err := get(t, r, "alpha").Lookup(background, "m")
		require.NoError(t, err)
		asleep(t, get(t, r, "alpha"))
	}
	require.NoError(t, r.Close())
	woken := logs.FilterMessage("space woken").All()
	require.Len(t, woken, 1)
	require.Equal(t, string(Completed), woken[0].ContextMap()["verdict"])
}
