package server

import (
	"crypto/rand"
	"net/http"
)

// requestIDHeader carries the id by which a request is found in the logs of
// client and server.
const requestIDHeader = "X-Request-Id"

const maxRequestIDBytes = 128

// instancePrefix and the id of the request are a problem's instance.
const instancePrefix = "urn:engram:request:"

// requestIDOf returns the client's id of the request, if it gave one that can
// stand in a header, a log and a URN, else a new one.
func requestIDOf(r *http.Request) string {
	given := r.Header.Values(requestIDHeader)
	if len(given) == 1 && isRequestID(given[0]) {
		return given[0]
	}
	return rand.Text()
}

func isRequestID(id string) bool {
	if len(id) == 0 || len(id) > maxRequestIDBytes {
		return false
	}
	for i := range len(id) {
		c := id[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
		if !plain {
			return false
		}
	}
	return true
}
