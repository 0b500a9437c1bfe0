package engram

import (
	"context"
	"math"
	"slices"
)

// What the terms of a cue find in episodes: first what each could have at most, then,
// in those that could hold one of the best, what each member has.

// run is the matches of one term in one episode.
type run struct {
	term     uint32 // its place among the cue's
	next     uint32 // 1 + the place of the episode's next run; 0: none
	from, to uint32 // in the term's list
	count    uint32 // of the term in the episode
}

// episodeMatch is what the cue's terms find in an episode. What it could have at most is
// known before its members are matched, so that most never are: an episode whose reach
// is less than what the n-th best has holds none of the n best.
type episodeMatch struct {
	number      uint32
	documents   uint32  // that live
	first, last uint32  // 1 + the places of its runs' ends
	norm        float64 // what divides a count in it
	match       float64 // of it as one document; known once its members are matched
	// left is more than any member has without feedback that is no candidate: what the
	// terms give one at most, summed, and once the members are matched, the most that
	// one of those has who did not become candidates.
	left     float64
	feedback float64 // no member's is more
}

// matchEpisodes adds what the terms find in each episode, and in each document
// without one.
func (t *textRecall) matchEpisodes(ctx context.Context) error {
	v, s, curve := t.view, t.textScratch, &t.curve
	for i := range s.terms {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, idf := s.terms[i].list, s.terms[i].idf
		for from := 0; from < len(list); {
			p := list[from]
			length := v.lengthOf(p.ordinal)
			if p.episode == 0 {
				t.matchLone(p.ordinal, float64(idf*curve.weight(length, p.count)))
				from++
				continue
			}
			to, count, most := from+1, p.count, 0.0
			if to == len(list) || list[to].episode != p.episode {
				most = curve.weight(length, count)
			} else {
				total, highest := curve.frequency(length, count), curve.frequency(length, count)
				for ; to < len(list) && list[to].episode == p.episode; to++ {
					f := curve.frequency(v.lengthOf(list[to].ordinal), list[to].count)
					count, total, highest = count+list[to].count, total+f, max(highest, f)
				}
				most = curve.saturate(mostWithNeighbours(highest, total))
			}
			m := t.meet(p.episode)
			s.runs = append(s.runs, run{term: uint32(i), from: uint32(from), to: uint32(to), count: count})
			m.left += float64(idf * (most + float64(episodeWeight*curve.quotient(count, m.norm))))
			from = to
		}
	}
	for i := range s.episodes {
		s.episodes[i].left += t.extras
	}
	return nil
}

// mostWithNeighbours is what a member's frequency, with its neighbours' shares,
// is at most, where highest is the highest of the episode and total their sum:
// nobody's can be that of more than the whole episode.
func mostWithNeighbours(highest, total float64) float64 {
	return min(highest*(1+surroundings), highest+float64(neighbourShare*(total-highest)))
}

// meet returns what is found in the episode, to which the next run is added.
func (t *textRecall) meet(number uint32) *episodeMatch {
	s := t.textScratch
	next := uint32(len(s.runs)) + 1
	if at := s.met[number]; at > 0 {
		m := &s.episodes[at-1]
		s.runs[m.last-1].next = next
		m.last = next
		return m
	}
	use := t.view.episodeUse(number)
	// In place: what is copied piece by piece and read as a whole is read late.
	s.episodes = append(s.episodes, episodeMatch{})
	m := &s.episodes[len(s.episodes)-1]
	m.number, m.documents = number, uint32(use.documents)
	m.first, m.last = next, next
	m.norm = 1 - s.curve.b + s.curve.b*float64(use.tokens)/t.averageEpisode
	s.met[number] = uint32(len(s.episodes))
	return m
}

// reach is more than any member has that is no candidate.
func (m *episodeMatch) reach() float64 { return m.left + m.feedback }

// weighEpisode makes candidates of an episode's memories that satisfy the filter
// and could be among the best.
func (t *textRecall) weighEpisode(ctx context.Context, m *episodeMatch, best *lowestFirst) error {
	if err := t.matchMembers(ctx, m); err != nil {
		return err
	}
	left, floor := math.Inf(-1), best.floor()
	whole := float64(episodeWeight * m.match)
	for j, d := range t.members {
		// Most are told apart by what is at hand.
		most := t.text[j] + whole + t.extras
		if most+m.feedback < floor {
			left = max(left, most)
			continue
		}
		if t.found[d] != 0 {
			continue
		}
		if sum := t.text[j] + whole + t.labels[d] + t.feedback[d] + t.timing; sum < floor {
			left = max(left, sum)
			continue
		}
		if t.matcher.matches(t.view, d) {
			best.offer(t.weigh(d, t.partsAt(j, m)))
			floor = best.floor()
		}
	}
	m.left = left
	return nil
}

// partsAt returns what the j-th member of the episode at hand has by its words,
// its neighbours' and the episode's.
func (t *textRecall) partsAt(j int, m *episodeMatch) textParts {
	return textParts{text: t.own[j], contiguity: max(t.text[j]-t.own[j], 0), episode: episodeWeight * m.match}
}

// runsAtOnce are matched before it is asked whether to go on: a few terms in a large
// episode, or many in a small one, take no time to speak of.
const runsAtOnce = 16

// matchMembers makes the episode the one at hand, unless it is, and adds what the
// terms find in it and each of its members. ctx ends it with its error, and the recall
// with it.
func (t *textRecall) matchMembers(ctx context.Context, m *episodeMatch) error {
	if t.atHand == m {
		return nil
	}
	t.atHand = m
	t.members = t.view.members(t.members[:0], m.number)
	n := len(t.members)
	for _, column := range []*[]float64{&t.frequency, &t.passed, &t.text, &t.own} {
		*column = slices.Grow((*column)[:0], n+2*margin)[:n+2*margin]
		clear(*column)
	}
	m.match = 0
	for j, d := range t.members {
		t.places[d] = uint32(j)
	}
	for next, n := m.first, 0; next != 0; n++ {
		if n%runsAtOnce == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		r := &t.runs[next-1]
		term := &t.terms[r.term]
		m.match += float64(term.idf * t.curve.saturate(float64(r.count)/m.norm))
		next = r.next
		t.place(term.idf, term.list[r.from:r.to])
		t.matchPlaced(term.idf)
	}
	return nil
}

// margin is how far a memory gets of its neighbours.
const margin = 2

// place sets the frequencies of a term's matches in the episode at hand, and adds
// what members have of their own.
func (t *textRecall) place(idf float64, list []match) {
	t.placed = t.placed[:0]
	for _, p := range list {
		j := t.places[p.ordinal]
		f := t.frequencyOf(p.ordinal, p.count)
		t.own[j] += float64(idf * t.curve.saturate(f))
		t.frequency[margin+j] = f
		t.passed[margin+j] = (nearShare + float64(questionPass*t.questionShare(p.ordinal))) * f
		t.placed = append(t.placed, j)
	}
	if !slices.IsSorted(t.placed) {
		slices.Sort(t.placed)
	}
}

// matchPlaced adds what the frequencies come to at the places that have or
// neighbour one, and takes them away again. Each sum is made in one order: the same
// state gives the same answer to the last bit.
func (t *textRecall) matchPlaced(idf float64) {
	from := 0
	for _, p := range t.placed {
		to := min(int(p)+margin+1, len(t.members))
		for j := max(int(p)-margin, from); j < to; j++ {
			f, before := t.frequency[j:j+2*margin+1], t.passed[margin+j-1]
			sum := f[2] + float64(farShare*f[0]) + before + float64(nearShare*f[3]) + float64(farShare*f[4])
			t.text[j] += float64(idf * t.curve.saturate(sum))
		}
		from = to
	}
	for _, p := range t.placed {
		t.frequency[margin+p], t.passed[margin+p] = 0, 0
	}
}

// metAt returns what the terms find in the memory's episode; nil if nothing, or
// if it has none.
func (t *textRecall) metAt(d uint32) *episodeMatch {
	if at := t.met[t.view.episodeOf(d)]; at > 0 {
		return &t.episodes[at-1]
	}
	return nil
}
