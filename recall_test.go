package engram

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// recallOracle scores every memory from scratch, as the comment at the head of
// recall_text.go says, with no index.
type recallOracle struct {
	memories []Memory // in time order, equal times by seq
	episodes map[string][]int
	texts    []analysis

	average, averageEpisode float64
	containing, labelled    map[string]int
}

func newRecallOracle(memories []Memory) *recallOracle {
	o := &recallOracle{
		memories: slices.Clone(memories), episodes: make(map[string][]int),
		containing: make(map[string]int), labelled: make(map[string]int),
	}
	slices.SortFunc(o.memories, compareMemories)
	for i, m := range o.memories {
		x := English.analyzeMemory(m.Content)
		o.texts = append(o.texts, x)
		o.average += float64(x.length) / float64(len(memories))
		for _, t := range x.terms {
			o.containing[t.term]++
		}
		for _, t := range x.label {
			o.labelled[t]++
		}
		if m.Episode != "" {
			o.episodes[m.Episode] = append(o.episodes[m.Episode], i)
		}
	}
	for _, list := range o.episodes {
		for _, i := range list {
			o.averageEpisode += float64(o.texts[i].length) / float64(len(o.episodes))
		}
	}
	return o
}

// compareMemories orders by time, and those of one time by seq.
func compareMemories(x, y Memory) int {
	return cmp.Or(x.Time.Compare(y.Time), cmp.Compare(x.Seq, y.Seq))
}

func (o *recallOracle) idf(containing int) float64 {
	return math.Log(1 + (float64(len(o.memories)-containing)+0.5)/(float64(containing)+0.5))
}

func saturated(f float64) float64 { return f * (defaultTextK1 + 1) / (f + defaultTextK1) }

func normalised(count, length int, average float64) float64 {
	return float64(count) / (1 - defaultTextB + defaultTextB*float64(length)/average)
}

func (o *recallOracle) frequency(i int, term string) float64 {
	for _, t := range o.texts[i].terms {
		if t.term == term {
			return normalised(int(t.count), o.texts[i].length, o.average)
		}
	}
	return 0
}

func (o *recallOracle) questions(i int) float64 { return float64(o.texts[i].questions) / 255 }

// text is the memory's part by its own words and its neighbours', and its
// episode's.
func (o *recallOracle) text(i int, terms []string) (text, episode float64) {
	list := o.episodes[o.memories[i].Episode]
	at := slices.Index(list, i)
	for _, term := range terms {
		f, count, length := o.frequency(i, term), 0, 0
		for turn, n := range list {
			for _, t := range o.texts[n].terms {
				if t.term == term {
					count += int(t.count)
				}
			}
			length += o.texts[n].length
			share := map[int]float64{-2: farShare, -1: nearShare + questionPass*o.questions(n), 1: nearShare, 2: farShare}[turn-at]
			f += share * o.frequency(n, term)
		}
		text += o.idf(o.containing[term]) * saturated(f)
		if count > 0 {
			episode += episodeWeight * o.idf(o.containing[term]) * saturated(normalised(count, length, o.averageEpisode))
		}
	}
	return text, episode
}

// scores returns what each memory scores by text, and the bound. Feedback comes
// from the best that are admitted.
func (o *recallOracle) scores(cue string, admitted func(Memory) bool) (scores []float64, bound float64) {
	analyzed, _ := English.analyze(cue)
	var terms []string
	reach := 0.0
	for _, t := range analyzed {
		terms = append(terms, t.term)
		reach += o.idf(o.containing[t.term])
	}
	scores = make([]float64, len(o.memories))
	var best []int
	extras := 0.0
	for _, t := range terms {
		if o.labelled[t] > 0 {
			extras += labelWeight * o.idf(o.labelled[t])
		}
	}
	asked := asksFor(cueWords(cue))
	if len(terms) > 0 {
		extras += tellingWeight * told(asked)
	}
	for i, m := range o.memories {
		text, episode := o.text(i, terms)
		if text+episode == 0 {
			continue
		}
		scores[i] = text + episode
		for _, t := range o.texts[i].label {
			if slices.Contains(terms, t) {
				scores[i] += labelWeight * o.idf(o.labelled[t])
			}
		}
		scores[i] += tellingWeight * told(asked&o.texts[i].tells)
		if admitted(m) {
			best = append(best, i)
		}
	}
	discounted := func(i int) float64 { return scores[i] * (1 - questionPrice*o.questions(i)) }
	slices.SortFunc(best, func(a, b int) int {
		return cmp.Or(cmp.Compare(discounted(b), discounted(a)), cmp.Compare(o.memories[b].Seq, o.memories[a].Seq))
	})
	best = best[:min(len(best), feedbackMemories)]
	strengths := make([]float64, len(best))
	for place, i := range best {
		strengths[place] = discounted(i) / discounted(best[0])
	}
	feedback := o.feedback(best, strengths, reach)
	for i := range scores {
		if scores[i] > 0 {
			scores[i] += feedback(i)
			scores[i] = discounted(i)
		}
	}
	return scores, (defaultTextK1+1)*(1+episodeWeight+feedbackWeight)*reach + extras
}

// told is how many of when, where and who are told.
func told(flags uint8) (n float64) {
	for _, flag := range []uint8{documentTellsWhen, documentTellsWhere, documentTellsWho} {
		if flags&flag != 0 {
			n++
		}
	}
	return n
}

func (o *recallOracle) feedback(best []int, strengths []float64, reach float64) func(i int) float64 {
	weights := make(map[string]float64)
	for place, i := range best {
		for _, t := range o.texts[i].terms {
			n := o.containing[t.term]
			if n >= 2 && float64(n) <= feedbackCommon*float64(len(o.memories)) && !slices.Contains(o.texts[i].label, t.term) {
				weights[t.term] += strengths[place] * strengths[place] * o.idf(n) * saturated(o.frequency(i, t.term))
			}
		}
	}
	names := slices.SortedFunc(maps.Keys(weights), func(a, b string) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a, b))
	})
	names = names[:min(len(names), feedbackTerms)]
	reached := 0.0
	for _, name := range names {
		reached += weights[name] * o.idf(o.containing[name])
	}
	return func(i int) float64 {
		sum := 0.0
		for _, name := range names {
			sum += weights[name] * o.idf(o.containing[name]) * saturated(o.frequency(i, name))
		}
		if sum == 0 {
			return 0
		}
		return feedbackWeight * reach / reached * sum
	}
}

// activations returns what each memory that the cue brings to mind is activated:
// one that it names or that stands beside one, that text or episode match, or
// that has a near embedding.
func (o *recallOracle) activations(cue Cue, admitted func(Memory) bool) map[string]float64 {
	scores, bound := o.scores(cue.Text, admitted)
	sums := make([]float64, len(o.memories))
	for i, m := range o.memories {
		if bound > 0 {
			sums[i] += scores[i] / bound
		}
		if len(cue.Embedding) > 0 && len(m.Embedding) > 0 {
			sums[i] += max(unitCosine(cue.Embedding, m.Embedding), 0)
		}
		if !slices.Contains(cue.IDs, m.ID) {
			continue
		}
		sums[i]++
		list := o.episodes[m.Episode]
		for turn, n := range list {
			sums[n] += map[int]float64{-2: farShare, -1: nearShare, 1: nearShare, 2: farShare}[turn-slices.Index(list, i)]
		}
	}
	found := make(map[string]float64)
	for i, m := range o.memories {
		if sums[i] > 0 {
			found[m.ID] = min(sums[i]/float64(cue.kinds()), 1)
		}
	}
	return found
}

// unitCosine is the cosine of the angle between x and y, told by how far apart
// their ends are once both have length one.
func unitCosine(x, y []float32) float64 {
	length := func(v []float32) (n float64) {
		for _, c := range v {
			n = math.Hypot(n, float64(c))
		}
		return n
	}
	apart, xx, yy := 0.0, length(x), length(y)
	for i := range x {
		apart = math.Hypot(apart, float64(x[i])/xx-float64(y[i])/yy)
	}
	if cosine := 1 - apart*apart/2; math.Abs(cosine) > 1e-12 {
		return cosine
	}
	return 0 // a right angle: what is left is rounding
}

// drawMemories draws memories whose words, episodes and times meet often.
func drawMemories(t *rapid.T, most int) []Memory {
	words := rapid.SampledFrom([]string{"river", "stone", "tea", "green", "winter", "bread", "lamp"})
	day := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	memories := make([]Memory, rapid.IntRange(1, most).Draw(t, "memories"))
	for i := range memories {
		content := ""
		for _, w := range rapid.SliceOfN(words, 1, 6).Draw(t, "words") {
			content += w + " "
		}
		content = rapid.SampledFrom([]string{"", "", "Ann: ", "River: "}).Draw(t, "label") + content +
			rapid.SampledFrom([]string{"", ".", "?", ". Today?", "in Rome", "of Ann."}).Draw(t, "end")
		memories[i] = Memory{
			ID: fmt.Sprint("m", i), Content: content,
			Time:       day.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hour")) * time.Hour),
			Episode:    rapid.SampledFrom([]string{"", "one", "two", "three"}).Draw(t, "episode"),
			Attributes: map[string]string{"lang": rapid.SampledFrom([]string{"en", "de"}).Draw(t, "lang")},
			Kind:       rapid.SampledFrom([]Kind{Episodic, Semantic}).Draw(t, "kind"),
		}
		if rapid.Bool().Draw(t, "embedded") {
			memories[i].Embedding = drawVector(t)
		}
	}
	return memories
}

// drawVector draws small whole numbers: right angles are then right.
func drawVector(t *rapid.T) []float32 {
	v := make([]float32, 3)
	for i := range v {
		v[i] = float32(rapid.IntRange(-2, 2).Draw(t, "component"))
	}
	if v[0] == 0 && v[1] == 0 && v[2] == 0 {
		v[0] = 1
	}
	return v
}

func drawCue(t *rapid.T) Cue {
	cue := Cue{
		Text:  rapid.SampledFrom([]string{"river", "green tea", "stone lamp winter", "when did Ann see the river?", "where is the tea, and who has it?", "bread bread", "absent", ""}).Draw(t, "cue"),
		Limit: rapid.IntRange(1, 50).Draw(t, "limit"),
		Filter: rapid.SampledFrom([]Filter{
			{}, {Episode: "one"}, {Kind: Semantic}, {Attributes: map[string]string{"lang": "de"}},
		}).Draw(t, "filter"),
		MinActivation: rapid.SampledFrom([]float64{0, 0, 0.07, 0.3}).Draw(t, "least"),
	}
	if rapid.Bool().Draw(t, "by ids") {
		cue.IDs = []string{"m1", "m7", "unknown", "m1"}
	}
	if rapid.Bool().Draw(t, "by embedding") || cue.Text == "" {
		cue.Embedding = drawVector(t)
	}
	return cue
}

func TestRecallEqualsOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMemoryFS()
		opts := Options{JournalBytes: minJournalBytes}
		opts.seams.segmentBytes, opts.seams.checkpointBytes = 1500, 4000
		r := openMemory(t, m, opts)
		s := create(t, r, "alpha")
		remember(t, s, drawMemories(t, 40)...)
		for i := range rapid.IntRange(0, 6).Draw(t, "forgotten") { // statistics stay exact
			forget(t, s, fmt.Sprint("m", 3*i))
		}
		cue := drawCue(t)
		requireOracle(t, s, cue)
		before := recall(t, s, cue)
		switch rapid.IntRange(0, 4).Draw(t, "then") {
		case 0:
			require.NoError(t, s.Checkpoint(background))
		case 1:
			asleep(t, s)
		case 2:
			require.NoError(t, r.Close())
			opts.seams.segmentBytes = 1 << 20
			r = openMemory(t, m, opts)
			s = get(t, r, "alpha")
		case 3: // killed: from the log and the journal
			killed := m.clone()
			require.NoError(t, r.Close())
			r = openMemory(t, killed, opts)
			_, err := r.RecoverAll(background)
			require.NoError(t, err)
			s = get(t, r, "alpha")
		}
		require.Equal(t, before, recall(t, s, cue), "the same state gives the same answer")
		require.NoError(t, r.Close())
	})
}

// requireOracle compares a recall with the oracle: the same memories with the
// same activations, in order, as many as limit, filter and least activation let.
func requireOracle(t *rapid.T, s *Space, cue Cue) {
	t.Helper()
	all := list(t, s, Filter{})
	filtered := make(map[string]bool)
	for _, m := range list(t, s, cue.Filter) {
		filtered[m.ID] = true
	}
	admits := func(m Memory) bool { return filtered[m.ID] }
	expected := newRecallOracle(all).activations(cue, admits)
	admitted := 0
	for _, m := range all {
		if !admits(m) {
			delete(expected, m.ID)
		} else if _, found := expected[m.ID]; found {
			if cue.MinActivation > 0 && math.Abs(expected[m.ID]-cue.MinActivation) < 1e-9 {
				t.Skip("too close to tell whether it is admitted")
			}
			if expected[m.ID] < cue.MinActivation {
				delete(expected, m.ID)
			} else {
				admitted++
			}
		}
	}
	got := recall(t, s, cue)
	require.Len(t, got, min(admitted, cue.Limit), "a recall never under-returns")
	for i, r := range got {
		require.InDelta(t, expected[r.Memory.ID], r.Activation, 1e-9, r.Memory.ID)
		why := r.Why
		sum := 0.0
		for _, share := range why.shares() {
			require.GreaterOrEqual(t, *share, 0.0)
			sum += *share
		}
		require.InDelta(t, r.Activation, min(sum, 1), 1e-12)
		require.GreaterOrEqual(t, r.Activation, 0.0)
		require.LessOrEqual(t, r.Activation, 1.0)
		if i > 0 {
			require.LessOrEqual(t, r.Activation, got[i-1].Activation)
			if r.Activation == got[i-1].Activation {
				require.Less(t, r.Memory.Seq, got[i-1].Memory.Seq, "equal activations: the newer first")
			}
		}
		delete(expected, r.Memory.ID)
	}
	if n := len(got); n > 0 {
		for id, left := range expected {
			require.LessOrEqual(t, left, got[n-1].Activation+1e-9, id)
		}
	}
}

// Checkpoints put their image in place of what was stored before: that changes no
// answer, and what has died since is not carried on.
func TestRecallAfterCheckpoints(t *testing.T) {
	opts := Options{Durability: None}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = 20_000, 100_000
	s, _ := newTestSpace(t, opts)
	for i := range 30 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("river stone ", i%5), Episode: fmt.Sprint("e", i%3)})
	}
	cue := Cue{Text: "stone 3 river", Limit: 100}
	before := recall(t, s, cue)
	require.Len(t, before, 30)
	batch := slices.Repeat([]Memory{{ID: "again", Content: "and again the river", Episode: "e1"}}, 100)
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	for range 50 {
		remember(t, s, batch...)
	}
	require.Less(t, a.store.view().documents(), uint32(5000), "images replaced it")
	forget(t, s, "again")
	require.Equal(t, before, recall(t, s, cue))
	require.NoError(t, s.Checkpoint(background))
	require.Equal(t, before, recall(t, s, cue))
	forget(t, s, "m7")
	want := slices.DeleteFunc(recalledIDs(before), func(id string) bool { return id == "m7" })
	require.ElementsMatch(t, want, recalledIDs(recall(t, s, cue)))
}

// Of terms that weigh the same, those whose names come first are asked: whichever
// were stored first, and wherever they stand.
func TestFeedbackAsksTiesByName(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	const words = 2 * feedbackTerms
	var names []string
	for i := range words {
		names = append(names, fmt.Sprintf("w%d%d", i*7%words%10, i*7%words/10)) // in no order
	}
	for _, name := range names {
		remember(t, s, Memory{ID: name, Content: "a needle in the hay " + name})
	}
	// The best five: only the first has terms that lead on.
	remember(t, s, Memory{ID: "marked", Content: strings.Repeat("needle ", 99) + strings.Join(names, " ")})
	for i := range feedbackMemories - 1 {
		remember(t, s, Memory{ID: fmt.Sprint("needles ", i), Content: "needle needle needle"})
	}
	fed := func() (ids []string) {
		for _, found := range recall(t, s, Cue{Text: "needle", Limit: MaxLimit}) {
			if found.Why.Feedback > 0 && found.Memory.ID != "marked" {
				ids = append(ids, found.Memory.ID)
			}
		}
		return ids
	}
	slices.Sort(names)
	want := names[:feedbackTerms]
	require.ElementsMatch(t, want, fed())
	require.NoError(t, s.Checkpoint(background))
	require.ElementsMatch(t, want, fed())
	forget(t, s, names[0], names[words-1])
	require.ElementsMatch(t, names[1:feedbackTerms+1], fed(), "some have died since")
}

func TestRecallByFilterIsNewestFirst(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	day := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for i, hour := range []int{2, 5, 1, 5, 3} {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "x", Time: day.Add(time.Duration(hour) * time.Hour)})
	}
	require.Equal(t, []string{"m3", "m1", "m4", "m0", "m2"}, recalledIDs(recall(t, s, Cue{})))
	require.Equal(t, []string{"m3", "m1"}, recalledIDs(recall(t, s, Cue{Limit: 2})))
	require.Equal(t, []string{"m4", "m0"}, recalledIDs(recall(t, s, Cue{
		Filter: Filter{After: day.Add(2 * time.Hour), Before: day.Add(5 * time.Hour)},
	})))
	require.Equal(t, Why{Filter: 1}, recall(t, s, Cue{})[0].Why)
}

// TestRecallAdmitsWhatItReads: the cue is told what its own answer takes, and may refuse it.
func TestRecallAdmitsWhatItReads(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	const length = 64 << 10
	for i := range 4 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: strings.Repeat("word ", length/5), Embedding: []float32{1, float32(i)}})
		if i == 2 {
			require.NoError(t, s.Checkpoint(background))
		}
	}
	refused := errors.New("refused")
	for name, cue := range map[string]Cue{
		"text": {Text: "word"}, "filter": {}, "ids": {IDs: []string{"m0", "m1", "m2", "m3"}}, "embedding": {Embedding: []float32{1, 1}},
		"two": {Text: "word", Limit: 2}, "none": {Text: "other"},
	} {
		var told []int64
		cue.Admit = func(bytes int64) error { told = append(told, bytes); return nil }
		n := len(recall(t, s, cue))
		require.Len(t, told, 1, name)
		require.InDelta(t, n*length, told[0], float64(n*256), name)
		cue.Admit = func(int64) error { return refused }
		_, err := s.Recall(background, cue)
		require.ErrorIs(t, err, refused, name)
	}
}

func TestRecallByIDBringsNeighbours(t *testing.T) {
	s, _ := newTestSpace(t, Options{Clock: newStepClock()})
	for i := range 6 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "turn", Episode: "talk"})
	}
	remember(t, s, Memory{ID: "elsewhere", Content: "turn", Episode: "other"})
	found := recall(t, s, Cue{IDs: []string{"m2", "unknown"}})
	require.Equal(t, []string{"m2", "m3", "m1", "m4", "m0"}, recalledIDs(found))
	require.Positive(t, found[0].Why.Cued)
	require.Zero(t, found[1].Why.Cued)
	require.Positive(t, found[1].Why.Contiguity)
	require.Greater(t, found[2].Activation, found[3].Activation)
}

func TestRecallByEmbedding(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	for id, v := range map[string][]float32{
		"same": {3, 4, 0}, "near": {4, 4, 0.5}, "right angle": {0, 0, 1}, "opposite": {-3, -4, 0}, "tiny": {3e-30, 4e-30, 0},
	} {
		remember(t, s, Memory{ID: id, Embedding: v})
	}
	remember(t, s, Memory{ID: "none", Content: "no embedding"})
	found := recall(t, s, Cue{Embedding: []float32{6, 8, 0}})
	require.Len(t, found, 3, "what points elsewhere is not brought to mind")
	require.ElementsMatch(t, []string{"same", "tiny"}, recalledIDs(found[:2]))
	require.Equal(t, "near", found[2].Memory.ID)
	require.InDelta(t, 1, found[0].Activation, 1e-6)
	_, err := s.Recall(background, Cue{Embedding: []float32{1, 2}})
	require.ErrorIs(t, err, ErrInvalid)
}

func TestRecallMinActivation(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "both", Content: "green tea"}, Memory{ID: "one", Content: "green river and much more to say"})
	all := recall(t, s, Cue{Text: "green tea"})
	require.Equal(t, []string{"both", "one"}, recalledIDs(all))
	require.Equal(t, []string{"both"}, recalledIDs(recall(t, s, Cue{Text: "green tea", MinActivation: all[0].Activation})))
	require.Empty(t, recall(t, s, Cue{Text: "green tea", MinActivation: 1}))
	require.Empty(t, recall(t, s, Cue{Text: "!?"}), "a text without words brings nothing to mind")
}

// A confidence is a number in [0,1] also where the best is many powers of ten above
// the others.
func TestConfidenceOfOneAboveAll(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "best", Content: "tea"}, Memory{ID: "other", Content: "river"})
	associate(t, s, "best", "other", "hardly", 1e-100)
	found := recall(t, s, Cue{Text: "tea", Spread: Spread{MinActivation: 1e-300}})
	require.Equal(t, []string{"best", "other"}, recalledIDs(found))
	require.InDelta(t, 1, found[0].Confidence, 1e-12)
	require.Zero(t, found[1].Confidence)
}

// What is left out as too weak makes what is not no surer.
func TestConfidenceBesideWhatIsLeftOut(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "both", Content: "green tea"}, Memory{ID: "one", Content: "green river and tea"})
	all := recall(t, s, Cue{Text: "green tea"})
	require.Len(t, all, 2)
	require.Equal(t, all[:1], recall(t, s, Cue{Text: "green tea", MinActivation: all[0].Activation}))
}

// Every embedding that is compared in full is counted, also that of a memory that
// only another kind of cue brings to mind.
func TestRecallPlanCountsWhatIsCompared(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	var ms []Memory
	for i := range 400 {
		v := make([]float32, 64)
		v[0], v[1+i%63] = 400-float32(i), 100
		ms = append(ms, Memory{ID: fmt.Sprint(i), Embedding: v})
	}
	remember(t, s, ms...)
	scanned := func(id string) int {
		answer, err := s.Recall(background, Cue{Embedding: ms[0].Embedding, IDs: []string{id}})
		require.NoError(t, err)
		return answer.Plan.Scanned
	}
	require.Equal(t, scanned("0")+1, scanned("399"))
}

// Memories that another kind of cue has found are matched by the text with their
// episodes, each of which is gone through once, however many of its members they are.
func TestEpisodesAreMatchedOnce(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	var ms []Memory
	for i := range 300 {
		ms = append(ms, Memory{Content: "tea" + strings.Repeat(" river", i/9), Episode: fmt.Sprint("e", i%3)})
	}
	remember(t, s, ms...)
	r := s.awake.Load().read()
	defer r.close()
	q := &recalling{reader: r, scratch: new(scratch), cue: &Cue{Text: "tea"}, matcher: r.view.matcher(new(Filter))}
	q.fit(r.view)
	text, err := q.recallText(background, 2)
	require.NoError(t, err)
	found := len(text.candidates)
	require.Less(t, found, 100)
	for d := range r.view.documents() {
		q.of(d)
	}
	require.NoError(t, q.complete(background, text, q.admitted(0)))
	var episodes []uint32
	for _, c := range text.candidates[found:] {
		episodes = append(episodes, r.view.episodeOf(c.document))
	}
	require.Len(t, episodes, 300-found)
	require.IsNonDecreasing(t, episodes)
	text.own[0] = -1
	require.NoError(t, text.matchMembers(background, text.atHand))
	require.Negative(t, text.own[0])
}

// endingContext ends when it has been asked so many times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A long text is looked up term by term, and who gives up does not wait for the rest.
// What was begun is no part of the next answer.
func TestRecallByTextEndsWithItsContext(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{Content: "green tea"}, Memory{Content: "tea by the river", Episode: "talk"})
	cue := Cue{Text: "who drinks green tea by that river"}
	want, err := s.Recall(background, cue)
	require.NoError(t, err)
	asked := 0
	for ; ; asked++ {
		got, err := s.Recall(&endingContext{background, asked}, cue)
		if err == nil {
			require.Equal(t, want, got)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, want.Recollections, recall(t, s, cue))
	}
	require.Greater(t, asked, 2*len(want.Plan.Terms))
}

// Weighing takes longer than looking up, and ends with the context too: between two
// episodes, and within one that has many terms of the cue.
func TestWeighingEndsWithItsContext(t *testing.T) {
	var words []string
	for i := range 5 * runsAtOnce {
		words = append(words, fmt.Sprint("w", i))
	}
	var short []Memory
	for i := range 40 {
		short = append(short, Memory{Content: words[i%2], Episode: fmt.Sprint("e", i), Embedding: []float32{1, float32(i)}})
	}
	for _, c := range []struct {
		ms   []Memory
		cue  Cue
		more int
	}{
		{short, Cue{Text: "w0 w1", Limit: MaxLimit}, len(short)},
		{short, Cue{Text: "w0 w1", Limit: 1, Embedding: []float32{1, 0}}, len(short)},
		{[]Memory{{Content: strings.Join(words, " "), Episode: "e"}}, Cue{Text: strings.Join(words, " ")}, 5},
	} {
		s, _ := newTestSpace(t, Options{})
		remember(t, s, c.ms...)
		want, asked := endings(t, s, c.cue)
		require.Greater(t, asked, 2*len(want.Plan.Terms)+c.more)
		require.Equal(t, want.Recollections, recall(t, s, c.cue))
	}
}

// endings returns the answer to the cue, and how often it asks whether its context has
// ended: each time, it ends with it.
func endings(t *testing.T, s *Space, cue Cue) (want Recall, asked int) {
	t.Helper()
	want, err := s.Recall(background, cue)
	require.NoError(t, err)
	for ; ; asked++ {
		got, err := s.Recall(&endingContext{background, asked}, cue)
		if err == nil {
			require.Equal(t, want, got)
			return want, asked
		}
		require.ErrorIs(t, err, context.Canceled)
	}
}

// Each memory that is compared or returned is read, which may take as long as a disk
// does.
func TestReadingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, _ := newTestSpace(t, Options{})
	var batch []Memory
	for i := range 40 {
		batch = append(batch, Memory{Content: "tea", Embedding: []float32{1, float32(i)}})
	}
	remember(t, s, batch...)
	for _, c := range []struct {
		cue  Cue
		read int
	}{
		{Cue{Limit: MaxLimit}, 40},
		{Cue{Limit: 1, Embedding: []float32{1, 0}, Text: "tea"}, 40},
		{Cue{Limit: MaxLimit, Embedding: []float32{1, 0}}, 40 + 40},
	} {
		_, asked := endings(t, s, c.cue)
		require.GreaterOrEqual(t, asked, c.read)
	}
}

func TestRecallPlanNamesItsTerms(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	receipt := remember(t, s, Memory{Content: "she was running"})[0]
	answer, err := s.Recall(background, Cue{Text: "runs, running!"})
	require.NoError(t, err)
	require.Equal(t, []string{"run"}, answer.Plan.Terms)
	require.Equal(t, 1, answer.Plan.Scanned)
	require.Equal(t, receipt.Seq, answer.Seq)
}
