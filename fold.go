package engram

import (
	"unicode"
	"unicode/utf8"
)

// What the analyzers take a rune for, and which letters are one.

// runeRole is what a rune does in a text.
type runeRole uint8

const (
	runeBreaks     runeRole = iota // separates words
	runeInWord                     // goes on a word
	runeIsWord                     // is a word
	runeMark                       // goes on a word, but does not start one
	runeApostrophe                 // inside a word it is left out, elsewhere it separates
	runeIgnored                    // as if it were not there
)

// foldRune returns what r does, and the rune that stands for it in a term: one
// for upper and lower case, with and without a Latin accent.
func foldRune(r rune) (rune, runeRole) {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return r, runeInWord
	case 'A' <= r && r <= 'Z':
		return r + 'a' - 'A', runeInWord
	case r == '\'':
		return r, runeApostrophe
	case r < utf8.RuneSelf:
		return r, runeBreaks
	case r == '\u2019', r == '\u02bc', r == '\uff07':
		return '\'', runeApostrophe
	case changesLook(r):
		return r, runeIgnored
	case unicode.IsLetter(r):
		if r >= firstUnspaced && unicode.In(r, unicode.Han, unicode.Hiragana,
			unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) {
			return r, runeIsWord
		}
		return foldLetter(r), runeInWord
	case unicode.IsDigit(r):
		return r, runeInWord
	case unicode.IsMark(r):
		return r, runeMark
	}
	return r, runeBreaks
}

// accented are runs of Latin letters with accents, by their base letters, '.' where
// there is none: who types without accents finds what was written with them, composed
// or not.
var accented = [...]struct {
	first rune
	bases string
}{
	{'À', "aaaaaa.ceeeeiiii.nooooo.ouuuuy..aaaaaa.ceeeeiiii.nooooo.ouuuuy.y" +
		"aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiii..jjkk.lllllll" +
		"lllnnnnnnn..oooooo..rrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzz."},
	{'ơ', "o"},
	{'ư', "u"},
	{'Ǎ', "aaiioouuuuuuuuuu.aaaa....ggkkoooo..j...gg..nnaa..ooaaaaeeeeiiiio" +
		"ooorrrruuuusstt..hh......aaeeooooooooyy"},
	{'Ḁ', "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmm" +
		"mmmmnnnnnnnnoooooooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvv" +
		"wwwwwwwwwwxxxxyyzzzzzzhtwy......aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeee" +
		"eeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy"},
}

// foldLetter folds a letter beyond ASCII.
func foldLetter(r rune) rune {
	// To upper case first: a letter with two lower cases, as sigma, has one upper.
	r = unicode.ToLower(unicode.ToUpper(r))
	switch r {
	case 'ǣ', 'ǽ':
		return 'æ'
	case 'ǯ':
		return 'ʒ'
	}
	for _, run := range accented {
		if i := int(r - run.first); 0 <= i && i < len(run.bases) && run.bases[i] != '.' {
			return rune(run.bases[i])
		}
	}
	return r
}

// firstUnspaced is where the scripts without spaces between words start.
const firstUnspaced = '\u0e00'

// changesLook reports the runes that change how a word looks or breaks over
// lines, but not which word it is.
func changesLook(r rune) bool {
	switch {
	case '\u0300' <= r && r <= '\u036f', '\u20d0' <= r && r <= '\u20ff', // combining accents and frames
		'\ufe00' <= r && r <= '\ufe0f', '\U000e0100' <= r && r <= '\U000e01ef', // variation selectors
		r == '\u00ad', r == '\u200c', r == '\u200d': // soft hyphen, joiners
		return true
	}
	return false
}
