package server

import (
	"net/url"
	"time"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
)

// How the drivers word operations.

func isolationTime(second int) time.Time {
	return time.Date(2026, 1, 2, 0, 0, second, 0, time.UTC)
}

func isolationMemories(list []ni.Memory) []engram.Memory {
	ms := make([]engram.Memory, len(list))
	for i, m := range list {
		ms[i] = engram.Memory{ID: m.ID, Content: m.Content, Episode: m.Episode, Attributes: m.Attributes, Embedding: m.Vector}
		if m.Second > 0 {
			ms[i].Time = isolationTime(m.Second)
		}
		if m.Semantic {
			ms[i].Kind = engram.Semantic
		}
	}
	return ms
}

func isolationConfig(c ni.Config) engram.SpaceConfig {
	return engram.SpaceConfig{MaxMemories: c.MaxMemories, AutoAssociate: c.AutoAssociate}
}

func isolationFilter(f ni.Filter) engram.Filter {
	filter := engram.Filter{Episode: f.Episode, Attributes: f.Attributes}
	if f.From > 0 {
		filter.After = isolationTime(f.From)
	}
	if f.Semantic {
		filter.Kind = engram.Semantic
	}
	return filter
}

func isolationCue(op *ni.Op) engram.Cue {
	return engram.Cue{Text: op.Text, Embedding: op.Vector, IDs: op.IDs, Filter: isolationFilter(op.Filter), Limit: op.Limit}
}

// filterQuery is a filter as a listing has it.
func filterQuery(f engram.Filter) url.Values {
	query := url.Values{}
	if !f.After.IsZero() {
		query.Set("after", f.After.Format(time.RFC3339Nano))
	}
	if f.Episode != "" {
		query.Set("episode", f.Episode)
	}
	if f.Kind != "" {
		query.Set("kind", string(f.Kind))
	}
	for key, value := range f.Attributes {
		query.Add("attribute", key+":"+value)
	}
	return query
}
