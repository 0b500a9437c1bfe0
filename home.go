package engram

import (
	"context"
	"errors"
)

// This file is how the journal finds the space of its frames, and has it settle.

// settleSpace implements settler. A space that sleeps is woken, which recovers
// what the journal holds of it, and put to sleep again.
func (r *Registry) settleSpace(inc incarnation, id SpaceID) (uint64, error) {
	r.mu.Lock()
	a, deleted := r.awake[inc], r.tombstones[inc]
	r.mu.Unlock()
	if a != nil {
		return a.settleInUse()
	}
	if deleted {
		return 0, errDropped
	}
	s, err := r.home(inc, id)
	if err != nil {
		return 0, err
	}
	a, err = s.wake(context.Background(), true)
	if err != nil {
		return 0, err
	}
	if a.identity.incarnation != inc {
		a.done()
		return 0, errHomeless
	}
	seq, err := a.settle()
	a.done()
	if err == nil {
		s.sleep()
	}
	return seq, err
}

// settleInUse is settle for who does not use the space otherwise: it must not be put
// to sleep, which settles it too, for the descriptors that this opens.
func (a *awake) settleInUse() (uint64, error) {
	a.uses.Add(1)
	defer a.done()
	return a.settle()
}

// home finds the space of the incarnation: under the id that the journal
// names, or by reading every SPACE, once. What cannot be read is no verdict.
func (r *Registry) home(inc incarnation, id SpaceID) (*Space, error) {
	r.mu.Lock()
	searched := r.found != nil
	r.mu.Unlock()
	if !searched {
		if found, err := r.readIncarnation(id); err == nil && found == inc {
			return r.homeAt(id)
		}
		all := make(map[incarnation]SpaceID)
		for other := range r.Spaces("") {
			switch found, err := r.readIncarnation(other); {
			case err == nil:
				all[found] = other
			case !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion):
				return nil, err // it may be the one
			}
		}
		r.mu.Lock()
		r.found = all
		r.mu.Unlock()
	}
	r.mu.Lock()
	found, ok := r.found[inc]
	r.mu.Unlock()
	if !ok {
		return nil, errHomeless
	}
	return r.homeAt(found)
}

func (r *Registry) homeAt(id SpaceID) (*Space, error) {
	if s := r.space(id); s != nil {
		return s, nil
	}
	return nil, errHomeless
}

func (r *Registry) readIncarnation(id SpaceID) (incarnation, error) {
	state, err := r.readState(id)
	if err != nil {
		return incarnation{}, err
	}
	return state.identity.incarnation, nil
}
