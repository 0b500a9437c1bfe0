package engram

import (
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// termsOf is what analyze found, one word for each time it was counted.
func termsOf(text string) []string {
	found, _ := English.analyze(text)
	terms := []string{}
	for _, t := range found {
		for range t.count {
			terms = append(terms, t.term)
		}
	}
	return terms
}

func TestAnalyze(t *testing.T) {
	for _, c := range []struct {
		name, text string
		terms      []string
	}{
		{"empty", "", []string{}},
		{"no word", " -- … !? \n\t☂ ", []string{}},
		{"words", "Red,green;blue\nand\tyellow", []string{"red", "green", "blue", "yellow"}},
		{"case", "LONDON London london", []string{"london", "london", "london"}},
		{"stems", "painted painting paintings", []string{"paint", "paint", "paint"}},
		{"stop words", "When did the dog go to a park?", []string{"dog", "go", "park"}},
		{"only stop words", "To be or not to be", []string{"to", "to", "be", "be", "or", "not"}},
		{"digits", "R2D2 in 2023, 3.14", []string{"r2d2", "2023", "3", "14"}},
		{"digits are not stemmed", "1990s 3rs", []string{"1990s", "3rs"}},
		{"hyphen and underscore", "well-known user_name", []string{"well", "know", "user", "name"}},

		{"possessive", "Caroline's dogs' Anna’s", []string{"carolin", "dog", "anna"}},
		{"contractions", "I'm sure we'll win; they've lost, she'd sing, you're late", []string{"sure", "win", "lose", "sing", "late"}},
		{"negations", "didn't won't can't isn't eat", []string{"eat"}},
		{"what looks like half a negation", "who won", []string{"win"}},
		{"apostrophe inside", "O'Brien rock'n'roll", []string{"obrien", "rocknrol"}},
		{"quotes", "'hello' said 'Tom'", []string{"hello", "say", "tom"}},
		{"feet and inches", "5'11 tall", []string{"5", "11", "tall"}},
		{"decade", "the 90's", []string{"90"}},
		{"lonely apostrophes", "' '' 's't", []string{"s"}},

		{"accents", "Café CAFÉ cafe\u0301 Zoë Łódź", []string{"cafe", "cafe", "cafe", "zoe", "lodz"}},
		{"accents composed", "Việt Phở ước București țară Nǐ hǎo ǿ ǽ Ẽ ẛ", []string{
			"viet", "pho", "uoc", "bucuresti", "tara", "ni", "hao", "o", "æ", "e", "s",
		}},
		{"accents decomposed", "Vie\u0323\u0302t Pho\u031b\u0309 u\u031bo\u031b\u0301c Bucures\u0326ti t\u0326ara\u0306 Ni\u030c ha\u030co ø\u0301 æ\u0301 E\u0303 ſ\u0307", []string{
			"viet", "pho", "uoc", "bucuresti", "tara", "ni", "hao", "o", "æ", "e", "s",
		}},
		{"sigma", "ΟΔΟΣ οδος οδοσ", []string{"οδοσ", "οδοσ", "οδοσ"}},
		{"cyrillic", "Привет, мир", []string{"привет", "мир"}},
		{"marks go on a word", "हिन्दी", []string{"हिन्दी"}},
		{"marks start no word", "❤\ufe0f \u093f", []string{}},
		{"invisible", "soft\u00adware 1\ufe0f\u20e3", []string{"softwar", "1"}},
		{"no spaces", "我爱北京 ひらカタカナ", []string{"我", "爱", "北", "京", "ひ", "ら", "カタカナ"}},
		{"letters with marks", "ที่นี่ か\u3099く 葛\U000e0100城", []string{"ที่", "นี่", "か\u3099", "く", "葛", "城"}},
		{"scripts meet", "go语言's", []string{"go", "语", "言", "s"}},
		{"special case mappings", "ſtraße K", []string{"straße", "k"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.terms, termsOf(c.text))
			_, length := English.analyze(c.text)
			require.Equal(t, len(c.terms), length)
		})
	}
}

func TestQuestionShare(t *testing.T) {
	for text, want := range map[string]float64{
		"":                             0,
		"It is. It was.":               0,
		"Is it?":                       1,
		"Is it?\n":                     1,
		"Is it? \r\n":                  1,
		"It is. Is it?":                0.5,
		"Is it? It is, by version 1.2": 0.5,
	} {
		require.InDelta(t, want, questionShare(text), 1e-9, "%q", text)
	}
}

func TestAnalyzeCountsDistinctTermsInOrder(t *testing.T) {
	terms, length := English.analyze("beta alpha Beta gamma ALPHA beta")
	require.Equal(t, []termCount{{"beta", 3}, {"alpha", 2}, {"gamma", 1}}, terms)
	require.Equal(t, 6, length)
}

func TestAnalyzeCutsLongWordsAtARune(t *testing.T) {
	longest := strings.Repeat("7", maxTermBytes)
	require.Equal(t, []string{longest, longest}, termsOf(longest+" "+longest+"89"))

	// 63 bytes and a rune of two: it does not fit, and no later one takes its place.
	odd := strings.Repeat("7", maxTermBytes-1)
	require.Equal(t, []string{odd, "end"}, termsOf(odd+"ж7 end"))
	require.Equal(t, []string{strings.Repeat("ж", maxTermBytes/2)}, termsOf(strings.Repeat("ж", 10_000)))
}

// More words than fit the arrays on the stack, and many of them equal.
func TestAnalyzeLongText(t *testing.T) {
	var text strings.Builder
	for i := range 30_000 {
		text.WriteString(string(rune('a'+i%26)) + string(rune('0'+i%10)) + " ")
	}
	terms, length := English.analyze(text.String())
	require.Equal(t, 30_000, length)
	require.Len(t, terms, 130) // the least common multiple of 26 and 10
	for i, term := range terms {
		require.Equal(t, string(rune('a'+i%26))+string(rune('0'+i%10)), term.term)
		require.InDelta(t, 30_000/130, term.count, 1)
	}
}

// However a letter is cased, it is the same letter.
func TestFoldRuneJoinsCases(t *testing.T) {
	for r := range unicode.MaxRune {
		folded, role := foldRune(r)
		again, _ := foldRune(folded)
		if again != folded { // a requirement for each of a million takes a second
			require.Equal(t, folded, again, "%U folds twice", r)
		}
		if role != runeInWord && role != runeIsWord {
			continue
		}
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			if other == '\u0345' {
				continue // a mark below a vowel that becomes a letter in upper case
			}
			otherFolded, otherRole := foldRune(other)
			require.Equal(t, folded, otherFolded, "%U and %U", r, other)
			require.Equal(t, role, otherRole, "%U and %U", r, other)
		}
	}
}

// naiveWords is the analysis of plain ASCII text without apostrophes, before
// stop words and stems, by other means.
func naiveWords(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

func TestAnalyzeAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("aB1 .-\n"))).Draw(t, "text")
		counts := map[string]uint32{}
		length := 0
		for _, word := range naiveWords(text) {
			if isStopWord([]byte(word)) || len(word) > maxTermBytes {
				t.Skip("the oracle knows neither")
			}
			single, _ := English.analyze(word)
			require.Len(t, single, 1)
			counts[single[0].term]++
			length++
		}
		terms, gotLength := English.analyze(text)
		got := map[string]uint32{}
		for _, term := range terms {
			got[term.term] = term.count
		}
		require.Equal(t, counts, got)
		require.Equal(t, length, gotLength)
	})
}

// requireAnalysis checks what holds for the analysis of any text.
func requireAnalysis(t require.TestingT, text string) {
	terms, length := English.analyze(text)
	seen := map[string]bool{}
	var counted uint32
	for _, term := range terms {
		require.NotEmpty(t, term.term)
		require.LessOrEqual(t, len(term.term), maxTermBytes)
		require.True(t, utf8.ValidString(term.term))
		require.False(t, seen[term.term], "%q is listed twice", term.term)
		require.NotZero(t, term.count)
		seen[term.term] = true
		counted += term.count
	}
	require.Equal(t, length, int(counted))

	again, lengthAgain := English.analyze(text)
	require.Equal(t, terms, again)
	require.Equal(t, length, lengthAgain)

	// What separates words changes nothing around them.
	spaced, _ := English.analyze(" " + text + ". ")
	require.Equal(t, terms, spaced)

	stored := English.analyzeMemory(text)
	require.Equal(t, terms, stored.terms)
	require.Equal(t, namesTold(text), stored.tells&^documentTellsWhen)
}

func TestAnalyzeAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireAnalysis(t, rapid.String().Draw(t, "text"))
	})
}

func TestInverseDocumentFrequency(t *testing.T) {
	require.InDelta(t, math.Log(1+99.5/1.5), inverseDocumentFrequency(100, 1), 1e-12)
	require.InDelta(t, math.Log(1+0.5/100.5), inverseDocumentFrequency(100, 100), 1e-12)
	rapid.Check(t, func(t *rapid.T) {
		documents := rapid.IntRange(0, 1<<40).Draw(t, "documents")
		containing := rapid.IntRange(0, 1<<40).Draw(t, "containing")
		idf := inverseDocumentFrequency(documents, containing)
		require.Positive(t, idf)
		require.LessOrEqual(t, inverseDocumentFrequency(documents, containing+1), idf, "a more common term weighs no more")
	})
}

func TestTermWeight(t *testing.T) {
	termWeight := func(count uint32, length int, average, k1, b float64) float64 {
		w := weigher{k1: k1, b: b, average: average}
		return w.weight(count, uint32(length))
	}
	const k1, b = 1.2, 0.75
	require.InDelta(t, 1, termWeight(1, 10, 10, k1, b), 1e-12, "once in a document of average length")
	require.InDelta(t, 3*2.2/(3+1.2*(0.25+0.75*2)), termWeight(3, 20, 10, k1, b), 1e-12)
	require.InDelta(t, 1, termWeight(1, 0, 0, k1, b), 1e-12, "no average yet")
	require.InDelta(t, 1, termWeight(7, 3, 10, 0, b), 1e-12, "without k1 a count is worth no more than one")

	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Uint32Range(1, 1000).Draw(t, "count")
		length := rapid.IntRange(1, 100_000).Draw(t, "length")
		average := float64(rapid.IntRange(0, 1_000_000).Draw(t, "tokens")) / 1000 // of a thousand documents
		k1 := rapid.Float64Range(0, 10).Draw(t, "k1")
		b := rapid.Float64Range(0, 1).Draw(t, "b")
		weight := termWeight(count, length, average, k1, b)
		require.GreaterOrEqual(t, weight, 0.0)
		require.LessOrEqual(t, weight, k1+1+1e-9, "it saturates")
		require.GreaterOrEqual(t, termWeight(count+1, length, average, k1, b)+1e-9, weight)
		require.LessOrEqual(t, termWeight(count, length+1, average, k1, b), weight+1e-9)
	})
}

func TestAnalyzers(t *testing.T) {
	for text, want := range map[string]map[Analyzer][]string{
		"The rivers are running": {
			"":         {"river", "run"},
			English:    {"river", "run"},
			EnglishAll: {"the", "river", "are", "run"},
			Plain:      {"the", "rivers", "are", "running"},
			CJK:        {"the", "rivers", "are", "running"},
		},
		"They won't win": {
			English:    {"win"},
			EnglishAll: {"they", "won", "win"},
			Plain:      {"they", "won", "win"},
		},
		"Won't they?": {
			English:    {"won", "they"},
			EnglishAll: {"won", "they"},
		},
		"東京都 is big": {
			English: {"東", "京", "都", "big"},
			Plain:   {"東", "京", "都", "is", "big"},
			CJK:     {"東京", "京都", "is", "big"},
		},
		"ที่นี่ดี ที่": {
			Plain: {"ที่", "นี่", "ดี"},
			CJK:   {"ที่นี่", "นี่ดี", "ที่"},
		},
		"葛\U000e0100城市": {
			Plain: {"葛", "城", "市"},
			CJK:   {"葛城", "城市"},
		},
		"ก" + strings.Repeat("\u0e48", 100) + "ข": {
			CJK: {"ก" + strings.Repeat("\u0e48", 9) + "ข"},
		},
		"東，京都a北": {
			CJK: {"東", "京都", "a", "北"},
		},
		"東京都東京都": {
			CJK: {"東京", "京都", "都東"},
		},
	} {
		for analyzer, terms := range want {
			got, _ := analyzer.analyze(text)
			var names []string
			for _, term := range got {
				names = append(names, term.term)
			}
			require.Equal(t, terms, names, "%s by %q", text, analyzer)
		}
	}
}

// A space keeps the analyzer that it was created with, asleep and awake, and its
// cues are analyzed alike.
func TestAnalyzerIsFixed(t *testing.T) {
	r, m := newRegistry(t, Options{})
	_, err := r.Create(background, "none", SpaceConfig{Analyzer: "klingon"})
	require.ErrorIs(t, err, ErrInvalid)
	s, err := r.Create(background, "cjk", SpaceConfig{Analyzer: CJK})
	require.NoError(t, err)
	remember(t, s, Memory{ID: "tokyo", Content: "東京都"}, Memory{ID: "other", Content: "京東"})
	check := func(s *Space) {
		t.Helper()
		require.Equal(t, []string{"tokyo"}, recalledIDs(recall(t, s, Cue{Text: "東京"})))
		require.Equal(t, CJK, s.Info().Config.Analyzer)
		_, err := s.Configure(background, SpaceConfig{Analyzer: Plain})
		require.ErrorIs(t, err, ErrInvalid)
	}
	check(s)
	s.sleep()
	check(s)
	require.NoError(t, s.Checkpoint(background))
	s.sleep()
	check(s)
	require.NoError(t, r.Close())
	check(get(t, openMemory(t, m, Options{}), "cjk"))
}
