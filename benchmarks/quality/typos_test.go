package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTypo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	kinds := map[int]int{}
	for range 500 {
		word := []rune("sunrise")
		changed := typo(word, random)
		require.Equal(t, "sunrise", string(word), "the word stays")
		require.Equal(t, 's', changed[0])
		kinds[len(changed)-len(word)]++
		if len(changed) == len(word) {
			a, b := slices.Sorted(slices.Values(word)), slices.Sorted(slices.Values(changed))
			require.Equal(t, a, b, "the same letters")
		}
	}
	for _, difference := range []int{-1, 0, 1} {
		require.Greater(t, kinds[difference], 100)
	}
}

func TestMisspell(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	const text = "When did the étude of Zoë's cousins resonate with the audience, in 2023?"
	for range 200 {
		changed := misspell(text, random)
		require.NotEqual(t, text, changed)
		require.Len(t, strings.Fields(changed), len(strings.Fields(text)))
		for _, kept := range []string{" did the ", " of Zoë's ", " the ", " in 2023?"} {
			require.Contains(t, changed, kept, "short words and digits stay")
		}
	}
	require.Equal(t, "Is it so?", misspell("Is it so?", random), "nothing is long enough")
	require.Empty(t, misspell("", random))
}

// The same questions get the same typos in each run, and the given ones stay.
func TestMisspeltIsRepeatable(t *testing.T) {
	c := &collection{questions: []question{{text: "Which apples?", gold: goldOf("1")}, {text: "Whose orchard?"}}}
	changed := c.misspelt()
	require.Equal(t, changed, c.misspelt())
	require.Equal(t, "Which apples?", c.questions[0].text)
	require.NotEqual(t, "Which apples?", changed.questions[0].text)
	require.Equal(t, goldOf("1"), changed.questions[0].gold)
}
