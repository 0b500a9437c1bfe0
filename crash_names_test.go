package engram

import (
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
