package server

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

// verb is what a caller must be allowed to do with the space of a request, or
// with the registry where a route is about no space.
type verb int

// The verbs. Zero is none of them: a route without one is a mistake that a test
// finds, and never a permission.
const (
	verbPublic verb = iota + 1 // nothing
	verbRead                   // see what the space holds
	verbWrite                  // change what the space holds
	verbAdmin                  // make, remove and govern spaces
)

// route is one row of the table of everything the server answers.
type route struct {
	method string
	path   string // with {space} and {id} as http.ServeMux reads them
	verb   verb
	handle func(*Server, *exchange) error
}

const inSpace = "/v1/spaces/{space}" // what the paths of one space begin with

// routes returns the table. What it does not list is not found.
func routes() []route {
	table := []route{
		{http.MethodGet, consolePath, verbPublic, (*Server).consolePage},
		{http.MethodGet, consoleAssetPath, verbPublic, (*Server).consoleAsset},
		{http.MethodGet, "/readyz", verbPublic, (*Server).ready},
		{http.MethodGet, "/openapi.json", verbPublic, (*Server).openAPI},

		// Whoever has a credential may speak; each call of a tool has its own verb.
		{http.MethodPost, mcpPath, verbRead, (*Server).serveMCP},

		{http.MethodGet, "/v1/stats", verbAdmin, (*Server).registryStats},
		{http.MethodPost, "/v1/settle", verbAdmin, (*Server).settle},
		{http.MethodGet, "/v1/space-events", verbAdmin, (*Server).streamSpaceEvents},

		{http.MethodPost, "/v1/spaces", verbAdmin, (*Server).createSpace},
		{http.MethodGet, "/v1/spaces", verbRead, (*Server).listSpaces},
		{http.MethodGet, inSpace, verbRead, (*Server).describeSpace},
		{http.MethodDelete, inSpace, verbAdmin, (*Server).deleteSpace},
		{http.MethodPost, inSpace + "/rename", verbAdmin, (*Server).renameSpace},
		{http.MethodPost, inSpace + "/import", verbAdmin, (*Server).importSpace},
		{http.MethodGet, inSpace + "/config", verbRead, (*Server).describeConfig},
		{http.MethodPut, inSpace + "/config", verbAdmin, (*Server).configure},
		{http.MethodGet, inSpace + "/stats", verbRead, (*Server).contentStats},
		{http.MethodGet, inSpace + "/stats/operator", verbAdmin, (*Server).operatorStats},
		{http.MethodPost, inSpace + "/checkpoint", verbWrite, (*Server).checkpoint},
		{http.MethodPost, inSpace + "/verify", verbAdmin, (*Server).verify},
	}
	for _, rt := range contentRoutes() {
		scoped, unscoped := rt, rt
		scoped.path, unscoped.path = inSpace+rt.path, "/v1"+rt.path
		table = append(table, scoped, unscoped)
	}
	return table
}

// contentRoutes are about what one space holds. Each is served below the space,
// and below /v1 for clients of a single space.
func contentRoutes() []route {
	return []route{
		{http.MethodPost, "/memories", verbWrite, (*Server).remember},
		{http.MethodGet, "/memories", verbRead, (*Server).listMemories},
		{http.MethodGet, "/memories/{id}", verbRead, (*Server).lookup},
		{http.MethodPut, "/memories/{id}", verbWrite, (*Server).putMemory},
		{http.MethodDelete, "/memories/{id}", verbWrite, (*Server).forgetOne},
		{http.MethodGet, "/memories/{id}/associations", verbRead, (*Server).listAssociations},
		{http.MethodPost, "/forget", verbWrite, (*Server).forgetMany},
		{http.MethodPost, "/forget-where", verbWrite, (*Server).forgetWhere},
		{http.MethodPost, "/recall", verbRead, (*Server).recall},
		{http.MethodPost, "/associations", verbWrite, (*Server).associate},
		{http.MethodDelete, "/associations", verbWrite, (*Server).dissociate},
		{http.MethodGet, "/events", verbRead, (*Server).streamEvents},
		{http.MethodGet, "/export", verbRead, (*Server).exportSpace},
	}
}

// register enters the table in the mux, and an answer for everything else: the
// mux's own are plain text.
func (s *Server) register() {
	allowed := map[string][]string{}
	for _, rt := range routes() {
		if s.options.NoConsole && rt.isConsole() {
			continue
		}
		s.mux.Handle(rt.method+" "+rt.path, s.handler(rt))
		allowed[rt.path] = append(allowed[rt.path], rt.method)
		if rt.method == http.MethodGet {
			allowed[rt.path] = append(allowed[rt.path], http.MethodHead)
		}
	}
	for routed, methods := range allowed {
		slices.Sort(methods)
		s.mux.Handle(routed, s.handler(route{path: routed, verb: verbPublic, handle: methodNotAllowed(strings.Join(methods, ", "))}))
	}
	s.mux.Handle("/", s.handler(route{path: "/", verb: verbPublic, handle: (*Server).notFound}))
}

func (s *Server) notFound(*exchange) error {
	return refuse(kindRouteNotFound, "nothing is served under this path")
}

func methodNotAllowed(allow string) func(*Server, *exchange) error {
	return func(_ *Server, x *exchange) error {
		x.w.Header().Set("Allow", allow)
		return refuse(kindMethodNotAllowed, "this path answers "+allow)
	}
}

// isClean reports whether the mux would serve the escaped path as it is.
func isClean(escaped string) bool {
	cleaned := path.Clean(escaped)
	return escaped == cleaned || cleaned != "/" && escaped == cleaned+"/"
}
