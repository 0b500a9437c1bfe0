package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/engramdb/engram"
)

// costReport is what the data sets cost in the run that measured their quality.
// What is counted per memory includes what the spaces themselves cost.
type costReport struct {
	Memories  int   `json:"memories"`
	Spaces    int   `json:"spaces"`
	TextBytes int64 `json:"text_bytes"` // of all contents

	// Loading is durable: batches of engram.MaxBatch, one after another.
	LoadSeconds       float64 `json:"load_seconds"`
	MemoriesPerSecond float64 `json:"memories_per_second"`

	HeapWritten   float64 `json:"heap_bytes_per_memory_written"` // right after loading
	HeapWoken     float64 `json:"heap_bytes_per_memory_woken"`   // of spaces that were woken from disk
	DiskPerMemory float64 `json:"disk_bytes_per_memory"`         // of the spaces' files, after closing
	JournalBytes  int64   `json:"journal_bytes"`                 // of the files around them, whatever the memories
	Locomo        latency `json:"recall_locomo"`
	Cranfield     latency `json:"recall_cranfield"`
}

// latency is how long recalls took, with engram.DefaultLimit, one after another.
type latency struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean_us"`
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
}

func latencyOf(durations []time.Duration) latency {
	if len(durations) == 0 {
		return latency{}
	}
	sorted := slices.Sorted(slices.Values(durations))
	total := time.Duration(0)
	for _, d := range sorted {
		total += d
	}
	microseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return latency{
		N:    len(sorted),
		Mean: microseconds(total) / float64(len(sorted)),
		P50:  microseconds(sorted[(len(sorted)-1)/2]),
		P99:  microseconds(sorted[(len(sorted)-1)*99/100]),
	}
}

func newCostReport(collections []collection) *costReport {
	c := &costReport{Spaces: len(collections)}
	for _, one := range collections {
		c.Memories += len(one.memories)
		for _, m := range one.memories {
			c.TextBytes += int64(len(m.Content))
		}
	}
	return c
}

// load brings the registry to hold the collections, and notes what that takes.
func (c *costReport) load(ctx context.Context, registry *engram.Registry, collections []collection) error {
	before, start := heapBytes(), time.Now()
	if err := load(ctx, registry, collections); err != nil {
		return err
	}
	c.LoadSeconds = time.Since(start).Seconds()
	c.MemoriesPerSecond = float64(c.Memories) / c.LoadSeconds
	c.HeapWritten = float64(heapBytes()-before) / float64(c.Memories)
	return nil
}

// wake wakes every space, and notes what they then hold.
func (c *costReport) wake(ctx context.Context, registry *engram.Registry, collections []collection) error {
	before := heapBytes()
	for _, one := range collections {
		space, err := registry.Get(ctx, one.space)
		if err != nil {
			return err
		}
		if _, err := space.Recall(ctx, engram.Cue{Text: one.questions[0].text}); err != nil {
			return err
		}
	}
	c.HeapWoken = float64(heapBytes()-before) / float64(c.Memories)
	return nil
}

func (c *costReport) loadAndAsk(ctx context.Context, dir string, collections []collection) (all []answers, err error) {
	err = withRegistry(dir, func(registry *engram.Registry) error {
		if err := c.load(ctx, registry, collections); err != nil {
			return err
		}
		all, err = askAll(ctx, registry, collections, asText)
		return err
	})
	return all, err
}

// reopenAndAsk asks again, and how long it takes: LoCoMo is all collections but
// the last.
func (c *costReport) reopenAndAsk(ctx context.Context, dir string, collections []collection) (all []answers, err error) {
	err = withRegistry(dir, func(registry *engram.Registry) error {
		if err := c.wake(ctx, registry, collections); err != nil {
			return err
		}
		if all, err = askAll(ctx, registry, collections, asText); err != nil {
			return err
		}
		locomo, cranfield := collections[:len(collections)-1], collections[len(collections)-1:]
		if c.Locomo, err = timeRecalls(ctx, registry, locomo, upTo(engram.DefaultLimit, asText)); err != nil {
			return err
		}
		c.Cranfield, err = timeRecalls(ctx, registry, cranfield, upTo(engram.DefaultLimit, asText))
		return err
	})
	return all, errors.Join(err, c.disk(dir, collections))
}

// timeRecalls asks all questions for what a recall returns by default.
func timeRecalls(ctx context.Context, registry *engram.Registry, collections []collection, ask asking) (latency, error) {
	var durations []time.Duration
	for _, one := range collections {
		space, err := registry.Get(ctx, one.space)
		if err != nil {
			return latency{}, err
		}
		for _, q := range one.questions {
			cue := ask(q.text)
			start := time.Now()
			if _, err := space.Recall(ctx, cue); err != nil {
				return latency{}, err
			}
			durations = append(durations, time.Since(start))
		}
	}
	return latencyOf(durations), nil
}

// disk notes what the closed registry's files hold.
func (c *costReport) disk(dir string, collections []collection) error {
	spaces := int64(0)
	for _, one := range collections {
		bytes, err := bytesIn(filepath.Join(dir, string(one.space)))
		if err != nil {
			return err
		}
		spaces += bytes
	}
	all, err := bytesIn(dir)
	c.DiskPerMemory, c.JournalBytes = float64(spaces)/float64(c.Memories), all-spaces
	return err
}

// bytesIn is the length of all files below dir.
func bytesIn(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

// heapBytes is what the heap holds once everything unreachable is gone: pools
// give up what they keep at the second collection.
func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
