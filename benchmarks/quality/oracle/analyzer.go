package oracle

import (
	"slices"
	"strings"
	"unicode"

	"github.com/engramdb/engram/internal/stem"
)

// word is a word of a text.
type word struct {
	folded  string // lower case, without accents and without English endings behind an apostrophe
	capital bool   // its first letter is upper case
	stop    bool   // says little about what a text is about
}

// words splits a text at everything that is neither letter, digit, mark nor an
// apostrophe inside a word.
func words(text string) []word {
	var list []word
	text = strings.NewReplacer("\u2019", "'", "\u02bc", "'", "\u00ad", "", "\u200d", "", "\ufe0f", "").Replace(text)
	for _, field := range strings.FieldsFunc(text, func(r rune) bool {
		return r != '\'' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	}) {
		for _, part := range splitApostrophes(field) {
			first := []rune(part)[0]
			list = append(list, newWord(part, unicode.IsUpper(first)))
		}
	}
	return list
}

// splitApostrophes splits a field at the apostrophes that no letters surround.
func splitApostrophes(field string) []string {
	runes := []rune(field)
	for i, r := range runes {
		inside := i > 0 && i+1 < len(runes) && unicode.IsLetter(runes[i+1]) && runes[i-1] != '\''
		if r == '\'' && !inside {
			runes[i] = ' '
		}
	}
	return strings.Fields(string(runes))
}

func newWord(text string, capital bool) word {
	folded := fold(text)
	pieces := strings.Split(folded, "'")
	negated := false
	if last := len(pieces) - 1; last > 0 {
		switch pieces[last] {
		case "t":
			negated = true
			pieces = pieces[:last]
		case "s", "d", "m", "ll", "re", "ve":
			pieces = pieces[:last]
		}
	}
	folded = strings.Join(pieces, "")
	return word{folded: folded, capital: capital, stop: negated || isStopWord(folded)}
}

// fold returns text in lower case and without the accents of Western languages.
func fold(text string) string {
	return strings.Map(func(r rune) rune {
		r = unicode.ToLower(r)
		for _, letters := range []string{"aàáâãäå", "cç", "eèéêë", "iìíîï", "nñ", "oòóôõöø", "uùúûü", "yýÿ"} {
			if strings.ContainsRune(letters, r) {
				return rune(letters[0])
			}
		}
		return r
	}, text)
}

// term is what a word is indexed as.
func (f Form) term(w word) string {
	if f.KeepsEndings {
		return w.folded
	}
	for _, r := range w.folded {
		if r < 'a' || r > 'z' {
			return w.folded
		}
	}
	base := []byte(w.folded)
	if !f.KeepsIrregular {
		base = stem.Base(base)
	}
	return string(stem.English(base))
}

// Words are the folded words of a text without the stop words.
func Words(text string) []string {
	var list []string
	for _, w := range words(text) {
		if !w.stop {
			list = append(list, w.folded)
		}
	}
	return list
}

// Term is what the chosen form indexes a folded word as.
func Term(folded string) string { return Chosen().term(word{folded: folded}) }

// terms are those of all words but the stop words; of a text of nothing else,
// those of the stop words.
func (f Form) terms(list []word) []string {
	var all, kept []string
	for _, w := range list {
		all = append(all, f.term(w))
		if !w.stop || f.KeepsStopWords {
			kept = append(kept, f.term(w))
		}
	}
	if len(kept) == 0 {
		return all
	}
	return kept
}

func distinct(terms []string) []string {
	var list []string
	for _, t := range terms {
		if !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

func isStopWord(folded string) bool {
	return slices.Contains(strings.Fields(`
		a an the this that these those
		i me my mine myself we us our ours ourselves you your yours yourself yourselves
		he him his himself she her hers herself it its itself they them their theirs themselves
		am is are was were be been being do does did doing have has had having
		will would shall should can cannot could might must
		and but or nor not no if then than so because as
		at by for from in into of on onto to with about against between
		through during before after above below up down out off over under
		what which who whom whose when where why how
		here there all any both each few more most other some`), folded)
}

// maxLabelBytes and maxLabelWords bound what counts as a label.
const (
	maxLabelBytes = 32
	maxLabelWords = 3
)

// label returns what stands before the first colon of a text that starts as a
// transcript or a form does, "Ann: ...", "Dr. Ann Lee: ...", else nothing.
func label(text string) string {
	before, _, found := strings.Cut(text, ": ")
	if !found || len(before) > maxLabelBytes || len(strings.Fields(before)) > maxLabelWords || strings.ContainsAny(before, ".!?\n") {
		return ""
	}
	return before
}

// questionShare is the share of a text's sentences that are questions.
func questionShare(text string) float64 {
	questions := strings.Count(text, "?")
	if questions == 0 {
		return 0
	}
	text = strings.TrimSpace(text)
	others := 0
	for i, r := range text {
		atEnd := i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\n'
		if (r == '.' || r == '!') && atEnd {
			others++
		}
	}
	if !strings.ContainsAny(text[len(text)-1:], ".!?") {
		others++
	}
	return float64(questions) / float64(questions+others)
}
