package engram

import (
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// A read that fails says nothing about the data: whoever needed it gets the
// error, the next one the answer.
func TestFailedReadIsNoVerdict(t *testing.T) {
	for n, failed := 0, true; failed; n++ {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "alpha")
		remember(t, s, Memory{ID: "m", Content: "in the checkpoint"})
		require.NoError(t, s.Checkpoint(background))
		remember(t, s, Memory{ID: "n", Content: "in the log"})
		require.NoError(t, r.Close())

		var calls atomic.Int64
		f.SetHook(func(c crashfs.Call) error {
			switch c.Op {
			case crashfs.OpOpenDir, crashfs.OpReadDir, crashfs.OpOpen, crashfs.OpSize, crashfs.OpRead:
				if calls.Add(1) == int64(n+1) {
					return syscall.EIO
				}
			}
			return nil
		})
		opts := Options{}
		opts.seams.fs = f
		r, err := Open("", opts)
		if err != nil {
			require.NotErrorIs(t, err, ErrCorrupt)
			r = openMemory(t, f, Options{})
		}
		for _, id := range []string{"m", "n"} {
			_, err := get(t, r, "alpha").Lookup(background, id)
			require.NotErrorIs(t, err, ErrCorrupt, "read %d", n)
		}
		failed = calls.Load() > int64(n)
		f.SetHook(nil)
		require.Equal(t, []string{"m", "n"}, idsOf(list(t, get(t, r, "alpha"), Filter{})))
		require.NoError(t, r.Close())
	}
}
