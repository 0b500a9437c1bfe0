package server

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFramingIsThatOfTheRequest: a proxy puts the requests of several tenants on one
// connection, and what one of them has in its body decides nothing for the next.
func TestFramingIsThatOfTheRequest(t *testing.T) {
	r := start(t, newFixture(t, Options{}))
	r.create("alpha")
	r.create("beta")
	connection := r.dial()
	const first = "POST /v1/spaces/alpha/memories HTTP/1.1\r\n"
	body := first + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
	r.send(connection, fmt.Sprintf("POST /v1/spaces/beta/memories HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	require.Equal(t, http.StatusBadRequest, r.read(connection).status)
	content := `{"content":"of alpha"}`
	r.send(connection, fmt.Sprintf("%sHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", first, len(content), content))
	answer := r.read(connection)
	require.Equal(t, http.StatusCreated, answer.status, answer.body)
}

// TestFramingOfWhatIsSentAhead: of a request that was read with the one before it, the
// header is not known. Nothing that may be hidden behind it is taken for a request.
func TestFramingOfWhatIsSentAhead(t *testing.T) {
	r := start(t, newFixture(t, Options{}))
	space := r.create("alpha")
	const first = "POST /v1/spaces/alpha/memories HTTP/1.1\r\nHost: localhost\r\n"
	content := func(s string) string { return fmt.Sprintf(`{"content":"%s"}`, s) }
	whole := func(s string) string {
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", first, len(content(s)), content(s))
	}
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(content("two")), content("two"))
	twice := fmt.Sprintf("%sContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", first, len(chunks)+len(whole("hidden")), chunks)
	connection := r.dial()
	r.send(connection, whole("one")+twice+whole("hidden"))
	answers := bufio.NewReader(connection)
	for i := range 2 {
		response, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		readReply(t, response)
		require.Equal(t, i == 1, response.Close)
	}
	_, err := answers.ReadByte()
	require.ErrorIs(t, err, io.EOF, "nothing else is answered")
	require.LessOrEqual(t, memoryCount(t, space), 2)
}
