package server

import (
	"context"

	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// adminService answers the RPCs of the registry's operator. What it is called
// with has been admitted.
type adminService struct {
	engramv1.UnsafeAdminServiceServer

	s *Server
}

// Checkpoint writes a space's indexes to disk.
func (a adminService) Checkpoint(
	ctx context.Context, _ *engramv1.CheckpointRequest,
) (*engramv1.CheckpointResponse, error) {
	space, err := a.s.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := space.Checkpoint(ctx); err != nil {
		return nil, err
	}
	return &engramv1.CheckpointResponse{}, nil
}

// Settle empties the journal.
func (a adminService) Settle(ctx context.Context, _ *engramv1.SettleRequest) (*engramv1.SettleResponse, error) {
	if err := a.s.registry.Settle(ctx); err != nil {
		return nil, err
	}
	return &engramv1.SettleResponse{}, nil
}

// Verify answers with the report also where it names damage: that is what was
// asked for.
func (a adminService) Verify(ctx context.Context, _ *engramv1.VerifyRequest) (*engramv1.VerifyResponse, error) {
	space, err := a.s.open(ctx)
	if err != nil {
		return nil, err
	}
	report, err := space.Verify(ctx)
	if err != nil && len(report.Damage) == 0 {
		return nil, err
	}
	return &engramv1.VerifyResponse{Report: wire.FromVerifyReport(report)}, nil
}

// Stats returns the figures of a space, and does not wake it.
func (a adminService) Stats(ctx context.Context, _ *engramv1.StatsRequest) (*engramv1.StatsResponse, error) {
	space, err := a.s.open(ctx)
	if err != nil {
		return nil, err
	}
	return wire.FromSpaceStats(statsOf(space)), nil
}

// RegistryStats returns the figures of the registry.
func (a adminService) RegistryStats(
	context.Context, *engramv1.RegistryStatsRequest,
) (*engramv1.RegistryStatsResponse, error) {
	return &engramv1.RegistryStatsResponse{Stats: wire.FromRegistryStats(a.s.registry.Stats())}, nil
}
