package engram

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRegistryEvents(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	create(t, r, "before")
	stream := r.Events(background)
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "x", Content: "y"})
	_, err := r.Create(background, "alpha", SpaceConfig{})
	require.ErrorIs(t, err, ErrSpaceExists)
	imported(t, r, "beta", importHeader)
	_, err = r.Import(background, "gamma", &countingReader{then: func(int) error { return errors.New("broken") }})
	require.Error(t, err)
	require.NoError(t, r.Rename(background, "beta", "delta"))
	require.NoError(t, r.Delete(background, "delta"))
	m.flipOpen("alpha/wal/00000001.wal", 250)
	for range 2 {
		_, err = s.Verify(background)
		require.ErrorIs(t, err, ErrCorrupt)
	}
	require.NoError(t, r.Close())
	var got []SpaceEvent
	for e, err := range stream {
		if err != nil {
			require.ErrorIs(t, err, ErrClosed)
			break
		}
		got = append(got, e)
	}
	require.NotEmpty(t, got[4].Reason)
	got[4].Reason = ""
	require.Equal(t, []SpaceEvent{
		{Kind: SpaceCreated, Space: "alpha"},
		{Kind: SpaceCreated, Space: "beta"},
		{Kind: SpaceRenamed, Space: "delta", From: "beta"},
		{Kind: SpaceDeleted, Space: "delta"},
		{Kind: SpaceQuarantined, Space: "alpha"},
	}, got)

	r = openMemory(t, m, Options{})
	next, stop := iter.Pull2(r.Events(background))
	defer stop()
	for range 2 { // it is woken twice
		require.Equal(t, Quarantined, infoOf(t, get(t, r, "alpha")).State)
		asleep(t, get(t, r, "alpha"))
	}
	create(t, r, "epsilon")
	e, err, _ := next()
	require.NoError(t, err)
	require.Equal(t, SpaceQuarantined, e.Kind)
	e, err, _ = next()
	require.NoError(t, err)
	require.Equal(t, SpaceEvent{Kind: SpaceCreated, Space: "epsilon"}, e)
	require.NoError(t, r.Close())
}

// Whoever finds a space damaged has that reported, also who does not load it, or cannot.
func TestDamageFoundBySomebodyIsReported(t *testing.T) {
	damages := map[string]func(m *memoryFS){
		"SPACE is missing": func(m *memoryFS) { m.put("alpha/"+spaceFile, nil) },
		"all is missing": func(m *memoryFS) {
			root, err := m.OpenDir("", false)
			require.NoError(t, err)
			require.NoError(t, removeTree(root, "alpha"))
		},
	}
	finders := map[string]func(r *Registry, s *Space) error{
		"info": func(r *Registry, _ *Space) error {
			_, err := r.Info(background, "alpha")
			return err
		},
		"lookup": func(_ *Registry, s *Space) error {
			_, err := s.Lookup(background, "m")
			return err
		},
	}
	for damage, do := range damages {
		for finder, find := range finders {
			t.Run(damage+", "+finder, func(t *testing.T) {
				m := newMemoryFS()
				r := openMemory(t, m, Options{})
				s := create(t, r, "alpha")
				asleep(t, s)
				do(m)
				next, stop := iter.Pull2(r.Events(background))
				defer stop()
				for range 2 {
					require.ErrorIs(t, find(r, s), ErrCorrupt)
				}
				create(t, r, "beta")
				e, err, _ := next()
				require.NoError(t, err)
				require.Equal(t, SpaceQuarantined, e.Kind)
				require.Equal(t, SpaceID("alpha"), e.Space)
				require.NotEmpty(t, e.Reason)
				e, err, _ = next()
				require.NoError(t, err)
				require.Equal(t, SpaceEvent{Kind: SpaceCreated, Space: "beta"}, e)
				require.NoError(t, r.Close())
			})
		}
	}
}

// Who lags is told, and holds nobody up; who does not sees everything.
func TestRegistryEventsLag(t *testing.T) {
	r := openMemory(t, newMemoryFS(), Options{})
	slow, stop := iter.Pull2(r.Events(background))
	defer stop()
	edge := r.Events(background)
	var quick sync.WaitGroup
	stream := r.Events(background)
	quick.Go(func() {
		seen := 0
		for e, err := range stream {
			require.NoError(t, err)
			require.Equal(t, SpaceID(fmt.Sprintf("space-%d", seen/2)), e.Space)
			if seen++; seen == keptSpaceEvents {
				return
			}
		}
	})
	for i := range keptSpaceEvents / 2 {
		id := SpaceID(fmt.Sprintf("space-%d", i))
		create(t, r, id)
		require.NoError(t, r.Delete(background, id))
	}
	quick.Wait()
	for e, err := range edge { // as many as are kept
		require.NoError(t, err)
		require.Equal(t, SpaceEvent{Kind: SpaceCreated, Space: "space-0"}, e)
		break
	}
	create(t, r, "one-more")
	_, err, _ := slow()
	require.ErrorIs(t, err, ErrLagged)

	ctx, cancel := context.WithCancel(background)
	ended := make(chan error)
	waiting := r.Events(ctx)
	go func() {
		for _, err := range waiting {
			ended <- err
		}
	}()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.NoError(t, r.Close())
}
