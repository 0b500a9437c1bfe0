package engram

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fileDamage is something done to whole files.
type fileDamage struct {
	name    string
	apply   func(m *memoryFS)
	victims []SpaceID
	older   bool // it is an older copy of the file
}

// fileDamages are all that is done to one file or to two.
func (s *storedRegistry) fileDamages() []fileDamage {
	var list []fileDamage
	for _, file := range s.targets() {
		list = append(list, s.singleFileDamages(file)...)
		list = append(list, s.olderCopies(file)...)
		for _, other := range s.targets() {
			if file < other {
				list = append(list, fileDamage{name: "swapped " + file + " and " + other, apply: func(m *memoryFS) {
					m.swap(file, other)
				}, victims: s.victims(file)})
			}
		}
	}
	return list
}

func (s *storedRegistry) singleFileDamages(file string) []fileDamage {
	content := s.fs.files(".")[file]
	damage := func(what string, apply func(m *memoryFS)) fileDamage {
		return fileDamage{name: what + " " + file, apply: apply, victims: s.victims(file)}
	}
	list := []fileDamage{
		damage("deleted", func(m *memoryFS) { m.put(file, nil) }),
		damage("emptied", func(m *memoryFS) { m.put(file, []byte{}) }),
		damage("zeroed", func(m *memoryFS) { m.put(file, make([]byte, len(content))) }),
		damage("doubled", func(m *memoryFS) { m.put(file, slices.Concat(content, content)) }),
		damage("a byte behind", func(m *memoryFS) { m.put(file, append(slices.Clone(content), 1)) }),
		damage("a petabyte of zeros behind", func(m *memoryFS) { m.extend(file, 1<<50) }),
		damage("a directory instead of", func(m *memoryFS) {
			m.put(file, nil)
			m.put(path.Join(file, "x"), content)
		}),
	}
	for _, name := range duplicateNames(file) {
		list = append(list, damage("as "+name+" duplicated", func(m *memoryFS) {
			m.copy(file, path.Join(path.Dir(file), name))
		}))
	}
	return list
}

// duplicateNames are other names that a copy of the file might be taken for.
func duplicateNames(file string) []string {
	switch base := path.Base(file); {
	case strings.HasSuffix(base, walSuffix):
		return []string{"00000001.wal", "00000099.wal", base + ".bak", "0" + base}
	case strings.HasPrefix(base, "checkpoint-"):
		return []string{"checkpoint-1-1", "checkpoint-999-99", "checkpoint.tmp"}
	case strings.HasPrefix(file, journalDir):
		return []string{"00000077", "HEAD.tmp"}
	}
	return []string{"SPACE.tmp"}
}

// olderCopies replaces the file by what it was before.
func (s *storedRegistry) olderCopies(file string) []fileDamage {
	var list []fileDamage
	last := s.fs.files(".")[file]
	for i, then := range slices.Backward(s.history) {
		earlier := then.files(".")[file]
		if earlier == nil || bytes.Equal(earlier, last) {
			continue
		}
		last = earlier
		list = append(list, fileDamage{name: fmt.Sprintf("%s as it was at %d", file, i), apply: func(m *memoryFS) {
			m.put(file, earlier)
		}, victims: s.victims(file), older: true})
	}
	return list
}

// swap exchanges two files or directories.
func (m *memoryFS) swap(a, b string) {
	m.move(a, a+"-swapped")
	m.move(b, a)
	m.move(a+"-swapped", b)
}

func TestDamageFiles(t *testing.T) {
	t.Parallel()
	count := newTally()
	t.Run("cases", func(t *testing.T) {
		for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
			for i, d := range s.fileDamages() {
				if i%damageStep(3) != 0 {
					continue
				}
				t.Run(s.name+"/"+d.name, func(t *testing.T) {
					t.Parallel()
					damaged := s.fs.clone()
					d.apply(damaged)
					count.add("one file, or two exchanged", s.judge(t, damaged, d.name, d.victims...).outcome())
				})
			}
		}
	})
	count.report(t)
}

// Two files at once, in every way: what one says of the other may be damaged
// with it. An older copy beside another damage may be taken for what the space
// was at that time, as a whole: nothing that is left says otherwise.
func TestDamagePairsOfFiles(t *testing.T) {
	t.Parallel()
	count := newTally()
	t.Run("cases", func(t *testing.T) {
		for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.damagePairs(t, count)
			})
		}
	})
	count.report(t)
}

func (s *storedRegistry) damagePairs(t *testing.T, count *tally) {
	targets := s.targets()
	ways := make(map[string][]fileDamage)
	for _, file := range targets {
		ways[file] = s.pairedDamages(file)
	}
	i, step := 0, 20
	if damageFull() {
		step = 1
	}
	for at, file := range targets {
		for _, other := range targets[at+1:] {
			for _, first := range ways[file] {
				for _, second := range ways[other] {
					if i++; i%step != 0 {
						continue
					}
					damaged := s.fs.clone()
					first.apply(damaged)
					second.apply(damaged)
					victims := append(slices.Clone(first.victims), second.victims...)
					what := first.name + ", " + second.name
					result := s.glance(t, damaged, what, first.older || second.older, []SpaceID{damagedSpace, otherSpace}, victims)
					if result != older && i%7 == 0 {
						result = s.judge(t, damaged, what, victims...).outcome()
					}
					count.add("two files", result)
				}
			}
		}
	}
}

// pairedDamages are the ways in which the file is damaged along with another.
func (s *storedRegistry) pairedDamages(file string) []fileDamage {
	content := s.fs.files(".")[file]
	damage := func(what string, apply func(m *memoryFS)) fileDamage {
		return fileDamage{name: what + " " + file, apply: apply, victims: s.victims(file)}
	}
	list := []fileDamage{
		damage("deleted", func(m *memoryFS) { m.put(file, nil) }),
		damage("cut in half", func(m *memoryFS) { m.put(file, content[:len(content)/2]) }),
		damage("changed", func(m *memoryFS) {
			changed := slices.Clone(content)
			changed[len(changed)/3] ^= 4
			m.put(file, changed)
		}),
	}
	copies := s.olderCopies(file)
	for i, c := range copies {
		if i%max(len(copies)/3, 1) == 0 {
			list = append(list, c)
		}
	}
	if strings.HasPrefix(file, journalDir) {
		return list
	}
	theirs := path.Join(string(otherSpace), strings.TrimPrefix(file, string(damagedSpace)))
	if s.fs.files(".")[theirs] != nil {
		list = append(list, damage("replaced by another space's", func(m *memoryFS) { m.copy(theirs, file) }))
	}
	return list
}

// spaceFiles are the files of a space, by their paths in it.
func (s *storedRegistry) spaceFiles(id SpaceID) []string {
	var list []string
	for name := range s.fs.files(string(id)) {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// A file that was moved or copied from one space into another is named as what
// it is, and stays where it is.
func TestDamageFileOfAnotherSpace(t *testing.T) {
	t.Parallel()
	for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
		for _, file := range s.spaceFiles(otherSpace) {
			from := path.Join(string(otherSpace), file)
			for _, to := range append(duplicateNames(from), path.Base(file)) {
				to = path.Join(string(damagedSpace), path.Dir(file), to)
				if strings.Contains(to, "bak") || strings.Contains(to, "tmp") || strings.Contains(to, "/0000000") && strings.Count(path.Base(to), "0") > 7 {
					continue // a name that means nothing
				}
				t.Run(fmt.Sprintf("%s/%s to %s", s.name, from, to), func(t *testing.T) { s.damageByMoving(t, from, to) })
			}
		}
	}
}

// damageByMoving copies and then moves a file of the other space into the damaged one.
func (s *storedRegistry) damageByMoving(t *testing.T, from, to string) {
	damaged := s.fs.clone()
	damaged.copy(from, to)
	v := s.judge(t, damaged.clone(), "copied", damagedSpace)
	s.requireForeign(t, v, damagedSpace, to, "copied")
	require.Equal(t, s.fs.files(".")[from], s.judged(t, damaged)[to])

	damaged.put(from, nil)
	v = s.judge(t, damaged, "moved", damagedSpace, otherSpace)
	s.requireForeign(t, v, damagedSpace, to, "moved")
}

// judged opens the registry, uses every space and returns the files it leaves.
func (s *storedRegistry) judged(t *testing.T, m *memoryFS) map[string][]byte {
	t.Helper()
	s.judgeOpening(t, m, false, "", []SpaceID{damagedSpace, otherSpace})
	return m.files(".")
}

// requireForeign requires that the space names the file, given by its path from
// the registry's directory, as another space's.
func (s *storedRegistry) requireForeign(t *testing.T, v verdict, id SpaceID, file, what string) {
	t.Helper()
	require.NoError(t, v.registry, what)
	err := v.spaces[id]
	require.ErrorIs(t, err, ErrForeign, "%s: %s: %v", s.name, what, err)
	var damage *CorruptionError
	require.ErrorAs(t, err, &damage, what)
	require.Equal(t, id, damage.Space, what)
	require.Equal(t, file, path.Join(string(id), damage.File), what)
}

// What was settled must be there, wherever the log is cut.
func TestDamageLogTruncatedBelowMark(t *testing.T) {
	t.Parallel()
	for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
		at := s.mark(damagedSpace)
		file := path.Join(string(damagedSpace), segmentPath(at.segment))
		content := s.fs.files(".")[file]
		for n := range at.offset {
			if int(n)%damageStep(17) != 0 && !isFrameBoundary(content, int(n)) {
				continue
			}
			damaged := s.fs.clone()
			damaged.put(file, content[:n])
			what := fmt.Sprintf("%s cut at %d, mark at %d", file, n, at.offset)
			v := s.judge(t, damaged, what, damagedSpace)
			require.ErrorIs(t, v.spaces[damagedSpace], ErrCorrupt, what)
			require.NotErrorIs(t, v.spaces[damagedSpace], ErrForeign, what)
		}
	}
}

// isFrameBoundary reports whether a frame of the segment ends at n.
func isFrameBoundary(segment []byte, n int) bool {
	at := segmentHeaderBytes
	for at < n {
		length, err := frameLen(segment[at:])
		if err != nil {
			return false
		}
		at += length
	}
	return at == n
}

// What is not settled is in the journal, whatever became of the log's pages.
func TestDamageLogTruncatedAboveMark(t *testing.T) {
	t.Parallel()
	s := killedRegistry(t)
	at := s.mark(damagedSpace)
	files := s.fs.files(string(damagedSpace))
	cases := 0
	for _, name := range s.spaceFiles(damagedSpace) {
		number, ok := segmentNumber(path.Base(name))
		file := path.Join(string(damagedSpace), name)
		if !ok || number != at.segment && !s.aboveMark(damagedSpace, file) {
			continue
		}
		from := 0
		if number == at.segment {
			from = int(at.offset)
		}
		for n := from; n < len(files[name]); n++ {
			if n%damageStep(13) != 0 && !isFrameBoundary(files[name], n) {
				continue
			}
			damaged := s.fs.clone()
			damaged.put(file, files[name][:n])
			require.False(t, s.judge(t, damaged, fmt.Sprintf("%s cut at %d", file, n), damagedSpace).noticed())
			cases++
		}
	}
	require.Greater(t, cases, 10)
	report := s.report(t, s.fs, damagedSpace)
	require.Equal(t, Completed, report.Verdict)
	require.Positive(t, report.FromJournal)
}

// report returns how the space wakes. The registry is read-only, as otherwise
// the background may have woken it before.
func (s *storedRegistry) report(t *testing.T, m *memoryFS, id SpaceID) RecoveryReport {
	t.Helper()
	r, err := Open("", damageOptions(m, true))
	require.NoError(t, err)
	space, err := r.Get(t.Context(), id)
	require.NoError(t, err)
	_, err = space.Lookup(t.Context(), "m0")
	require.NoError(t, err)
	report := space.Stats().Operator.Recovery
	require.NoError(t, r.Close())
	return report
}

// Bytes behind the mark that nothing vouches for were never acknowledged.
func TestDamageTornTail(t *testing.T) {
	s := closedRegistry(t)
	at := s.mark(damagedSpace)
	file := path.Join(string(damagedSpace), segmentPath(at.segment))
	content := s.fs.files(".")[file]
	require.Len(t, content, int(at.offset))
	torn := content[segmentHeaderBytes:][:90] // an old frame, and half of another
	for _, tail := range [][]byte{{0}, make([]byte, 100), torn, []byte("what no frame begins with")} {
		damaged := s.fs.clone()
		damaged.put(file, slices.Concat(content, tail))
		report := s.report(t, damaged, damagedSpace)
		require.Equal(t, TornTail, report.Verdict)
		require.EqualValues(t, len(tail), report.CutBytes)
		require.False(t, s.judge(t, damaged, "torn tail", damagedSpace).noticed())
		require.Equal(t, Clean, s.report(t, damaged, damagedSpace).Verdict, "it is cut once")
		kept := path.Join(string(damagedSpace), quarantineDir, fmt.Sprintf("%d-%d", at.segment, at.offset))
		require.Equal(t, tail, damaged.files(".")[kept])
	}
}

// Directories that were renamed, copied or exchanged by hand are named.
func TestDamageDirectories(t *testing.T) {
	for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
		t.Run(s.name+"/swapped", func(t *testing.T) {
			damaged := s.fs.clone()
			damaged.swap(string(damagedSpace), string(otherSpace))
			v := s.judge(t, damaged, "swapped", damagedSpace, otherSpace)
			for _, id := range []SpaceID{damagedSpace, otherSpace} {
				s.requireForeign(t, v, id, path.Join(string(id), spaceFile), "swapped")
			}
		})
		for _, part := range []string{walDir, ""} {
			t.Run(s.name+"/removed "+part, func(t *testing.T) {
				damaged := s.fs.clone()
				damaged.put(path.Join(string(damagedSpace), part), nil)
				if part == "" {
					r, err := Open("", damageOptions(damaged, false))
					require.NoError(t, err)
					_, err = r.Get(t.Context(), damagedSpace)
					require.ErrorIs(t, err, ErrSpaceNotFound)
					requireAnswers(t, s, r, otherSpace)
					return
				}
				v := s.judge(t, damaged, "removed", damagedSpace)
				require.ErrorIs(t, v.spaces[damagedSpace], ErrCorrupt)
			})
		}
		for _, to := range []SpaceID{"000", "renamed"} { // before and behind it in every order
			t.Run(s.name+"/renamed to "+string(to), func(t *testing.T) {
				damaged := s.fs.clone()
				damaged.move(string(damagedSpace), string(to))
				r, err := Open("", damageOptions(damaged, false))
				require.NoError(t, err)
				_, err = r.Get(t.Context(), damagedSpace)
				require.ErrorIs(t, err, ErrSpaceNotFound)
				requireForeignSpace(t, r, to)
				requireAnswers(t, s, r, otherSpace)
			})
			t.Run(s.name+"/copied to "+string(to), func(t *testing.T) {
				damaged := s.fs.clone()
				damaged.copy(string(damagedSpace), string(to))
				s.judgeCopy(t, damaged.clone(), to, false)
				s.judgeCopy(t, damaged, to, true)
			})
		}
	}
}

// judgeCopy holds a registry with a second directory of a space to this: the
// copy is named, the original works, settles and closes, also if the copy is
// used first, and survives the deletion of the copy.
func (s *storedRegistry) judgeCopy(t *testing.T, damaged *memoryFS, copied SpaceID, used bool) {
	t.Helper()
	ctx := t.Context()
	r, err := Open("", damageOptions(damaged, false))
	require.NoError(t, err)
	requireAnswers(t, s, r, damagedSpace)
	if used {
		requireForeignSpace(t, r, copied)
	}
	original, err := r.Get(ctx, damagedSpace)
	require.NoError(t, err)
	_, err = original.Remember(ctx, Memory{ID: "more", Content: "written beside a copy"})
	require.NoError(t, err)
	require.NoError(t, r.Settle(ctx))
	require.NoError(t, r.Delete(ctx, copied))
	require.NoError(t, r.Settle(ctx))
	_, err = original.Lookup(ctx, "more")
	require.NoError(t, err)
	require.NoError(t, r.Close())

	r, err = Open("", damageOptions(damaged, false))
	require.NoError(t, err)
	original, err = r.Get(ctx, damagedSpace)
	require.NoError(t, err)
	_, err = original.Lookup(ctx, "more")
	require.NoError(t, err)
	_, err = original.Lookup(ctx, "m45")
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

// The journal keeps a sleeping original's operations when its copy is deleted.
func TestDamageCopyDeletedBeforeOriginalWakes(t *testing.T) {
	s := unpoweredRegistry(t)
	damaged := s.fs.clone()
	damaged.copy(string(damagedSpace), "000")
	r, err := Open("", damageOptions(damaged, false))
	require.NoError(t, err)
	require.NoError(t, r.Delete(t.Context(), "000"))
	requireAnswers(t, s, r, damagedSpace)
	require.NoError(t, r.Close())
	require.False(t, s.judge(t, damaged, "its copy was deleted", damagedSpace, otherSpace).noticed())
}

func requireForeignSpace(t *testing.T, r *Registry, id SpaceID) {
	t.Helper()
	space, err := r.Get(t.Context(), id)
	require.NoError(t, err)
	_, err = space.Lookup(t.Context(), "m0")
	require.ErrorIs(t, err, ErrForeign)
	var damage *CorruptionError
	require.True(t, errors.As(err, &damage) && damage.Space == id && damage.File == spaceFile, err)
	_, err = space.Remember(t.Context(), Memory{ID: "x", Content: "x"})
	require.ErrorIs(t, err, ErrForeign)
}

func requireAnswers(t *testing.T, s *storedRegistry, r *Registry, id SpaceID) {
	t.Helper()
	require.NoError(t, requireSameOrDamaged(t, s, id, readAnswers(t, r, id), string(id)))
}

// A link is not the file that it leads to, nor is a file that has two names.
func TestDamageLinks(t *testing.T) {
	t.Parallel()
	s := closedRegistry(t)
	links := map[string]func(file, elsewhere string) error{
		"symbolic link": func(file, elsewhere string) error {
			return errors.Join(os.Rename(file, elsewhere), os.Symlink(elsewhere, file))
		},
		"hard link": func(file, elsewhere string) error { return os.Link(file, elsewhere) },
	}
	for kind, link := range links {
		for _, file := range append(s.targets(), path.Join(string(damagedSpace), walDir)) {
			if kind == "hard link" && path.Base(file) == walDir {
				continue
			}
			t.Run(kind+"/"+file, func(t *testing.T) {
				dir := t.TempDir()
				s.fs.write(t, dir)
				name := filepath.Join(dir, filepath.FromSlash(file))
				if err := link(name, filepath.Join(dir, ".elsewhere")); err != nil {
					t.Skip("this system or user makes no such links:", err)
				}
				opts := damageOptions(nil, false)
				opts.seams.fs = nil
				r, err := Open(dir, opts)
				if strings.HasPrefix(file, journalDir) {
					require.ErrorIs(t, err, ErrCorrupt)
					require.True(t, isDamage("", err), err)
					return
				}
				require.NoError(t, err)
				damage := requireSameOrDamaged(t, s, damagedSpace, readAnswers(t, r, damagedSpace), file)
				require.ErrorIs(t, damage, ErrCorrupt)
				requireAnswers(t, s, r, otherSpace)
				require.NoError(t, r.Close())
			})
		}
	}
}
