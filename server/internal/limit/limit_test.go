package limit

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(2, 3)
		for range 3 {
			require.Zero(t, l.Allow("a"))
		}
		require.Equal(t, 500*time.Millisecond, l.Allow("a"))
		require.Equal(t, 500*time.Millisecond, l.Allow("a"), "what was refused is not counted")
		require.Zero(t, l.Allow("b"), "another name has a bucket of its own")
		time.Sleep(500 * time.Millisecond)
		require.Zero(t, l.Allow("a"))
		require.Positive(t, l.Allow("a"))
	})
}

func TestLimiterDefaults(t *testing.T) {
	require.Nil(t, New(0, 0))
	require.Zero(t, (*Limiter)(nil).Allow("a"))
	require.Equal(t, 1, New(0.1, 0).burst)
	require.Equal(t, 3, New(2.5, 0).burst)
}

func TestLimiterIsBounded(t *testing.T) {
	l := New(0.001, 1)
	l.max = 10
	require.Zero(t, l.Allow("kept"))
	for i := range 100 {
		require.Zero(t, l.Allow(strconv.Itoa(i)))
		require.Positive(t, l.Allow("kept"), "whoever goes on asking is not forgotten")
	}
	require.Len(t, l.buckets, 10)
	require.Equal(t, 10, l.recent.Len())
}
