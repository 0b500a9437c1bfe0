package engram

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// failOnce makes the next flush of a file below the directory fail.
func failOnce(f *crashfs.FS, dir string, cause error) {
	var failed atomic.Bool
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpSync && strings.Contains(c.Name, dir+"/") && failed.CompareAndSwap(false, true) {
			return cause
		}
		return nil
	})
}

// A log whose flush failed settles no more, however often it is asked: the
// journal keeps what the log may have lost.
func TestFailedLogFlushIsFinal(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "aaa")
		remember(t, s, Memory{ID: "m", Content: "acknowledged"})
		failOnce(f, madeIn(s)+"/"+walDir, cause)
		for range 3 {
			require.ErrorIs(t, r.Settle(background), cause)
		}
		for seed := range uint64(8) {
			recovered := openMemory(t, f.Crash(seed), Options{})
			require.Equal(t, []string{"m"}, idsOf(list(t, get(t, recovered, "aaa"), Filter{})), "%v, seed %d", cause, seed)
			require.NoError(t, recovered.Close())
		}
		_ = r.Close() // its process has ended
	}
}

// A journal whose flush failed says so, and takes nothing more.
func TestFailedJournalFlushIsFinal(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "aaa")
		other := create(t, r, "aab")
		failOnce(f, journalDir, cause)
		_, err := s.Remember(background, Memory{Content: "lost"})
		require.ErrorIs(t, err, ErrUnknownOutcome)
		for _, s := range []*Space{s, other} {
			_, err = s.Remember(background, Memory{Content: "behind it"})
			require.ErrorIs(t, err, ErrStopped)
		}
		_ = r.Close() // nothing settles any more
	}
}
