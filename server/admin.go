package server

import (
	"net/http"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/local"
)

// ready tells a load balancer whether to send requests here.
func (s *Server) ready(x *exchange) error {
	code, status := s.readiness()
	return x.answer(code, struct {
		Status string `json:"status"`
	}{status})
}

func (s *Server) readiness() (code int, status string) {
	switch {
	case s.draining.Load():
		return http.StatusServiceUnavailable, "draining"
	case s.registry.Stats().Stopped != "":
		return http.StatusServiceUnavailable, "stopped"
	}
	return http.StatusOK, "ready"
}

// registryStatsAnswer is the answer of GET /v1/stats.
type registryStatsAnswer struct {
	engram.RegistryStats

	Streams   int64  `json:"streams"`   // of events, open
	Fallbacks uint64 `json:"fallbacks"` // requests since the start that named no space and got the default one
}

func (s *Server) registryStats(x *exchange) error {
	return x.answer(http.StatusOK, registryStatsAnswer{s.registry.Stats(), s.streams.Load(), s.fallbacks.count.Load()})
}

func (s *Server) settle(x *exchange) error {
	if err := s.registry.Settle(x.r.Context()); err != nil {
		return err
	}
	return x.answerEmpty(http.StatusNoContent)
}

func (s *Server) checkpoint(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	if err := space.Checkpoint(x.r.Context()); err != nil {
		return err
	}
	return x.answerEmpty(http.StatusNoContent)
}

// verify answers with the report also where it names damage: that is what was
// asked for.
func (s *Server) verify(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	report, err := space.Verify(x.r.Context())
	if err != nil && len(report.Damage) == 0 {
		return err
	}
	return x.answer(http.StatusOK, report)
}

// contentStats answers with what depends on nothing but the space.
func (s *Server) contentStats(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	if err := local.Wake(x.r.Context(), space); err != nil {
		return err
	}
	return x.answer(http.StatusOK, space.Stats().Content)
}

// operatorStats answers with what depends on the registry around the space. It
// wakes nothing: whether the space sleeps is part of the answer.
func (s *Server) operatorStats(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, statsOf(space).Operator)
}

// statsOf returns a space's figures for who administers it, without waking it.
// Of one that sleeps they are those that its file SPACE holds, as of the mark:
// memories, bytes, dimension, seq and mark_seq. The others are zero, and the state says why.
// Nobody without the verb admin may see them: that a space sleeps is what others do.
func statsOf(space *engram.Space) engram.SpaceStats {
	stats := space.Stats()
	if stats.Operator.State != engram.Asleep {
		return stats
	}
	info := space.Info()
	stats.Content.Memories, stats.Content.Bytes = info.Memories, info.Bytes
	stats.Content.Dimension, stats.Content.Seq = info.Dimension, info.Seq
	if info.State == engram.Asleep { // else it has woken since, and that is the seq of its last operation
		stats.Operator.MarkSeq = info.Seq
	}
	return stats
}

func (s *Server) describeConfig(x *exchange) error {
	info, err := s.selectInfo(x)
	if err != nil {
		return err
	}
	return s.answerTagged(x, s.tag(info.Incarnation, info.Seq), info.Config)
}

// configBody is a configuration.
type configBody struct {
	engram.SpaceConfig

	MemorySpaceID *string `json:"memory_space_id"`
}

func (s *Server) configure(x *exchange) error {
	var body configBody
	if err := s.decode(x, &body, maxSpaceBody); err != nil {
		return err
	}
	space, options, err := s.selectWritten(x, body.MemorySpaceID)
	if err != nil {
		return err
	}
	receipt, err := space.Configure(x.r.Context(), body.SpaceConfig, options...)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, seqAnswer{receipt.Seq})
}

// seqAnswer is the receipt of a write that is about no memory.
type seqAnswer struct {
	Seq uint64 `json:"seq"`
}
