package main

import (
	"math/rand/v2"
	"unicode"
)

// Of the words of a question that have at least typoLetters letters, one of
// typoEvery is misspelt, and at least one.
const (
	typoLetters = 4
	typoEvery   = 3
	typoSeed    = 1
)

// misspelt returns the collection with a typo or more in each question.
func (c *collection) misspelt() collection {
	changed := *c
	changed.questions = make([]question, len(c.questions))
	random := rand.New(rand.NewPCG(typoSeed, 0))
	for i, q := range c.questions {
		q.text = misspell(q.text, random)
		changed.questions[i] = q
	}
	return changed
}

// misspell puts typos into words: two letters change places, one is dropped or
// one is doubled. The first letter stays.
func misspell(text string, random *rand.Rand) string {
	letters := []rune(text)
	var words [][2]int // from and to
	from := 0
	for i := range len(letters) + 1 {
		if i < len(letters) && unicode.IsLetter(letters[i]) {
			continue
		}
		if i-from >= typoLetters {
			words = append(words, [2]int{from, i})
		}
		from = i + 1
	}
	if len(words) == 0 {
		return text
	}
	certain := random.IntN(len(words))
	// From the last word to the first: the places before a typo stay.
	for i := len(words) - 1; i >= 0; i-- {
		if random.IntN(typoEvery) == 0 || i == certain {
			from, to := words[i][0], words[i][1]
			letters = append(letters[:from:from], append(typo(letters[from:to], random), letters[to:]...)...)
		}
	}
	return string(letters)
}

// typo returns a copy of the word with one typo.
func typo(word []rune, random *rand.Rand) []rune {
	at := 1 + random.IntN(len(word)-1)
	head, rest := append([]rune(nil), word[:at]...), word[at+1:]
	switch random.IntN(3) {
	case 0: // change places with the next letter, or the last one with that before it
		if len(rest) > 0 {
			return append(append(head, rest[0], word[at]), rest[1:]...)
		}
		return append(head[:at-1], word[at], word[at-1])
	case 1:
		return append(head, rest...)
	default:
		return append(append(head, word[at], word[at]), rest...)
	}
}
