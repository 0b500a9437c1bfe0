package server

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func zip(t *testing.T, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func unzip(t *testing.T, zipped []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	require.NoError(t, err)
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	return plain
}

func TestCompressedBodies(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "/v1/spaces/alpha/memories"
	whole := string(zip(t, []byte(`{"content":"x"}`)))
	f.call("POST", target, whole, "Content-Encoding", "gzip").into(201, new(engram.Receipt))
	f.call("POST", target, `{"content":"x"}`, "Content-Encoding", "identity").into(201, new(engram.Receipt))
	require.Equal(t, 2, memoryCount(t, space))

	bomb := zip(t, bytes.Repeat([]byte(" "), maxRememberBody+1))
	require.Less(t, len(bomb), 1<<20)
	f.call("POST", target, string(bomb), "Content-Encoding", "gzip").problem(413, "body-too-large")
	for name, body := range map[string]string{
		"not compressed": `{"content":"x"}`, "empty": "", "cut": whole[:len(whole)-1],
		"wrong checksum": whole[:len(whole)-8] + "\x00\x00\x00\x00" + whole[len(whole)-4:], "followed by more": whole + "x",
	} {
		t.Run(name, func(t *testing.T) {
			f := &fixture{t: t, server: f.server}
			f.call("POST", target, body, "Content-Encoding", "gzip").problem(400, "body-incomplete")
		})
	}
	for _, encoding := range []string{"br", "gzip, gzip", "deflate"} {
		reply := f.call("POST", target, whole, "Content-Encoding", encoding)
		reply.problem(415, "unsupported-encoding")
		require.Equal(t, "gzip", reply.header.Get("Accept-Encoding"))
	}
	require.Equal(t, 2, memoryCount(t, space))
}

func TestCompressedAnswers(t *testing.T) {
	f := newFixture(t, Options{})
	remember(t, f.create("alpha"), strings.Repeat("word ", 1000))
	const target = "/v1/spaces/alpha/memories"
	plain := f.call("GET", target, "")
	require.Empty(t, plain.header.Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", plain.header.Get("Vary"))
	zipped := f.call("GET", target, "", "Accept-Encoding", "br, gzip;q=0.5")
	require.Equal(t, "gzip", zipped.header.Get("Content-Encoding"))
	require.Equal(t, plain.body, string(unzip(t, []byte(zipped.body))))
	require.Empty(t, f.call("GET", "/readyz", "", "Accept-Encoding", "gzip").header.Get("Content-Encoding"), "too short")

	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "*": true, "identity": false, "gzip;q=0": false, "gzip; q=0.0, *": false,
		"br;q=1, *;q=0.1": true, "*;q=0": false, "gzip;q=x": false, "gzipped": false,
	} {
		require.Equal(t, want, acceptsGzip([]string{header}), header)
	}
}

func TestRequestIDs(t *testing.T) {
	f := newFixture(t, Options{})
	reply := f.call("GET", "/v1/spaces/nobody", "", requestIDHeader, "mine-1.A_b")
	require.Equal(t, "mine-1.A_b", reply.header.Get(requestIDHeader))
	require.Equal(t, "urn:engram:request:mine-1.A_b", reply.problem(404, "space-not-found").Instance)
	given := map[string]bool{"": true}
	for _, id := range []string{"", "a b", "a\"b", "ü", strings.Repeat("x", maxRequestIDBytes+1)} {
		got := f.call("GET", "/readyz", "", requestIDHeader, id).header.Get(requestIDHeader)
		require.True(t, isRequestID(got))
		require.False(t, given[got], "each request has its own")
		given[got] = true
	}
	twice := f.call("GET", "/readyz", "", requestIDHeader, "a", requestIDHeader, "b").header.Get(requestIDHeader)
	require.NotContains(t, []string{"a", "b"}, twice)
}
