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
	found := New([]engram.Memory{{ID: "1", Content: "apple"}, {ID: "2", Content: "pear"}}, Chosen()).Recall("an apple")
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
	}, Chosen())
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
	}, Chosen()).Recall("apple")
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
	}, Chosen()).Recall("which apple has Ann?")
	require.Equal(t, []string{"2", "1"}, ids(found))
	require.InDelta(t, 2.5*math.Log(2), found[0].Parts.Label, 1e-12)
	require.Zero(t, found[1].Parts.Label)
}

func TestDatesAndTimes(t *testing.T) {
	s := New([]engram.Memory{
		{ID: "late", Content: "an apple", Time: day(15)},
		{ID: "then", Content: "an apple", Time: day(8)},
		{ID: "early", Content: "an apple", Time: day(1)},
	}, Chosen())
	found := s.Recall("the apple of 8 May 2023")
	require.Equal(t, []string{"then", "late", "early"}, ids(found))
	require.InDelta(t, 2*6.9, found[0].Parts.Time, 1e-12)
	require.InDelta(t, 2*6.9*math.Exp(-6.5/7), found[1].Parts.Time, 1e-12)
	require.Zero(t, found[2].Parts.Time, "before it")

	s = New([]engram.Memory{{ID: "1", Content: "an apple yesterday"}, {ID: "2", Content: "an apple today!"}, {ID: "3", Content: "an apple"}}, Chosen())
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
		"May 2023":                        {{2023, 5, 0}},
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
	found := New(memories, Chosen()).Recall("apple")
	require.Equal(t, []string{"best", "related", "unrelated"}, ids(found))
	require.InDelta(t, found[1].Parts.Text, found[2].Parts.Text, 1e-12)
	require.Greater(t, found[1].Parts.Feedback, found[2].Parts.Feedback)
}

func TestConfidence(t *testing.T) {
	found := New([]engram.Memory{{ID: "1", Content: "apple"}, {ID: "2", Content: "apple"}}, Chosen()).Recall("apple")
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
		require.Equal(t, want, Chosen().terms(words(text)), text)
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

// A weight of zero leaves its part out, and nothing else.
func TestFormsLeaveOut(t *testing.T) {
	memories := []engram.Memory{
		{ID: "1", Content: "Ann: she went to the apple orchard on May 8", Episode: "e", Time: day(8)},
		{ID: "2", Content: "Bob: which apple?", Episode: "e", Time: day(9)},
		{ID: "3", Content: "Ann: the orchard yesterday", Episode: "e", Time: day(10)},
		{ID: "4", Content: "Bob: nothing of the kind", Episode: "f", Time: day(11)},
		{ID: "5", Content: "Bob: and more of it", Episode: "f", Time: day(12)},
		{ID: "6", Content: "Bob: and more still", Episode: "f", Time: day(13)},
		{ID: "7", Content: "Bob: that will do", Episode: "f", Time: day(14)},
		{ID: "8", Content: "Bob: or will it", Episode: "f", Time: day(15)},
		{ID: "9", Content: "Bob: so be it", Episode: "f", Time: day(16)},
		{ID: "10", Content: "Bob: amen", Episode: "f", Time: day(17)},
	}
	const cue = "When did Ann go to the apple orchard, on 8 May 2023?"
	total := func(form Form, part func(Parts) float64) float64 {
		sum := 0.0
		for _, r := range New(memories, form).Recall(cue) {
			sum += part(r.Parts)
		}
		return sum
	}
	for name, c := range map[string]struct {
		off  func(*Form)
		part func(Parts) float64
	}{
		"episode":  {func(f *Form) { f.EpisodeWeight = 0 }, func(p Parts) float64 { return p.Episode }},
		"label":    {func(f *Form) { f.LabelWeight = 0 }, func(p Parts) float64 { return p.Label }},
		"time":     {func(f *Form) { f.TimeWeight = 0 }, func(p Parts) float64 { return p.Time }},
		"answer":   {func(f *Form) { f.WhenWeight, f.WhoWeight, f.WhereWeight = 0, 0, 0 }, func(p Parts) float64 { return p.Answer }},
		"feedback": {func(f *Form) { f.FeedbackWeight = 0 }, func(p Parts) float64 { return p.Feedback }},
	} {
		without := Chosen()
		c.off(&without)
		require.Positive(t, total(Chosen(), c.part), name)
		require.Zero(t, total(without, c.part), name)
	}
	alone := Chosen()
	alone.NearShare, alone.FarShare, alone.QuestionPass = 0, 0, 0
	text := func(p Parts) float64 { return p.Text }
	require.Less(t, total(alone, text), total(Chosen(), text))
	priced := Chosen()
	priced.FeedbackWeight = 0 // what is fed back depends on the order
	free := priced
	free.QuestionPrice = 0
	scores := map[string]float64{}
	for _, r := range New(memories, free).Recall(cue) {
		scores[r.Memory.ID] = r.Score
	}
	for _, r := range New(memories, priced).Recall(cue) {
		require.InDelta(t, scores[r.Memory.ID]*map[bool]float64{true: 0.7, false: 1}[r.Memory.ID == "2"], r.Score, 1e-9)
	}
}

func TestFormsOfTerms(t *testing.T) {
	of := func(change func(*Form)) []string {
		f := Chosen()
		change(&f)
		return f.terms(words("she went to the orchards"))
	}
	require.Equal(t, []string{"go", "orchard"}, of(func(*Form) {}))
	require.Equal(t, []string{"went", "orchard"}, of(func(f *Form) { f.KeepsIrregular = true }))
	require.Equal(t, []string{"went", "orchards"}, of(func(f *Form) { f.KeepsEndings = true }))
	require.Equal(t, []string{"she", "go", "to", "the", "orchard"}, of(func(f *Form) { f.KeepsStopWords = true }))
}

func TestAnswers(t *testing.T) {
	for cue, want := range map[string]answers{
		"river":                       {},
		"When was it?":                {when: true},
		"where is it":                 {where: true},
		"what European city is it in": {where: true},
		"the city is what":            {},
		"which place is it":           {where: true, who: true},
		"whose name is it":            {who: true},
		"what day, and who was where": {when: true, where: true, who: true},
	} {
		require.Equal(t, want, asks(words(cue)), cue)
	}
	for content, want := range map[string]answers{
		"Yes. It is, I say":     {},
		"it rained yesterday":   {when: true},
		"the tea of Ann":        {who: true},
		"we live in Rome":       {where: true, who: true},
		"Thanks, Ann! Bye":      {},
		"Ann Lee: Hello":        {},
		"From Rome: in Évora":   {where: true, who: true},
		"we fly to\nRome, near": {},
	} {
		require.Equal(t, want, tells(content), content)
	}
	s := New([]engram.Memory{{ID: "1", Content: "an apple in Rome"}, {ID: "2", Content: "an apple of Ann"}, {ID: "3", Content: "an apple"}}, Chosen())
	for _, r := range s.Recall("Where is the apple, and who has it?") {
		require.InDelta(t, map[string]float64{"1": 6, "2": 3, "3": 0}[r.Memory.ID], r.Parts.Answer, 0)
	}
}
