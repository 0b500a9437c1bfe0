package server

import (
	_ "embed" // for the description
	"net/http"
)

// openAPIDocument describes every route in OpenAPI 3.1.
//
//go:embed openapi.json
var openAPIDocument []byte

func (s *Server) openAPI(x *exchange) error {
	return x.send(http.StatusOK, "application/json", openAPIDocument)
}
