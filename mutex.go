package engram

import (
	"context"
	"sync/atomic"
)

// contextMutex is a mutex that a context ends the wait for. There is one for each
// space: it takes eight bytes while nobody has it. Those who wait get it in no order.
type contextMutex struct {
	held atomic.Pointer[chan struct{}] // closed when it is free again; nil: it is
}

// LockContext returns nil once the caller has the mutex, or the error of ctx.
func (m *contextMutex) LockContext(ctx context.Context) error {
	freed := make(chan struct{})
	for !m.held.CompareAndSwap(nil, &freed) {
		other := m.held.Load()
		if other == nil {
			continue
		}
		select {
		case <-*other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Lock is LockContext for who waits for as long as it takes.
func (m *contextMutex) Lock() {
	_ = m.LockContext(context.Background()) // which never ends
}

func (m *contextMutex) TryLock() bool {
	freed := make(chan struct{})
	return m.held.CompareAndSwap(nil, &freed)
}

// Unlock lets the next have it.
func (m *contextMutex) Unlock() {
	close(*m.held.Swap(nil))
}
