// Package auth says who sends a request and what it may do. A [Gate] turns what
// the request shows (an API key, a JSON Web Token, a client certificate) into a
// [Principal], and a principal's [Scope]s say which verbs it has on which spaces.
// Every transport asks here, so that all answer alike.
//
// The order is part of the contract: authorise before looking anything up.
// [Principal.Authorise] decides from the space's id alone, so what it answers
// cannot depend on whether the space exists.
package auth
