// Package stem reduces English words to their stems, in place and without
// allocating, because analysis is on the write path and on the path of waking.
//
// It is the Porter2 algorithm of the Snowball project
// (https://snowballstem.org/algorithms/english/stemmer.html). The step names
// below are those of its description.
package stem

// English returns the stem of a word of lower-case ASCII letters and digits.
// The stem overwrites the word and is never longer than it. Of other bytes it
// makes something as short, but nothing that means anything.
func English(word []byte) []byte {
	if len(word) <= 2 {
		return word
	}
	if n := irregular(word); n > 0 {
		return word[:n]
	}
	w := stemmer{word: word}
	w.markConsonantY()
	w.findRegions()
	w.step1a()
	w.step1b()
	w.step1c()
	w.step2()
	w.step3()
	w.step4()
	w.step5()
	return w.lowerY()
}

// stemmer is a word on its way to its stem. r1 and r2 are where the regions R1
// and R2 start; they stay where they are while the word shrinks, and may lie
// beyond its end.
type stemmer struct {
	word   []byte
	r1, r2 int
}

// irregular writes the stem of an exceptional word over it and returns its
// length, or 0 for a word that follows the rules.
func irregular(word []byte) int {
	switch string(word) {
	case "skis":
		return copy(word, "ski")
	case "skies":
		return copy(word, "sky")
	case "dying":
		return copy(word, "die")
	case "lying":
		return copy(word, "lie")
	case "tying":
		return copy(word, "tie")
	case "idly":
		return copy(word, "idl")
	case "gently":
		return copy(word, "gentl")
	case "ugly":
		return copy(word, "ugli")
	case "early":
		return copy(word, "earli")
	case "only":
		return copy(word, "onli")
	case "singly":
		return copy(word, "singl")
	case "sky", "news", "howe", "atlas", "cosmos", "bias", "andes",
		"inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed":
		return len(word)
	case "innings", "outings", "cannings", "herrings", "earrings", "proceeds", "exceeds", "succeeds":
		return len(word) - 1
	}
	return 0
}

// markConsonantY writes as Y every y that is a consonant: at the start of the
// word or after a vowel.
func (w *stemmer) markConsonantY() {
	afterVowel := true
	for i, c := range w.word {
		if c == 'y' && afterVowel {
			w.word[i] = 'Y'
			afterVowel = false
			continue
		}
		afterVowel = isVowel(c)
	}
}

func (w *stemmer) lowerY() []byte {
	for i, c := range w.word {
		if c == 'Y' {
			w.word[i] = 'y'
		}
	}
	return w.word
}

// findRegions sets R1, the part after the first non-vowel that follows a vowel,
// and R2, the same within R1.
func (w *stemmer) findRegions() {
	switch {
	case w.startsWith("gener"), w.startsWith("arsen"):
		w.r1 = 5
	case w.startsWith("commun"):
		w.r1 = 6
	default:
		w.r1 = w.regionAfter(0)
	}
	w.r2 = w.regionAfter(w.r1)
}

func (w *stemmer) regionAfter(start int) int {
	for i := start + 1; i < len(w.word); i++ {
		if !isVowel(w.word[i]) && isVowel(w.word[i-1]) {
			return i + 1
		}
	}
	return len(w.word)
}

// step1a removes the s of plurals.
func (w *stemmer) step1a() {
	switch {
	case w.endsWith("sses"):
		w.cut(2)
	case w.endsWith("ied"), w.endsWith("ies"):
		if len(w.word) > 4 {
			w.cut(2)
		} else {
			w.cut(1)
		}
	case w.endsWith("us"), w.endsWith("ss"):
	case w.endsWith("s"):
		// "gas" and "this" keep it: their only vowel stands right before.
		if w.hasVowelBefore(len(w.word) - 2) {
			w.cut(1)
		}
	}
}

// step1b removes -ed and -ing, and mends what is left.
func (w *stemmer) step1b() {
	switch {
	case w.endsWith("eedly"):
		w.replaceInR1(5, "ee")
	case w.endsWith("eed"):
		w.replaceInR1(3, "ee")
	case w.endsWith("ingly"):
		w.cutInflection(5)
	case w.endsWith("edly"):
		w.cutInflection(4)
	case w.endsWith("ing"):
		w.cutInflection(3)
	case w.endsWith("ed"):
		w.cutInflection(2)
	}
}

func (w *stemmer) cutInflection(n int) {
	if !w.hasVowelBefore(len(w.word) - n) {
		return
	}
	w.cut(n)
	switch {
	case w.endsWith("at"), w.endsWith("bl"), w.endsWith("iz"):
		w.word = append(w.word, 'e')
	case w.endsWithDouble():
		w.cut(1)
	case w.r1 >= len(w.word) && w.endsWithShortSyllable(len(w.word)):
		w.word = append(w.word, 'e')
	}
}

// step1c turns the final y of "happy" into i, but not that of "by" and "say".
func (w *stemmer) step1c() {
	last := len(w.word) - 1
	if last > 1 && (w.word[last] == 'y' || w.word[last] == 'Y') && !isVowel(w.word[last-1]) {
		w.word[last] = 'i'
	}
}

// step2 replaces the outer one of two suffixes. The suffixes are told apart by
// their last letter but one, the longest of each group first; a suffix that is
// found and does not lie in R1 ends the step.
func (w *stemmer) step2() {
	if len(w.word) < 3 {
		return
	}
	switch w.word[len(w.word)-2] {
	case 'a':
		_ = w.swap("ational", "ate") || w.swap("tional", "tion")
	case 'c':
		_ = w.swap("enci", "ence") || w.swap("anci", "ance")
	case 'e':
		w.swap("izer", "ize")
	case 'g':
		if w.endsWith("logi") {
			w.swap("ogi", "og")
		}
	case 'l':
		_ = w.swap("lessli", "less") || w.swap("entli", "ent") || w.swap("fulli", "ful") ||
			w.swap("ousli", "ous") || w.swap("abli", "able") || w.swap("alli", "al") ||
			w.swap("bli", "ble") || w.swapLi()
	case 'o':
		_ = w.swap("ization", "ize") || w.swap("ation", "ate") || w.swap("ator", "ate")
	case 's':
		_ = w.swap("fulness", "ful") || w.swap("ousness", "ous") || w.swap("iveness", "ive") ||
			w.swap("alism", "al")
	case 't':
		_ = w.swap("biliti", "ble") || w.swap("aliti", "al") || w.swap("iviti", "ive")
	}
}

// swapLi removes -li after a letter that can stand before it.
func (w *stemmer) swapLi() bool {
	if w.endsWith("li") && len(w.word) > 2 {
		switch w.word[len(w.word)-3] {
		case 'c', 'd', 'e', 'g', 'h', 'k', 'm', 'n', 'r', 't':
			return w.swap("li", "")
		}
	}
	return false
}

// step3 replaces the next suffix.
func (w *stemmer) step3() {
	if len(w.word) < 3 {
		return
	}
	switch w.word[len(w.word)-2] {
	case 'a':
		_ = w.swap("ational", "ate") || w.swap("tional", "tion") || w.swap("ical", "ic")
	case 'z':
		w.swap("alize", "al")
	case 't':
		_ = w.swap("icate", "ic") || w.swap("iciti", "ic")
	case 'v':
		if w.endsWith("ative") && w.inR2(5) {
			w.cut(5)
		}
	case 'u':
		w.swap("ful", "")
	case 's':
		w.swap("ness", "")
	}
}

// step4 removes the last suffix, where it lies in R2.
func (w *stemmer) step4() {
	if len(w.word) < 3 {
		return
	}
	switch w.word[len(w.word)-2] {
	case 'a':
		w.drop("al")
	case 'c':
		_ = w.drop("ance") || w.drop("ence")
	case 'e':
		w.drop("er")
	case 'i':
		w.drop("ic")
	case 'l':
		_ = w.drop("able") || w.drop("ible")
	case 'n':
		_ = w.drop("ement") || w.drop("ment") || w.drop("ent") || w.drop("ant")
	case 'o':
		if w.endsWith("sion") || w.endsWith("tion") {
			w.drop("ion")
		}
	case 's':
		w.drop("ism")
	case 't':
		_ = w.drop("ate") || w.drop("iti")
	case 'u':
		w.drop("ous")
	case 'v':
		w.drop("ive")
	case 'z':
		w.drop("ize")
	}
}

// step5 removes a final e, and one l of a final ll.
func (w *stemmer) step5() {
	switch {
	case w.endsWith("e"):
		if w.inR2(1) || w.inR1(1) && !w.endsWithShortSyllable(len(w.word)-1) {
			w.cut(1)
		}
	case w.endsWith("ll") && w.inR2(1):
		w.cut(1)
	}
}

// swap reports whether the word ends with suffix; if that lies in R1 it is replaced.
func (w *stemmer) swap(suffix, replacement string) bool {
	if !w.endsWith(suffix) {
		return false
	}
	w.replaceInR1(len(suffix), replacement)
	return true
}

// drop reports whether the word ends with suffix; if that lies in R2 it is cut.
func (w *stemmer) drop(suffix string) bool {
	if !w.endsWith(suffix) {
		return false
	}
	if w.inR2(len(suffix)) {
		w.cut(len(suffix))
	}
	return true
}

func (w *stemmer) replaceInR1(n int, replacement string) {
	if w.inR1(n) {
		w.word = append(w.word[:len(w.word)-n], replacement...)
	}
}

// inR1 reports whether the last n bytes lie in R1.
func (w *stemmer) inR1(n int) bool { return len(w.word)-n >= w.r1 }

func (w *stemmer) inR2(n int) bool { return len(w.word)-n >= w.r2 }

func (w *stemmer) cut(n int) { w.word = w.word[:len(w.word)-n] }

func (w *stemmer) startsWith(prefix string) bool {
	return len(w.word) >= len(prefix) && string(w.word[:len(prefix)]) == prefix
}

func (w *stemmer) endsWith(suffix string) bool {
	return len(w.word) >= len(suffix) && string(w.word[len(w.word)-len(suffix):]) == suffix
}

func (w *stemmer) hasVowelBefore(end int) bool {
	for _, c := range w.word[:max(end, 0)] {
		if isVowel(c) {
			return true
		}
	}
	return false
}

func (w *stemmer) endsWithDouble() bool {
	n := len(w.word)
	if n < 2 || w.word[n-1] != w.word[n-2] {
		return false
	}
	switch w.word[n-1] {
	case 'b', 'd', 'f', 'g', 'm', 'n', 'p', 'r', 't':
		return true
	}
	return false
}

// endsWithShortSyllable reports whether word[:n] ends with a short syllable: a
// vowel between non-vowels, the latter not w, x or Y, or a vowel at the very
// start before a non-vowel.
func (w *stemmer) endsWithShortSyllable(n int) bool {
	if n < 2 || isVowel(w.word[n-1]) || !isVowel(w.word[n-2]) {
		return false
	}
	if n == 2 {
		return true
	}
	switch w.word[n-1] {
	case 'w', 'x', 'Y':
		return false
	}
	return !isVowel(w.word[n-3])
}

func isVowel(c byte) bool {
	switch c {
	case 'a', 'e', 'i', 'o', 'u', 'y':
		return true
	}
	return false
}
