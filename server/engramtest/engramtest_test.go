package engramtest_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/engramtest"
)

func TestMain(m *testing.M) { os.Exit(engramtest.Main(m)) }

// kinds runs a test on a server in process and on a child process.
func kinds(t *testing.T, test func(t *testing.T, options engramtest.Options)) {
	t.Helper()
	t.Parallel()
	for name, options := range map[string]engramtest.Options{"in process": {}, "child process": {Process: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options.Spaces = []engram.SpaceID{"alpha", "beta"}
			test(t, options)
		})
	}
}

func remember(t *testing.T, space *engramtest.Space, id, content string) {
	t.Helper()
	_, err := space.Remember(t.Context(), engram.Memory{ID: id, Content: content})
	require.NoError(t, err)
}

func TestSpacesAreApart(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		s := engramtest.Start(t, options)
		remember(t, s.Space("alpha"), "same", "of alpha")
		remember(t, s.Space("beta"), "same", "of beta")
		for _, id := range options.Spaces {
			m, err := s.Space(id).Lookup(t.Context(), "same")
			require.NoError(t, err)
			require.Equal(t, "of "+string(id), m.Content)
			require.Equal(t, id, m.Space)
		}
		ids, err := s.Spaces(t.Context())
		require.NoError(t, err)
		require.Equal(t, options.Spaces, ids)
		_, err = s.Space("gamma").Lookup(t.Context(), "same")
		require.ErrorIs(t, err, engram.ErrSpaceNotFound)
	})
}

// TestCrashKeepsWhatWasAcknowledged crashes a server under writers, several times.
func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		s := engramtest.Start(t, options)
		var acknowledged sync.Map // of "space/id"
		for round := range 3 {
			var writers sync.WaitGroup
			enough := make(chan struct{})
			var count atomic.Int64
			for _, id := range options.Spaces {
				writers.Go(func() {
					space := s.Space(id)
					for i := 0; ; i++ {
						name := fmt.Sprintf("%d-%d", round, i)
						if _, err := space.Remember(t.Context(), engram.Memory{ID: name, Content: string(id)}); err != nil {
							return
						}
						acknowledged.Store([2]string{string(id), name}, true)
						if count.Add(1) == 40 {
							close(enough)
						}
					}
				})
			}
			<-enough
			s.Crash()
			writers.Wait()
			s.Restart()
		}
		acknowledged.Range(func(key, _ any) bool {
			at := key.([2]string)
			m, err := s.Space(engram.SpaceID(at[0])).Lookup(t.Context(), at[1])
			require.NoError(t, err, at)
			require.Equal(t, at[0], m.Content)
			return true
		})
	})
}

// TestCrashPutsNothingInOrder holds Crash to its word: a server that was stopped
// has settled, one that has crashed has not.
func TestCrashPutsNothingInOrder(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		s := engramtest.Start(t, options)
		remember(t, s.Space("alpha"), "one", "a first thing")
		s.Crash()
		require.Equal(t, engram.CheckRecoverable, verdict(t, s.Dir()))
		s.Restart()
		s.Stop()
		require.Equal(t, engram.CheckClean, verdict(t, s.Dir()))
	})
}

func verdict(t *testing.T, dir string) engram.CheckVerdict {
	t.Helper()
	report, err := engram.Check(t.Context(), dir)
	require.NoError(t, err)
	return report.Verdict
}

// TestLostAnswer retries a write whose answer got lost, over a crash.
func TestLostAnswer(t *testing.T) {
	s := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alpha"}})
	space := s.Space("alpha")
	memory := engram.Memory{Content: "once"}
	s.Transport().DropAnswers(1)
	_, err := space.RememberOnce(t.Context(), memory, "key")
	require.ErrorIs(t, err, engramtest.ErrDropped)
	s.Crash()
	s.Restart()
	_, err = space.RememberOnce(t.Context(), memory, "key")
	require.NoError(t, err)
	memories, err := space.Memories(t.Context(), engram.Filter{})
	require.NoError(t, err)
	require.Len(t, memories, 1)

	s.Transport().DropRequests(1)
	_, err = space.Remember(t.Context(), engram.Memory{Content: "never"})
	require.ErrorIs(t, err, engramtest.ErrDropped)
	memories, err = space.Memories(t.Context(), engram.Filter{})
	require.NoError(t, err)
	require.Len(t, memories, 1)
}

// TestLostCalls loses requests and answers of gRPC.
func TestLostCalls(t *testing.T) {
	s := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alpha"}})
	space := s.GRPC("alpha")
	memory := engram.Memory{Content: "once"}
	s.Transport().DropAnswers(1)
	_, err := space.Remember(t.Context(), memory, client.RequestID("key"))
	require.ErrorIs(t, err, engramtest.ErrDropped)
	s.Crash()
	_, err = space.Lookup(t.Context(), "x")
	require.ErrorIs(t, err, client.ErrUnavailable)
	s.Restart()
	_, err = space.Remember(t.Context(), memory, client.RequestID("key"))
	require.NoError(t, err)
	s.Transport().DropRequests(2)
	_, err = space.Remember(t.Context(), engram.Memory{Content: "never"})
	require.ErrorIs(t, err, engramtest.ErrDropped)
	for _, err := range space.Subscribe(t.Context(), 0) {
		require.ErrorIs(t, err, engramtest.ErrDropped)
	}
	info, err := space.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, info.Memories)
}

// TestSubscriberOverRestart goes on from the last event after a stop.
func TestSubscriberOverRestart(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		s := engramtest.Start(t, options)
		space := s.Space("alpha")
		remember(t, space, "one", "a first thing")
		var last uint64
		var ended error
		done := make(chan struct{})
		seen := make(chan struct{})
		go func() {
			defer close(done)
			for event, err := range space.Subscribe(context.Background(), 0) {
				if err != nil {
					ended = err
					return
				}
				if last = event.Seq; len(event.IDs) > 0 {
					close(seen)
				}
			}
		}()
		<-seen
		s.Stop()
		<-done
		require.Error(t, ended)
		s.Restart()
		remember(t, space, "two", "a second thing")
		for event, err := range space.Subscribe(t.Context(), last) {
			require.NoError(t, err)
			require.Equal(t, []string{"two"}, event.IDs)
			break
		}
	})
}

// TestOptions hands a server's options through to both kinds.
func TestOptions(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		options.Spaces = nil
		options.Server = server.Options{AutoCreate: true}
		options.Args = []string{"--auto-create"}
		s := engramtest.Start(t, options)
		remember(t, s.Space("made"), "one", "a first thing")
		_, err := s.Space("other").Lookup(t.Context(), "one")
		var problem *engramtest.Problem
		require.ErrorAs(t, err, &problem)
		require.Equal(t, "space-not-found", problem.Slug())
	})
}

// TestCleanUp leaves no file and no process behind.
func TestCleanUp(t *testing.T) {
	var left []string
	t.Run("inner", func(t *testing.T) {
		for _, process := range []bool{false, true} {
			s := engramtest.Start(t, engramtest.Options{Process: process})
			left = append(left, s.Dir())
		}
	})
	for _, path := range left {
		_, err := os.Stat(path)
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}
