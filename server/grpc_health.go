package server

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram/server/engramv1"
)

// healthInterval is how soon a watcher hears of a device that failed.
const healthInterval = time.Second

// healthService says what readyz says.
type healthService struct {
	grpc_health_v1.UnsafeHealthServer

	s *Server
}

func (h healthService) state() *grpc_health_v1.HealthCheckResponse {
	if code, _ := h.s.readiness(); code != http.StatusOK {
		return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}
}

// healthNames are the services whose health may be asked for. They share one.
func healthNames() []string {
	return []string{
		"", engramv1.MemoryService_ServiceDesc.ServiceName,
		engramv1.SpaceService_ServiceDesc.ServiceName, engramv1.AdminService_ServiceDesc.ServiceName,
	}
}

func checkHealthName(asked string) error {
	for _, name := range healthNames() {
		if name == asked {
			return nil
		}
	}
	return status.Error(codes.NotFound, "unknown service") // as the health protocol has it
}

// Check implements the health protocol.
func (h healthService) Check(
	_ context.Context, request *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	if err := checkHealthName(request.GetService()); err != nil {
		return nil, err
	}
	return h.state(), nil
}

// List implements the health protocol.
func (h healthService) List(
	context.Context, *grpc_health_v1.HealthListRequest,
) (*grpc_health_v1.HealthListResponse, error) {
	statuses := map[string]*grpc_health_v1.HealthCheckResponse{}
	for _, name := range healthNames() {
		statuses[name] = h.state()
	}
	return &grpc_health_v1.HealthListResponse{Statuses: statuses}, nil
}

// Watch implements the health protocol. It ends when the server drains, after
// saying so.
func (h healthService) Watch(
	request *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse],
) error {
	if err := checkHealthName(request.GetService()); err != nil {
		return stream.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN})
	}
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	last := grpc_health_v1.HealthCheckResponse_UNKNOWN
	for {
		if now := h.state(); now.GetStatus() != last {
			last = now.GetStatus()
			if err := stream.Send(now); err != nil {
				return err
			}
		}
		if h.s.draining.Load() {
			return nil
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-h.s.drained.Done():
		case <-tick.C:
		}
	}
}
