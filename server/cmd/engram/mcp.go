package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
	"github.com/engramdb/engram/server/internal/wire"
)

func (a *app) mcpCommand() *cobra.Command {
	var flags spaceFlags
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Speak the Model Context Protocol on the standard streams, for a running server",
		Long: `Speak the Model Context Protocol on the standard streams, for a running server.
An agent starts this command and calls the tools remember, recall, forget and
list; each call is passed on to the server. The data directory is never opened.

With --space or $ENGRAM_SPACE every call is about that space, and one that names
another is refused. Without, a call names its space by the argument "space".`,
		Example: `  engram mcp --space alice
  engram mcp --addr http://127.0.0.1:7432`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.dataGiven() {
				return errors.New("--data: this command speaks for a server, name it with --addr")
			}
			address, err := a.server()
			if err != nil {
				return err
			}
			if address == "" {
				address = "http://" + defaultHTTPAddress
			}
			space := flags.space
			if !cmd.Flags().Changed("space") {
				space = os.Getenv(spaceVariable)
			} else if err := engram.SpaceID(space).Validate(); err != nil {
				return err // also of an empty one, which would bind nothing
			}
			err = a.relayMCP(cmd.Context(), address, space)
			if cmd.Context().Err() != nil {
				return nil // a signal is how an agent ends what it has started
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&flags.space, "space", "s", "", "bind every call to this space `id` (default $"+spaceVariable+", then none)")
	return cmd
}

// relayMCP offers the server's tools on the standard streams until the input
// ends. The tools are the server's own, schemas and all: this knows none of them.
func (a *app) relayMCP(ctx context.Context, address, space string) (err error) {
	endpoint, err := mcpEndpoint(address, space)
	if err != nil {
		return err
	}
	transport, err := a.shown.transport(address)
	if err != nil {
		return err
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "engram-relay", Version: "1"}, nil)
	// An answer that is an error would be the end of the session, an error of the transport
	// is not.
	upstream, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: endpoint, DisableStandaloneSSE: true, MaxRetries: -1,
		HTTPClient: &http.Client{Transport: httpclient.Refusing{RoundTripper: transport}},
	}, nil)
	if err != nil {
		return notConnected(address, err)
	}
	defer func() { err = errors.Join(err, upstream.Close()) }()

	relay := mcp.NewServer(&mcp.Implementation{Name: "engram", Title: "Engram", Version: "1"}, &mcp.ServerOptions{
		Instructions: upstream.InitializeResult().Instructions,
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})
	for tool, err := range upstream.Tools(ctx, nil) {
		if err != nil {
			return &unreachableError{address, err}
		}
		relay.AddTool(tool, func(ctx context.Context, request *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return relayCall(ctx, upstream, request.Params)
		})
	}
	return relay.Run(ctx, answeringTransport{&mcp.IOTransport{
		Reader: io.NopCloser(a.in), Writer: nopWriteCloser{a.out}, MaxLineLength: maxLineBytes,
	}})
}

// notConnected says why a server could not be connected to.
func notConnected(address string, err error) error {
	if problem := new(httpclient.Problem); errors.As(err, &problem) {
		return problem
	}
	return &unreachableError{address, err}
}

// relayCall passes one call on as it is, with the span that it is part of. What else
// is said about the call is about this session. What the server refuses before it looks
// for the tool is the tool's error.
func relayCall(ctx context.Context, upstream *mcp.ClientSession, call *mcp.CallToolParamsRaw) (*mcp.CallToolResult, error) {
	params := &mcp.CallToolParams{Name: call.Name}
	if len(call.Arguments) > 0 {
		params.Arguments = call.Arguments
	}
	if parent, ok := call.Meta[wire.Traceparent]; ok {
		params.Meta = mcp.Meta{wire.Traceparent: parent}
	}
	result, err := upstream.CallTool(ctx, params)
	if problem := new(httpclient.Problem); errors.As(err, &problem) {
		return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: problem.Document()}}}, nil
	}
	return result, err
}

// mcpEndpoint returns where the server speaks the protocol. The space goes with
// the address: the server compares it with what a call names.
func mcpEndpoint(address, space string) (string, error) {
	endpoint, err := httpclient.ParseAddress(address)
	if err != nil {
		return "", fmt.Errorf("--addr: %w", err)
	}
	endpoint.Path = "/mcp"
	if space != "" {
		if err := engram.SpaceID(space).Validate(); err != nil {
			return "", err
		}
		endpoint.RawQuery = url.Values{"space": {space}}.Encode()
	}
	return endpoint.String(), nil
}

// unreachableError says which server did not answer as one.
type unreachableError struct {
	address string
	err     error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no server at %s: %v", e.address, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }
