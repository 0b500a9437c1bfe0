// Package wire translates between the library's types and the messages of the
// protocol. Server and client share it, so that what one writes the other reads.
//
// Slices and maps are handed over, not copied.
package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// FromTime returns the message of a time, none of the zero time.
func FromTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// ToTime returns the time of a message in UTC, the zero time of none. What is no
// valid timestamp, or the zero time itself, is an InvalidError of the field.
func ToTime(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if !t.IsValid() {
		return time.Time{}, &engram.InvalidError{Field: field, Reason: "is not a valid timestamp"}
	}
	if t.AsTime().IsZero() { // a condition that would not narrow
		return time.Time{}, &engram.InvalidError{Field: field, Reason: "is the zero time, which stands for none"}
	}
	return t.AsTime(), nil
}

// FromMemory returns the message of a memory.
func FromMemory(m *engram.Memory) *engramv1.Memory {
	return &engramv1.Memory{
		Id: m.ID, Content: m.Content, Time: FromTime(m.Time), Episode: m.Episode,
		Attributes: m.Attributes, Embedding: m.Embedding, Confidence: m.Confidence,
		Kind: string(m.Kind), Space: string(m.Space), Seq: m.Seq, StoredAt: FromTime(m.StoredAt),
	}
}

// ToMemory returns the memory of a message, the zero one of none.
func ToMemory(m *engramv1.Memory) (engram.Memory, error) {
	when, err := ToTime("time", m.GetTime())
	if err != nil {
		return engram.Memory{}, err
	}
	stored, err := ToTime("stored_at", m.GetStoredAt())
	if err != nil {
		return engram.Memory{}, err
	}
	return engram.Memory{
		ID: m.GetId(), Content: m.GetContent(), Time: when, Episode: m.GetEpisode(),
		Attributes: m.GetAttributes(), Embedding: m.GetEmbedding(), Confidence: m.GetConfidence(),
		Kind: engram.Kind(m.GetKind()), Space: engram.SpaceID(m.GetSpace()), Seq: m.GetSeq(), StoredAt: stored,
	}, nil
}

// FromReceipt returns the message of a receipt.
func FromReceipt(r engram.Receipt) *engramv1.Receipt {
	return &engramv1.Receipt{Id: r.ID, Seq: r.Seq}
}

// ToReceipt returns the receipt of a message.
func ToReceipt(r *engramv1.Receipt) engram.Receipt {
	return engram.Receipt{ID: r.GetId(), Seq: r.GetSeq()}
}

// FromForgetReceipt returns the message of a receipt.
func FromForgetReceipt(r engram.ForgetReceipt) *engramv1.ForgetReceipt {
	return &engramv1.ForgetReceipt{Seq: r.Seq, Forgotten: int64(r.Forgotten)}
}

// ToForgetReceipt returns the receipt of a message.
func ToForgetReceipt(r *engramv1.ForgetReceipt) engram.ForgetReceipt {
	return engram.ForgetReceipt{Seq: r.GetSeq(), Forgotten: int(r.GetForgotten())}
}

// FromFilter returns the message of a filter.
func FromFilter(f engram.Filter) *engramv1.Filter {
	return &engramv1.Filter{
		After: FromTime(f.After), Before: FromTime(f.Before), Episode: f.Episode,
		Attributes: f.Attributes, Kind: string(f.Kind),
	}
}

// ToFilter returns the filter of a message, the empty one of none.
func ToFilter(f *engramv1.Filter) (engram.Filter, error) {
	after, err := ToTime("filter.after", f.GetAfter())
	if err != nil {
		return engram.Filter{}, err
	}
	before, err := ToTime("filter.before", f.GetBefore())
	if err != nil {
		return engram.Filter{}, err
	}
	return engram.Filter{
		After: after, Before: before, Episode: f.GetEpisode(),
		Attributes: f.GetAttributes(), Kind: engram.Kind(f.GetKind()),
	}, nil
}

// FromAssociation returns the message of an association.
func FromAssociation(a engram.Association) *engramv1.Association {
	return &engramv1.Association{From: a.From, To: a.To, Kind: a.Kind, Weight: a.Weight}
}

// ToAssociation returns the association of a message.
func ToAssociation(a *engramv1.Association) engram.Association {
	return engram.Association{From: a.GetFrom(), To: a.GetTo(), Kind: a.GetKind(), Weight: a.GetWeight()}
}

// FromConfig returns the message of a configuration.
func FromConfig(c engram.SpaceConfig) *engramv1.SpaceConfig {
	return &engramv1.SpaceConfig{
		MaxMemories: c.MaxMemories, MaxBytes: c.MaxBytes, TextK1: c.TextK1, TextB: c.TextB,
		AutoAssociate: int64(c.AutoAssociate), Analyzer: string(c.Analyzer),
	}
}

// ToConfig returns the configuration of a message, the default of none.
func ToConfig(c *engramv1.SpaceConfig) engram.SpaceConfig {
	return engram.SpaceConfig{
		MaxMemories: c.GetMaxMemories(), MaxBytes: c.GetMaxBytes(), TextK1: c.GetTextK1(), TextB: c.GetTextB(),
		AutoAssociate: int(c.GetAutoAssociate()), Analyzer: engram.Analyzer(c.GetAnalyzer()),
	}
}

// FromEvent returns the message of an event.
func FromEvent(e *engram.Event) *engramv1.Event {
	message := &engramv1.Event{
		Seq: e.Seq, Kind: string(e.Kind), Time: FromTime(e.Time), Ids: e.IDs, FrameLast: e.FrameLast,
		Version: e.Version, Embedder: e.Embedder,
	}
	if e.Memory != nil {
		message.Memory = FromMemory(e.Memory)
	}
	if e.Filter != nil {
		message.Filter = FromFilter(*e.Filter)
	}
	if e.Config != nil {
		message.Config = FromConfig(*e.Config)
	}
	if e.Association != nil {
		message.Association = FromAssociation(*e.Association)
	}
	return message
}

// ToEvent returns the event of a message.
func ToEvent(e *engramv1.Event) (engram.Event, error) {
	when, err := ToTime("time", e.GetTime())
	if err != nil {
		return engram.Event{}, err
	}
	event := engram.Event{
		Seq: e.GetSeq(), Kind: engram.EventKind(e.GetKind()), Time: when, IDs: e.GetIds(), FrameLast: e.GetFrameLast(),
		Version: e.GetVersion(), Embedder: e.GetEmbedder(),
	}
	if e.GetMemory() != nil {
		memory, err := ToMemory(e.GetMemory())
		if err != nil {
			return engram.Event{}, err
		}
		event.Memory = &memory
	}
	if e.GetFilter() != nil {
		filter, err := ToFilter(e.GetFilter())
		if err != nil {
			return engram.Event{}, err
		}
		event.Filter = &filter
	}
	if e.GetConfig() != nil {
		config := ToConfig(e.GetConfig())
		event.Config = &config
	}
	if e.GetAssociation() != nil {
		association := ToAssociation(e.GetAssociation())
		event.Association = &association
	}
	return event, nil
}

// FromInfo returns the message of a space's description.
func FromInfo(i engram.SpaceInfo) *engramv1.SpaceInfo {
	return &engramv1.SpaceInfo{
		Id: string(i.ID), Incarnation: i.Incarnation, Created: FromTime(i.Created), Config: FromConfig(i.Config),
		Dimension: int64(i.Dimension), Memories: i.Memories, Bytes: i.Bytes, Seq: i.Seq, State: string(i.State),
	}
}

// ToInfo returns the description of a message.
func ToInfo(i *engramv1.SpaceInfo) (engram.SpaceInfo, error) {
	created, err := ToTime("created", i.GetCreated())
	if err != nil {
		return engram.SpaceInfo{}, err
	}
	return engram.SpaceInfo{
		ID: engram.SpaceID(i.GetId()), Incarnation: i.GetIncarnation(), Created: created, Config: ToConfig(i.GetConfig()),
		Dimension: int(i.GetDimension()), Memories: i.GetMemories(), Bytes: i.GetBytes(), Seq: i.GetSeq(),
		State: engram.SpaceState(i.GetState()),
	}, nil
}

// fromDuration returns the message of a duration, none of zero.
func fromDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
