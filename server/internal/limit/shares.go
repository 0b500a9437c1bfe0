package limit

import "sync"

// Shares bounds how much of something is taken at once, by each name and by all of
// them. It keeps the names that have taken something, and no others. It is safe for
// concurrent use.
type Shares[Name comparable] struct {
	each, all int64

	mu    sync.Mutex // guards the fields below
	taken map[Name]int64
	total int64
}

// NewShares returns shares of which each name may take so many at once, and all
// together so many.
func NewShares[Name comparable](each, all int64) *Shares[Name] {
	return &Shares[Name]{each: each, all: all, taken: map[Name]int64{}}
}

// Take takes n, which is not negative, unless that is more than there is room for.
func (s *Shares[Name]) Take(name Name, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := s.taken[name]
	if n > s.each-has || n > s.all-s.total {
		return false
	}
	s.taken[name] = has + n
	s.total += n
	return true
}

// Return gives back n of what the name has taken.
func (s *Shares[Name]) Return(name Name, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total -= n
	if left := s.taken[name] - n; left > 0 {
		s.taken[name] = left
	} else {
		delete(s.taken, name)
	}
}

// Taken returns how much is taken by all.
func (s *Shares[Name]) Taken() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}
