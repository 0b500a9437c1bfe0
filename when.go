package engram

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cueWord is a word of a cue, folded as the analyzer folds it.
type cueWord struct {
	text    string
	capital bool // it begins with a capital letter
}

func cueWords(text string) []cueWord {
	var list []cueWord
	words := wordScanner{text: text}
	for words.next() {
		list = append(list, cueWord{text: string(words.word), capital: words.capital})
	}
	return list
}

// date is a day, month or year that a cue names. What it leaves open is zero.
type date struct{ year, month, day int }

// maxDates is how many dates of a cue count: each memory that is weighed is
// compared with all of them.
const maxDates = 32

// datesIn returns the first maxDates distinct dates that a cue names: "8 May 2023",
// "May 8th, 2023", "May 2023", "the 8th of May", "in May", and then years, "2023".
func datesIn(cue []cueWord) []date {
	at := func(i int) string {
		if i < 0 || i >= len(cue) {
			return ""
		}
		return cue[i].text
	}
	var dates []date
	add := func(d date) {
		if len(dates) < maxDates && !slices.Contains(dates, d) {
			dates = append(dates, d)
		}
	}
	used := make(map[int]bool) // years that belong to a month
	for i, w := range cue {
		// The first word has a capital anyway: what follows says whether it is a name.
		named := w.capital && (i > 0 || dayOf(at(1)) > 0 || yearOf(at(1)) > 0)
		month := monthOf(w.text, named)
		if month == 0 {
			continue
		}
		d := date{month: month, day: dayOf(at(i - 1))}
		next := i + 1
		if d.day == 0 && at(i-1) == "of" {
			d.day = dayOf(at(i - 2))
		}
		if d.day == 0 && dayOf(at(next)) > 0 {
			d.day = dayOf(at(next))
			next++
		}
		if d.year = yearOf(at(next)); d.year > 0 {
			used[next] = true
		}
		add(d)
	}
	for i := range cue {
		if year := yearOf(at(i)); year > 0 && !used[i] {
			add(date{year: year})
		}
	}
	return dates
}

// monthOf returns the month that a word names, or 0. named says that it is
// written as a name: without that "may" and "march" are verbs.
func monthOf(word string, named bool) int {
	if len(word) < 3 {
		return 0
	}
	month := shortMonth(word[:3])
	if len(word) > 3 && word != "sept" && (month == 0 || word != months[month-1]) {
		return 0
	}
	if (month == 3 || month == 5) && !named {
		return 0
	}
	return month
}

// shortMonth returns the month that three letters stand for, or 0. Each word of each
// text is asked.
func shortMonth(letters string) int {
	switch letters {
	case "jan":
		return 1
	case "feb":
		return 2
	case "mar":
		return 3
	case "apr":
		return 4
	case "may":
		return 5
	case "jun":
		return 6
	case "jul":
		return 7
	case "aug":
		return 8
	case "sep":
		return 9
	case "oct":
		return 10
	case "nov":
		return 11
	case "dec":
		return 12
	}
	return 0
}

var months = [...]string{
	"january", "february", "march", "april", "may", "june",
	"july", "august", "september", "october", "november", "december",
}

func dayOf(text string) int {
	for _, ending := range []string{"st", "nd", "rd", "th"} {
		text = strings.TrimSuffix(text, ending)
	}
	if len(text) == 0 || len(text) > 2 {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 31 {
		return 0
	}
	return n
}

func yearOf(text string) int {
	if len(text) != 4 || text[0] != '1' && text[0] != '2' {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1900 || n > 2099 {
		return 0
	}
	return n
}

// Weights of what a date names: near the information in it, the logarithm of how
// many years, months or days there are to choose from.
const (
	yearWeight  = 1
	monthWeight = 2.5
	dayWeight   = 3.4
	// afterglowDays is how slowly a date fades: what happened is told then or
	// soon after.
	afterglowDays = 7
)

func (d date) weight() float64 {
	w := 0.0
	if d.year > 0 {
		w += yearWeight
	}
	if d.month > 0 {
		w += monthWeight
	}
	if d.day > 0 {
		w += dayWeight
	}
	return w
}

// nearness is 1 for a time within the date, and fades after its end.
func (d date) nearness(t time.Time) float64 {
	t = t.UTC()
	year, month, day := t.Date()
	if (d.year == 0 || d.year == year) && (d.month == 0 || d.month == int(month)) && (d.day == 0 || d.day == day) {
		return 1
	}
	gap := t.Sub(d.end(year))
	if gap < 0 && d.year == 0 {
		gap = t.Sub(d.end(year - 1))
	}
	if gap < 0 {
		return 0
	}
	return math.Exp(-gap.Hours() / 24 / afterglowDays)
}

// end is when the date is over, in that year where it names none.
func (d date) end(year int) time.Time {
	if d.year > 0 {
		year = d.year
	}
	switch {
	case d.month == 0:
		return time.Date(year+1, time.January, 1, 0, 0, 0, 0, time.UTC)
	case d.day == 0:
		return time.Date(year, time.Month(d.month)+1, 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Date(year, time.Month(d.month), d.day+1, 0, 0, 0, 0, time.UTC)
}
