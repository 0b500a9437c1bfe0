package server

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
	"github.com/engramdb/engram/server/internal/local"
)

// maxSpaceBody bounds the body that creates a space.
const maxSpaceBody = 64 << 10

// Sizes of a page of GET /v1/spaces.
const (
	defaultPageSpaces = 100
	maxPageSpaces     = 1000
)

// createSpaceBody is the body of POST /v1/spaces.
type createSpaceBody struct {
	ID     engram.SpaceID     `json:"id"`
	Config engram.SpaceConfig `json:"config"`
}

// spacePage is the answer of GET /v1/spaces.
type spacePage struct {
	Spaces []spaceItem    `json:"spaces"`
	Next   engram.SpaceID `json:"next,omitempty"` // give it as after for the next page; absent on the last
}

type spaceItem struct {
	ID engram.SpaceID `json:"id"`
}

func (s *Server) createSpace(x *exchange) error {
	var body createSpaceBody
	if err := s.decode(x, &body, maxSpaceBody); err != nil {
		return err
	}
	if err := body.ID.Validate(); err != nil {
		return refuseSpaceID("the field id", err)
	}
	named, err := x.namedSpaces()
	if err != nil {
		return err
	}
	if named.add("the field id", string(body.ID)); named.err != nil {
		return named.err
	}
	if err := refusePreconditions(x.r); err != nil {
		return err
	}
	if err := s.meanNew(x, body.ID); err != nil {
		return err
	}
	if _, err := s.registry.Create(x.r.Context(), body.ID, body.Config); err != nil {
		return err
	}
	info, err := s.describe(x.r.Context(), body.ID)
	if err != nil {
		return err
	}
	x.w.Header().Set("Location", spacePath(body.ID))
	return x.answer(http.StatusCreated, info)
}

// listSpaces answers from the catalogue, as if there were no spaces but those
// that the caller may see: it wakes no space and reads no file.
func (s *Server) listSpaces(x *exchange) error {
	query, err := parseParameters(x.r, "after", "limit")
	if err != nil {
		return err
	}
	after := engram.SpaceID(query.Get("after"))
	if after != "" {
		if err := after.Validate(); err != nil {
			return refuseSpaceID("the query parameter after", err)
		}
	}
	limit, err := limitOf(query, defaultPageSpaces, maxPageSpaces)
	if err != nil {
		return err
	}
	page := spacePage{Spaces: []spaceItem{}}
	for id := range s.visible(x.principal, after) {
		if len(page.Spaces) == limit {
			page.Next = page.Spaces[limit-1].ID
			break
		}
		page.Spaces = append(page.Spaces, spaceItem{ID: id})
	}
	return x.answer(http.StatusOK, page)
}

// visible yields the ids of the spaces after the given one that the caller may see, in
// order. Of the others it looks at one for each of the caller's scopes at most.
func (s *Server) visible(p *auth.Principal, after engram.SpaceID) iter.Seq[engram.SpaceID] {
	return func(yield func(engram.SpaceID) bool) {
		for more := true; more; {
			more = false
			for id := range s.registry.Spaces(after) {
				if !p.Sees(id) {
					after, more = p.Behind(id)
					break
				}
				if !yield(id) {
					return
				}
			}
		}
	}
}

func (s *Server) describe(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error) {
	return local.Describe(ctx, s.registry, id)
}

// selectInfo describes the space that the request means.
func (s *Server) selectInfo(x *exchange) (engram.SpaceInfo, error) {
	id, err := s.selectSpace(x, nil)
	if err != nil {
		return engram.SpaceInfo{}, err
	}
	return s.describe(x.r.Context(), id)
}

func (s *Server) describeSpace(x *exchange) error {
	info, err := s.selectInfo(x)
	if err != nil {
		return err
	}
	if info.State == engram.Quarantined { // by no operation: no tag tells that from before
		return x.answer(http.StatusOK, info)
	}
	return s.answerTagged(x, s.tag(info.Incarnation, info.Seq), info)
}

func (s *Server) deleteSpace(x *exchange) error {
	id, err := s.selectSpace(x, nil)
	if err != nil {
		return err
	}
	if err := refusePreconditions(x.r); err != nil {
		return err
	}
	if err := s.registry.Delete(x.r.Context(), id); err != nil {
		return err
	}
	return x.answerEmpty(http.StatusNoContent)
}

// renameBody is the body of a rename.
type renameBody struct {
	To            engram.SpaceID `json:"to"`
	MemorySpaceID *string        `json:"memory_space_id"`
}

func (s *Server) renameSpace(x *exchange) error {
	var body renameBody
	if err := s.decode(x, &body, maxSpaceBody); err != nil {
		return err
	}
	if err := body.To.Validate(); err != nil {
		return refuseSpaceID("the field to", err)
	}
	if err := refusePreconditions(x.r); err != nil {
		return err
	}
	// The new name is asked first: x.space stays the space that the path names.
	if err := s.meanNew(x, body.To); err != nil {
		return err
	}
	id, err := s.selectSpace(x, body.MemorySpaceID)
	if err != nil {
		return err
	}
	if err := s.registry.Rename(x.r.Context(), id, body.To); err != nil {
		return err
	}
	info, err := s.describe(x.r.Context(), body.To)
	if err != nil {
		return err
	}
	x.w.Header().Set("Location", spacePath(body.To))
	return x.answer(http.StatusOK, info)
}

// spacePath returns the path of a space.
func spacePath(id engram.SpaceID) string { return "/v1/spaces/" + url.PathEscape(string(id)) }
