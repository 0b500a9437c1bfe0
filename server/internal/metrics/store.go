package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/engramdb/engram"
)

// storeMetrics are the figures of the store: read when they are asked for.
var storeMetrics = [...]struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(engram.RegistryStats) float64
}{
	{describe("engram_spaces", "Spaces that exist."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 { return float64(s.Spaces) }},
	{describe("engram_spaces_awake", "Spaces that are loaded."), prometheus.GaugeValue, func(s engram.RegistryStats) float64 { return float64(s.Awake) }},
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

// storeCollector implements [prometheus.Collector].
type storeCollector struct {
	stats func() engram.RegistryStats
}

func (c storeCollector) Describe(out chan<- *prometheus.Desc) {
	for i := range storeMetrics {
		out <- storeMetrics[i].desc
	}
}

func (c storeCollector) Collect(out chan<- prometheus.Metric) {
	stats := c.stats()
	for i := range storeMetrics {
		m := &storeMetrics[i]
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(stats))
	}
}
