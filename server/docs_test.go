package server

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumentedCommands runs the curl commands of docs/http.md, in their order.
func TestDocumentedCommands(t *testing.T) {
	text, err := os.ReadFile("../docs/http.md")
	require.NoError(t, err)
	c := curl{t: t, url: live(t, newFixture(t, Options{})), files: map[string]string{}}
	var routed int
	for i, block := range strings.Split(string(text), "```sh\n") {
		block, _, _ = strings.Cut(block, "\n```")
		if i == 0 || !strings.HasPrefix(block, "curl ") {
			continue
		}
		for _, command := range strings.Split(block, "\ncurl ") {
			c.run(strings.TrimPrefix(command, "curl "))
			routed++
		}
	}
	require.Greater(t, routed, 30)
}

// curl does what the program of that name does with the few options that the
// page uses.
type curl struct {
	t     *testing.T
	url   string
	files map[string]string
}

func (c *curl) run(command string) {
	c.t.Helper()
	var method, target, body, output string
	stream, header := false, http.Header{}
	words := shellWords(strings.ReplaceAll(command, "$ENGRAM", c.url))
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "-N":
			stream = true
			continue
		case "-X", "-H", "-d", "-o", "--data-binary":
			i++
		default:
			target = words[i]
			continue
		}
		switch value := words[i]; words[i-1] {
		case "-X":
			method = value
		case "-H":
			name, value, _ := strings.Cut(value, ": ")
			header.Add(name, value)
		case "-o":
			output = value
		default:
			if method == "" {
				method = http.MethodPost
			}
			if name, file := strings.CutPrefix(value, "@"); file {
				require.Contains(c.t, c.files, name)
				value = c.files[name]
			}
			body = value
		}
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	require.NoError(c.t, err)
	request.Header = header
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, response.Body.Close()) }()
	var answer []byte
	if !stream {
		answer, err = io.ReadAll(response.Body)
		require.NoError(c.t, err)
	}
	require.Less(c.t, response.StatusCode, 300, "%s: %s", command, answer)
	c.files[output] = string(answer)
}

// shellWords splits a command at spaces that no quotes are around.
func shellWords(command string) []string {
	var words []string
	var word strings.Builder
	quote, open := rune(0), false
	for _, r := range command {
		switch {
		case r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ' || r == '\n':
			if word.Len() > 0 || open {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
		}
	}
	return append(words, word.String())
}
