package engram

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What etcd guarantees its watchers (its API guarantees name these six), held by
// Subscribe. TestSubscribersSeeTheCommittedSequence holds all of them at once
// over kills and restarts, TestCrashEvents over power cuts.
func TestEventGuarantees(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"ordered":      eventsAreOrdered,
		"unique":       eventsAreUnique,
		"reliable":     eventsAreReliable,
		"atomic":       eventsAreAtomic,
		"resumable":    eventsAreResumable,
		"bookmarkable": eventsAreBookmarkable,
	} {
		t.Run(name, test)
	}
}

// concurrently has writers remember at once, and returns what each was told, in
// the order in which it was.
func concurrently(t *testing.T, s *Space) [][]Receipt {
	t.Helper()
	const writers, each = 4, 25
	receipts := make([][]Receipt, writers)
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			for i := range each {
				receipt, err := s.Remember(background, Memory{ID: fmt.Sprint(w, "-", i%7), Content: "x"})
				require.NoError(t, err)
				receipts[w] = append(receipts[w], receipt)
			}
		})
	}
	work.Wait()
	return receipts
}

// liveAndLate returns the events of one who reads while they are written, and of
// one who comes when all is done.
func liveAndLate(t *testing.T, s *Space, write func()) [][]Event {
	t.Helper()
	live := subscriber{space: s}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	reading, last := make(chan error, 1), make(chan uint64, 1)
	go func() {
		var until uint64
		reading <- live.read(ctx, func(e Event) bool {
			select {
			case until = <-last:
			default:
			}
			return until > 0 && e.Seq >= until
		})
	}()
	write()
	remember(t, s, Memory{ID: "before the last", Content: "x"})
	last <- infoOf(t, s).Seq + 1
	remember(t, s, Memory{ID: "the last", Content: "x"})
	require.NoError(t, <-reading)
	return [][]Event{live.got, events(t, s, 0)}
}

// No event comes before one that precedes it: neither by its seq, nor by the
// order in which a writer was told.
func eventsAreOrdered(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	var receipts [][]Receipt
	for _, got := range liveAndLate(t, s, func() { receipts = concurrently(t, s) }) {
		at := map[uint64]int{}
		for i, e := range got {
			require.True(t, i == 0 || got[i-1].Seq < e.Seq)
			at[e.Seq] = i
		}
		for _, told := range receipts {
			for i := 1; i < len(told); i++ {
				require.Less(t, at[told[i-1].Seq], at[told[i].Seq])
			}
		}
	}
}

// No event comes twice, also to one who goes on again and again.
func eventsAreUnique(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	all := liveAndLate(t, s, func() { concurrently(t, s) })
	again := subscriber{space: s}
	for again.after < infoOf(t, s).Seq {
		require.NoError(t, again.read(background, func(Event) bool { return true }))
	}
	for _, got := range append(all, again.got) {
		seen := map[uint64]bool{}
		for _, e := range got {
			require.False(t, seen[e.Seq], e.Seq)
			seen[e.Seq] = true
		}
	}
}

// Of events a, b, c nobody gets a and c without b, and what was acknowledged comes.
func eventsAreReliable(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	var receipts [][]Receipt
	for _, got := range liveAndLate(t, s, func() { receipts = concurrently(t, s) }) {
		for i, e := range got {
			require.Equal(t, uint64(i+1), e.Seq)
		}
		for _, told := range receipts {
			for _, receipt := range told {
				require.Equal(t, []string{receipt.ID}, got[receipt.Seq-1].IDs)
			}
		}
	}
}

// What was committed together is there as a whole or not at all, and says where
// it ends: a batch, and associations that met in one frame.
func eventsAreAtomic(t *testing.T) {
	opts := Options{}
	s, m := newTestSpace(t, opts)
	remember(t, s, Memory{ID: "a", Content: "x"}, Memory{ID: "b", Content: "y"}, Memory{ID: "c", Content: "z"})
	w := newEventWriter(s, nil)
	w.want, w.living = make([]Event, 4), map[string]bool{"a": true, "b": true}
	before := m.clone()
	w.associateTogether(t)
	got := events(t, s, 1)
	var frames []int
	length := 0
	for _, e := range got {
		if length++; e.FrameLast {
			frames, length = append(frames, length), 0
		}
	}
	require.Zero(t, length, "the last event ends a frame")
	require.Equal(t, 3, frames[0], "the batch")
	require.Equal(t, 4, frames[1], "the associations")
	w.requireEvents(t, got[3:])

	ends := map[uint64]bool{1: true}
	for _, e := range got {
		ends[e.Seq] = e.FrameLast
	}
	for _, left := range []*memoryFS{before, m.clone()} {
		r := openMemory(t, left, opts)
		require.True(t, ends[infoOf(t, get(t, r, "alpha")).Seq], "a part of a frame was found")
		require.NoError(t, r.Close())
	}
}

// Whoever goes on behind an event gets the rest, whichever event it was, within a
// frame too, after a restart and after a kill.
func eventsAreResumable(t *testing.T) {
	clock := newStepClock()
	s, m := newTestSpace(t, Options{Clock: clock})
	remember(t, s, Memory{ID: "a", Content: "x"}, Memory{ID: "b", Content: "y"}, Memory{ID: "c", Content: "z"})
	associate(t, s, "a", "b", "", 1)
	forget(t, s, "b")
	want := events(t, s, 0)
	for after := range uint64(len(want)) {
		require.Equal(t, want[after:], events(t, s, after))
	}
	requireEventsAgain(t, s, m, clock, want, 0)
}

// A position that comes without an event, from an export, a description or an
// error about history that is trimmed, says that nothing before it is missing:
// from there on come all events, and only those behind it.
func eventsAreBookmarkable(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "a", Content: strings.Repeat("x", MaxContentBytes)})
	forget(t, s, "a")
	require.NoError(t, s.Checkpoint(background))
	remember(t, s, Memory{ID: "b", Content: "kept"})
	exported, err := s.Export(background, io.Discard)
	require.NoError(t, err)
	var trimmed *TrimmedError
	require.ErrorAs(t, (&subscriber{space: s}).read(background, upTo(1)), &trimmed)
	described := infoOf(t, s).Seq
	require.Equal(t, described, exported)
	last := remember(t, s, Memory{ID: "c", Content: "later"})[0].Seq
	for _, bookmark := range []uint64{exported, described, trimmed.Floor} {
		u := subscriber{space: s, after: bookmark}
		require.NoError(t, u.read(background, upTo(last)))
		require.Len(t, u.got, int(last-bookmark))
	}
}
