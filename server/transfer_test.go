package server

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
)

func TestExportAndImport(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	for i := range 50 {
		remember(t, space, fmt.Sprint(i, strings.Repeat(" word", 500)))
	}
	var want bytes.Buffer
	seq, err := space.Export(t.Context(), &want)
	require.NoError(t, err)
	url := live(t, f)

	for _, encoding := range []string{"identity", "gzip"} {
		response := get(t, url+"/v1/spaces/alpha/export", "Accept-Encoding", encoding)
		require.Equal(t, exportType, response.Header.Get("Content-Type"))
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, fmt.Sprint(seq), response.Trailer.Get(seqTrailer))
		if encoding == "gzip" {
			require.Equal(t, "gzip", response.Header.Get("Content-Encoding"))
			require.Less(t, len(body), want.Len()/2)
			body = unzip(t, body)
		}
		require.Equal(t, want.String(), string(body))
	}

	var info engram.SpaceInfo
	f.call("POST", "/v1/spaces/beta/import", want.String()).into(201, &info)
	require.Equal(t, int64(50), info.Memories)
	f.call("POST", "/v1/spaces/gamma/import", string(zip(t, want.Bytes())), "Content-Encoding", "gzip").into(201, &info)
	require.Equal(t, int64(50), info.Memories)
	f.call("POST", "/v1/spaces/beta/import", want.String()).problem(409, "space-exists")
}

// TestFailedImportsLeaveNothing: not even the space.
func TestFailedImportsLeaveNothing(t *testing.T) {
	f := newFixture(t, Options{MaxImportBytes: 4 << 10})
	const head, good = `{"format":"engram-export","version":1,"config":{}}` + "\n", `{"content":"x"}` + "\n"
	p := f.call("POST", "/v1/spaces/alpha/import", head+good+"{}\n").problem(422, "invalid")
	require.Contains(t, p.Detail, "line 3")
	p = f.call("POST", "/v1/spaces/alpha/import", head+good+`{"association":{"from":"a","to":"b","weight":1}}`).problem(404, "memory-not-found")
	require.Contains(t, p.Detail, "line 3")
	f.call("POST", "/v1/spaces/alpha/import", "").problem(422, "invalid")
	p = f.call("POST", "/v1/spaces/alpha/import", `{"format":"engram-export","version":9}`+"\n").problem(422, "export-version")
	require.Contains(t, p.Detail, "version 9")
	f.call("POST", "/v1/spaces/alpha/import", head+strings.Repeat(good, 400)).problem(413, "body-too-large")
	bomb := zip(t, []byte(head+strings.Repeat(good, 4000)))
	require.Less(t, len(bomb), 4<<10)
	f.call("POST", "/v1/spaces/alpha/import", string(bomb), "Content-Encoding", "gzip").problem(413, "body-too-large")
	f.call("POST", "/v1/spaces/alpha/import", string(bomb[:len(bomb)/2]), "Content-Encoding", "gzip").problem(413, "body-too-large")
	whole := zip(t, []byte(head+good))
	f.call("POST", "/v1/spaces/alpha/import", string(whole[:len(whole)-4]), "Content-Encoding", "gzip").problem(400, "body-incomplete")
	f.call("POST", "/v1/spaces/alpha/import", head+good, "If-Match", "*").problem(400, "malformed-request")

	r := start(t, f)
	request := "POST /v1/spaces/alpha/import HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(head+good), head+good)
	cut := r.dial()
	r.send(cut, request)
	require.NoError(t, cut.CloseWrite())
	r.read(cut).problem(400, "body-incomplete")
	f.server.bodyTimeout = 50 * time.Millisecond
	slow := r.dial()
	r.send(slow, request)
	r.read(slow).problem(408, "body-timeout")
	require.Empty(t, f.spaces())
}

// TestNobodyWaitsForAnImport whose answer does not depend on it.
func TestNobodyWaitsForAnImport(t *testing.T) {
	scopes, err := auth.ParseScopes([]string{"copy:read,admin", "cop:read"})
	require.NoError(t, err)
	key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
	r := start(t, newFixture(t, Options{Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}}}))
	header := " HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: " + token + "\r\n"
	importing := r.dial()
	r.send(importing, "POST /v1/spaces/copy/import"+header+"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
	_, err = io.ReadFull(importing, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n")))
	require.NoError(t, err)
	asked := r.dial()
	r.send(asked, "DELETE /v1/spaces/copy"+header+"If-Match: *\r\n\r\n")
	r.read(asked).problem(400, "malformed-request")
	asked = r.dial()
	r.send(asked, "GET /v1/spaces/cop"+header+"\r\n")
	require.Empty(t, r.read(asked).problem(404, "space-not-found").Near)
	require.NoError(t, importing.CloseWrite())
	r.read(importing).problem(400, "body-incomplete")
}

// TestBrokenExportDoesNotEnd: a client must not take a part for the whole.
func TestBrokenExportDoesNotEnd(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const canary = "the last one"
	for range 20 {
		remember(t, space, strings.Repeat("x", 8<<10))
	}
	remember(t, space, canary)
	require.NoError(t, f.registry.Settle(t.Context()))
	damage(t, f.dir, canary)
	url := live(t, f)
	for _, encoding := range []string{"identity", "gzip"} {
		response := get(t, url+"/v1/spaces/alpha/export", "Accept-Encoding", encoding)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, response.Body.Close())
		if response.StatusCode != http.StatusOK { // compressed, what precedes the damage fits the buffer
			reply{t: t, status: response.StatusCode, header: response.Header, body: string(body)}.problem(500, "space-damaged")
			require.Equal(t, "gzip", encoding)
			continue
		}
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Empty(t, response.Trailer.Get(seqTrailer))
	}
}

// damage changes the text wherever a space's files have it.
func damage(t *testing.T, dir, text string) {
	t.Helper()
	found := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(content, []byte(text))
		if at < 0 {
			return nil
		}
		found++
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer func() { require.NoError(t, file.Close()) }()
		_, err = file.WriteAt([]byte("#"), int64(at))
		return err
	}))
	require.Equal(t, 1, found, "the files that have the text")
}

func TestSpaceAdministration(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	remember(t, space, "one")
	const target = "/v1/spaces/alpha"

	f.call("PUT", target+"/config", `{"max_memories":1}`).into(200, new(seqAnswer))
	f.call("PUT", target+"/config", `null`).problem(400, "malformed-body")
	var config engram.SpaceConfig
	f.call("GET", target+"/config", "").into(200, &config)
	require.Equal(t, engram.SpaceConfig{MaxMemories: 1}, config)
	f.call("POST", target+"/memories", `{"content":"x"}`).problem(429, "quota-exceeded")
	f.call("PUT", target+"/config", `{"analyzer":"plain"}`).problem(422, "invalid")

	require.NoError(t, f.registry.Settle(t.Context()))
	require.Equal(t, 204, f.call("POST", target+"/checkpoint", "").status)
	require.Equal(t, 204, f.call("POST", "/v1/settle", "").status)
	var operator engram.OperatorStats
	f.call("GET", target+"/stats/operator", "").into(200, &operator)
	require.Equal(t, space.Info().Seq, operator.CheckpointSeq)
	var content engram.ContentStats
	reply := f.call("GET", target+"/stats", "")
	reply.into(200, &content)
	require.Equal(t, space.Stats().Content, content)
	require.NotContains(t, reply.body, "segments", "what depends on the host is no tenant's")
	var registry registryStatsAnswer
	f.call("GET", "/v1/stats", "").into(200, &registry)
	require.Equal(t, 1, registry.Spaces)
	require.Zero(t, registry.Fallbacks)

	var report engram.VerifyReport
	f.call("POST", target+"/verify", "").into(200, &report)
	require.Empty(t, report.Damage)
	require.Equal(t, int64(1), report.Memories)

	var info engram.SpaceInfo
	renamed := f.call("POST", target+"/rename", `{"to":"beta"}`)
	renamed.into(200, &info)
	require.Equal(t, engram.SpaceID("beta"), info.ID)
	require.Equal(t, "/v1/spaces/beta", renamed.header.Get("Location"))
	f.call("GET", target, "").problem(404, "space-not-found")
	f.create("gamma")
	f.call("POST", "/v1/spaces/beta/rename", `{"to":"gamma"}`).problem(409, "space-exists")
	f.call("POST", "/v1/spaces/beta/rename", `{"to":"NO"}`).problem(400, "invalid-space-id")
	f.call("POST", "/v1/spaces/beta/rename", `{"to":"delta","memory_space_id":"gamma"}`).problem(400, "space-ambiguous")

	require.Equal(t, 204, f.call("DELETE", "/v1/spaces/beta", "").status)
	f.call("DELETE", "/v1/spaces/beta", "").problem(404, "space-not-found")
	require.Equal(t, []engram.SpaceID{"gamma"}, f.spaces())
}

// TestVerifyReportsDamage: damage is the answer, not a failure to give one.
func TestVerifyReportsDamage(t *testing.T) {
	f := newFixture(t, Options{})
	remember(t, f.create("alpha"), "canary text")
	require.NoError(t, f.registry.Settle(t.Context()))
	damage(t, f.dir, "canary text")
	var report engram.VerifyReport
	f.call("POST", "/v1/spaces/alpha/verify", "").into(200, &report)
	require.NotEmpty(t, report.Damage)
}
