package httpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/wire"
)

const pageMemories = 500

// Space calls what a server offers for one space.
type Space struct {
	client *Client
	id     engram.SpaceID
}

// ID returns the space's id.
func (s *Space) ID() engram.SpaceID { return s.id }

func (s *Space) do(ctx context.Context, k call, v any) (http.Header, error) {
	k.path = spacePath(s.id) + k.path
	return s.client.do(ctx, k, v)
}

// Remember stores a memory. With a requestID a retry takes effect once.
func (s *Space) Remember(ctx context.Context, m engram.Memory, requestID string) (receipt engram.Receipt, err error) {
	_, err = s.do(ctx, call{method: http.MethodPost, path: "/memories", body: m, request: requestID}, &receipt)
	return receipt, err
}

// RememberBatch stores all of the memories or none.
func (s *Space) RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
	var answer struct {
		Receipts []engram.Receipt `json:"receipts"`
	}
	_, err := s.do(ctx, call{method: http.MethodPost, path: "/memories", body: map[string]any{"memories": ms}}, &answer)
	return answer.Receipts, err
}

// Lookup returns the memory of that id.
func (s *Space) Lookup(ctx context.Context, id string) (m engram.Memory, err error) {
	path, err := memoryPath(id)
	if err != nil {
		return m, err
	}
	_, err = s.do(ctx, call{method: http.MethodGet, path: path}, &m)
	return m, err
}

// memoryPath refuses the id that is no part of a path: it would ask for another one.
func memoryPath(id string) (string, error) {
	if id == "" {
		return "", &engram.InvalidError{Field: "id", Reason: "is empty"}
	}
	return "/memories/" + wire.PathSegment(id), nil
}

// Memories yields the memories that satisfy the filter in time order. The error
// comes last.
func (s *Space) Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error] {
	return func(yield func(engram.Memory, error) bool) {
		query, err := filterQuery(f)
		if err != nil {
			yield(engram.Memory{}, err)
			return
		}
		query.Set("limit", strconv.Itoa(pageMemories))
		for {
			var page struct {
				Memories []engram.Memory `json:"memories"`
				Next     string          `json:"next"`
			}
			if _, err := s.do(ctx, call{method: http.MethodGet, path: "/memories", query: query}, &page); err != nil {
				yield(engram.Memory{}, err)
				return
			}
			for _, m := range page.Memories {
				if !yield(m, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			query.Set("cursor", page.Next)
		}
	}
}

// filterQuery spells a filter as a query. There a colon ends the key of an attribute:
// one that has a colon itself would be another.
func filterQuery(f engram.Filter) (url.Values, error) {
	query := url.Values{}
	for name, value := range map[string]string{"episode": f.Episode, "kind": string(f.Kind)} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, moment := range map[string]time.Time{"after": f.After, "before": f.Before} {
		if !moment.IsZero() {
			query.Set(name, moment.Format(time.RFC3339Nano))
		}
	}
	for key, value := range f.Attributes {
		if strings.Contains(key, ":") {
			return nil, &engram.InvalidError{Field: "filter.attributes", Reason: "a key with a colon cannot be listed by over HTTP"}
		}
		query.Add("attribute", key+":"+value)
	}
	return query, nil
}

// Recall answers a cue.
func (s *Space) Recall(ctx context.Context, cue engram.Cue) (recall engram.Recall, err error) {
	_, err = s.do(ctx, call{method: http.MethodPost, path: "/recall", body: cue}, &recall)
	return recall, err
}

// Forget forgets the memories of these ids.
func (s *Space) Forget(ctx context.Context, ids []string) (receipt engram.ForgetReceipt, err error) {
	_, err = s.do(ctx, call{method: http.MethodPost, path: "/forget", body: map[string]any{"ids": ids}}, &receipt)
	return receipt, err
}

// ForgetWhere forgets what satisfies the filter, or only counts it.
func (s *Space) ForgetWhere(ctx context.Context, f engram.Filter, dryRun bool) (receipt engram.ForgetReceipt, err error) {
	body := map[string]any{"filter": f, "dry_run": dryRun}
	_, err = s.do(ctx, call{method: http.MethodPost, path: "/forget-where", body: body}, &receipt)
	return receipt, err
}

// Associate makes an association or gives it a new weight.
func (s *Space) Associate(ctx context.Context, a engram.Association) (receipt engram.Receipt, err error) {
	_, err = s.do(ctx, call{method: http.MethodPost, path: "/associations", body: a}, &receipt)
	return receipt, err
}

// Dissociate removes an association.
func (s *Space) Dissociate(ctx context.Context, a engram.Association) (receipt engram.Receipt, err error) {
	query := url.Values{"from": {a.From}, "to": {a.To}}
	if a.Kind != "" {
		query.Set("kind", a.Kind)
	}
	_, err = s.do(ctx, call{method: http.MethodDelete, path: "/associations", query: query}, &receipt)
	return receipt, err
}

// Associations returns the associations of a memory, which it asks for page by page.
func (s *Space) Associations(ctx context.Context, id string) ([]engram.Association, error) {
	path, err := memoryPath(id)
	if err != nil {
		return nil, err
	}
	var associations []engram.Association
	query := url.Values{}
	for {
		var page struct {
			Associations []engram.Association `json:"associations"`
			Next         string               `json:"next"`
		}
		if _, err := s.do(ctx, call{method: http.MethodGet, path: path + "/associations", query: query}, &page); err != nil {
			return nil, err
		}
		associations = append(associations, page.Associations...)
		if page.Next == "" {
			return associations, nil
		}
		query.Set("cursor", page.Next)
	}
}

// Configure changes the configuration that the space has at that moment; where
// another write comes between, it is a conflict and nothing is changed.
func (s *Space) Configure(ctx context.Context, change func(*engram.SpaceConfig)) (receipt engram.Receipt, err error) {
	var config engram.SpaceConfig
	header, err := s.do(ctx, call{method: http.MethodGet, path: "/config", mayLack: true}, &config)
	if err != nil {
		return receipt, err
	}
	change(&config)
	_, err = s.do(ctx, call{method: http.MethodPut, path: "/config", body: config, match: header.Get("ETag")}, &receipt)
	return receipt, err
}

// Content returns the figures of what the space holds, which need no verb but read.
func (s *Space) Content(ctx context.Context) (stats engram.ContentStats, err error) {
	_, err = s.do(ctx, call{method: http.MethodGet, path: "/stats"}, &stats)
	return stats, err
}

// Stats returns the space's figures.
func (s *Space) Stats(ctx context.Context) (stats engram.SpaceStats, err error) {
	if stats.Content, err = s.Content(ctx); err != nil {
		return stats, err
	}
	_, err = s.do(ctx, call{method: http.MethodGet, path: "/stats/operator"}, &stats.Operator)
	return stats, err
}

// Checkpoint writes the space's indexes to disk.
func (s *Space) Checkpoint(ctx context.Context) error {
	_, err := s.do(ctx, call{method: http.MethodPost, path: "/checkpoint"}, nil)
	return err
}

// Verify reads every byte of the space. Damage is in the report.
func (s *Space) Verify(ctx context.Context) (report engram.VerifyReport, err error) {
	_, err = s.do(ctx, call{method: http.MethodPost, path: "/verify"}, &report)
	return report, err
}

// errCutExport: the server broke the export off, or a proxy did.
var errCutExport = errors.New("the export is cut off")

// Export writes the space's export to dst and returns the seq that it holds. An
// export that has no seq behind it is not whole.
func (s *Space) Export(ctx context.Context, dst io.Writer) (uint64, error) {
	response, err := s.client.send(ctx, call{method: http.MethodGet, path: spacePath(s.id) + "/export"})
	if err != nil {
		return 0, err
	}
	if err := requireType(response, "application/jsonl"); err != nil {
		return 0, errors.Join(err, response.Body.Close())
	}
	_, err = io.Copy(dst, response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return 0, fmt.Errorf("%w: %w", errCutExport, err)
	}
	seq, err := strconv.ParseUint(response.Trailer.Get("Engram-Seq"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: nothing follows it", errCutExport)
	}
	return seq, nil
}
