package engram

import (
	"context"
	"errors"
	"iter"
)

// SpaceEventKind says what happened to a space.
type SpaceEventKind string

// The kinds of event in the life of a space.
const (
	SpaceCreated     SpaceEventKind = "created" // or imported
	SpaceDeleted     SpaceEventKind = "deleted"
	SpaceRenamed     SpaceEventKind = "renamed"
	SpaceQuarantined SpaceEventKind = "quarantined" // found to be damaged, by whatever read it
)

// SpaceEvent is one event in the life of a space. It is for the registry's
// operator.
type SpaceEvent struct {
	Kind   SpaceEventKind `json:"kind"`
	Space  SpaceID        `json:"space"`            // after the event
	From   SpaceID        `json:"from,omitempty"`   // of a renamed space, its id before
	Reason string         `json:"reason,omitempty"` // of a quarantined space, the damage
}

// keptSpaceEvents is how far one who iterates over Events may lag.
const keptSpaceEvents = 1024

// spaceEvents are the last ones. Registry.mu guards it.
type spaceEvents struct {
	ring    []SpaceEvent  // event n is at n % keptSpaceEvents
	next    uint64        // number of the next one
	changed chan struct{} // closed when there is one, or the registry closes; nil if nobody waits
}

func (l *spaceEvents) addLocked(e SpaceEvent) {
	if len(l.ring) < keptSpaceEvents {
		l.ring = append(l.ring, e)
	} else {
		l.ring[l.next%keptSpaceEvents] = e
	}
	l.next++
	l.wakeLocked()
}

func (l *spaceEvents) wakeLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Events yields what becomes of the registry's spaces from this call on, in the
// order in which the catalogue changed: list the spaces after it, and none is
// missed. Events are kept in memory only, the last 1,024: who lags behind
// further gets [ErrLagged], and starts again. Whoever iterates holds nothing up.
// A space is reported as quarantined once. The error comes last: ErrLagged,
// ErrClosed, or ctx's.
func (r *Registry) Events(ctx context.Context) iter.Seq2[SpaceEvent, error] {
	r.mu.Lock()
	from := r.life.next
	r.mu.Unlock()
	return func(yield func(SpaceEvent, error) bool) {
		for next := from; ; next++ {
			e, err := r.spaceEvent(ctx, next)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// spaceEvent returns the event of that number when there is one.
func (r *Registry) spaceEvent(ctx context.Context, n uint64) (SpaceEvent, error) {
	for {
		if err := ctx.Err(); err != nil {
			return SpaceEvent{}, err
		}
		e, changed, err := r.lookForSpaceEvent(n)
		if changed == nil {
			return e, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// lookForSpaceEvent returns the event, or what is closed when it may be there.
func (r *Registry) lookForSpaceEvent(n uint64) (SpaceEvent, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.life
	switch {
	case n+keptSpaceEvents < l.next:
		return SpaceEvent{}, nil, ErrLagged
	case n < l.next:
		return l.ring[n%keptSpaceEvents], nil, nil
	case r.closed.Load():
		return SpaceEvent{}, nil, ErrClosed
	case l.changed == nil:
		l.changed = make(chan struct{})
	}
	return SpaceEvent{}, l.changed, nil
}

// quarantined reports damage of the space, the first time.
func (s *Space) quarantined(damage error) {
	if !errors.Is(damage, ErrCorrupt) || s.reported.Swap(true) {
		return
	}
	r := s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	r.life.addLocked(SpaceEvent{Kind: SpaceQuarantined, Space: s.ID(), Reason: damage.Error()})
}
