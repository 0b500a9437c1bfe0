package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// openAPI is the description, as the tests need it.
type openAPI struct {
	Paths      map[string]map[string]*openAPIOperation
	Components struct {
		Schemas    map[string]*schema
		Parameters map[string]*openAPIParameter
		Responses  map[string]*openAPIResponse
	}
}

type openAPIOperation struct {
	OperationID string `json:"operationId"`
	Verb        string `json:"x-engram-verb"`
	Parameters  []*openAPIParameter
	RequestBody *openAPIResponse `json:"requestBody"`
	Responses   map[string]*openAPIResponse
}

type openAPIParameter struct {
	Ref      string `json:"$ref"`
	Name, In string
	Required bool
	Example  any
}

// openAPIResponse is a response, or the body of a request.
type openAPIResponse struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema   *schema
		Example  any
		Examples map[string]struct{ Value any }
	}
}

// described is the route's path as the description has it, without the mux's way
// to say that nothing follows.
func (rt route) described() string { return strings.TrimSuffix(rt.path, "{$}") }

func describedAPI(t *testing.T) *openAPI {
	t.Helper()
	var api openAPI
	require.NoError(t, json.Unmarshal(openAPIDocument, &api))
	for _, operations := range api.Paths {
		for _, operation := range operations {
			for i, p := range operation.Parameters {
				if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
					require.Contains(t, api.Components.Parameters, name)
					operation.Parameters[i] = api.Components.Parameters[name]
				}
			}
		}
	}
	return &api
}

var verbNames = map[verb]string{verbPublic: "public", verbRead: "read", verbWrite: "write", verbAdmin: "admin"}

// TestOpenAPIDescribesEveryRoute and nothing else.
func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	api := describedAPI(t)
	var routed, described []string
	for _, rt := range routes() {
		if rt.path == mcpPath {
			continue // another protocol, which describes its tools itself
		}
		rt.path = rt.described()
		name := rt.method + " " + rt.path
		routed = append(routed, name)
		operation := api.Paths[rt.path][strings.ToLower(rt.method)]
		require.NotNil(t, operation, name)
		require.Equal(t, verbNames[rt.verb], operation.Verb, name)
		var inPath []string
		for _, p := range operation.Parameters {
			if p.In == "path" {
				inPath = append(inPath, "{"+p.Name+"}")
				require.True(t, p.Required)
			}
		}
		for _, part := range strings.Split(rt.path, "/") {
			require.Equal(t, strings.HasPrefix(part, "{"), slices.Contains(inPath, part), "%s: %s", name, part)
		}
		require.Equal(t, bodyFor(rt) != "", operation.RequestBody != nil, name)
	}
	ids := map[string]bool{}
	for path, operations := range api.Paths {
		for method, operation := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
			require.False(t, ids[operation.OperationID], operation.OperationID)
			ids[operation.OperationID] = true
		}
	}
	require.ElementsMatch(t, routed, described)
}

// TestOpenAPISchemasAreTheTypes: what the server reads and writes has the fields
// that are described.
func TestOpenAPISchemasAreTheTypes(t *testing.T) {
	api := describedAPI(t)
	types := map[string]any{
		"Memory": engram.Memory{}, "MemoryInBatch": engram.Memory{}, "MemoryToRemember": putBody{}, "Receipt": engram.Receipt{}, "Receipts": batchAnswer{},
		"SeqReceipt": seqAnswer{}, "ForgetReceipt": engram.ForgetReceipt{}, "ForgetWhereReceipt": forgetWhereAnswer{}, "Forget": forgetBody{},
		"ForgetWhere": forgetWhereBody{}, "MemoryPage": memoryPage{}, "Filter": engram.Filter{}, "Spread": engram.Spread{}, "Cue": recallBody{},
		"Recall": engram.Recall{}, "Recollection": engram.Recollection{}, "Why": engram.Why{}, "Plan": engram.Plan{}, "Spreading": engram.Spreading{},
		"Association": engram.Association{}, "AssociationToMake": associationBody{}, "AssociationPage": associationPage{},
		"SpaceConfig": engram.SpaceConfig{}, "ConfigToSet": configBody{}, "CreateSpace": createSpaceBody{}, "RenameSpace": renameBody{},
		"SpaceInfo": engram.SpaceInfo{}, "SpacePage": spacePage{}, "ContentStats": engram.ContentStats{}, "OperatorStats": engram.OperatorStats{},
		"RecoveryReport": engram.RecoveryReport{}, "RegistryStats": registryStatsAnswer{}, "VerifyReport": engram.VerifyReport{},
		"Event": engram.Event{}, "SpaceEvent": engram.SpaceEvent{}, "EndOfStream": endAnswer{}, "Problem": problem{},
	}
	for name, s := range api.Components.Schemas {
		v, known := types[name]
		if !known {
			require.Contains(t, []string{"SpaceID", "BatchToRemember", "Readiness"}, name, "a schema of no type")
			continue
		}
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" && tag != "-" {
				fields = append(fields, tag)
			}
		}
		var properties []string
		for property := range s.Properties {
			properties = append(properties, property)
		}
		require.ElementsMatch(t, fields, properties, name)
	}
}

// TestOpenAPIListsRefusals: an operation lists 401, 403 and 429 if, and only if,
// some kind of caller is answered so.
func TestOpenAPIListsRefusals(t *testing.T) {
	api := describedAPI(t)
	columns, gate := callers(t)
	f := newFixture(t, Options{Auth: gate})
	f.create("other")
	busy := newFixture(t, Options{Auth: gate, CallerRate: Rate{PerSecond: 1e-6, Burst: 1}})
	operator := columns[len(columns)-1].token
	require.Equal(t, http.StatusOK, busy.call("GET", "/v1/spaces", "", keyHeader, operator).status)
	for _, rt := range routes() {
		if rt.path == mcpPath {
			continue
		}
		met := map[int]bool{busy.ask(rt, "alpha", operator).status: true}
		for _, c := range columns {
			f.reset()
			met[f.ask(rt, "alpha", c.token).status] = true
		}
		listed := api.Paths[rt.described()][strings.ToLower(rt.method)].Responses
		for status, name := range map[int]string{401: "Unauthenticated", 403: "Forbidden", 429: "TooMany"} {
			described := listed[fmt.Sprint(status)]
			require.Equal(t, met[status], described != nil, "%s %s: %d", rt.method, rt.path, status)
			if described == nil {
				continue
			}
			require.Equal(t, "#/components/responses/"+name, described.Ref)
			content := api.Components.Responses[name].Content["application/problem+json"]
			require.NoError(t, api.check(content.Schema, content.Example))
		}
	}
}

// exampleFixture serves what the examples of the description are about.
func exampleFixture(t *testing.T) (*fixture, *httptest.Server) {
	t.Helper()
	f := newFixture(t, Options{})
	for _, id := range []engram.SpaceID{"alice", engram.DefaultSpace} {
		space := f.create(id)
		_, err := space.RememberBatch(t.Context(), []engram.Memory{
			{ID: "tea", Content: "Alice likes green tea.", Episode: "chat-7", Attributes: map[string]string{"who": "alice"}, Kind: engram.Episodic},
			{ID: "cake", Content: "Lemon cake goes with it.", Episode: "chat-8"},
		})
		require.NoError(t, err)
		_, err = space.Associate(t.Context(), engram.Association{From: "tea", To: "cake", Kind: "goes-with", Weight: 0.5})
		require.NoError(t, err)
	}
	live := httptest.NewServer(f.server)
	t.Cleanup(live.Close)
	return f, live
}

// TestOpenAPIExamples sends every example to a server, and compares its answer,
// and the example of an answer, with the schema.
func TestOpenAPIExamples(t *testing.T) {
	api := describedAPI(t)
	_, shared := exampleFixture(t)
	for path, operations := range api.Paths {
		for method, operation := range operations {
			bodies := map[string]any{"": nil}
			if operation.RequestBody != nil {
				bodies = map[string]any{}
				for mediaType, content := range operation.RequestBody.Content {
					examples := content.Examples
					if content.Example != nil {
						examples = map[string]struct{ Value any }{"": {content.Example}}
					}
					require.NotEmpty(t, examples, "%s %s", method, path)
					for name, example := range examples {
						bodies[mediaType+name] = example.Value
						require.NoError(t, api.check(content.Schema, example.Value))
					}
				}
			}
			for name, body := range bodies {
				t.Run(strings.ToUpper(method)+path+" "+name, func(t *testing.T) {
					live := shared
					if operation.Verb == "write" || operation.Verb == "admin" {
						_, live = exampleFixture(t) // it may remove what others ask for
					}
					api.replay(t, live, strings.ToUpper(method), path, operation, body)
				})
			}
		}
	}
}

// replay sends the request that the examples of an operation make.
func (api *openAPI) replay(t *testing.T, live *httptest.Server, method, path string, operation *openAPIOperation, body any) {
	t.Helper()
	query := url.Values{}
	for _, p := range operation.Parameters {
		switch {
		case p.Example == nil:
			require.False(t, p.Required, p.Name)
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(fmt.Sprint(p.Example)))
		case p.In == "query":
			values, several := p.Example.([]any)
			if !several {
				values = []any{p.Example}
			}
			for _, value := range values {
				query.Add(p.Name, fmt.Sprint(value))
			}
		}
	}
	text, raw := body.(string)
	if body != nil && !raw {
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		text = string(encoded)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, live.URL+path+"?"+query.Encode(), strings.NewReader(text))
	require.NoError(t, err)
	response, err := live.Client().Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	described := operation.Responses[fmt.Sprint(response.StatusCode)]
	require.NotNil(t, described, "status %d is not described", response.StatusCode)
	require.Less(t, response.StatusCode, 300)
	if len(described.Content) == 0 {
		return
	}
	mediaType := response.Header.Get("Content-Type")
	require.Contains(t, described.Content, mediaType)
	content := described.Content[mediaType]
	if content.Example != nil {
		require.NoError(t, api.check(content.Schema, content.Example))
	}
	if mediaType != "application/json" {
		return
	}
	var answer any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.NoError(t, api.check(content.Schema, answer))
}

// schema is the part of JSON Schema that the description uses.
type schema struct {
	Ref        string `json:"$ref"`
	AnyOf      []*schema
	Type       any
	Enum       []any
	Properties map[string]*schema
	Required   []string
	Additional json.RawMessage `json:"additionalProperties"`
	Items      *schema
	Minimum    *float64
	Maximum    *float64
	MaxItems   *int `json:"maxItems"`
}

// check returns how the value violates the schema.
func (api *openAPI) check(s *schema, v any) error {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		target := api.Components.Schemas[name]
		if target == nil {
			return fmt.Errorf("no schema %s", name)
		}
		if err := api.check(target, v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	if len(s.AnyOf) > 0 {
		var err error
		for _, option := range s.AnyOf {
			if err = api.check(option, v); err == nil {
				return nil
			}
		}
		return err
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%v is none of %v", v, s.Enum)
	}
	switch v := v.(type) {
	case map[string]any:
		return api.checkObject(s, v)
	case []any:
		for i, item := range v {
			if err := api.check(s.Items, item); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return s.hasType("array")
	case string:
		return s.hasType("string")
	case bool:
		return s.hasType("boolean")
	case float64:
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			return fmt.Errorf("%v is out of range", v)
		}
		if v == float64(int64(v)) && s.hasType("integer") == nil {
			return nil
		}
		return s.hasType("number")
	}
	return s.hasType("null")
}

func (api *openAPI) checkObject(s *schema, v map[string]any) error {
	for _, name := range s.Required {
		if _, there := v[name]; !there {
			return fmt.Errorf("%s is missing", name)
		}
	}
	for name, value := range v {
		property := s.Properties[name]
		if property == nil {
			switch string(s.Additional) {
			case "":
				continue
			case "false":
				return fmt.Errorf("%s is not described", name)
			}
			property = &schema{}
			if err := json.Unmarshal(s.Additional, property); err != nil {
				return err
			}
		}
		if err := api.check(property, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return s.hasType("object")
}

func (s *schema) hasType(name string) error {
	if one, ok := s.Type.(string); ok && one == name {
		return nil
	}
	if several, ok := s.Type.([]any); ok && slices.Contains(several, any(name)) {
		return nil
	}
	return fmt.Errorf("is %s, not %v", name, s.Type)
}
