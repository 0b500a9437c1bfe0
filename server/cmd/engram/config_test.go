package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// setting runs config check and returns its settings by name.
func (s shell) settings(args ...string) map[string]settingItem {
	s.t.Helper()
	var out struct{ Settings []settingItem }
	s.run(append([]string{"config", "check", "-o", "json"}, args...)...).into(&out)
	byName := map[string]settingItem{}
	for _, item := range out.Settings {
		byName[item.Name] = item
	}
	return byName
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engram.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// TestConfigPrecedence: a flag before the environment before the file.
func TestConfigPrecedence(t *testing.T) {
	sh := newShell(t)
	path := writeFile(t, `
http: 127.0.0.1:1111
space-rate: 10
space-burst: 20
require-space: true
drain-timeout: 3s
console: false
host:
  - one.example
  - two.example
`)
	t.Setenv("ENGRAM_HTTP", "127.0.0.1:2222")
	t.Setenv("ENGRAM_SPACE_RATE", "11")
	got := sh.settings("--config", path, "--http", "127.0.0.1:3333")
	require.Equal(t, settingItem{"http", "127.0.0.1:3333", fromFlag}, got["http"])
	require.Equal(t, settingItem{"space-rate", "11", fromEnvironment}, got["space-rate"])
	require.Equal(t, settingItem{"space-burst", "20", fromFile}, got["space-burst"])
	require.Equal(t, settingItem{"require-space", "true", fromFile}, got["require-space"])
	require.Equal(t, settingItem{"drain-timeout", "3s", fromFile}, got["drain-timeout"])
	require.Equal(t, settingItem{"console", "false", fromFile}, got["console"])
	require.Equal(t, settingItem{"host", "[one.example,two.example]", fromFile}, got["host"])
	require.Equal(t, settingItem{"auto-create", "false", fromDefault}, got["auto-create"])
	require.Equal(t, settingItem{"data", sh.dir, fromFlag}, got["data"])

	t.Setenv("ENGRAM_CONFIG", path)
	t.Setenv("ENGRAM_HOST", "three.example four.example")
	got = sh.settings()
	require.Equal(t, settingItem{"http", "127.0.0.1:2222", fromEnvironment}, got["http"])
	require.Equal(t, settingItem{"host", "[three.example,four.example]", fromEnvironment}, got["host"])
	require.NotContains(t, got, "config")
}

func TestConfigRefusals(t *testing.T) {
	sh := newShell(t)
	for content, text := range map[string]string{
		"htp: x":                         "unknown settings: htp",
		"config: x":                      "no setting",
		"http: [a, b]":                   "not a list",
		"http: {a: b}":                   "a value",
		"http:":                          "a value",
		"http: a\nhttp: b":               "already defined",
		"drain-timeout: soon":            "drain-timeout",
		"- http":                         "cannot unmarshal",
		"http: 0.0.0.0:1":                "--insecure",
		"keys: /does/not/exist":          "no such file",
		"tls-cert: x":                    "--tls-key",
		"jwt-issuer: x":                  "--jwt-jwks",
		"jwt-claim: x":                   "--jwt-jwks",
		"client-cert: cn:x=*:read":       "--tls-client-ca",
		"tls-cert: x\ntls-key: y":        "no such file",
		"keys: '{\"version\": 2}'":       "version",
		"http: 0.0.0.0:1\nkeys: '{}'":    "--insecure",
		"embedder: bert":                 "openai or ollama",
		"embedder-model: x":              "without --embedder",
		"space-rate: -1":                 "--space-rate",
		"space-rate: NaN":                "--space-rate",
		"space-rate: 1e300":              "--space-rate",
		"caller-rate: Inf":               "--caller-rate",
		"caller-rate: 5":                 "credentials",
		"space-burst: 5":                 "without --space-rate",
		"space-rate: 1\nspace-burst: -1": "--space-burst",
		"drain-timeout: 0s":              "--drain-timeout",
		"max-connections: 0":             "--max-connections",
		"max-address-connections: -1":    "--max-address-connections",
		"max-caller-requests: 0":         "--max-caller-requests",
		"max-body-bytes: 1000":           "at least 67108864",
		"memory-budget: -1":              "--memory-budget",
	} {
		for _, command := range [][]string{{"config", "check"}, {"serve"}} {
			sh.run(append(command, "--config", writeFile(t, content))...).failed(text)
		}
	}
	sh.run("serve", "--config", filepath.Join(t.TempDir(), "none")).failed("no such file")
	require.NoDirExists(t, sh.dir)
}

func TestConfigCheckRedacts(t *testing.T) {
	sh := newShell(t)
	t.Setenv("ENGRAM_KEYS", `{"version":1,"keys":[]}`)
	require.Equal(t, settingItem{"keys", redacted, fromEnvironment}, sh.settings()["keys"])
	nothing := httptest.NewServer(http.NotFoundHandler())
	defer nothing.Close()
	for _, source := range []string{
		strings.Replace(nothing.URL, "://", "://user:secret@", 1),
		"http://user:secret@127.0.0.1:1/jwks", // nobody listens there
		"http://user:pass@secret@127.0.0.1:1/jwks",
		"http://user:pa/ss@secret@127.0.0.1:1/jwks",
		"http://user:secret@engram.example/jwks",
		"https://user:secret@127.0.0.1:port/jwks",
		"http://secret@127.0.0.1:1/jwks",
	} {
		r := sh.run("config", "check", "--jwt-jwks", source, "--jwt-issuer", "i", "--jwt-audience", "a").failed()
		require.NotContains(t, r.out+r.err, "secret", source)
	}
	// What stands before a character that should be escaped would be host and port.
	for _, source := range []string{
		"http://user:12/secret@127.0.0.1:1/jwks",
		"http://user:12?secret@127.0.0.1:1/jwks",
		"https://user:12#secret@127.0.0.1:1/jwks",
		"https://localhost:12/secret@127.0.0.1:1/jwks",
		"https://localhost:12?secret@127.0.0.1:1/jwks",
		"https://localhost:12#secret@127.0.0.1:1/jwks",
	} {
		r := sh.run("config", "check", "--jwt-jwks", source, "--jwt-issuer", "i", "--jwt-audience", "a").failed("malformed")
		require.NotContains(t, r.out+r.err, "secret", source)
		require.NotContains(t, r.out+r.err, ":12", source)
	}
}
