package engram

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDatesInACue(t *testing.T) {
	for cue, want := range map[string][]date{
		"8 May 2023":                   {{2023, 5, 8}},
		"May 8th, 2023":                {{2023, 5, 8}},
		"May 2023":                     {{2023, 5, 0}},
		"March 3":                      {{0, 3, 3}},
		"the 8th of May":               {{0, 5, 8}},
		"in May":                       {{0, 5, 0}},
		"2023":                         {{2023, 0, 0}},
		"May I?":                       nil,
		"March on":                     nil,
		"it may march on":              nil,
		"all 300 of them in room 2500": nil,
	} {
		require.Equal(t, want, datesIn(cueWords(cue)), cue)
	}
}

// Each memory that is weighed is compared with every date of the cue, so what a
// long cue can name is bounded.
func TestDatesOfALongCue(t *testing.T) {
	datesOf := func(cue string) []date { return datesIn(cueWords(cue)) }
	require.Equal(t, []date{{2023, 5, 8}, {0, 6, 0}, {1999, 0, 0}},
		datesOf("on 8 May 2023, in June or 1999, on May 8, 2023, in June or 1999"))
	require.Equal(t, []date{{month: 1}}, datesOf(strings.Repeat("jan ", MaxCueTextBytes/4)))

	var days, years strings.Builder
	for i := range 31 {
		fmt.Fprintf(&days, "%d jan %d jul ", i+1, i+1)
	}
	for i := range 100 {
		fmt.Fprintf(&years, "%d ", 2000+i)
	}
	require.Equal(t, []date{{0, 1, 1}, {0, 7, 1}, {0, 1, 2}}, datesOf(days.String())[:3])
	require.Len(t, datesOf(days.String()), maxDates)
	require.Len(t, datesOf(years.String()), maxDates)
	require.Equal(t, date{year: 2031}, datesOf(years.String())[maxDates-1])
}
