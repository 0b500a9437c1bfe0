package server

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/engramdb/engram"
)

// mcpVersion is the version of the tools. It rises with their schemas.
const mcpVersion = "1"

// defaultListed is how many memories the tool list returns where nothing is said.
const defaultListed = 20

// mcpTool is one tool.
type mcpTool struct {
	described *mcp.Tool
	verb      verb
	call      func(s *Server, x *exchange, arguments json.RawMessage) (any, error)
}

// toolSpace is the argument that every tool has, and what it says back.
type (
	toolSpace struct {
		Space *string `json:"space,omitempty" jsonschema:"id of the memory space; 3 to 64 of a-z 0-9 _ -"`
	}
	toolSpaceAnswer struct {
		Space    engram.SpaceID `json:"space" jsonschema:"the space this is about"`
		Fallback bool           `json:"fallback,omitempty" jsonschema:"true if the call named no space and got the default one"`
		Note     string         `json:"note,omitempty" jsonschema:"what to know about the space"`
	}
)

const fallbackNote = `No space was named, so this is about the space "default", which is shared by all who name none. Give the argument "space" to use another.`

func answerSpace(x *exchange) toolSpaceAnswer {
	answer := toolSpaceAnswer{Space: x.space, Fallback: x.fallback}
	if x.fallback {
		answer.Note = fallbackNote
	}
	return answer
}

// toolMemory is a memory as a model is shown it: without the embedding.
type toolMemory struct {
	ID         string            `json:"id" jsonschema:"id of the memory"`
	Content    string            `json:"content"`
	Time       time.Time         `json:"time" jsonschema:"when it happened"`
	Episode    string            `json:"episode,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Kind       engram.Kind       `json:"kind,omitempty"`
	Confidence float64           `json:"confidence,omitempty"`
}

func toolMemoryOf(m engram.Memory) toolMemory {
	return toolMemory{m.ID, m.Content, m.Time, m.Episode, m.Attributes, m.Kind, m.Confidence}
}

type (
	rememberArguments struct {
		toolSpace

		Content    string            `json:"content" jsonschema:"what to remember, in full sentences"`
		ID         string            `json:"id,omitempty" jsonschema:"id of the memory; one that exists is replaced; left out, a new one is made"`
		Time       time.Time         `json:"time,omitzero" jsonschema:"when it happened, RFC 3339; left out, now"`
		Episode    string            `json:"episode,omitempty" jsonschema:"the conversation, session or task that it belongs to"`
		Attributes map[string]string `json:"attributes,omitempty" jsonschema:"names and values to filter by later"`
		Kind       engram.Kind       `json:"kind,omitempty" jsonschema:"episodic for something that happened, semantic for a fact; left out, episodic"`
		Confidence float64           `json:"confidence,omitempty" jsonschema:"how much to believe it, above 0 and up to 1; left out or 0, 1"`
		RequestID  *string           `json:"request_id,omitempty" jsonschema:"makes a retry with the same request_id take effect once"`
	}
	rememberResult struct {
		toolSpaceAnswer

		ID  string `json:"id" jsonschema:"id of the memory"`
		Seq uint64 `json:"seq" jsonschema:"number of the operation in the space"`
	}
	recallArguments struct {
		toolSpace
		filterBody

		Text          string   `json:"text,omitempty" jsonschema:"what to recall, as a question or in key words"`
		IDs           []string `json:"ids,omitempty" jsonschema:"recall what these memories bring to mind"`
		Limit         int      `json:"limit,omitempty" jsonschema:"at most this many, 1 to 1000; left out or 0, 10"`
		MinActivation float64  `json:"min_activation,omitempty" jsonschema:"leave out what is activated less, 0 to 1"`
	}
	recallResult struct {
		toolSpaceAnswer

		Recollections []toolRecollection `json:"recollections" jsonschema:"the strongest first"`
	}
	toolRecollection struct {
		toolMemory

		Activation float64    `json:"activation" jsonschema:"how strongly the cue brings it to mind, 0 to 1"`
		Why        engram.Why `json:"why" jsonschema:"shares of the activation by where they come from"`
	}
	forgetArguments struct {
		toolSpace

		IDs       []string `json:"ids" jsonschema:"ids of the memories to forget for good"`
		RequestID *string  `json:"request_id,omitempty" jsonschema:"makes a retry with the same request_id take effect once"`
	}
	forgetResult struct {
		toolSpaceAnswer

		Forgotten int    `json:"forgotten" jsonschema:"how many there were to forget"`
		Seq       uint64 `json:"seq" jsonschema:"number of the operation in the space"`
	}
	listArguments struct {
		toolSpace
		filterBody

		Limit  int    `json:"limit,omitempty" jsonschema:"at most this many, 1 to 1000; left out or 0, 20"`
		Cursor string `json:"cursor,omitempty" jsonschema:"the field next of the page before, with the same filter"`
	}
	listResult struct {
		toolSpaceAnswer

		Memories []toolMemory `json:"memories" jsonschema:"in the order of their times"`
		Next     string       `json:"next,omitempty" jsonschema:"give it as cursor for the next page; absent on the last"`
	}
)

// newMCPTools returns the table of tools.
func newMCPTools() []mcpTool {
	closed, destructive, additive := false, true, false
	return []mcpTool{
		{describeTool[rememberArguments, rememberResult]("remember", "Remember",
			"Remember something durably in a memory space. A memory of the same id is replaced.",
			mcp.ToolAnnotations{OpenWorldHint: &closed, DestructiveHint: &destructive}), verbWrite, toolRemember},
		{describeTool[recallArguments, recallResult]("recall", "Recall",
			"Recall what a text, memories or a filter bring to mind, the strongest first. Only a filter: the newest first.",
			mcp.ToolAnnotations{OpenWorldHint: &closed, DestructiveHint: &additive, ReadOnlyHint: true, IdempotentHint: true}), verbRead, toolRecall},
		{describeTool[forgetArguments, forgetResult]("forget", "Forget",
			"Forget memories by their ids, for good. Ids that are unknown are no error.",
			mcp.ToolAnnotations{OpenWorldHint: &closed, DestructiveHint: &destructive, IdempotentHint: true}), verbWrite, toolForget},
		{describeTool[listArguments, listResult]("list", "List memories",
			"List the memories of a space that satisfy a filter, in the order of their times, page by page.",
			mcp.ToolAnnotations{OpenWorldHint: &closed, DestructiveHint: &additive, ReadOnlyHint: true, IdempotentHint: true}), verbRead, toolList},
	}
}

// describeTool derives the schemas from the types that the tool decodes and
// encodes.
func describeTool[In, Out any](name, title, description string, annotations mcp.ToolAnnotations) *mcp.Tool {
	annotations.Title = title
	return &mcp.Tool{
		Name: name, Title: title, Description: description, Annotations: &annotations,
		InputSchema: schemaOf[In](), OutputSchema: schemaOf[Out](),
	}
}

func schemaOf[T any]() *jsonschema.Schema {
	derived, err := jsonschema.For[T](nil)
	if err != nil { // impossible: the types are the ones above
		panic(fmt.Sprintf("derive schema: %v", err))
	}
	return derived
}

func toolRemember(s *Server, x *exchange, raw json.RawMessage) (any, error) {
	var arguments rememberArguments
	if err := decodeArguments(raw, &arguments); err != nil {
		return nil, err
	}
	options, err := toolOptions(arguments.RequestID)
	if err != nil {
		return nil, err
	}
	id, err := s.selectSpace(x, arguments.Space)
	if err != nil {
		return nil, err
	}
	memory := engram.Memory{
		ID: arguments.ID, Content: arguments.Content, Time: arguments.Time, Episode: arguments.Episode,
		Attributes: arguments.Attributes, Kind: arguments.Kind, Confidence: arguments.Confidence,
	}
	space, err := s.getToWrite(x.r.Context(), id, false, []engram.Memory{memory}, options...)
	if err != nil {
		return nil, err
	}
	ctx, end := inLibrary(x.r.Context(), "Remember")
	receipt, err := space.Remember(ctx, memory, options...)
	end(err)
	if err != nil {
		return nil, err
	}
	return rememberResult{answerSpace(x), receipt.ID, receipt.Seq}, nil
}

func toolOptions(requestID *string) ([]engram.WriteOption, error) {
	switch {
	case requestID == nil:
		return nil, nil
	case *requestID == "":
		return nil, &engram.InvalidError{Field: "request_id", Reason: "is empty"}
	}
	return []engram.WriteOption{engram.RequestID(*requestID)}, nil
}

func toolRecall(s *Server, x *exchange, raw json.RawMessage) (any, error) {
	var arguments recallArguments
	if err := decodeArguments(raw, &arguments); err != nil {
		return nil, err
	}
	space, err := s.selectHandle(x, arguments.Space)
	if err != nil {
		return nil, err
	}
	recall, err := s.recallFor(x.r.Context(), &x.request, space, engram.Cue{
		Text: arguments.Text, IDs: arguments.IDs, Filter: engram.Filter(arguments.filterBody),
		Limit: arguments.Limit, MinActivation: arguments.MinActivation,
	})
	if err != nil {
		return nil, err
	}
	result := recallResult{answerSpace(x), make([]toolRecollection, len(recall.Recollections))}
	for i, r := range recall.Recollections {
		result.Recollections[i] = toolRecollection{toolMemoryOf(r.Memory), r.Activation, r.Why}
	}
	return result, nil
}

func toolForget(s *Server, x *exchange, raw json.RawMessage) (any, error) {
	var arguments forgetArguments
	if err := decodeArguments(raw, &arguments); err != nil {
		return nil, err
	}
	options, err := toolOptions(arguments.RequestID)
	if err != nil {
		return nil, err
	}
	space, err := s.selectHandle(x, arguments.Space)
	if err != nil {
		return nil, err
	}
	ctx, end := inLibrary(x.r.Context(), "Forget")
	receipt, err := space.Forget(ctx, arguments.IDs, options...)
	end(err)
	if err != nil {
		return nil, err
	}
	return forgetResult{answerSpace(x), receipt.Forgotten, receipt.Seq}, nil
}

func toolList(s *Server, x *exchange, raw json.RawMessage) (any, error) {
	var arguments listArguments
	if err := decodeArguments(raw, &arguments); err != nil {
		return nil, err
	}
	limit := arguments.Limit
	switch {
	case limit == 0:
		limit = defaultListed
	case limit < 0:
		return nil, &engram.InvalidError{Field: "limit", Reason: "is negative"}
	case limit > maxPageMemories:
		return nil, &engram.LimitError{What: "limit", Got: int64(limit), Max: maxPageMemories}
	}
	space, err := s.selectHandle(x, arguments.Space)
	if err != nil {
		return nil, err
	}
	page, err := s.listPage(x.r.Context(), &x.request, space, engram.Filter(arguments.filterBody), arguments.Cursor, arguments.Cursor != "", limit)
	if err != nil {
		return nil, err
	}
	result := listResult{answerSpace(x), make([]toolMemory, len(page.Memories)), page.Next}
	for i, m := range page.Memories {
		result.Memories[i] = toolMemoryOf(m)
	}
	return result, nil
}
