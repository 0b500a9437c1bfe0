package server

import (
	"context"
	"net/http"
	"slices"

	"github.com/engramdb/engram"
)

// maxPageAssociations is the most that a page has, and what it has where nothing is
// said: all that one memory may have to others, and more.
const maxPageAssociations = 1000

// associationPage is the answer of GET .../memories/{id}/associations.
type associationPage struct {
	Associations []engram.Association `json:"associations"`
	Next         string               `json:"next,omitempty"` // give it as cursor for the next page; absent on the last
}

func (s *Server) listAssociations(x *exchange) error {
	query, err := parseParameters(x.r, spaceQuery, "cursor", "limit")
	if err != nil {
		return err
	}
	limit, err := limitOf(query, maxPageAssociations, maxPageAssociations)
	if err != nil {
		return err
	}
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	page, err := pageAssociations(x.r.Context(), space, x.r.PathValue("id"), query.Get("cursor"), query.Has("cursor"), limit)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, page)
}

// pageAssociations returns a page of the associations of a memory, of one snapshot. The
// next page is of a later one.
func pageAssociations(
	ctx context.Context, space *engram.Space, id, after string, goesOn bool, limit int,
) (associationPage, error) {
	associations, err := space.Associations(ctx, id)
	if err != nil {
		return associationPage{}, err
	}
	incarnation := space.Info().Incarnation
	if goesOn {
		last, err := parseAssociationCursor(after, incarnation, id)
		if err != nil {
			return associationPage{}, err
		}
		seen, found := slices.BinarySearchFunc(associations, last, func(a engram.Association, c associationCursor) int {
			return associationCursorOf(id, a).compare(c)
		})
		if found {
			seen++
		}
		associations = associations[seen:]
	}
	page := associationPage{Associations: append([]engram.Association{}, associations[:min(limit, len(associations))]...)}
	if len(associations) > limit {
		page.Next = associationCursorOf(id, associations[limit-1]).encode(incarnation, id)
	}
	return page, nil
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
