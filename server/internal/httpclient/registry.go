package httpclient

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/engramdb/engram"
)

const pageSpaces = 1000

// Spaces yields the ids of the spaces after the given one, in order. The error
// comes last.
func (c *Client) Spaces(ctx context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error] {
	return func(yield func(engram.SpaceID, error) bool) {
		for {
			var page struct {
				Spaces []struct {
					ID engram.SpaceID `json:"id"`
				} `json:"spaces"`
				Next engram.SpaceID `json:"next"`
			}
			query := url.Values{"limit": {strconv.Itoa(pageSpaces)}}
			if after != "" {
				query.Set("after", string(after))
			}
			if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/spaces", query: query}, &page); err != nil {
				yield("", err)
				return
			}
			for _, item := range page.Spaces {
				if !yield(item.ID, nil) {
					return
				}
			}
			if after = page.Next; after == "" {
				return
			}
		}
	}
}

// Create makes a space.
func (c *Client) Create(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (info engram.SpaceInfo, err error) {
	body := struct {
		ID     engram.SpaceID     `json:"id"`
		Config engram.SpaceConfig `json:"config"`
	}{id, config}
	_, err = c.do(ctx, call{method: http.MethodPost, path: "/v1/spaces", body: body}, &info)
	return info, err
}

// Info describes a space.
func (c *Client) Info(ctx context.Context, id engram.SpaceID) (info engram.SpaceInfo, err error) {
	_, err = c.do(ctx, call{method: http.MethodGet, path: spacePath(id)}, &info)
	return info, err
}

// Delete deletes a space with everything in it.
func (c *Client) Delete(ctx context.Context, id engram.SpaceID) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: spacePath(id)}, nil)
	return err
}

// Rename gives a space another id.
func (c *Client) Rename(ctx context.Context, from, to engram.SpaceID) error {
	body := struct {
		To engram.SpaceID `json:"to"`
	}{to}
	var info engram.SpaceInfo
	_, err := c.do(ctx, call{method: http.MethodPost, path: spacePath(from) + "/rename", body: body}, &info)
	return err
}

// Import creates a space from an export.
func (c *Client) Import(ctx context.Context, id engram.SpaceID, src io.Reader) (info engram.SpaceInfo, err error) {
	_, err = c.do(ctx, call{method: http.MethodPost, path: spacePath(id) + "/import", stream: src}, &info)
	return info, err
}

// Settle makes every space's own log durable and empties the journal.
func (c *Client) Settle(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/settle"}, nil)
	return err
}

// Stats returns the registry's figures.
func (c *Client) Stats(ctx context.Context) (stats engram.RegistryStats, err error) {
	_, err = c.do(ctx, call{method: http.MethodGet, path: "/v1/stats"}, &stats)
	return stats, err
}
