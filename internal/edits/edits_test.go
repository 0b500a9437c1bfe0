package edits

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"alpha", "alpha", 0},
		{"alpha", "", 5},
		{"alpha", "alhpa", 2},
		{"alpha", "alpa", 1},
		{"alpha", "alphaa", 1},
		{"kitten", "sitting", 3},
	} {
		require.Equal(t, c.want, Distance(c.a, c.b, 9), "%q %q", c.a, c.b)
		require.Equal(t, c.want, Distance(c.b, c.a, 9), "%q %q", c.b, c.a)
	}
}

// TestDistanceIsThatOfTheDefinition compares it with the recursive definition.
func TestDistanceIsThatOfTheDefinition(t *testing.T) {
	var naive func(a, b string) int
	naive = func(a, b string) int {
		switch {
		case a == "" || b == "":
			return len(a) + len(b)
		case a[0] == b[0]:
			return naive(a[1:], b[1:])
		}
		return 1 + min(naive(a[1:], b), naive(a, b[1:]), naive(a[1:], b[1:]))
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[abc]{0,6}`)
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		most := rapid.IntRange(0, 6).Draw(t, "most")
		require.Equal(t, min(naive(a, b), most+1), Distance(a, b, most))
	})
}
