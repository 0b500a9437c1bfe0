package engram

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Many goroutines create, use, rename, delete and put to sleep the same few
// spaces. Whatever they find at the end of a handle is that space's own: each
// content is the incarnation that it was remembered in. Nothing hangs, Close
// joins every goroutine, and what was left is found when the registry opens again.
func TestRegistryConcurrently(t *testing.T) {
	for seed := range uint64(scaled(8)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			hangs := time.AfterFunc(hangsAfter, func() { panic(fmt.Sprint("hangs: seed ", seed)) })
			defer hangs.Stop()
			before := runtime.NumGoroutine()
			opts := Options{JournalBytes: minJournalBytes, MemoryBudget: int64(seed % 2)}
			opts.seams.segmentBytes, opts.seams.checkpointBytes, opts.seams.extentBytes = 900, 1800, 16<<10
			m := newMemoryFS()
			w := &registryUse{t: t, r: openMemory(t, m, opts)}
			tinyJournal(w.r)
			var work sync.WaitGroup
			for i := range 8 {
				work.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(i)))
					for range 40 {
						w.step(random)
					}
				})
			}
			work.Wait()
			left := spaceIDs(w.r, "")
			for _, id := range left {
				w.read(get(t, w.r, id))
			}
			require.NoError(t, w.r.Close())
			for range 1_000_000 { // whoever has said that it is done may not have ended
				if runtime.NumGoroutine() <= before {
					break
				}
				runtime.Gosched()
			}
			require.LessOrEqual(t, runtime.NumGoroutine(), before)

			w.r = openMemory(t, m, opts)
			require.Equal(t, left, spaceIDs(w.r, ""))
			for _, id := range left {
				w.read(get(t, w.r, id))
			}
			require.NoError(t, w.r.Close())
		})
	}
}

// registryUse is a registry that many use, who expect each other.
type registryUse struct {
	t *testing.T
	r *Registry
}

func (w *registryUse) step(random *rand.Rand) {
	id := routingSpaces[random.IntN(len(routingSpaces))]
	switch random.IntN(12) {
	case 0:
		w.may(w.r.Delete(background, id), ErrSpaceNotFound)
	case 1:
		w.may(w.r.Rename(background, id, routingSpaces[random.IntN(len(routingSpaces))]), ErrSpaceNotFound, ErrSpaceExists, ErrSpaceDeleted)
	case 2:
		_, err := w.r.Create(background, id, SpaceConfig{})
		w.may(err, ErrSpaceExists)
	case 3:
		w.may(w.r.Settle(background))
	case 4:
		ids := spaceIDs(w.r, "")
		if !slices.IsSorted(ids) {
			w.t.Errorf("the catalogue is out of order: %q", ids)
		}
	case 5:
		s, err := w.r.Get(background, id)
		if w.may(err, ErrSpaceNotFound); err == nil {
			s.sleep()
		}
	case 6, 7:
		s, err := w.r.Get(background, id)
		if w.may(err, ErrSpaceNotFound); err == nil {
			w.read(s)
		}
	default:
		s, err := w.r.GetOrCreate(background, id, SpaceConfig{})
		if w.may(err); err == nil {
			w.write(s, fmt.Sprint("m", random.IntN(8)))
		}
	}
}

// may fails the test unless there is no error, or one of these.
func (w *registryUse) may(err error, expected ...error) {
	w.t.Helper()
	if err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) {
		w.t.Errorf("unexpected: %v", err)
	}
}

// incarnationOf is what the handle stands for; empty where it was deleted.
func (w *registryUse) incarnationOf(s *Space) string {
	a, err := s.use(background)
	if w.may(err, ErrSpaceDeleted); err != nil {
		return ""
	}
	defer a.uses.Add(-1)
	return a.identity.incarnation.String()
}

func (w *registryUse) write(s *Space, id string) {
	own := w.incarnationOf(s)
	if own == "" {
		return
	}
	_, err := s.Remember(background, Memory{ID: id, Content: own})
	w.may(err, ErrSpaceDeleted)
}

func (w *registryUse) read(s *Space) {
	own := w.incarnationOf(s)
	for m, err := range s.Memories(background, Filter{}) {
		if w.may(err, ErrSpaceDeleted); err == nil && m.Content != own {
			w.t.Errorf("%q shows what was remembered in %q", own, m.Content)
		}
	}
}
