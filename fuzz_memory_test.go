package engram

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/strictjson"
)

// FuzzMemory holds the JSON of memories, as bodies and lines bring it, to what is true
// of any: what is refused is refused with a reason; what is accepted a space takes or
// refuses as a memory, and it survives being written again. The named seeds are in
// testdata/fuzz/FuzzMemory.
func FuzzMemory(f *testing.F) {
	r := openIn(f, f.TempDir(), Options{Durability: None})
	f.Cleanup(func() { require.NoError(f, r.Close()) })
	// The quota bounds what hours of fuzzing leave behind.
	s, err := r.Create(f.Context(), "fuzz", SpaceConfig{MaxMemories: 1000})
	require.NoError(f, err)
	parse := func(data []byte) (m Memory, err error) {
		err = strictjson.Unmarshal(data, &m)
		return m, err
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data)
		if err != nil {
			var reason *strictjson.Error
			require.ErrorAs(t, err, &reason)
			require.Less(t, len(err.Error()), 1000)
			return
		}
		again, err := json.Marshal(m)
		require.NoError(t, err)
		back, err := parse(again)
		require.NoError(t, err)
		written, err := json.Marshal(back)
		require.NoError(t, err)
		require.Equal(t, string(again), string(written))

		if _, err := s.Remember(t.Context(), m); err != nil {
			refused := errors.Is(err, ErrInvalid) || errors.Is(err, ErrLimit) ||
				errors.Is(err, ErrWrongSpace) || errors.Is(err, ErrQuota)
			require.True(t, refused, "%v", err)
		}
	})
}
