package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTraceSettings: the variables of OpenTelemetry count as the environment,
// after the server's own.
func TestTraceSettings(t *testing.T) {
	sh := newShell(t)
	path := writeFile(t, "trace-endpoint: http://file.example:4318\ntrace-ratio: 0.25\n")
	got := sh.settings("--config", path)
	require.Equal(t, settingItem{"trace-endpoint", "http://file.example:4318", fromFile}, got["trace-endpoint"])
	require.Equal(t, settingItem{"trace-ratio", "0.25", fromFile}, got["trace-ratio"])
	require.Equal(t, settingItem{"trace-endpoint", "", fromDefault}, sh.settings()["trace-endpoint"])

	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base.example:4318/to/")
	require.Equal(t, settingItem{"trace-endpoint", "http://base.example:4318/to/v1/traces", fromEnvironment}, sh.settings("--config", path)["trace-endpoint"])
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces.example:4318/here")
	require.Equal(t, settingItem{"trace-endpoint", "http://traces.example:4318/here", fromEnvironment}, sh.settings()["trace-endpoint"])
	t.Setenv("ENGRAM_TRACE_ENDPOINT", "off")
	require.Equal(t, settingItem{"trace-endpoint", "off", fromEnvironment}, sh.settings()["trace-endpoint"])
	require.Equal(t, settingItem{"trace-endpoint", "http://flag.example:1", fromFlag}, sh.settings("--trace-endpoint", "http://flag.example:1")["trace-endpoint"])
}

func TestTraceRefusals(t *testing.T) {
	sh := newShell(t)
	for _, command := range [][]string{{"config", "check"}, {"serve"}} {
		for settings, text := range map[string]string{
			"trace-ratio: 1.5":                      "0 to 1",
			"trace-ratio: NaN":                      "0 to 1",
			"trace-endpoint: 127.0.0.1:4318":        "must look like",
			"trace-endpoint: grpc://127.0.0.1:4317": "must look like",
			"trace-endpoint: http://me:secret@x:1":  "OTEL_EXPORTER_OTLP_HEADERS",
		} {
			r := sh.run(append(command, "--config", writeFile(t, settings))...).failed(text)
			require.NotContains(t, r.out+r.err, "secret")
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	sh.run("config", "check").ok() // nothing is sent
	sh.run("config", "check", "--trace-endpoint", "http://127.0.0.1:4318").failed("http/protobuf only")
	require.NoDirExists(t, sh.dir)
}

// TestServeTraces: a collector that is named gets spans before the server has
// ended, with the header fields that the environment names, and one that is not
// named gets none.
func TestServeTraces(t *testing.T) {
	var posts, admitted atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		if r.URL.Path == "/v1/traces" && r.Header.Get("Collector-Key") == "secret" {
			admitted.Add(1)
		}
	}))
	defer collector.Close()
	for setting, expected := range map[string]bool{collector.URL: true, "off": false, "": false} {
		sh := newShell(t)
		posts.Store(0)
		admitted.Store(0)
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Collector-Key=secret")
		ctx, stop := context.WithCancel(t.Context())
		out, printed := io.Pipe()
		code := make(chan int, 1)
		var logged lockedBuffer
		go func() {
			code <- newApp(strings.NewReader(""), printed, &logged).run(ctx,
				[]string{"serve", "--data", sh.dir, "--http", "127.0.0.1:0", "--grpc", "off", "--trace-endpoint", setting})
		}()
		status, _ := post(t, announced(t, out)+"/v1/spaces", `{"id":"alpha"}`)
		require.Equal(t, http.StatusCreated, status)
		stop()
		require.Equal(t, exitOK, <-code, logged.String())
		require.Equal(t, expected, posts.Load() > 0, setting)
		require.Equal(t, posts.Load(), admitted.Load(), setting)
		require.NotContains(t, logged.String(), "secret")
	}
}
