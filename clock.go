package engram

import "time"

// Clock tells the time. Only what a memory is stamped with comes from it;
// nothing is ordered or expired by it. A time out of the range of [Memory].Time
// counts as the nearest one in it.
type Clock interface {
	Now() time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// nanosOf returns c's time in nanoseconds since 1970, as far as a memory can have it.
func nanosOf(c Clock) int64 {
	now := c.Now()
	switch {
	case now.Before(earliestTime):
		now = earliestTime
	case now.After(latestTime):
		now = latestTime
	}
	return now.UnixNano()
}

// monotonic measures durations and short waits. It is not a Clock, because a
// test that stops the clock must not stop the group commit.
func monotonic() time.Time { return time.Now() }

// afterFunc runs f in its own goroutine after d, unless stop returns true first.
func afterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}
