package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/engramdb/engram/server/internal/auth"
)

// reach is what a route is about, and so on what its caller needs the verb.
type reach int

const (
	reachRegistry reach = iota // all spaces at once: the verb on "*"
	reachSpace                 // the space that the request means: the verb on that
	reachVisible               // whatever the caller sees: any verb anywhere
)

// reachOf tells it from the route's path. What it does not know reaches the
// whole registry, which asks for most.
func reachOf(rt route) reach {
	switch {
	case strings.HasPrefix(rt.path, inSpace):
		return reachSpace
	case rt.path == "/v1/spaces" && rt.method == http.MethodPost:
		return reachSpace // the one that the body names
	case rt.path == "/v1/spaces" && rt.method == http.MethodGet:
		return reachVisible
	case rt.path == mcpPath:
		return reachSpace // each call of a tool, the one that it names
	case slices.ContainsFunc(contentRoutes(), func(content route) bool {
		return rt.method == content.method && rt.path == "/v1"+content.path
	}):
		return reachSpace
	}
	return reachRegistry
}

// permission returns what a principal must have been granted.
func (v verb) permission() auth.Verb {
	switch v {
	case verbRead:
		return auth.Read
	case verbWrite:
		return auth.Write
	case verbAdmin:
		return auth.Admin
	}
	return 0 // which nobody is granted
}
