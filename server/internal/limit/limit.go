// Package limit bounds how many requests a second somebody may send. Each name
// has a token bucket of its own, so that nobody uses up another's share.
package limit

import (
	"container/list"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxNames bounds how many buckets are kept: about 20 MiB. The one that was not
// asked for longest makes room. It would have been full again, unless more names
// than this are busy within the time that a bucket takes to fill.
const maxNames = 1 << 16

// Limiter lets requests through at a rate for each name. It is safe for
// concurrent use. A nil *Limiter lets everything through.
type Limiter struct {
	rate  rate.Limit
	burst int
	max   int // names

	mu      sync.Mutex // guards the fields below
	buckets map[string]*list.Element
	recent  *list.List // of *bucket, the one that was asked for last in front
}

type bucket struct {
	name   string
	tokens *rate.Limiter
}

// New returns a limiter to so many requests a second in the long run, and to burst at
// once, or nil where perSecond is 0 and so no limit. A burst of 0 is as many as in a
// second, at least one.
func New(perSecond float64, burst int) *Limiter {
	if perSecond <= 0 {
		return nil
	}
	if burst <= 0 {
		burst = int(math.Ceil(perSecond))
	}
	return &Limiter{
		rate: rate.Limit(perSecond), burst: burst, max: maxNames,
		buckets: map[string]*list.Element{}, recent: list.New(),
	}
}

// Allow takes one request of the name into account. If there is no room for it,
// it is not counted, and wait, more than zero, is how long to wait for room.
func (l *Limiter) Allow(name string) (wait time.Duration) {
	if l == nil {
		return 0
	}
	now := time.Now()
	tokens := l.bucket(name)
	reservation := tokens.ReserveN(now, 1)
	if wait = reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (l *Limiter) bucket(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.buckets[name]; found != nil {
		l.recent.MoveToFront(found)
		return found.Value.(*bucket).tokens
	}
	if len(l.buckets) == l.max {
		oldest := l.recent.Back()
		delete(l.buckets, l.recent.Remove(oldest).(*bucket).name)
	}
	b := &bucket{name: name, tokens: rate.NewLimiter(l.rate, l.burst)}
	l.buckets[name] = l.recent.PushFront(b)
	return b.tokens
}
