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
)

// stretch is a piece of a segment that holds several records, unverified.
type stretch struct {
	segment uint64
	offset  int64
	bytes   []byte
}

// stretches are what was read together for one answer.
type stretches []stretch

// readTogether reads the stretches that hold two or more of the records at those
// places, which it sorts. The caller has pinned a set. A stretch that reaches
// beyond its segment is left out: its records are read, and judged, each alone.
func (l *log) readTogether(places []locator) (stretches, error) {
	slices.SortFunc(places, func(x, y locator) int {
		return cmp.Or(cmp.Compare(x.segment, y.segment), cmp.Compare(x.offset, y.offset))
	})
	var list stretches
	for len(places) > 0 {
		n := together(places)
		first, last := places[0], places[n-1]
		if places = places[n:]; n == 1 {
			continue
		}
		b := make([]byte, last.offset+int64(last.length)-first.offset)
		err := l.readTo(b, locator{segment: first.segment, offset: first.offset, length: len(b)})
		if errors.Is(err, errNotOperation) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, stretch{segment: first.segment, offset: first.offset, bytes: b})
	}
	return list, nil
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
func (x stretches) record(loc locator) []byte {
	for _, s := range x {
		from := loc.offset - s.offset
		if s.segment == loc.segment && from >= 0 && from+int64(loc.length) <= int64(len(s.bytes)) {
			return s.bytes[from:][:loc.length]
		}
	}
	return nil
}
