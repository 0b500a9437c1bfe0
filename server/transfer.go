package server

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// seqTrailer says, behind an export, from where events go on.
const seqTrailer = "Engram-Seq"

const (
	exportType        = "application/jsonl"
	exportBufferBytes = 32 << 10
)

// exportSpace streams the space. What fails before the first buffer is full is
// answered with a problem. After that only the connection can say so: it is
// aborted, and neither the body nor the compression in it has an end.
func (s *Server) exportSpace(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	if err := s.holdExport(&x.request); err != nil {
		return err
	}
	zipped := acceptsGzip(x.r.Header.Values("Accept-Encoding"))
	begin := func() {
		header := x.begin(exportType)
		header.Set("Trailer", seqTrailer)
		header.Add("Vary", "Accept-Encoding")
		if zipped {
			header.Set("Content-Encoding", "gzip")
		}
	}
	buffer := bufio.NewWriterSize(&firstWrite{x, begin}, exportBufferBytes)
	var out io.Writer = struct{ io.Writer }{buffer} // else bufio takes it for the library's own, which is flushed
	end := func() error { return nil }
	if zipped {
		zipper := gzip.NewWriter(buffer)
		out, end = zipper, zipper.Close
	}
	ctx, cancel := x.principal.Context(x.r.Context())
	defer cancel()
	seq, err := space.Export(ctx, out)
	if err != nil {
		return err
	}
	if err := errors.Join(end(), buffer.Flush()); err != nil {
		return err
	}
	x.w.Header().Set(seqTrailer, strconv.FormatUint(seq, 10))
	return nil
}

// firstWrite sets the header of an answer when its first bytes are there to be
// sent: until then it may become a problem.
type firstWrite struct {
	*exchange

	begin func()
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.begin()
	}
	return w.exchange.Write(p)
}

// importSpace creates the space from the body, as it arrives.
func (s *Server) importSpace(x *exchange) error {
	id, err := s.selectSpace(x, nil)
	if err != nil {
		return err
	}
	if err := refusePreconditions(x.r); err != nil {
		return err
	}
	if err := s.holdImport(&x.request); err != nil {
		return err
	}
	source, err := s.openStream(x, s.options.MaxImportBytes)
	if err != nil {
		return err
	}
	if _, err := s.registry.Import(x.r.Context(), id, source); err != nil {
		// A body that broke off tells more than what the library makes of it.
		if refused := source.refused(); refused != nil {
			return refused
		}
		return err
	}
	info, err := s.describe(x.r.Context(), id)
	if err != nil {
		return err
	}
	x.w.Header().Set("Location", spacePath(id))
	return x.answer(http.StatusCreated, info)
}
