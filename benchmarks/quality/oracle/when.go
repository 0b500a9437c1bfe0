package oracle

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// date is a day, month or year that a cue names. What it leaves open is zero.
type date struct{ year, month, day int }

// datesIn returns the dates that a cue names: "8 May 2023", "May 8th, 2023",
// "May 2023", "the 8th of May", "in May", "2023".
func datesIn(cue []word) []date {
	at := func(i int) string {
		if i < 0 || i >= len(cue) {
			return ""
		}
		return cue[i].folded
	}
	var dates []date
	usedYears := map[int]bool{}
	for i, w := range cue {
		month := monthOf(w, i > 0 || dayOf(at(1)) > 0 || yearOf(at(1)) > 0)
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
			usedYears[next] = true
		}
		dates = append(dates, d)
	}
	for i := range cue {
		if year := yearOf(at(i)); year > 0 && !usedYears[i] {
			dates = append(dates, date{year: year})
		}
	}
	return dates
}

// monthOf returns the month that a word names, or 0. "May" and "march" are months
// with a capital only, and where that says something: not as the first word, unless
// a day or a year follows.
func monthOf(w word, says bool) int {
	if slices.Contains([]string{"may", "march", "mar"}, w.folded) && !(w.capital && says) {
		return 0
	}
	if w.folded == "sept" {
		return int(time.September)
	}
	for m := time.January; m <= time.December; m++ {
		name := strings.ToLower(m.String())
		if w.folded == name || w.folded == name[:3] {
			return int(m)
		}
	}
	return 0
}

func dayOf(text string) int {
	for _, ending := range []string{"st", "nd", "rd", "th"} {
		text = strings.TrimSuffix(text, ending)
	}
	n, err := strconv.Atoi(text)
	if err != nil || len(text) > 2 || n < 1 || n > 31 {
		return 0
	}
	return n
}

func yearOf(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || len(text) != 4 || n < 1900 || n > 2099 {
		return 0
	}
	return n
}

// Weights of what a date names: near the information in it, the logarithm of how
// many months or days there are to choose from.
const (
	yearWeight  = 1
	monthWeight = 2.5
	dayWeight   = 3.4
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

// nearness is 1 for a time within the date, and fades by afterglow in days after
// its end: what happened is told then or soon after.
func (d date) nearness(t time.Time, afterglow float64) float64 {
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
	return math.Exp(-gap.Hours() / 24 / afterglow)
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
