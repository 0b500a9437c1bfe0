package engram

import "time"

// Clock tells the time. Only what a memory is stamped with comes from it;
// nothing is ordered or expired by it.
type Clock interface {
	Now() time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// monotonic measures durations and short waits. It is not a Clock, because a
// test that stops the clock must not stop the group commit.
func monotonic() time.Time { return time.Now() }

// afterFunc runs f in its own goroutine after d, unless stop returns true first.
func afterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}
