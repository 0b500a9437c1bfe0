package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/engramdb/engram"
)

// figure is one metric of many that are read together.
type figure[Of any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Of) float64
}

// storeFigures are those of the store.
var storeFigures = []figure[engram.RegistryStats]{
	{describe("engram_spaces", "Spaces that exist."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 { return float64(s.Spaces) }},
	{describe("engram_spaces_awake", "Spaces that are loaded."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 { return float64(s.Awake) }},
	{describe("engram_spaces_awake_bytes", "Memory that these take, as estimated."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 { return float64(s.AwakeBytes) }},
	{describe("engram_space_wakings_total", "Sleeping spaces that were woken."), prometheus.CounterValue, func(s engram.RegistryStats) float64 { return float64(s.Wakings) }},
	{describe("engram_journal_bytes", "Bytes in the journal's current file."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 { return float64(s.JournalBytes) }},
	{describe("engram_journal_files", "Files of the journal."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 { return float64(s.JournalFiles) }},
	{describe("engram_journal_groups_total", "Groups of frames that were committed."), prometheus.CounterValue, func(s engram.RegistryStats) float64 { return float64(s.Groups) }},
	{describe("engram_journal_frames_total", "Frames that were committed."), prometheus.CounterValue, func(s engram.RegistryStats) float64 { return float64(s.Frames) }},
	{describe("engram_journal_flushes_total", "Flushes of the journal."), prometheus.CounterValue, func(s engram.RegistryStats) float64 { return float64(s.Flushes) }},
	{describe("engram_writes_stopped", "1 if all writes are refused because the device failed."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 {
		if s.Stopped != "" {
			return 1
		}
		return 0
	}},
}

func describe(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

// UnderWay is what clients have under way.
type UnderWay struct {
	Connections int64
	Refused     uint64 // connections, since the start
	Requests    int64  // streams among them
	BodyBytes   int64
}

// underWayFigures are those of what clients have under way.
var underWayFigures = []figure[UnderWay]{
	{describe("engram_connections", "Connections of clients."), prometheus.GaugeValue, func(u UnderWay) float64 { return float64(u.Connections) }},
	{describe("engram_connections_refused_total", "Connections that were closed at once because there were too many."), prometheus.CounterValue, func(u UnderWay) float64 { return float64(u.Refused) }},
	{describe("engram_requests_under_way", "Requests under way, streams among them."), prometheus.GaugeValue, func(u UnderWay) float64 { return float64(u.Requests) }},
	{describe("engram_body_bytes", "Bytes of bodies of requests under way, and of what reads are answered with."), prometheus.GaugeValue, func(u UnderWay) float64 { return float64(u.BodyBytes) }},
}

// collector implements [prometheus.Collector] by figures that are read when they are
// asked for.
type collector[Of any] struct {
	figures []figure[Of]
	read    func() Of
}

func (c collector[Of]) Describe(out chan<- *prometheus.Desc) {
	for i := range c.figures {
		out <- c.figures[i].desc
	}
}

func (c collector[Of]) Collect(out chan<- prometheus.Metric) {
	now := c.read()
	for i := range c.figures {
		f := &c.figures[i]
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(now))
	}
}
