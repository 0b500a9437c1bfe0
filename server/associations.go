package server

import (
	"net/http"

	"github.com/engramdb/engram"
)

// associationsAnswer is the answer of GET .../memories/{id}/associations.
type associationsAnswer struct {
	Associations []engram.Association `json:"associations"`
}

func (s *Server) listAssociations(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	associations, err := space.Associations(x.r.Context(), x.r.PathValue("id"))
	if err != nil {
		return err
	}
	if associations == nil {
		associations = []engram.Association{}
	}
	return x.answer(http.StatusOK, associationsAnswer{associations})
}

// associationBody is an association.
type associationBody struct {
	engram.Association

	MemorySpaceID *string `json:"memory_space_id"`
}

func (s *Server) associate(x *exchange) error {
	var body associationBody
	if err := s.decode(x, &body, maxSpaceBody); err != nil {
		return err
	}
	space, options, err := s.selectWritten(x, body.MemorySpaceID)
	if err != nil {
		return err
	}
	receipt, err := space.Associate(x.r.Context(), body.Association, options...)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, seqAnswer{receipt.Seq})
}

// dissociate removes the association that the query names: what a DELETE has as
// a body, proxies may drop.
func (s *Server) dissociate(x *exchange) error {
	query, err := parseParameters(x.r, spaceQuery, "from", "to", "kind")
	if err != nil {
		return err
	}
	space, options, err := s.selectWritten(x, nil)
	if err != nil {
		return err
	}
	receipt, err := space.Dissociate(x.r.Context(), engram.Association{
		From: query.Get("from"), To: query.Get("to"), Kind: query.Get("kind"),
	}, options...)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, seqAnswer{receipt.Seq})
}
