package engram

import (
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/engramdb/engram/internal/stem"
)

// maxTermBytes bounds a term, and with it the key of every posting. What a
// longer word has beyond it is not searchable.
const maxTermBytes = 64

// maxLetterBytes bounds a letter that is a word, with its marks: two make a term.
const maxLetterBytes = maxTermBytes / 2

// termCount is a term and how often a text has it.
type termCount struct {
	term  string
	count uint32
}

// Analyzer says how a space makes terms of its texts and of the cues. It is
// chosen when the space is created and stays.
type Analyzer string

// The analyzers. All of them fold case and Latin accents, and take what Unicode
// calls letters, marks and digits for words; letters of Han, Hiragana, Thai, Lao,
// Khmer and Myanmar, which put no space between words, are words each. They fold
// neither widths nor ligatures, and compose nothing: outside Latin, give texts and
// cues in one normal form. An apostrophe inside a word is left out, with an ending
// that English joins by it: "Ann's" is ann. Of a word its first 64 bytes count.
const (
	// English stems words by Porter2 and leaves out stop words, unless a text has
	// nothing else. It is the default: "" stands for it.
	English Analyzer = "english"
	// EnglishAll is English with the stop words.
	EnglishAll Analyzer = "english-all"
	// Plain takes words as they are.
	Plain Analyzer = "plain"
	// CJK is Plain, and of letters that are words it takes each pair of neighbours
	// for a term, and a letter that stands alone.
	CJK Analyzer = "cjk"
)

// analyzers are in the order of their numbers, which are part of the format.
var analyzers = [...]Analyzer{English, EnglishAll, Plain, CJK}

// number returns the analyzer's number from 1 on, 0 if it is none.
func (a Analyzer) number() uint32 {
	if a == "" {
		a = English
	}
	return uint32(slices.Index(analyzers[:], a) + 1)
}

// analyzerOf is the inverse of number: the default is "" again.
func analyzerOf(number uint32) (Analyzer, bool) {
	if number == 1 {
		return "", true
	}
	if number == 0 || int(number) > len(analyzers) {
		return "", false
	}
	return analyzers[number-1], true
}

// analysis is what the indexes keep of a text.
type analysis struct {
	terms  []termCount // distinct, in order of first appearance; they share one string
	length int         // words that were counted
	// Of English texts only:
	label     []string // the distinct terms of what stands before the first colon
	questions uint8    // share of the sentences that are questions, of 255
	tells     uint8    // documentTells
}

func (a Analyzer) isEnglish() bool { return a == "" || a == English || a == EnglishAll }

// analyze returns the distinct terms of text in order of first appearance, and
// how many words were counted.
//
// The terms share one string: who keeps a term longer than the call clones it.
func (a Analyzer) analyze(text string) (terms []termCount, length int) {
	x := a.terms(text, nil)
	return x.terms, x.length
}

// analyzeMemory is analyze for what is stored: it also sees what kind of text
// it is.
func (a Analyzer) analyzeMemory(text string) analysis {
	if !a.isEnglish() {
		return a.terms(text, nil)
	}
	before := label(text)
	told := teller{label: len(before)}
	x := a.terms(text, &told)
	x.tells = told.tells
	x.questions = uint8(math.Round(255 * questionShare(text)))
	if before != "" {
		terms, _ := a.analyze(before)
		for _, t := range terms {
			x.label = append(x.label, t.term)
		}
	}
	return x
}

// terms has told, if there is one, see the words.
func (a Analyzer) terms(text string, told *teller) analysis {
	if text == "" {
		return analysis{}
	}
	rules := wordRules{bigrams: a == CJK, stems: a.isEnglish()}
	rules.stops = rules.stems && a != EnglishAll
	x := rules.analyze(text, told)
	if x.length == 0 && rules.stops {
		rules.stops = false
		x = rules.analyze(text, told)
	}
	return x
}

// Bounds of what counts as a label.
const (
	maxLabelBytes = 32
	maxLabelWords = 3
)

// label returns what stands before the first colon of a text that starts as a
// transcript or a form does, "Ann: ...", "Dr. Ann Lee: ...", else nothing.
func label(text string) string {
	before, _, found := strings.Cut(text[:min(len(text), maxLabelBytes+2)], ": ")
	if !found || len(strings.Fields(before)) > maxLabelWords || strings.ContainsAny(before, ".!?\n") {
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
	for i := range len(text) {
		atEnd := i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\n'
		if (text[i] == '.' || text[i] == '!') && atEnd {
			others++
		}
	}
	if !strings.ContainsAny(text[len(text)-1:], ".!?") {
		others++
	}
	return float64(questions) / float64(questions+others)
}

// wordRules say what becomes of the words of a text.
type wordRules struct {
	stems   bool // English
	stops   bool // leave out stop words
	bigrams bool // of letters that are words
}

// analyze writes the terms one after another into a buffer, so that a memory of
// ordinary size costs three allocations: the array of the word at hand, the
// terms' bytes and the result.
func (r wordRules) analyze(text string, told *teller) (x analysis) {
	var (
		bytesOnStack [512]byte
		endsOnStack  [64]int
		wordOnStack  [maxTermBytes]byte
	)
	buffer, ends := bytesOnStack[:0], endsOnStack[:0]
	words := wordScanner{text: text, word: wordOnStack[:0]}
	var run letterRun
	for words.next() {
		if r.bigrams && words.letter {
			buffer, ends = run.add(&words, buffer, ends)
			continue
		}
		if told != nil {
			told.see(&words)
		}
		if r.stops && (words.negated || isStopWord(words.word)) {
			continue
		}
		term := words.word
		if r.stems && words.plain && !words.negated {
			term = stem.English(stem.Base(term))
		}
		buffer = append(buffer, term...)
		ends = append(ends, len(buffer))
	}
	if x.length = len(ends); x.length > 0 {
		x.terms = countTerms(string(buffer), ends)
	}
	return x
}

// letterRun is a run of letters that are words, on its way to pairs.
type letterRun struct {
	text int // where the run goes on, if a letter stands there
	last int // where its last letter begins in the buffer
	term int // where its last term ends
	long bool
}

// add adds the letter at hand: alone if it begins a run, and as a pair with the
// one before it otherwise, in place of that one where that stood alone.
func (r *letterRun) add(words *wordScanner, buffer []byte, ends []int) ([]byte, []int) {
	if words.from != r.text || r.term != len(buffer) || len(ends) == 0 {
		*r = letterRun{last: len(buffer)}
		buffer = append(buffer, words.word...)
		ends = append(ends, len(buffer))
		r.text, r.term = words.at, len(buffer)
		return buffer, ends
	}
	before := r.last
	if r.long {
		buffer = append(buffer, buffer[r.last:r.term]...)
		ends = append(ends, 0)
		before = r.term
	}
	r.last = before + r.term - r.last
	buffer = append(buffer, words.word...)
	ends[len(ends)-1] = len(buffer)
	r.text, r.term, r.long = words.at, len(buffer), true
	return buffer, ends
}

// countTerms counts the terms that end at ends in all, which is nothing but
// terms. Its hash table is seeded anew each time, so that no text can be written
// to make it slow.
func countTerms(all string, ends []int) []termCount {
	var slotsOnStack [128]int
	slots := slotsOnStack[:]
	if 2*len(ends) > len(slots) {
		slots = make([]int, 1<<bits.Len(uint(2*len(ends))))
	}
	mask := uint64(len(slots) - 1)
	seed := maphash.MakeSeed()
	terms := make([]termCount, 0, len(ends))
	start := 0
	for _, end := range ends {
		term := all[start:end]
		start = end
		at := maphash.String(seed, term) & mask
		for slots[at] != 0 && terms[slots[at]-1].term != term {
			at = (at + 1) & mask
		}
		if slots[at] == 0 {
			terms = append(terms, termCount{term: term})
			slots[at] = len(terms)
		}
		terms[slots[at]-1].count++
	}
	return terms
}

// wordScanner finds the words of a text: runs of letters, marks and digits,
// folded. Apostrophes inside a word are left out, and so are the endings that
// English joins with one: "Ann's", "we'll" and "didn't" are ann, we and didn.
// In scripts that put no space between words each letter is a word, with its marks.
type wordScanner struct {
	text    string
	from    int    // of the word in text
	at      int    // of the next rune to read
	word    []byte // what next found, at most maxTermBytes
	plain   bool   // word is nothing but a to z: it can be stemmed
	negated bool   // word is an auxiliary that lost its "n't": didn, won
	letter  bool   // word is one letter of a script without spaces
	capital bool   // word begins with an upper-case letter
	first   bool   // word is the first of a sentence, or of what follows a comma or colon

	cut   bool // word is full: the rest is left out
	joint int  // length of word at its last apostrophe; 0 for none
}

// next finds the next word, and reports whether there was one.
func (s *wordScanner) next() bool {
	s.word, s.plain, s.negated, s.letter = s.word[:0], true, false, false
	s.capital, s.first = false, s.at == 0
	s.cut, s.joint = false, 0
	for s.at < len(s.text) {
		r, size := rune(s.text[s.at]), 1
		if 'a' <= r && r <= 'z' && !s.letter && !s.cut && len(s.word) < maxTermBytes {
			s.word = append(s.word, byte(r)) // as most runes do: it goes on the word as it is
			s.at++
			continue
		}
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s.text[s.at:])
		}
		folded, role := foldRune(r)
		if s.letter && role != runeMark && role != runeIgnored {
			return true
		}
		switch role {
		case runeInWord:
			if len(s.word) == 0 {
				s.capital = unicode.IsUpper(r)
			}
			s.append(folded)
		case runeIsWord:
			if len(s.word) > 0 {
				return s.finish()
			}
			s.append(folded)
			s.from, s.letter = s.at, true
		case runeApostrophe:
			if len(s.word) > 0 && s.letterAt(s.at+size) {
				s.joint = len(s.word)
			} else if len(s.word) > 0 {
				return s.finish()
			}
		case runeBreaks:
			if len(s.word) > 0 {
				return s.finish()
			}
			s.first = s.first || beginsSentence(r)
		case runeMark:
			if len(s.word) > 0 && (!s.letter || len(s.word)+utf8.RuneLen(folded) <= maxLetterBytes) {
				s.append(folded)
			}
		case runeIgnored:
		}
		s.at += size
	}
	return s.finish()
}

// beginsSentence reports what a sentence may begin after. A comma is among it because
// the name behind one is often of who is spoken to: "Thanks, Ann".
func beginsSentence(r rune) bool {
	switch r {
	case '.', '!', '?', ',', ':', '\n':
		return true
	}
	return false
}

// append adds a folded rune, or none once one did not fit.
func (s *wordScanner) append(r rune) {
	if r < utf8.RuneSelf && len(s.word) < maxTermBytes && !s.cut {
		s.plain = s.plain && r >= 'a'
		s.word = append(s.word, byte(r))
		return
	}
	s.plain = false
	if s.cut = s.cut || len(s.word)+utf8.RuneLen(r) > maxTermBytes; !s.cut {
		s.word = utf8.AppendRune(s.word, r)
	}
}

// letterAt reports whether a letter that can go on a word starts at i.
func (s *wordScanner) letterAt(i int) bool {
	r, _ := utf8.DecodeRuneInString(s.text[i:])
	folded, role := foldRune(r)
	return role == runeInWord && !unicode.IsDigit(folded)
}

// finish drops the ending after the last apostrophe where it is one of English,
// and reports whether there is a word.
func (s *wordScanner) finish() bool {
	if s.joint > 0 {
		switch string(s.word[s.joint:]) {
		case "t":
			s.negated = true
			s.word = s.word[:s.joint]
		case "s", "d", "m", "ll", "re", "ve":
			s.word = s.word[:s.joint]
		}
	}
	return len(s.word) > 0
}

// isStopWord reports the words that say little about what an English text is
// about: pronouns, articles, auxiliaries, prepositions, conjunctions and question
// words. It looks at words before they are stemmed. "May" is not among them: it
// is a month too.
func isStopWord(word []byte) bool {
	switch string(word) {
	case "a", "an", "the", "this", "that", "these", "those",
		"i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves",
		"you", "your", "yours", "yourself", "yourselves",
		"he", "him", "his", "himself", "she", "her", "hers", "herself", "it", "its", "itself",
		"they", "them", "their", "theirs", "themselves",
		"am", "is", "are", "was", "were", "be", "been", "being",
		"do", "does", "did", "doing", "have", "has", "had", "having",
		"will", "would", "shall", "should", "can", "cannot", "could", "might", "must",
		"and", "but", "or", "nor", "not", "no", "if", "then", "than", "so", "because", "as",
		"at", "by", "for", "from", "in", "into", "of", "on", "onto", "to", "with", "about", "against", "between",
		"through", "during", "before", "after", "above", "below", "up", "down", "out", "off", "over", "under",
		"what", "which", "who", "whom", "whose", "when", "where", "why", "how",
		"here", "there", "all", "any", "both", "each", "few", "more", "most", "other", "some":
		return true
	}
	return false
}

// inverseDocumentFrequency weighs a term that containing of the documents have.
// It is BM25's with one added inside the logarithm, so that a term of most
// documents is worth little rather than less than nothing.
func inverseDocumentFrequency(documents, containing int) float64 {
	without := max(documents-containing, 0)
	return math.Log(1 + (float64(without)+0.5)/(float64(containing)+0.5))
}

// weigher is BM25's weight of a term that a document of length words has count
// times: it saturates with count as k1 says, and b says how much of it a
// document loses for being longer than the average.
//
// Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and
// Beyond, 2009.
type weigher struct{ k1, b, average float64 }

func (w *weigher) weight(count, length uint32) float64 {
	relative := 1.0
	if w.average > 0 {
		relative = float64(length) / w.average
	}
	tf := float64(count)
	return tf * (w.k1 + 1) / (tf + float64(w.k1*(1-w.b+float64(w.b*relative))))
}
