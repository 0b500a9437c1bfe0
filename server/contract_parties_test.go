package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/internal/httpclient"
)

// partyRegistry is one way to reach a registry: as the library, or over one of
// the transports. The HTTP client has these methods as it is.
type partyRegistry interface {
	Create(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (engram.SpaceInfo, error)
	Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error)
	Spaces(ctx context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error]
	Rename(ctx context.Context, from, to engram.SpaceID) error
	Delete(ctx context.Context, id engram.SpaceID) error
	Import(ctx context.Context, id engram.SpaceID, src io.Reader) (engram.SpaceInfo, error)
	Settle(ctx context.Context) error
}

// partySpace is one space of a partyRegistry, whether it is there or not.
type partySpace interface {
	Remember(ctx context.Context, m engram.Memory, requestID string) (engram.Receipt, error)
	RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error)
	Lookup(ctx context.Context, id string) (engram.Memory, error)
	Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error]
	Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error)
	Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error)
	ForgetWhere(ctx context.Context, f engram.Filter, dryRun bool) (engram.ForgetReceipt, error)
	Associate(ctx context.Context, a engram.Association) (engram.Receipt, error)
	Dissociate(ctx context.Context, a engram.Association) (engram.Receipt, error)
	Associations(ctx context.Context, id string) ([]engram.Association, error)
	Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error]
	Configure(ctx context.Context, change func(*engram.SpaceConfig)) (engram.Receipt, error)
	Stats(ctx context.Context) (engram.SpaceStats, error)
	Checkpoint(ctx context.Context) error
	Verify(ctx context.Context) (engram.VerifyReport, error)
	Export(ctx context.Context, dst io.Writer) (uint64, error)
}

// errNotOffered: the transport has no such operation.
var errNotOffered = errors.New("the transport has no such operation")

// rpcRegistry is the client of gRPC.
type rpcRegistry struct{ *client.Client }

func (r rpcRegistry) Create(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (engram.SpaceInfo, error) {
	if _, err := r.Client.Create(ctx, id, config); err != nil {
		return engram.SpaceInfo{}, err
	}
	return r.Info(ctx, id)
}

func (r rpcRegistry) Import(ctx context.Context, id engram.SpaceID, src io.Reader) (engram.SpaceInfo, error) {
	if _, err := r.Client.Import(ctx, id, src); err != nil {
		return engram.SpaceInfo{}, err
	}
	return r.Info(ctx, id)
}

type rpcSpace struct{ *client.Space }

func (s rpcSpace) Remember(ctx context.Context, m engram.Memory, requestID string) (engram.Receipt, error) {
	return s.Space.Remember(ctx, m, client.RequestID(requestID))
}

func (s rpcSpace) RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
	return s.Space.RememberBatch(ctx, ms)
}

func (s rpcSpace) Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error) {
	return s.Space.Forget(ctx, ids)
}

func (s rpcSpace) ForgetWhere(ctx context.Context, f engram.Filter, _ bool) (engram.ForgetReceipt, error) {
	return s.Space.ForgetWhere(ctx, f)
}

func (s rpcSpace) Associate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return s.Space.Associate(ctx, a)
}

func (s rpcSpace) Dissociate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return s.Space.Dissociate(ctx, a)
}

func (s rpcSpace) Configure(ctx context.Context, change func(*engram.SpaceConfig)) (engram.Receipt, error) {
	info, err := s.Info(ctx)
	if err != nil {
		return engram.Receipt{}, err
	}
	change(&info.Config)
	return s.Space.Configure(ctx, info.Config, client.ExpectSeq(info.Seq))
}

// toolSession is a client of the Model Context Protocol. It shows what a model is
// shown: no embedding, no seq, no plan.
type toolSession struct {
	notOffered

	session *mcp.ClientSession
	id      engram.SpaceID
}

// callTool calls a tool about the space and decodes its result. An error of the
// tool is a problem document.
func callTool[Out any](ctx context.Context, s toolSession, tool string, args arguments) (out Out, err error) {
	args["space"] = string(s.id)
	result, err := s.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return out, err
	}
	text := []byte(result.Content[0].(*mcp.TextContent).Text)
	if result.IsError {
		var p httpclient.Problem
		return out, errors.Join(json.Unmarshal(text, &p), &p)
	}
	return out, json.Unmarshal(text, &out)
}

func (s toolSession) Remember(ctx context.Context, m engram.Memory, requestID string) (engram.Receipt, error) {
	if m.Embedding != nil || m.Space != "" {
		return engram.Receipt{}, errNotOffered
	}
	args := arguments{"content": m.Content, "id": m.ID, "episode": m.Episode, "kind": m.Kind, "confidence": m.Confidence}
	if m.Attributes != nil {
		args["attributes"] = m.Attributes
	}
	if !m.Time.IsZero() {
		args["time"] = m.Time
	}
	if requestID != "" {
		args["request_id"] = requestID
	}
	result, err := callTool[rememberResult](ctx, s, "remember", args)
	return engram.Receipt{ID: result.ID, Seq: result.Seq}, err
}

func (s toolSession) Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error) {
	if cue.Embedding != nil {
		return engram.Recall{}, errNotOffered
	}
	args := filterArguments(cue.Filter)
	args["text"], args["limit"], args["min_activation"] = cue.Text, cue.Limit, cue.MinActivation
	if cue.IDs != nil {
		args["ids"] = cue.IDs
	}
	result, err := callTool[recallResult](ctx, s, "recall", args)
	recall := engram.Recall{}
	for _, r := range result.Recollections {
		recall.Recollections = append(recall.Recollections, engram.Recollection{
			Memory: s.memory(r.toolMemory), Activation: r.Activation, Why: r.Why,
		})
	}
	return recall, err
}

func (s toolSession) Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error) {
	args := arguments{"ids": ids}
	if ids == nil {
		args["ids"] = []string{}
	}
	result, err := callTool[forgetResult](ctx, s, "forget", args)
	return engram.ForgetReceipt{Seq: result.Seq, Forgotten: result.Forgotten}, err
}

// Memories lists in pages of two.
func (s toolSession) Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error] {
	return func(yield func(engram.Memory, error) bool) {
		for next := ""; ; {
			args := filterArguments(f)
			args["limit"], args["cursor"] = 2, next
			page, err := callTool[listResult](ctx, s, "list", args)
			if err != nil {
				yield(engram.Memory{}, err)
				return
			}
			for _, m := range page.Memories {
				if !yield(s.memory(m), nil) {
					return
				}
			}
			if next = page.Next; next == "" {
				return
			}
		}
	}
}

func (s toolSession) memory(m toolMemory) engram.Memory {
	return engram.Memory{
		ID: m.ID, Content: m.Content, Time: m.Time, Episode: m.Episode, Attributes: m.Attributes, Kind: m.Kind, Confidence: m.Confidence,
	}
}

func filterArguments(f engram.Filter) arguments {
	args := arguments{}
	if f.Episode != "" {
		args["episode"] = f.Episode
	}
	if f.Kind != "" {
		args["kind"] = f.Kind
	}
	if !f.After.IsZero() {
		args["after"] = f.After
	}
	if !f.Before.IsZero() {
		args["before"] = f.Before
	}
	if f.Attributes != nil {
		args["attributes"] = f.Attributes
	}
	return args
}

// notOffered are the operations that agents have no tools for.
type notOffered struct{}

func (notOffered) Create(context.Context, engram.SpaceID, engram.SpaceConfig) (engram.SpaceInfo, error) {
	return engram.SpaceInfo{}, errNotOffered
}

func (notOffered) Info(context.Context, engram.SpaceID) (engram.SpaceInfo, error) {
	return engram.SpaceInfo{}, errNotOffered
}

func (notOffered) Spaces(context.Context, engram.SpaceID) iter.Seq2[engram.SpaceID, error] {
	return func(yield func(engram.SpaceID, error) bool) { yield("", errNotOffered) }
}

func (notOffered) Rename(context.Context, engram.SpaceID, engram.SpaceID) error { return errNotOffered }

func (notOffered) Delete(context.Context, engram.SpaceID) error { return errNotOffered }

func (notOffered) Import(context.Context, engram.SpaceID, io.Reader) (engram.SpaceInfo, error) {
	return engram.SpaceInfo{}, errNotOffered
}

func (notOffered) Settle(context.Context) error { return errNotOffered }

func (notOffered) RememberBatch(context.Context, []engram.Memory) ([]engram.Receipt, error) {
	return nil, errNotOffered
}

func (notOffered) Lookup(context.Context, string) (engram.Memory, error) {
	return engram.Memory{}, errNotOffered
}

func (notOffered) ForgetWhere(context.Context, engram.Filter, bool) (engram.ForgetReceipt, error) {
	return engram.ForgetReceipt{}, errNotOffered
}

func (notOffered) Associate(context.Context, engram.Association) (engram.Receipt, error) {
	return engram.Receipt{}, errNotOffered
}

func (notOffered) Dissociate(context.Context, engram.Association) (engram.Receipt, error) {
	return engram.Receipt{}, errNotOffered
}

func (notOffered) Associations(context.Context, string) ([]engram.Association, error) {
	return nil, errNotOffered
}

func (notOffered) Subscribe(context.Context, uint64) iter.Seq2[engram.Event, error] {
	return func(yield func(engram.Event, error) bool) { yield(engram.Event{}, errNotOffered) }
}

func (notOffered) Configure(context.Context, func(*engram.SpaceConfig)) (engram.Receipt, error) {
	return engram.Receipt{}, errNotOffered
}

func (notOffered) Stats(context.Context) (engram.SpaceStats, error) {
	return engram.SpaceStats{}, errNotOffered
}

func (notOffered) Checkpoint(context.Context) error { return errNotOffered }

func (notOffered) Verify(context.Context) (engram.VerifyReport, error) {
	return engram.VerifyReport{}, errNotOffered
}

func (notOffered) Export(context.Context, io.Writer) (uint64, error) { return 0, errNotOffered }
