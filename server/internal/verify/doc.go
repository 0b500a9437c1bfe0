// Package verify proves on an installation that its spaces are isolated, that
// requests end in the space that they name, and that what was acknowledged is
// kept: with an embedded directory through the library, with a running server
// through HTTP, gRPC and the tools of the Model Context Protocol.
//
// An [assertion] is one claim, tried over one transport. It makes what it needs in
// spaces of its own, and counts what it compared. The seed fixes which assertions
// there are, what they write and how often they compare; it does not fix when
// concurrent writers meet.
//
// A run makes spaces with Create alone, under ids with 60 random bits in them,
// deletes those and no others, and stops where one of them is there already.
package verify
