package engram

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	ni "github.com/engramdb/engram/internal/noninterference"
)

// How the library's driver words operations and answers.

// noWait is a context of a subscription that ends where it would wait. So what
// is there can be read, however much that is.
type noWait struct {
	context.Context
	waited bool
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (c *noWait) Done() <-chan struct{} {
	c.waited = true
	return closedChannel
}

func (c *noWait) Err() error {
	if c.waited {
		return context.Canceled
	}
	return nil
}

// isolationErrors are the classes of error, by name.
var isolationErrors = map[string]error{
	"closed": ErrClosed, "read-only": ErrReadOnly, "stopped": ErrStopped, "unknown outcome": ErrUnknownOutcome,
	"disk full": ErrDiskFull, "busy": ErrBusy, "invalid id": ErrInvalidSpaceID, "exists": ErrSpaceExists,
	"no space": ErrSpaceNotFound, "deleted": ErrSpaceDeleted, "wrong space": ErrWrongSpace, "no memory": ErrMemoryNotFound,
	"invalid": ErrInvalid, "limit": ErrLimit, "quota": ErrQuota, "conflict": ErrConflict, "trimmed": ErrTrimmed,
	"reused": ErrRequestReused, "corrupt": ErrCorrupt, "foreign": ErrForeign, "version": ErrVersion, "canceled": context.Canceled,
}

var isolationErrorNames = slices.Sorted(maps.Keys(isolationErrors))

// shown is an answer as it is compared: every field of it, or the error with its
// text and all classes that it matches.
func shown(answer any, err error) string {
	if err != nil {
		text := "error " + err.Error()
		for _, name := range isolationErrorNames {
			if errors.Is(err, isolationErrors[name]) {
				text += "; " + name
			}
		}
		answer = []any{text, answer}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func isolationMemories(list []ni.Memory) []Memory {
	ms := make([]Memory, len(list))
	for i, m := range list {
		ms[i] = Memory{ID: m.ID, Content: m.Content, Episode: m.Episode, Attributes: m.Attributes, Embedding: m.Vector}
		if m.Second > 0 {
			ms[i].Time = goldenTime(m.Second)
		}
		if m.Semantic {
			ms[i].Kind = Semantic
		}
	}
	return ms
}

func isolationOptions(op *ni.Op) []WriteOption {
	var opts []WriteOption
	if op.Request != "" {
		opts = append(opts, RequestID(op.Request))
	}
	if op.Expect > 0 {
		opts = append(opts, ExpectSeq(op.Expect))
	}
	return opts
}

func isolationConfig(c ni.Config) SpaceConfig {
	return SpaceConfig{MaxMemories: c.MaxMemories, AutoAssociate: c.AutoAssociate}
}

func isolationFilter(f ni.Filter) Filter {
	filter := Filter{Episode: f.Episode, Attributes: f.Attributes}
	if f.From > 0 {
		filter.After = goldenTime(f.From)
	}
	if f.Semantic {
		filter.Kind = Semantic
	}
	return filter
}

func isolationCue(op *ni.Op) Cue {
	return Cue{Text: op.Text, Embedding: op.Vector, IDs: op.IDs, Filter: isolationFilter(op.Filter), Limit: op.Limit}
}

func listed(s *Space, f Filter) string {
	var ms []Memory
	for m, err := range s.Memories(background, f) {
		if err != nil {
			return shown(ms, err)
		}
		ms = append(ms, m)
	}
	return shown(ms, nil)
}
