package limit

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShares(t *testing.T) {
	s := NewShares[string](3, 5)
	require.True(t, s.Take("a", 2))
	require.False(t, s.Take("a", 2), "more than one may have")
	require.True(t, s.Take("a", 1))
	require.True(t, s.Take("b", 2))
	require.False(t, s.Take("b", 1), "more than all may have")
	require.False(t, s.Take("c", 1))
	require.True(t, s.Take("c", 0))
	require.Equal(t, int64(5), s.Taken())
	s.Return("a", 2)
	require.True(t, s.Take("c", 2))
	s.Return("a", 1)
	s.Return("b", 2)
	s.Return("c", 2)
	require.Zero(t, s.Taken())
	require.Empty(t, s.taken, "a name that has nothing is not kept")
	require.False(t, s.Take("a", 1<<62), "nothing overflows")
}

func TestSharesConcurrently(t *testing.T) {
	s := NewShares[int](2, 5)
	var work sync.WaitGroup
	for name := range 4 {
		for range 4 {
			work.Go(func() {
				for range 1000 {
					if s.Take(name, 1) {
						s.Return(name, 1)
					}
				}
			})
		}
	}
	work.Wait()
	require.Zero(t, s.Taken())
}
