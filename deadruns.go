package engram

import (
	"cmp"
	"slices"
)

// minDeadRun is the shortest run that is worth remembering.
const minDeadRun = 64

// deadRun says that no document from..to-1 of an image is visible in a view.
type deadRun struct{ from, to uint32 }

// deadRuns are those that a reader of one view has gone through, in their order, so
// that it goes through none again: of an episode that was forgotten, all of those
// that are remembered in it later would.
type deadRuns []deadRun

// lastVisible returns the last visible document of from..to-1 in v's image,
// noDocument where there is none.
func (x *deadRuns) lastVisible(v *view, from, to uint32) uint32 {
	i, _ := slices.BinarySearchFunc(*x, to, func(r deadRun, to uint32) int { return cmp.Compare(r.from, to) })
	at := to // what precedes the i-th begins below it
	for at > from {
		if i > 0 && at <= (*x)[i-1].to {
			i--
			at = max((*x)[i].from, from)
			continue
		}
		if v.image.visibleAt(at-1, v.seq) {
			break
		}
		at--
	}
	x.add(deadRun{at, to})
	if at == from {
		return noDocument
	}
	return at - 1
}

// firstVisible returns the first visible document of from..to-1 in v's image,
// noDocument where there is none.
func (x *deadRuns) firstVisible(v *view, from, to uint32) uint32 {
	i := x.behind(from)
	at := from
	for at < to {
		if i < len(*x) && at >= (*x)[i].from {
			at = min((*x)[i].to, to)
			i++
			continue
		}
		if v.image.visibleAt(at, v.seq) {
			break
		}
		at++
	}
	x.add(deadRun{from, at})
	if at == to {
		return noDocument
	}
	return at
}

// add remembers a run, as one with those that it touches.
func (x *deadRuns) add(r deadRun) {
	if r.to < r.from+minDeadRun {
		return
	}
	i := x.behind(r.from)
	if i > 0 && (*x)[i-1].to == r.from {
		i--
	}
	end := i
	for ; end < len(*x) && (*x)[end].from <= r.to; end++ {
		r.from, r.to = min(r.from, (*x)[end].from), max(r.to, (*x)[end].to)
	}
	*x = slices.Replace(*x, i, end, r)
}

// behind returns the place of the first run that ends behind the document.
func (x *deadRuns) behind(d uint32) int {
	i, _ := slices.BinarySearchFunc(*x, d+1, func(r deadRun, end uint32) int { return cmp.Compare(r.to, end) })
	return i
}
