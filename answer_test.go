package engram

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	when  = documentTellsWhen
	where = documentTellsWhere
	who   = documentTellsWho
)

func TestWhatACueAsksFor(t *testing.T) {
	for cue, want := range map[string]uint8{
		"":                                    0,
		"river":                               0,
		"tea when it rains":                   0,
		"When did it rain?":                   when,
		"for how long did it rain?":           when,
		"what day was it":                     when,
		"Where is the river?":                 where,
		"do you know where the river is?":     where,
		"what city is it in":                  where,
		"What European countries has he seen": where,
		"what is the country like":            0,
		"the place that I like":               0,
		"which place is it":                   where | who,
		"Who was there?":                      who,
		"who's there?":                        who,
		"with whom, and whose?":               who,
		"the name of the river":               who,
		"what is the dog called?":             who,
		"What day and where was who?":         when | where | who,
		"whoever, wherever, whenever":         0,
	} {
		require.Equal(t, want, asksFor(cueWords(cue)), cue)
	}
}

func TestWhatATextTells(t *testing.T) {
	for text, want := range map[string]uint8{
		"":                                     0,
		"the tea is green":                     0,
		"The tea is green. It is! Is it? Yes":  0,
		"it rained yesterday":                  when,
		"the tea of Ann":                       who,
		"we live in Rome":                      where | who,
		"they come FROM Rome":                  where | who,
		"near old Rome":                        who,
		"in the Alps":                          who,
		"In Rome, at last":                     when | where | who,
		"where I live in. Rome is big":         0,
		"we looked at: Rome":                   0,
		"we flew to\nRome":                     0,
		"Thanks, Ann!":                         0,
		"Thanks Ann!":                          who,
		"so do I, and I'm glad, I'd say I've":  0,
		"he came to I and to A":                0,
		"what I LIKE":                          who,
		"NO WAY":                               who,
		"NO":                                   0,
		`she read "Emma" twice`:                who,
		`"Emma" is what she read`:              0,
		"'Emma' is what she read":              0,
		"she said: 'Emma'":                     0,
		"(Rome)":                               0,
		"well-known Rome":                      who,
		"a trip to Évora, to évora":            where | who,
		"they saw Łódź":                        who,
		"мы любим Москву":                      who,
		"we came from 東京 Tower":                who,
		"from \u00adRome":                      where | who,
		"on 2.5 Rome":                          who,
		"wait\u2026 Ann":                       who,
		"- Buy milk\n- Call back":              0,
		"Ann: the tea is green":                0,
		"Ann Lee: the tea is green":            0,
		"Ann Lee: Bob is here":                 0,
		"Ann Lee: and Bob is here":             who,
		"From Rome: greetings":                 0,
		"The Man That Was Thursday: no label":  who | when,
		"Dr. Ann Lee: the tea is not labelled": who,
	} {
		require.Equal(t, want, English.analyzeMemory(text).tells, "%q", text)
		require.Equal(t, want, EnglishAll.analyzeMemory(text).tells, "%q", text)
		require.Zero(t, Plain.analyzeMemory(text).tells, "only English texts tell: %q", text)
		require.Zero(t, CJK.analyzeMemory(text).tells, "%q", text)
	}
}

// namesTold is whether a text tells where and who, sentence by sentence.
func namesTold(text string) (told uint8) {
	text = strings.TrimPrefix(text, label(text))
	for _, sentence := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(".!?,:\n", r) }) {
		list := cueWords(sentence)
		for i, w := range list {
			if i == 0 || !w.capital || len(w.text) < 2 {
				continue
			}
			told |= documentTellsWho
			switch list[i-1].text {
			case "in", "at", "to", "from", "near":
				told |= documentTellsWhere
			}
		}
	}
	return told
}

// Of memories that match alike, those come first that tell what the cue asks for, and
// the reason is their share of time. It stays so asleep, checkpointed and replayed.
func TestRecallPrefersWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	r, m := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	remember(t, s,
		Memory{ID: "where", Content: "the tea in Rome"},
		Memory{ID: "who", Content: "the tea of Ann"},
		Memory{ID: "when", Content: "the tea of yesterday"},
		Memory{ID: "nothing", Content: "the tea of china"},
	)
	check := func() {
		t.Helper()
		for cue, want := range map[string][]string{
			"tea":                          nil,
			"when was the tea?":            {"when"},
			"where was the tea?":           {"where"},
			"who had tea?":                 {"who", "where"},
			"which city was the tea from?": {"where", "who"},
		} {
			var told []string
			for i, found := range recall(t, s, Cue{Text: cue}) {
				if found.Why.Time > 0 {
					told = append(told, found.Memory.ID)
					require.Less(t, i, len(want), "%s: those that tell come first", cue)
				}
			}
			require.Equal(t, want, told, cue)
		}
	}
	check()
	s.sleep()
	check()
	require.NoError(t, s.Checkpoint(background))
	check()
	s.sleep()
	check()
	require.NoError(t, r.Close())
	r = openMemory(t, m, Options{})
	s = get(t, r, "alpha")
	check()
}
