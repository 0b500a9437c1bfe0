package engram

import "math/bits"

// Answers. A cue may ask when, where or who, and a memory that tells it is likelier to
// answer than one that only has the same words. Both are seen by a few words and, in
// memories, by capital letters inside a sentence, in English only. What is told, and so
// what is asked for, are flags of a document.

// worth is what a memory gets for telling that much of what is asked for.
func worth(told uint8) float64 {
	return float64(tellingWeight * float64(bits.OnesCount8(told)))
}

// asksFor returns what a cue asks for.
func asksFor(cue []cueWord) (asked uint8) {
	if asksWhen(cue) {
		asked |= documentTellsWhen
	}
	if asksWhere(cue) {
		asked |= documentTellsWhere
	}
	if asksWho(cue) {
		asked |= documentTellsWho
	}
	return asked
}

// asksWhen reports whether a cue asks for a time: it starts with "when", or says
// "how long", "how often", "what date", "which year" and the like.
func asksWhen(cue []cueWord) bool {
	before := ""
	for i, w := range cue {
		switch w.text {
		case "when":
			if i == 0 {
				return true
			}
		case "long", "often":
			if before == "how" {
				return true
			}
		case "date", "day", "month", "year":
			if before == "what" || before == "which" {
				return true
			}
		}
		before = w.text
	}
	return false
}

// asksWhere reports whether a cue asks for a place: it says "where", or "what city",
// "which European country" and the like.
func asksWhere(cue []cueWord) bool {
	asks := func(i int) bool { return i >= 0 && (cue[i].text == "what" || cue[i].text == "which") }
	for i, w := range cue {
		switch w.text {
		case "where":
			return true
		case "place", "area", "location", "town", "city", "state", "country",
			"places", "areas", "locations", "towns", "cities", "states", "countries":
			if asks(i-1) || asks(i-2) {
				return true
			}
		}
	}
	return false
}

// asksWho reports whether a cue asks for somebody, or for something by its name.
func asksWho(cue []cueWord) bool {
	for _, w := range cue {
		switch w.text {
		case "who", "whom", "whose", "which", "name", "names", "named", "called":
			return true
		}
	}
	return false
}

// teller sees what the words of a memory tell.
type teller struct {
	label int // where the label of the text ends: whose name it is, it does not tell
	tells uint8
	place bool // the word before says that a place may follow
}

func (t *teller) see(words *wordScanner) {
	if t.tells&documentTellsWhen == 0 && isTimeWord(words.word, words.capital) {
		t.tells |= documentTellsWhen
	}
	// A name has a capital where no sentence begins. One letter is "I", or an initial.
	if words.capital && !words.first && len(words.word) > 1 && words.at > t.label {
		t.tells |= documentTellsWho
		if t.place {
			t.tells |= documentTellsWhere
		}
	}
	t.place = leadsToPlace(words.word)
}

// isTimeWord reports whether a word of a memory says when: a date, or what
// people tell the time of something with.
func isTimeWord(word []byte, capital bool) bool {
	if len(word) < 3 || len(word) > 9 {
		return false
	}
	switch string(word) {
	case "yesterday", "today", "tomorrow", "tonight", "ago", "last", "next", "since", "recently", "lately", "soon",
		"day", "days", "week", "weeks", "weekend", "weekends", "month", "months", "year", "years",
		"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
		"mon", "tue", "wed", "thu", "fri", "sat", "sun",
		"morning", "spring", "summer", "autumn", "fall", "winter":
		return true
	}
	text := string(word) // on the stack: it does not escape
	return yearOf(text) > 0 || monthOf(text, capital) > 0
}

// leadsToPlace reports the prepositions that stand before the name of a place.
func leadsToPlace(word []byte) bool {
	switch string(word) {
	case "in", "at", "to", "from", "near":
		return true
	}
	return false
}
