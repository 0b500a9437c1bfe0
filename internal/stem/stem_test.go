package stem

import (
	"testing"

	"github.com/kljensen/snowball/english"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestEnglish(t *testing.T) {
	for word, want := range map[string]string{
		"":                "",
		"a":               "a",
		"by":              "by",
		"say":             "say",
		"cries":           "cri",
		"ties":            "tie",
		"gas":             "gas",
		"gaps":            "gap",
		"caresses":        "caress",
		"agreed":          "agre",
		"feed":            "feed",
		"hopping":         "hop",
		"hoping":          "hope",
		"luxuriated":      "luxuri",
		"happily":         "happili",
		"youth":           "youth",
		"boyish":          "boyish",
		"communities":     "communiti",
		"generalizations": "general",
		"consolingly":     "consol",
		"hopefulness":     "hope",
		"adoption":        "adopt",
		"controlling":     "control",
		"skies":           "sky",
		"news":            "news",
		"earrings":        "earring",
	} {
		require.Equal(t, want, string(English([]byte(word))), word)
	}
}

// The reference implementation is the oracle: for real endings on real and
// random beginnings, and for the words that both must treat as exceptions.
func TestEnglishIsPorter2(t *testing.T) {
	exceptions := []string{
		"skis", "skies", "dying", "lying", "tying", "idly", "gently", "ugly", "early", "only", "singly", "sky",
		"news", "howe", "atlas", "cosmos", "bias", "andes", "inning", "innings", "outing", "outings", "canning",
		"cannings", "herring", "herrings", "earring", "earrings", "proceed", "proceeds", "proceeded", "proceeding",
		"exceed", "exceeds", "exceeded", "exceeding", "succeed", "succeeds", "succeeded", "succeeding",
	}
	beginnings := []string{
		"", "a", "y", "be", "say", "gener", "commun", "arsen", "generous", "hop", "controll", "happ", "enjoy",
		"vow", "box", "sky", "yell", "syzyg", "fl", "trou", "rel", "cap", "logic", "radic", "vill", "ess",
	}
	endings := []string{
		"", "s", "es", "ies", "ied", "us", "ss", "sses", "eed", "eedly", "ed", "edly", "ing", "ingly", "y",
		"tional", "enci", "anci", "abli", "entli", "izer", "ization", "ational", "ation", "ator", "alism",
		"aliti", "alli", "fulness", "ousli", "ousness", "iveness", "iviti", "biliti", "bli", "ogi", "logi",
		"fulli", "lessli", "li", "alize", "icate", "iciti", "ical", "ful", "ness", "ative", "al", "ance",
		"ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ism", "ate", "iti", "ous", "ive",
		"ize", "ion", "sion", "tion", "e", "ll", "le", "at", "bl", "iz", "bb", "tt", "zz",
	}
	check := func(t require.TestingT, word string) {
		require.Equal(t, english.Stem(word, true), string(English([]byte(word))), word)
	}
	for _, word := range exceptions {
		check(t, word)
	}
	for _, beginning := range beginnings {
		for _, middle := range endings {
			for _, end := range endings {
				check(t, beginning+middle+end)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z]{0,12}`).Draw(t, "beginning")
		for _, ending := range rapid.SliceOfN(rapid.SampledFrom(endings), 0, 3).Draw(t, "endings") {
			word += ending
		}
		check(t, word)
	})
}

func TestEnglishOfOtherBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SliceOf(rapid.Byte()).Draw(t, "word")
		length := len(word)
		require.LessOrEqual(t, len(English(word)), length)
	})
}

func TestEnglishDoesNotAllocate(t *testing.T) {
	word := make([]byte, 0, 32)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		English(append(word, "internationalizations"...))
	}))
}

func BenchmarkEnglish(b *testing.B) {
	words := []string{"investigation", "wing", "spanwise", "different", "effectiveness", "increase", "hopping", "families"}
	buffer := make([]byte, 0, 32)
	for b.Loop() {
		for _, word := range words {
			English(append(buffer, word...))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(words)), "ns/word")
}

func TestBase(t *testing.T) {
	for word, want := range map[string]string{
		"":         "",
		"went":     "go",
		"written":  "write",
		"children": "child",
		"go":       "go",
		"walked":   "walked",
		"lives":    "lives",
	} {
		require.Equal(t, want, string(Base([]byte(word))), word)
	}
}

// What Base returns is a base form, and it writes over nothing.
func TestBaseIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"went", "broken", "children", "best", "paint", "thought", "x"}).Draw(t, "word")
		given := []byte(word)
		base := Base(given)
		require.Equal(t, string(base), string(Base(base)))
		require.Equal(t, word, string(given))
	})
}
