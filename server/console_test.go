package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/server/internal/console"
)

// TestConsoleFiles: each is served as it is, to everybody, with the policy.
func TestConsoleFiles(t *testing.T) {
	_, gate := callers(t)
	f := newFixture(t, Options{Auth: gate})
	files := console.Files()
	for name, file := range files {
		target := "/console/" + name
		if name == console.Page {
			f.call("GET", target, "").problem(404, "route-not-found")
			target = "/"
		}
		reply := f.call("GET", target, "")
		require.Equal(t, http.StatusOK, reply.status, name)
		require.Equal(t, string(file.Body), reply.body, name)
		require.Equal(t, file.Type, reply.header.Get("Content-Type"), name)
		require.Equal(t, file.Tag, reply.header.Get("ETag"), name)
		require.Equal(t, "no-cache", reply.header.Get("Cache-Control"), name)
		require.Equal(t, "nosniff", reply.header.Get("X-Content-Type-Options"), name)
		require.Equal(t, "no-referrer", reply.header.Get("Referrer-Policy"), name)
		policy := strings.Split(reply.header.Get("Content-Security-Policy"), "; ")
		require.Subset(t, policy, []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'",
			"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'",
		}, name)
		require.NotContains(t, reply.header.Get("Content-Security-Policy"), "unsafe", name)

		for _, given := range []string{file.Tag, "W/" + file.Tag, `"other", ` + file.Tag, "*"} {
			again := f.call("GET", target, "", "If-None-Match", given)
			require.Equal(t, http.StatusNotModified, again.status, given)
			require.Empty(t, again.body)
			require.Equal(t, file.Tag, again.header.Get("ETag"))
			require.NotEmpty(t, again.header.Get("Content-Security-Policy"))
		}
		require.Equal(t, http.StatusOK, f.call("GET", target, "", "If-None-Match", `"other"`).status)
		f.call("GET", target, "", "If-None-Match", "other").problem(400, "malformed-request")
		f.call("POST", target, "").problem(405, "method-not-allowed")
	}
	for _, name := range []string{"missing.js", "assets", "..%2fconsole.go", "%2e%2e", "index.html"} {
		f.call("GET", "/console/"+name, "").problem(404, "route-not-found")
	}
	require.Empty(t, f.call("GET", "/readyz", "").header.Get("Content-Security-Policy"))
}

func TestConsoleIsCompressed(t *testing.T) {
	f := newFixture(t, Options{})
	plain := f.call("GET", "/console/style.css", "")
	zipped := f.call("GET", "/console/style.css", "", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", zipped.header.Get("Content-Encoding"))
	require.Less(t, len(zipped.body), len(plain.body)/2)
}

func TestNoConsole(t *testing.T) {
	f := newFixture(t, Options{NoConsole: true})
	for _, method := range []string{"GET", "POST"} {
		for _, target := range []string{"/", "/console/app.js"} {
			f.call(method, target, "").problem(404, "route-not-found")
		}
	}
	require.Equal(t, http.StatusOK, f.call("GET", "/readyz", "").status)
}
