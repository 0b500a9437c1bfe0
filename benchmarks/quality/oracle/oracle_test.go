package oracle

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func day(n int) time.Time { return time.Date(2023, time.May, n, 12, 0, 0, 0, time.UTC) }

func ids(found []Recollection) []string {
	var list []string
	for _, r := range found {
		list = append(list, r.Memory.ID)
	}
	return list
}

// Two memories of one word each, one of which matches: the numbers by hand.
func TestTextIsBM25(t *testing.T) {
	found := New([]engram.Memory{{ID: "1", Content: "apple"}, {ID: "2", Content: "pear"}}).Recall("an apple")
	require.Equal(t, []string{"1"}, ids(found))
	require.InDelta(t, math.Log(2), found[0].Parts.Text, 1e-12, "idf ln(1 + 1.5/1.5), saturation 1")
	require.Equal(t, Parts{Text: found[0].Parts.Text}, found[0].Parts)
	require.InDelta(t, 1, found[0].Confidence, 0, "there is no other")
}

func TestNeighboursSaturateTogether(t *testing.T) {
	s := New([]engram.Memory{
		{ID: "1", Content: "apple", Episode: "e", Time: day(1)},
		{ID: "2", Content: "pear", Episode: "e", Time: day(2)},
		{ID: "3", Content: "plum", Episode: "e", Time: day(3)},
		{ID: "4", Content: "grape", Episode: "e", Time: day(4)},
		{ID: "5", Content: "melon", Episode: "other", Time: day(1)},
	})
	found := s.Recall("apple")
	require.Equal(t, []string{"1", "2", "3", "4"}, ids(found), "the other episode is not brought to mind")
	idf := math.Log(1 + 4.5/1.5)
	require.InDelta(t, idf, found[0].Parts.Text, 1e-12)
	require.InDelta(t, idf*0.45*2.3/(0.45+1.3), found[1].Parts.Text, 1e-12)
	require.InDelta(t, idf*0.3*2.3/(0.3+1.3), found[2].Parts.Text, 1e-12)
	require.Zero(t, found[3].Parts.Text, "at distance three")
	episode := 1 / (0.5 + 0.5*4/2.5) // four words, where the average has two and a half
	require.InDelta(t, 0.3*idf*episode*2.3/(episode+1.3), found[3].Parts.Episode, 1e-12)
}

// What follows a question gets more of it than what precedes it, and the
// question itself is worth less.
func TestQuestionsPassOn(t *testing.T) {
	found := New([]engram.Memory{
		{ID: "before", Content: "pear", Episode: "e", Time: day(1)},
		{ID: "asks", Content: "apple?", Episode: "e", Time: day(2)},
		{ID: "after", Content: "plum", Episode: "e", Time: day(3)},
	}).Recall("apple")
	parts := map[string]Recollection{}
	for _, r := range found {
		parts[r.Memory.ID] = r
	}
	require.Greater(t, parts["after"].Parts.Text, parts["before"].Parts.Text)
	require.InDelta(t, 0.7*(parts["asks"].Parts.Text+parts["asks"].Parts.Episode), parts["asks"].Score, 1e-12)
}

func TestLabels(t *testing.T) {
	found := New([]engram.Memory{
		{ID: "1", Content: "Bob: Ann has an apple"},
		{ID: "2", Content: "Ann: Bob has an apple"},
	}).Recall("which apple has Ann?")
	require.Equal(t, []string{"2", "1"}, ids(found))
	require.InDelta(t, 2.5*math.Log(2), found[0].Parts.Label, 1e-12)
	require.Zero(t, found[1].Parts.Label)
}

func TestDatesAndTimes(t *testing.T) {
	s := New([]engram.Memory{
		{ID: "late", Content: "an apple", Time: day(15)},
		{ID: "then", Content: "an apple", Time: day(8)},
		{ID: "early", Content: "an apple", Time: day(1)},
	})
	found := s.Recall("the apple of 8 May 2023")
	require.Equal(t, []string{"then", "late", "early"}, ids(found))
	require.InDelta(t, 2*6.9, found[0].Parts.Time, 1e-12)
	require.InDelta(t, 2*6.9*math.Exp(-6.5/7), found[1].Parts.Time, 1e-12)
	require.Zero(t, found[2].Parts.Time, "before it")

	s = New([]engram.Memory{{ID: "1", Content: "an apple yesterday"}, {ID: "2", Content: "an apple today!"}, {ID: "3", Content: "an apple"}})
	for _, r := range s.Recall("When was the apple?") {
		require.InDelta(t, map[string]float64{"1": 3, "2": 3, "3": 0}[r.Memory.ID], r.Parts.Answer, 0)
	}
}

func TestDatesIn(t *testing.T) {
	for text, want := range map[string][]date{
		"on 8 May, 2023":                  {{2023, 5, 8}},
		"on May 8th 2023":                 {{2023, 5, 8}},
		"the 8th of May":                  {{0, 5, 8}},
		"in June and in July 2022":        {{0, 6, 0}, {2022, 7, 0}},
		"in 2023":                         {{2023, 0, 0}},
		"it may march on":                 nil,
		"between 11 Aug and 15 Sept 2023": {{0, 8, 11}, {2023, 9, 15}},
		"all 300 of them in room 2500":    nil,
	} {
		require.Equal(t, want, datesIn(words(text)), text)
	}
}

// Feedback prefers, of two that match the cue alike, the one that also has what
// the best one has.
func TestFeedback(t *testing.T) {
	memories := []engram.Memory{
		{ID: "best", Content: "apple apple orchard harvest"},
		{ID: "related", Content: "apple orchard harvest truck"},
		{ID: "unrelated", Content: "apple laptop keyboard screen"},
	}
	for _, filler := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
		memories = append(memories, engram.Memory{ID: filler, Content: "something else " + filler + " entirely"})
	}
	found := New(memories).Recall("apple")
	require.Equal(t, []string{"best", "related", "unrelated"}, ids(found))
	require.InDelta(t, found[1].Parts.Text, found[2].Parts.Text, 1e-12)
	require.Greater(t, found[1].Parts.Feedback, found[2].Parts.Feedback)
}

func TestConfidence(t *testing.T) {
	found := New([]engram.Memory{{ID: "1", Content: "apple"}, {ID: "2", Content: "apple"}}).Recall("apple")
	require.Equal(t, []string{"2", "1"}, ids(found), "of equals the newer")
	for _, r := range found {
		require.InDelta(t, 1/3.6, r.Confidence, 1e-12)
	}
}

func TestTerms(t *testing.T) {
	for text, want := range map[string][]string{
		"Ann\u2019s Caf\u00e9 'went' to 20 painters": {"ann", "cafe", "go", "20", "painter"},
		"I don't":           {"i", "don"},
		"we'll paint, o'er": {"paint", "oer"},
	} {
		require.Equal(t, want, terms(words(text)), text)
	}
}

func TestLabelOfText(t *testing.T) {
	for text, want := range map[string]string{
		"Ann: hello":                          "Ann",
		"Ann Lee Smith: hello":                "Ann Lee Smith",
		"no label":                            "",
		"What I say. Look: this":              "",
		"the rule that I mean is this: hello": "",
	} {
		require.Equal(t, want, label(text), text)
	}
}

func TestQuestionShare(t *testing.T) {
	for text, want := range map[string]float64{
		"One. Two":              0,
		"One?":                  1,
		"One? Two.":             0.5,
		"One? Two!\na photo of": 1.0 / 3,
	} {
		require.InDelta(t, want, questionShare(text), 1e-12, text)
	}
}
