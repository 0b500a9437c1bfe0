package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"

	"go.uber.org/zap"
)

// Names of the transports, in metrics and traces.
const (
	transportHTTP = "http"
	transportGRPC = "grpc"
	transportMCP  = "mcp"
)

// AdminHandler answers what is for the operator alone: /metrics (Prometheus: figures of
// the server, its registry and the process), /livez, /readyz, and with profiles the
// ones of net/http/pprof, which show what is in memory. It asks nobody for credentials.
func (s *Server) AdminHandler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.Handler())
	// Reading the figures takes the locks that a request takes first: a server
	// that is stuck does not answer.
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		s.registry.Stats()
		answerPlain(w, http.StatusOK, "live")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		code, status := s.readiness()
		answerPlain(w, code, status)
	})
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.checkHost(r) != nil { // a web page with a name of its own for this address
			answerPlain(w, http.StatusMisdirectedRequest, "the server does not answer to the host that was asked")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func answerPlain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // who asked has left
}

// ServeAdmin answers the operator's requests on a listener, which it closes,
// until ctx ends.
func (s *Server) ServeAdmin(ctx context.Context, listener net.Listener, profiles bool) error {
	web := &http.Server{
		Handler:           s.AdminHandler(profiles),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          zap.NewStdLog(s.options.Logger.Named("admin")),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve admin: %w", errors.Join(err, web.Close()))
	case <-ctx.Done():
	}
	err := web.Close()
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve admin: %w", end))
	}
	return err
}
