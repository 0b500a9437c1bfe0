// Package server exposes a registry of memory spaces over HTTP as JSON, over gRPC
// and, for agents, over the Model Context Protocol. It uses nothing but the public
// API of package engram, so it can do nothing that an embedding program could not
// do itself.
//
// # Hosting
//
// A program of one's own hosts a server with [New], and answers by [Server.Serve],
// [Server.ServeGRPC] and [Server.ServeAdmin], or by an http.Server of its own through
// [Server.ServeHTTP] and [Server.AdminHandler]; the command engram serve is such a
// program. Credentials are opened by [OpenAuth], rates are in [Options], metrics are at
// /metrics of the operator's handler, and spans are made by [Options.TracerProvider], for
// example of OpenTelemetry's SDK with its exporter over OTLP. TLS is the listener's
// (crypto/tls), and of gRPC an option (grpc.Creds).
//
// # Routes
//
// Of the registry:
//
//	GET    /                    the web console, unless [Options.NoConsole]; its files are below /console
//	GET    /readyz              200 while requests are welcome, else 503
//	GET    /openapi.json        all of this in OpenAPI 3.1
//	GET    /v1/stats            figures of the registry
//	POST   /v1/settle           make every log durable, and the journal empty
//	GET    /v1/space-events     stream: spaces created, deleted, renamed, quarantined
//	POST   /v1/spaces           create a space: {"id": ..., "config": {...}}
//	GET    /v1/spaces           list spaces in the order of their ids: after, limit
//
// Of one space, below /v1/spaces/{space}:
//
//	GET    (nothing)            describe it
//	DELETE (nothing)            delete it with all it holds
//	POST   /rename              give it another id: {"to": ...}
//	POST   /import              create it from JSON Lines
//	GET    /config              its configuration
//	PUT    /config              configure it
//	GET    /stats               figures of what it holds
//	GET    /stats/operator      figures of its files
//	POST   /checkpoint          write its indexes, drop the bytes of what was forgotten
//	POST   /verify              read every byte of it
//
// Of what a space holds, below /v1/spaces/{space} and, for programs with a single
// tenant, below /v1:
//
//	POST   /memories                      remember one memory, or {"memories": [...]} all or nothing
//	GET    /memories                      list: after, before, episode, kind, attribute=key:value, limit, cursor
//	GET    /memories/{id}                 look a memory up
//	PUT    /memories/{id}                 remember a memory under this id
//	DELETE /memories/{id}                 forget a memory
//	GET    /memories/{id}/associations    its associations
//	POST   /forget                        forget by ids: {"ids": [...]}
//	POST   /forget-where                  forget by filter: {"filter": {...}, "dry_run": true}
//	POST   /recall                        recall; the body is the cue
//	POST   /associations                  associate: {"from": ..., "to": ..., "kind": ..., "weight": ...}
//	DELETE /associations                  dissociate: from, to, kind
//	GET    /events                        stream its operations: after, or the header Last-Event-ID
//	GET    /export                        all of it as JSON Lines
//
// POST /mcp speaks the Model Context Protocol, with the tools remember, recall,
// forget and list. Which space a call means is decided as for every request, with
// the tool's argument "space" in the place of the body's field.
//
// # gRPC
//
// ServeGRPC answers the services of engram.v1 (proto/engram/v1) on a listener of its
// own: what HTTP does, with streams for writes, recalls, exports and events. Both
// transports have one resolver, one policy of verbs and one table of errors;
// package client is a Go client of it.
//
// # Which space a request means
//
// The path names it. Without it: the header X-Engram-Memory-Space (or its alias
// X-Memory-Space), the query parameter "space", the body's "memory_space_id",
// else the space of a credential that is for a single one, else the default space.
// Every place that names a space must name the same one, or the request is refused.
// A fall-back to the default space is announced by the response header
// Engram-Space-Fallback, counted, logged once for each client, and refused with
// [Options.RequireSpace]. A read never creates a space; a write of memories does only
// with [Options.AutoCreate].
//
// # Who may do what
//
// With [Options.Auth], a request to any route or RPC but those that are public shows
// an API key or a JSON Web Token, in the header, or metadata, Authorization
// ("Bearer ...") or X-API-Key, or a client certificate. Its scopes say which verbs
// (read, write, admin) it has on which spaces; each route needs one of them, on the
// space it means. That is decided from the space's id before the space is looked up,
// and a space on which the caller has no verb is answered as one that does not exist:
// 404, the same to the byte. Without a valid credential the answer is 401, without
// the verb 403. Listing shows what is visible. What is about all spaces needs the verb
// on "*". A revoked key ends the streams that it has open.
//
// # Bodies and errors
//
// Names in JSON are the names of the Go fields in snake case. Unknown and
// repeated fields and anything after the value are refused; a body that cannot
// be read to its end stores nothing. The header Idempotency-Key makes a retried
// write take effect once, see [engram.RequestID]; If-Match makes it conditional.
// An error is a problem document of RFC 9457 with a stable type, and a hint what
// to do. It contains no path of the host and nothing about a space other than the
// one that was asked for, but, where there is no such space, up to three ids that may
// have been meant, of those that the caller may see.
//
// # Streams
//
// An event's id is its seq. The stream is read from the space's log as the client
// takes it: there is no queue, no writer waits, nothing is skipped. A client that
// takes nothing is cut off; every id that it has is a position to go on from. A
// stream that the server ends has the event "end" last. An export that fails
// breaks its connection.
package server
