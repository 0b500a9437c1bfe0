package engram

import (
	"context"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A quarantined space refuses all that would change its files, and what it is
// asked for while it sleeps says why.
func TestDamageRefusesMaintenance(t *testing.T) {
	s := closedRegistry(t)
	for name, damage := range s.spaceDamages() {
		if !strings.HasPrefix(name, "SPACE") && name != "settled frame" {
			continue
		}
		m := s.fs.clone()
		damage(m)
		r := openMemory(t, m, damageOptions(m, false))
		if name == "SPACE missing" || name == "SPACE cut" {
			_, err := r.Info(background, damagedSpace)
			require.True(t, isDamage(damagedSpace, err), "%s: %v", name, err)
		}
		bad := get(t, r, damagedSpace)
		require.ErrorIs(t, bad.Checkpoint(background), ErrCorrupt, name)
		require.ErrorIs(t, r.Rename(background, damagedSpace, "renamed"), ErrCorrupt, name)
		_, err := bad.Configure(background, SpaceConfig{MaxMemories: 7})
		require.ErrorIs(t, err, ErrCorrupt, name)
		_, err = bad.Forget(background, []string{"m1"})
		require.ErrorIs(t, err, ErrCorrupt, name)
		if state := bad.Stats().Operator; state.State == Quarantined {
			require.Equal(t, state.Recovery.Damage, state.Stopped, name)
		}
		require.NoError(t, r.Close())
	}
}

// Bytes that go while a space is awake are missed when they are read, and the
// space is quarantined from then on.
func TestDamageWhileAwake(t *testing.T) {
	s := closedRegistry(t)
	m := s.fs.clone()
	r := openMemory(t, m, damageOptions(m, false))
	space := get(t, r, damagedSpace)
	last := s.answers[damagedSpace]["memories"].memories
	require.NotEmpty(t, last)
	_, err := space.Lookup(background, "m45")
	require.NoError(t, err)
	file := path.Join(string(damagedSpace), segmentPath(s.mark(damagedSpace).segment))
	root, err := m.OpenDir("", false)
	require.NoError(t, err)
	open, err := root.Open(file, true)
	require.NoError(t, err)
	require.NoError(t, open.Truncate(segmentHeaderBytes))
	_, err = space.Lookup(background, "m45")
	require.True(t, isDamage(damagedSpace, err), err)
	_, err = space.Remember(background, Memory{ID: "new", Content: "refused"})
	require.ErrorIs(t, err, ErrCorrupt)
	requireAnswers(t, s, r, otherSpace)
	_ = r.Close() // what cannot be settled is none of this test's
}

// Without SPACE and checkpoint nobody knows what was forgotten before.
func TestSalvageWithoutStateAndCheckpoint(t *testing.T) {
	s := closedRegistry(t)
	o := newSalvageOracle(t, s)
	m := s.fs.clone()
	m.put(path.Join(string(damagedSpace), spaceFile), nil)
	m.put(s.checkpointOf(damagedSpace), nil)
	report := o.judge(t, m, "neither", damagedSpace)
	require.True(t, report.Spaces[0].Returned)
	require.True(t, report.Spaces[0].OpenEnd)
	require.Positive(t, report.Spaces[0].Saved)
}

// What only a later version knows is left alone by a salvage, too.
func TestSalvageOfLaterVersion(t *testing.T) {
	operations := exampleOperations()
	unknown := exampleRecord(&operations[1])
	unknown[8] = 99
	putU32(unknown, 4, operationSum(unknown, exampleIdentity().key, 2))
	segment, at := sealedSegment(kindLog, 0, 2, exampleRecord(&operations[0]), unknown)
	broken := segmentSpace(segment, at)
	broken.put(string(exampleID)+"/"+segmentPath(9), []byte("damage beside it"))
	broken.put(journalDir, nil)
	for name, m := range map[string]*memoryFS{
		"operation": broken,
		"checkpoint": func() *memoryFS {
			m := checkpointedSpace(withSection(exampleCheckpoint(), 99, 0))
			m.flip(string(exampleID)+"/"+segmentPath(3), 200)
			return m
		}(),
	} {
		from := openMemory(t, m, damageOptions(m, true))
		_, err := from.openWreck(background, exampleID, new(SpaceSalvage))
		require.ErrorIs(t, err, ErrVersion, name)
		require.NoError(t, from.Close())
	}
}

// A record whose checksum is right and which does not decode is left out.
func TestSalvageOfMalformedRecord(t *testing.T) {
	operations := exampleOperations()
	malformed := exampleRecord(&operations[1])
	malformed[13] = 0xff // a field that is longer than the record
	putU32(malformed, 4, operationSum(malformed, exampleIdentity().key, 2))
	segment, at := sealedSegment(kindLog, 0, 2, exampleRecord(&operations[0]), malformed)
	m := segmentSpace(segment, at)
	m.put(lockFile, []byte{})
	report, held := salvageCopy(t, m)
	require.Empty(t, held[exampleID])
	require.Equal(t, []SeqRange{{2, 2}}, report.Spaces[0].Missing)
	require.Equal(t, 1, report.ExitCode())
}

// Who is called off ends with the context's error; a dump also where its reader
// has seen enough.
func TestReadersAreCalledOff(t *testing.T) {
	s := closedRegistry(t)
	cancelled, cancel := context.WithCancel(background)
	cancel()
	r := openMemory(t, s.fs, damageOptions(s.fs, true))
	_, err := r.checkAll(cancelled)
	require.ErrorIs(t, err, context.Canceled)
	_, err = salvage(cancelled, r, r, new(salvageClock), nil)
	require.ErrorIs(t, err, context.Canceled)
	a, err := get(t, r, damagedSpace).use(background)
	require.NoError(t, err)
	require.NotEmpty(t, a.log.sealed())
	require.ErrorIs(t, a.checkSegments(cancelled, new(SpaceCheck)), context.Canceled)
	_, err = r.openWreck(cancelled, damagedSpace, new(SpaceSalvage))
	require.ErrorIs(t, err, context.Canceled)
	a.uses.Add(-1)
	require.NoError(t, r.Close())

	for _, id := range []SpaceID{damagedSpace, ""} {
		all := len(dumpOf(t, s.fs, DumpOptions{Space: id}))
		for stop := 1; stop <= all; stop++ {
			seen := 0
			d := &dumper{ctx: background, yield: func(DumpRecord, error) bool {
				seen++
				return seen < stop
			}}
			err := d.run(s.fs, "", id)
			require.Equal(t, stop, seen)
			require.ErrorIs(t, err, errDumpEnds)
		}
		d := &dumper{ctx: cancelled, yield: func(DumpRecord, error) bool { return true }}
		require.ErrorIs(t, d.run(s.fs, "", id), context.Canceled)
	}
}

func TestCheckExitCode(t *testing.T) {
	for verdict, code := range map[CheckVerdict]int{CheckClean: 0, CheckRecoverable: 1, CheckCorrupt: 2, "": 2} {
		require.Equal(t, code, CheckReport{Verdict: verdict}.ExitCode())
	}
	_, err := Check(background, path.Join(t.TempDir(), "nothing"))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrCorrupt)
}
