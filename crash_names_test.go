package engram

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// A change of the catalogue that was acknowledged survives the power cut that
// follows it at once, whatever else does.
func TestCrashAfterChangeOfNames(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *Registry) error
		want   []SpaceID
	}{
		"create": {func(r *Registry) error {
			_, err := r.Create(background, "gamma", SpaceConfig{})
			return err
		}, []SpaceID{"alpha", "beta", "gamma"}},
		"delete": {func(r *Registry) error { return r.Delete(background, "alpha") }, []SpaceID{"beta"}},
		"rename": {func(r *Registry) error { return r.Rename(background, "alpha", "gamma") }, []SpaceID{"beta", "gamma"}},
	} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		for _, id := range []SpaceID{"alpha", "beta"} {
			remember(t, create(t, r, id), Memory{ID: "m", Content: "stays"})
		}
		require.NoError(t, c.change(r))
		for seed := range uint64(16) {
			recovered := openMemory(t, f.Crash(seed), Options{})
			require.Equal(t, c.want, spaceIDs(recovered, ""), "%s, seed %d", name, seed)
			for _, id := range c.want {
				_, err := get(t, recovered, id).Lookup(background, "n")
				require.ErrorIs(t, err, ErrMemoryNotFound, "%s of %s, seed %d", name, id, seed)
			}
			require.NoError(t, recovered.Close())
		}
		_ = r.Close() // its process has ended
	}
}

// What recovery cuts from the log with a whole segment is in quarantine/ when that
// is removed, whatever the power cut leaves.
func TestCrashKeepsWhatRecoveryCut(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	create(t, r, "aaa")
	require.NoError(t, r.Close())
	root, err := f.OpenDir("", false)
	require.NoError(t, err)
	dir, err := root.OpenDir("aaa")
	require.NoError(t, err)
	state, err := readStateFile(dir)
	require.NoError(t, err)
	m := state.state.mark
	torn := segmentHeader{
		kind: kindLog, identity: state.identity, number: 2, firstSeq: m.seq + 1,
		prevNumber: m.segment, prevEnd: m.offset, prevSum: m.sum,
	}
	require.NoError(t, writeNewFile(dir, segmentPath(2), append(encodeSegmentHeader(torn), "torn"...)))
	require.NoError(t, errors.Join(dir.Sync(walDir), dir.Close(), root.Close()))

	r = openMemory(t, f, Options{})
	require.Empty(t, list(t, get(t, r, "aaa"), Filter{}))
	for seed := range uint64(16) {
		root, err := f.Crash(seed).OpenDir("", false)
		require.NoError(t, err)
		cut := cutRange{segment: 2, from: segmentHeaderBytes}
		kept, err := readFile(root, "aaa/"+cut.kept(), 100)
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, "torn", string(kept))
		require.NoError(t, root.Close())
	}
	_ = r.Close() // its process has ended
}
