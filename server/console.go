package server

import (
	"net/http"

	"github.com/engramdb/engram/server/internal/console"
)

// Where the web console is served: the page at the root, what it loads below.
const (
	consolePath      = "/{$}"
	consoleAssetPath = "/console/{asset}"
)

func (rt route) isConsole() bool { return rt.path == consolePath || rt.path == consoleAssetPath }

func (s *Server) consolePage(x *exchange) error {
	return s.consoleFile(x, console.Page)
}

func (s *Server) consoleAsset(x *exchange) error {
	name := x.r.PathValue("asset")
	if name == console.Page {
		return s.notFound(x) // its links lead on from the root only
	}
	return s.consoleFile(x, name)
}

// consoleFile answers with a file of the console, the same for everybody.
func (s *Server) consoleFile(x *exchange, name string) error {
	file, found := s.console[name]
	if !found {
		return s.notFound(x)
	}
	given, err := tagsOf(x.r, "If-None-Match")
	if err != nil {
		return err
	}
	file.SetHeader(x.w.Header())
	if given.matches(file.Tag) {
		return x.answerEmpty(http.StatusNotModified)
	}
	return x.send(http.StatusOK, file.Type, file.Body)
}
