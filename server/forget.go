package server

import (
	"net/http"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/local"
)

// maxForgetBody bounds the body of a forget: as many ids as the library takes,
// in their longest spelling.
const maxForgetBody = 8 * engram.MaxForgetIDs * engram.MaxIDBytes

func (s *Server) forgetOne(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	header, err := memoryHeaderOf(x.r)
	if err != nil {
		return err
	}
	id := x.r.PathValue("id")
	var receipt engram.ForgetReceipt
	err = s.writeMemory(x, space, id, header, func(options ...engram.WriteOption) (err error) {
		ctx, end := inLibrary(x.r.Context(), "Forget")
		receipt, err = space.Forget(ctx, []string{id}, options...)
		end(err)
		return err
	})
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, receipt)
}

// forgetBody names the memories to forget.
type forgetBody struct {
	IDs           []string `json:"ids"`
	MemorySpaceID *string  `json:"memory_space_id"`
}

func (s *Server) forgetMany(x *exchange) error {
	var body forgetBody
	if err := s.decode(x, &body, maxForgetBody); err != nil {
		return err
	}
	space, options, err := s.selectWritten(x, body.MemorySpaceID)
	if err != nil {
		return err
	}
	ctx, end := inLibrary(x.r.Context(), "Forget")
	receipt, err := space.Forget(ctx, body.IDs, options...)
	end(err)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, receipt)
}

// selectWritten returns the space of a write that does not create it, and how
// the header says that it is to be written.
func (s *Server) selectWritten(x *exchange, inBody *string) (*engram.Space, []engram.WriteOption, error) {
	space, err := s.selectHandle(x, inBody)
	if err != nil {
		return nil, nil, err
	}
	header, err := spaceHeaderOf(x.r)
	if err != nil {
		return nil, nil, err
	}
	return space, s.spaceOptions(space, header), nil
}

// forgetWhereBody says which memories are forgotten, or would be.
type forgetWhereBody struct {
	Filter        filterBody `json:"filter"`
	DryRun        bool       `json:"dry_run" strictjson:"given"`
	MemorySpaceID *string    `json:"memory_space_id"`
}

// forgetWhereAnswer is the receipt of a forget by filter.
type forgetWhereAnswer struct {
	engram.ForgetReceipt

	DryRun bool `json:"dry_run,omitempty"` // nothing was forgotten
}

func (s *Server) forgetWhere(x *exchange) error {
	// A dry_run that stands here instead of in the body would be none.
	if _, err := parseParameters(x.r, spaceQuery); err != nil {
		return err
	}
	var body forgetWhereBody
	if err := s.decode(x, &body, maxSpaceBody+maxForgetBody); err != nil {
		return err
	}
	filter := engram.Filter(body.Filter)
	space, options, err := s.selectWritten(x, body.MemorySpaceID)
	if err != nil {
		return err
	}
	if body.DryRun {
		return s.wouldForget(x, space, filter)
	}
	ctx, end := inLibrary(x.r.Context(), "ForgetWhere")
	receipt, err := space.ForgetWhere(ctx, filter, options...)
	end(err)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, forgetWhereAnswer{ForgetReceipt: receipt})
}

// wouldForget counts what the filter would forget. Its tag is that of the space
// before it counted: the same request without dry_run and with that If-Match
// forgets what was counted, or nothing.
func (s *Server) wouldForget(x *exchange, space *engram.Space, filter engram.Filter) error {
	if filter.IsZero() {
		return &engram.InvalidError{Field: "filter", Reason: "is empty"} // as the library finds it
	}
	if err := local.Wake(x.r.Context(), space); err != nil {
		return err
	}
	info := space.Info()
	answer := forgetWhereAnswer{DryRun: true, ForgetReceipt: engram.ForgetReceipt{Seq: info.Seq}}
	for _, err := range space.Memories(x.r.Context(), filter) {
		if err != nil {
			return err
		}
		answer.Forgotten++
	}
	x.w.Header().Set(tagHeader, s.tag(info.Incarnation, info.Seq))
	return x.answer(http.StatusOK, answer)
}
