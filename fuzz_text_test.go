package engram

import (
	"testing"
	"unicode/utf8"
)

// FuzzAnalyze holds the analyzer to what is true of any text; its named seeds
// are in testdata/fuzz/FuzzAnalyze.
func FuzzAnalyze(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || len(text) > MaxContentBytes {
			t.Skip("a memory's content is valid UTF-8 of bounded length")
		}
		requireAnalysis(t, text)
	})
}
