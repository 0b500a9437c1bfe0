package engram

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// dumpOf returns the pieces that a dump of the directory yields; it changes nothing.
func dumpOf(t *testing.T, m *memoryFS, opts DumpOptions) []DumpRecord {
	t.Helper()
	before := m.files(".")
	delete(before, lockFile)
	var list []DumpRecord
	d := &dumper{ctx: t.Context(), contents: opts.Contents, yield: func(r DumpRecord, err error) bool {
		require.NoError(t, err)
		list = append(list, r)
		return true
	}}
	require.NoError(t, d.run(m, "", opts.Space))
	after := m.files(".")
	delete(after, lockFile)
	requireSameFiles(t, before, after, "dump")
	return list
}

// ofKind are the pieces of that kind.
func ofKind(list []DumpRecord, kind string) []DumpRecord {
	return slices.DeleteFunc(slices.Clone(list), func(r DumpRecord) bool { return r.Kind != kind })
}

// A dump accounts for every byte of a space's files, in order, and for every
// operation.
func TestDumpSpace(t *testing.T) {
	s := killedRegistry(t)
	list := dumpOf(t, s.fs, DumpOptions{Space: damagedSpace})
	ends := make(map[string]int64)
	kinds := make(map[string]int)
	memories := make(map[uint64]bool)
	for _, r := range list {
		kinds[r.Kind]++
		require.True(t, r.Intact, r)
		if strings.HasSuffix(r.File, walSuffix) || path.Base(r.File) == spaceFile {
			require.Equal(t, ends[r.File], r.Offset)
			ends[r.File] += r.Length
		}
		for i, op := range r.Operations {
			require.True(t, op.Intact)
			require.Nil(t, op.Memory)
			if !r.Bodies {
				require.Equal(t, r.FirstSeq+uint64(i), op.Seq)
			}
			if op.Kind == "remember" {
				require.Len(t, op.IDs, 1)
				memories[op.Seq] = true
			}
		}
		if r.Kind == DumpFrame {
			require.Len(t, r.Operations, int(r.Count))
		}
	}
	files := s.fs.files(string(damagedSpace))
	for name, end := range ends {
		require.Len(t, files[strings.TrimPrefix(name, string(damagedSpace)+"/")], int(end), name)
	}
	require.Len(t, ends, len(files)-1, "all but the checkpoint, whose table is left out")
	require.Equal(t, 2, kinds[DumpIdentity])
	require.Equal(t, 2, kinds[DumpState])
	require.Equal(t, 1, kinds[DumpCheckpoint])
	require.Equal(t, 7, kinds[DumpSection])
	require.Greater(t, len(memories), 10)
	state := slices.MaxFunc(ofKind(list, DumpState), func(a, b DumpRecord) int { return int(a.Number) - int(b.Number) })
	require.Equal(t, s.mark(damagedSpace).seq, state.Seq)
	require.Equal(t, damagedSpace, state.Space)
}

func TestDumpContents(t *testing.T) {
	s := closedRegistry(t)
	remembered := make(map[uint64]*Memory)
	for _, r := range dumpOf(t, s.fs, DumpOptions{Space: damagedSpace, Contents: true}) {
		for _, op := range r.Operations {
			if op.Kind == "remember" {
				remembered[op.Seq] = op.Memory
			}
		}
	}
	r := openMemory(t, s.fs, damageOptions(s.fs, true))
	for _, m := range list(t, get(t, r, damagedSpace), Filter{}) {
		require.Equal(t, &m, remembered[m.Seq])
	}
	require.NoError(t, r.Close())
}

func TestDumpJournal(t *testing.T) {
	s := unpoweredRegistry(t)
	list := dumpOf(t, s.fs, DumpOptions{Contents: true})
	require.Len(t, ofKind(list, DumpHead), 2)
	require.Empty(t, ofKind(list, DumpDamage))
	groups := s.groupsOf(t)
	var dumped []DumpRecord
	for _, g := range ofKind(list, DumpGroup) {
		require.True(t, g.Intact)
		if g.File == groups[0].file {
			dumped = append(dumped, g)
		}
	}
	require.Len(t, dumped, len(groups))
	spaces := make(map[SpaceID]int)
	for _, f := range ofKind(list, DumpFrame) {
		require.True(t, f.Intact)
		require.Len(t, f.Operations, int(f.Count))
		require.Equal(t, f.FirstSeq, f.Operations[0].Seq)
		for _, op := range f.Operations {
			require.True(t, op.Kind != "remember" || op.Memory.Space == f.Space)
		}
		spaces[f.Space]++
	}
	require.Len(t, spaces, 2)

	// A damaged frame is one, a damaged table takes its group away.
	m := s.fs.clone()
	m.flip(groups[1].file, groups[1].end-10)
	m.flip(groups[3].file, groups[3].start+groupHeaderBytes)
	list = dumpOf(t, m, DumpOptions{})
	damaged := slices.DeleteFunc(ofKind(list, DumpFrame), func(r DumpRecord) bool { return r.Intact })
	require.Len(t, damaged, 1)
	require.Empty(t, damaged[0].Operations)
	gaps := ofKind(list, DumpDamage)
	require.Len(t, gaps, 1)
	require.EqualValues(t, groups[3].start, gaps[0].Offset)
	require.EqualValues(t, groups[3].end-groups[3].start, gaps[0].Length)
	require.Len(t, ofKind(list, DumpGroup), len(ofKind(dumpOf(t, s.fs, DumpOptions{}), DumpGroup))-1)
}

// Whatever is damaged, the rest is dumped, and the damage is named.
func TestDumpDamaged(t *testing.T) {
	s := killedRegistry(t)
	at := s.mark(damagedSpace)
	active := path.Join(string(damagedSpace), segmentPath(at.segment))
	space := path.Join(string(damagedSpace), spaceFile)
	whole := dumpOf(t, s.fs, DumpOptions{Space: damagedSpace})
	checkpoint := ofKind(whole, DumpCheckpoint)[0].File
	damaged := func(change func(m *memoryFS)) []DumpRecord {
		m := s.fs.clone()
		change(m)
		return slices.DeleteFunc(dumpOf(t, m, DumpOptions{Space: damagedSpace}), func(r DumpRecord) bool { return r.Intact })
	}
	require.Empty(t, damaged(func(*memoryFS) {}))

	frame := damaged(func(m *memoryFS) { m.flip(active, segmentHeaderBytes+40) })
	require.Len(t, frame, 1)
	require.Equal(t, DumpDamage, frame[0].Kind)
	require.EqualValues(t, segmentHeaderBytes, frame[0].Offset)

	header := damaged(func(m *memoryFS) { m.flip(active, 20) })
	require.Len(t, header, 1)
	require.Equal(t, DumpSegment, header[0].Kind)

	require.Equal(t, DumpState, damaged(func(m *memoryFS) { m.flip(space, pageBytes+40) })[0].Kind)
	require.Empty(t, damaged(func(m *memoryFS) { m.put(space, nil) }), "the segments have the key, too")
	require.Len(t, damaged(func(m *memoryFS) { m.flip(checkpoint, 20) }), 1)
	require.Len(t, damaged(func(m *memoryFS) { m.flip(checkpoint, len(m.files(".")[checkpoint])-1) }), 1)
	require.Len(t, damaged(func(m *memoryFS) {
		m.put(checkpoint, m.files(".")[checkpoint][:checkpointHeaderBytes+sectionEntryBytes+3])
	}), 2, "the section that is cut off, and the table")
	for name, change := range map[string]func(m *memoryFS){
		"segment": func(m *memoryFS) { m.put(path.Join(active, "x"), []byte{1}) },
		"wal":     func(m *memoryFS) { m.put(path.Join(string(damagedSpace), walDir), []byte{1}) },
	} {
		list := damaged(func(m *memoryFS) {
			m.put(active, nil)
			if name == "wal" {
				m.put(path.Join(string(damagedSpace), walDir), nil)
			}
			change(m)
		})
		require.Len(t, list, 1, name)
		require.Equal(t, DumpDamage, list[0].Kind)
	}
}

func TestDumpRefuses(t *testing.T) {
	dir := t.TempDir()
	errorOf := func(opts DumpOptions) error {
		for _, err := range Dump(background, dir, opts) {
			return err
		}
		return nil
	}
	r := openIn(t, dir, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "m", Content: "content"})
	require.ErrorIs(t, errorOf(DumpOptions{Space: "alpha"}), ErrLocked)
	require.NoError(t, r.Close())
	require.NoError(t, errorOf(DumpOptions{Space: "alpha"}))
	require.NoError(t, errorOf(DumpOptions{}))
	require.ErrorIs(t, errorOf(DumpOptions{Space: "beta"}), ErrSpaceNotFound)
	require.ErrorIs(t, errorOf(DumpOptions{Space: "../alpha"}), ErrInvalidSpaceID)
	dir = path.Join(dir, "nothing")
	require.Error(t, errorOf(DumpOptions{}))
}

func ExampleDump() {
	for record, err := range Dump(background, "no such directory", DumpOptions{Space: "alice"}) {
		if err != nil {
			fmt.Println("cannot be dumped")
			return
		}
		fmt.Println(record.File, record.Offset, record.Kind, record.Intact)
	}
	// Output: cannot be dumped
}

// framesAt are where the frames of b from there on stand, each place tried by itself.
func framesAt(b []byte, at int, key uint64) (places [][2]int64) {
	for at < len(b) {
		_, n, err := decodeFrame(b[at:], key)
		if err != nil {
			at++
			continue
		}
		places = append(places, [2]int64{int64(at), int64(n)})
		at += n
	}
	return places
}

// Behind damage all frames are found that are there, whatever the contents look like.
func TestDumpFindsFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := damagedFrames(t)
		var found [][2]int64
		d := &dumper{ctx: background, yield: func(r DumpRecord, _ error) bool {
			if r.Kind == DumpFrame {
				found = append(found, [2]int64{r.Offset, r.Length})
			}
			return true
		}}
		require.NoError(t, d.frames("file", b, 0, exampleIdentity().key))
		require.Equal(t, framesAt(b, 0, exampleIdentity().key), found)
	})
}

// headers are 5 MiB of headers of frames, one every 8 bytes: each claims to be that of
// a frame of 4 MiB, and none verifies.
func headers() []byte {
	return bytes.Repeat([]byte{1, 0, 0, 0, 0, 0, 0x40, 0}, 5<<20/8)
}

// What it takes to dump contents that are full of headers does not grow with what
// each of these says that its frame is long.
func TestDumpOfHeaders(t *testing.T) {
	t.Parallel()
	var list []DumpRecord
	d := &dumper{ctx: t.Context(), yield: func(r DumpRecord, _ error) bool {
		list = append(list, r)
		return true
	}}
	b := bytes.Repeat(headers(), 4)
	require.NoError(t, d.frames("file", b, 0, exampleIdentity().key))
	require.Equal(t, []DumpRecord{{File: "file", Length: int64(len(b)), Kind: DumpDamage}}, list)
}

// A dump ends with its context also where it finds nothing for long.
func TestDumpEndsAmongHeaders(t *testing.T) {
	d := &dumper{ctx: &endingContext{background, 100}, yield: func(DumpRecord, error) bool { return true }}
	require.ErrorIs(t, d.frames("file", headers(), 0, exampleIdentity().key), context.Canceled)
}
