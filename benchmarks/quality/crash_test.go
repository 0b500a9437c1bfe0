package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func TestReadAcknowledgementsKillsInTime(t *testing.T) {
	crash := &crashReport{KillAfter: 2, acknowledged: map[string]bool{}}
	kills := 0
	// The last line has no end: the kill cut it, the write may not have been acknowledged.
	err := crash.readAcknowledgements(strings.NewReader("s 1\ns 2\ns 3\ns 4"), func() error { kills++; return nil })
	require.NoError(t, err)
	require.Equal(t, 1, kills)
	require.Equal(t, goldOf("s 1", "s 2", "s 3"), crash.acknowledged)

	failed := errors.New("no such process")
	crash = &crashReport{KillAfter: 1, acknowledged: map[string]bool{}}
	require.ErrorIs(t, crash.readAcknowledgements(strings.NewReader("s 1\n"), func() error { return failed }), failed)
}

func TestCrashCount(t *testing.T) {
	memories := []engram.Memory{{ID: "1"}, {ID: "2"}, {ID: "3"}, {ID: "4"}}
	c := collection{space: "s", memories: memories}
	count := func(acknowledged []string, missing ...engram.Memory) crashReport {
		crash := crashReport{acknowledged: goldOf(acknowledged...)}
		crash.count(c, missing)
		crash.acknowledged = nil
		return crash
	}
	require.Equal(t, crashReport{Found: 3, Resumed: 1}, count([]string{"s 1", "s 2"}, memories[3]))
	require.Equal(t, crashReport{Found: 2, Resumed: 2, Lost: 1}, count([]string{"s 1", "s 2", "s 3"}, memories[2:]...))
	require.Equal(t, crashReport{Found: 3, Resumed: 1, OutOfOrder: 2}, count([]string{"s 1"}, memories[1]))
	require.Equal(t, crashReport{Found: 0, Resumed: 4}, count([]string{"other 1"}, memories...))
}

func TestFailure(t *testing.T) {
	good := func() *report {
		return &report{RestartIdentical: true, SigkillIdentical: true, Sigkill: &crashReport{}}
	}
	require.NoError(t, good().failure())
	for name, spoil := range map[string]func(*report){
		"foreign hit":  func(r *report) { r.Locomo.ForeignHits = 1 },
		"restart":      func(r *report) { r.RestartIdentical = false },
		"kill":         func(r *report) { r.SigkillIdentical = false },
		"lost":         func(r *report) { r.Sigkill.Lost = 1 },
		"out of order": func(r *report) { r.Sigkill.OutOfOrder = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			spoil(r)
			require.Error(t, r.failure())
		})
	}
}

func TestSameAnswers(t *testing.T) {
	c := &collection{space: "s"}
	of := func(rankings ...ranking) []answers { return []answers{{collection: c, rankings: rankings}} }
	a := ranking{ids: []string{"1", "2"}, activations: []float64{0.5, 0.25}}
	require.True(t, sameAnswers(of(a), of(a)))
	require.False(t, sameAnswers(of(a), of()))
	require.False(t, sameAnswers(of(a), of(ranking{ids: []string{"2", "1"}, activations: a.activations})))
	require.False(t, sameAnswers(of(a), of(ranking{ids: a.ids, activations: []float64{0.5, 0.24}})))
}
