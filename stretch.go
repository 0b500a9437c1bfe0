package engram

import (
	"cmp"
	"errors"
	"slices"
)

// A call of the operating system costs as much as copying tens of KiB, and what a
// recall finds is often of one conversation: records that lie near each other are
// read together.
const (
	maxStretchGap   = 16 << 10 // between two records of one stretch, read for nothing
	maxStretchBytes = 128 << 10
	// maxStretchesBytes bounds what is read together for one answer, and so what a
	// space keeps for the next.
	maxStretchesBytes = 512 << 10
)

// stretch is a piece of a segment that holds one or more records, unverified.
type stretch struct {
	segment  uint64
	offset   int64
	from, to int // in the memory of the stretches
}

// stretches are what was read for one answer, in memory that the next one uses
// again. It grows to maxStretchesBytes; what does not fit is left out.
type stretches struct {
	list   []stretch
	memory []byte
}

func (x *stretches) reset() { x.list, x.memory = x.list[:0], x.memory[:0] }

// read adds the records at those places, which it sorts, with one call for those
// that lie near each other. The caller has pinned a set of the log. A stretch that
// reaches beyond its segment is left out too: its records are read, and judged,
// each alone. Beside an error of reading it returns at which place that was.
func (x *stretches) read(l *log, places []locator) (locator, error) {
	slices.SortFunc(places, func(x, y locator) int {
		return cmp.Or(cmp.Compare(x.segment, y.segment), cmp.Compare(x.offset, y.offset))
	})
	for len(places) > 0 {
		n := together(places)
		first, last := places[0], places[n-1]
		places = places[n:]
		from := len(x.memory)
		to := from + int(last.offset+int64(last.length)-first.offset)
		if to > maxStretchesBytes {
			return locator{}, nil
		}
		x.memory = slices.Grow(x.memory, to-from)[:to]
		err := l.readTo(x.memory[from:], locator{segment: first.segment, offset: first.offset, length: to - from})
		if err == nil {
			x.list = append(x.list, stretch{segment: first.segment, offset: first.offset, from: from, to: to})
			continue
		}
		x.memory = x.memory[:from]
		if !errors.Is(err, errNotOperation) {
			return first, err
		}
	}
	return locator{}, nil
}

// together returns how many of the records, from the first on, are one stretch.
func together(places []locator) int {
	n := 1
	for end := int64(0); n < len(places); n++ {
		end = max(end, places[n-1].offset+int64(places[n-1].length))
		next := places[n]
		if next.segment != places[0].segment || next.offset-end > maxStretchGap ||
			next.offset+int64(next.length)-places[0].offset > maxStretchBytes {
			break
		}
	}
	return n
}

// record returns the record at loc, nil if no stretch holds it.
func (x *stretches) record(loc locator) []byte {
	for _, s := range x.list {
		from := loc.offset - s.offset
		if held := x.memory[s.from:s.to]; s.segment == loc.segment && from >= 0 && from+int64(loc.length) <= int64(len(held)) {
			return held[from:][:loc.length]
		}
	}
	return nil
}
