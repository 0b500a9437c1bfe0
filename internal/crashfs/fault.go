package crashfs

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Fault makes calls of one run fail, or take long. Its Hook goes into
// [FS.SetHook]; it counts the calls that it applies to from there on.
type Fault struct {
	// Applies says which calls count; nil means all.
	Applies func(Call) bool
	// First is the number of the first call that fails, from 1.
	First int
	// Count is how many fail from there on; 0 means all.
	Count int
	// Err is what they return; with nil they succeed.
	Err error
	// Wait, if set, is called before that: how long a slow device takes.
	Wait func()

	mu    sync.Mutex // guards the fields below
	calls int
	hit   []Call
}

// Hook is a [Hook].
func (f *Fault) Hook(c Call) error {
	if !f.hits(c) {
		return nil
	}
	if f.Wait != nil {
		f.Wait()
	}
	if f.Err == nil {
		return nil
	}
	return fmt.Errorf("call %d, %s %s: %w", c.N, c.Op, c.Name, f.Err)
}

// hits counts the call and reports whether it is one that fails.
func (f *Fault) hits(c Call) bool {
	if f.Applies != nil && !f.Applies(c) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls < f.First || f.Count > 0 && f.calls >= f.First+f.Count {
		return false
	}
	f.hit = append(f.hit, c)
	return true
}

// Hit returns the calls that it has applied to so far.
func (f *Fault) Hit() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.hit)
}

// PartialWrite is an error of a hook that says how much of a write is written
// before it fails, in 1/256: 0 is nothing, 255 all but the last bytes.
type PartialWrite struct {
	Err   error
	Share uint8
}

func (e *PartialWrite) Error() string { return fmt.Sprintf("short write: %v", e.Err) }

// Unwrap returns the cause.
func (e *PartialWrite) Unwrap() error { return e.Err }

// written returns how many of n bytes a write that fails with err has written.
func written(err error, n int) int {
	var partial *PartialWrite
	if errors.As(err, &partial) {
		return n * int(partial.Share) / 256
	}
	return n / 2
}
