package server

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/engramdb/engram"
)

// degradedPause is how long the log says nothing more of an embedder that fails.
const degradedPause = time.Minute

// degradedRecalls counts the recalls that are yet to be said in the log.
type degradedRecalls struct {
	mu     sync.Mutex // guards the fields below
	said   time.Time  // when it was, the last time
	unsaid int
}

// add counts one, and returns how many the log is to be told of now, 0 for none.
func (d *degradedRecalls) add(now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsaid++
	if now.Sub(d.said) < degradedPause {
		return 0
	}
	due := d.unsaid
	d.said, d.unsaid = now, 0
	return due
}

// recallFor answers the cue of a request, and notes in it why the answer is not, or not
// fully, by meaning. What it found counts as long as the request lasts.
func (s *Server) recallFor(ctx context.Context, r *request, space *engram.Space, cue engram.Cue) (engram.Recall, error) {
	cue.Admit = func(bytes int64) error { return s.holdAnswer(r, bytes) }
	ctx, end := inLibrary(ctx, "Recall")
	recall, err := space.Recall(ctx, cue)
	end(err)
	if err == nil {
		err = stillMeant(r.principal, verbRead, r.space, space) // it may have waited for long
	}
	if err != nil {
		return engram.Recall{}, err
	}
	r.degraded = recall.Plan.Degraded
	if r.degraded == engram.DegradedEmbedder {
		if due := s.degraded.add(time.Now()); due > 0 {
			s.options.Logger.Warn("recalls are answered from the text alone: the embedder fails, or takes too long",
				zap.Int("recalls", due))
		}
	}
	return recall, nil
}
