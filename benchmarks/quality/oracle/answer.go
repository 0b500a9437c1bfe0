package oracle

import (
	"slices"
	"strings"
)

// answers are what a cue asks for, or what a content tells.
type answers struct{ when, where, who bool }

// asks returns what a cue asks for: when, as asksWhen says; where, if it says "where",
// or "what" or "which" of places with at most one word between; who, if it says "who",
// "which" or speaks of names.
func asks(cue []word) answers {
	a := answers{when: asksWhen(cue)}
	for i, w := range cue {
		switch w.folded {
		case "where":
			a.where = true
		case "who", "whom", "whose", "name", "names", "named", "called":
			a.who = true
		case "what", "which":
			a.who = a.who || w.folded == "which"
			a.where = a.where || slices.ContainsFunc(cue[i+1:min(i+3, len(cue))], isKindOfPlace)
		}
	}
	return a
}

func isKindOfPlace(w word) bool {
	return slices.Contains(strings.Fields(`
		place area location town city state country
		places areas locations towns cities states countries`), w.folded)
}

// asksWhen reports whether a cue asks for a time: it starts with "when", or says
// "how long", "how often", "what date", "which year" and the like.
func asksWhen(cue []word) bool {
	for i, w := range cue {
		before := ""
		if i > 0 {
			before = cue[i-1].folded
		}
		switch w.folded {
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
	}
	return false
}

// tells returns what a memory's content tells: when, by a date or one of the words
// that people tell the time of something with; who, by a word with a capital inside a
// sentence; where, if a preposition of place stands before such a word. What stands
// between commas is taken for a sentence, too.
func tells(content string) answers {
	a := answers{when: slices.ContainsFunc(words(content), isTimeWord)}
	content = strings.TrimPrefix(content, label(content))
	for _, sentence := range strings.FieldsFunc(content, func(r rune) bool { return strings.ContainsRune(".!?,:\n", r) }) {
		list := words(sentence)
		for i, w := range list {
			if i > 0 && w.capital && len(w.folded) > 1 {
				a.who = true
				a.where = a.where || slices.Contains([]string{"in", "at", "to", "from", "near"}, list[i-1].folded)
			}
		}
	}
	return a
}

func isTimeWord(w word) bool {
	if yearOf(w.folded) > 0 || monthOf(w, true) > 0 {
		return true
	}
	return slices.Contains(strings.Fields(`
		yesterday today tomorrow tonight ago last next since recently lately soon
		day days week weeks weekend weekends month months year years
		monday tuesday wednesday thursday friday saturday sunday
		mon tue wed thu fri sat sun
		morning spring summer autumn fall winter`), w.folded)
}

// weigh returns what it is worth that all of them are told.
func (f *Form) weigh(told answers) float64 {
	sum := 0.0
	if told.when {
		sum += f.WhenWeight
	}
	if told.where {
		sum += f.WhereWeight
	}
	if told.who {
		sum += f.WhoWeight
	}
	return sum
}

func (a answers) and(b answers) answers {
	return answers{a.when && b.when, a.where && b.where, a.who && b.who}
}
