package server

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// timedWriter notes how much is written within each of its time-outs.
type timedWriter struct {
	*httptest.ResponseRecorder

	parts []int
}

func (w *timedWriter) SetWriteDeadline(time.Time) error {
	w.parts = append(w.parts, 0)
	return nil
}

func (w *timedWriter) SetReadDeadline(time.Time) error { return nil }

func (w *timedWriter) Write(p []byte) (int, error) {
	w.parts[len(w.parts)-1] += len(p)
	return w.ResponseRecorder.Write(p)
}

// TestEachPartOfAnAnswerHasItsTime: a client that takes a long answer slowly gets it.
func TestEachPartOfAnAnswerHasItsTime(t *testing.T) {
	f := newFixture(t, Options{})
	content := strings.Repeat("long ", engram.MaxContentBytes/5)
	_, err := f.create("alpha").Remember(t.Context(), engram.Memory{ID: "long", Content: content})
	require.NoError(t, err)
	for name, request := range map[string][3]string{
		"lookup": {"GET", "/v1/spaces/alpha/memories/long"},
		"list":   {"GET", "/v1/spaces/alpha/memories"},
		"recall": {"POST", "/v1/spaces/alpha/recall", `{"ids":["long"],"text":"long"}`},
		"export": {"GET", "/v1/spaces/alpha/export"},
		"tool": {
			"POST", "/mcp?space=alpha",
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","arguments":{}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(request[0], request[1], strings.NewReader(request[2]))
			r.Host = "localhost"
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			w := &timedWriter{ResponseRecorder: httptest.NewRecorder()}
			f.server.ServeHTTP(w, r)
			require.Equal(t, 200, w.Code)
			require.Greater(t, w.Body.Len(), len(content))
			for _, part := range w.parts {
				require.LessOrEqual(t, part, partBytes)
			}
		})
	}
}
