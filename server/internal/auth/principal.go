package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/engramdb/engram"
)

// Errors of Authorise.
var (
	// ErrHidden: the principal has no verb on the space. It must be answered as
	// a space that does not exist is.
	ErrHidden = errors.New("space is not visible")
	// ErrForbidden: the principal may see the space, but not do this.
	ErrForbidden = errors.New("not allowed")
)

// Principal is who sends a request, and what it may do. It never changes: a key
// whose scopes are changed is another principal, and the former one ends.
type Principal struct {
	name    string
	scopes  []Scope
	expires time.Time       // zero: never
	ended   context.Context // ends with ErrRevoked when the credential stops counting; nil: it never does
	refresh func()          // looks whether that has happened by now; may be nil
}

var anyone = &Principal{name: "anyone", scopes: []Scope{{Pattern: "*", Verbs: All}}}

// Anyone returns the principal of a server that asks nobody for credentials: it
// may do everything.
func Anyone() *Principal { return anyone }

// Name returns who it is, for logs and limits: the kind of the credential, and
// its own name. It holds no secret.
func (p *Principal) Name() string { return p.name }

// Scopes returns what it may do. The caller must not change them.
func (p *Principal) Scopes() []Scope { return p.scopes }

// Authorise returns nil if the principal has the verb on the space, ErrHidden
// if it has none there, else ErrForbidden. It decides from the id alone: call it
// before the space is looked up.
func (p *Principal) Authorise(verb Verb, space engram.SpaceID) error {
	has := p.on(space)
	switch {
	case verb != 0 && has&verb == verb:
		return nil
	case has == 0:
		return ErrHidden
	}
	return ErrForbidden
}

// AuthoriseAll is Authorise for what concerns all spaces at once: the principal
// needs the verb on "*".
func (p *Principal) AuthoriseAll(verb Verb) error {
	var has Verb
	for _, scope := range p.scopes {
		if scope.Pattern == "*" {
			has |= scope.Verbs
		}
	}
	if verb != 0 && has&verb == verb {
		return nil
	}
	return ErrForbidden
}

// Sees reports whether the principal may know that the space exists: whether it
// has any verb on it.
func (p *Principal) Sees(space engram.SpaceID) bool { return p.on(space) != 0 }

// Behind returns where to look on, in the order of ids, from one that the principal does
// not see: every id up to the text is hidden from it, and the first behind it need not
// be. It is false where all that follow are.
func (p *Principal) Behind(hidden engram.SpaceID) (engram.SpaceID, bool) {
	next := ""
	for _, scope := range p.scopes {
		if first := strings.TrimSuffix(scope.Pattern, "*"); first > string(hidden) && (next == "" || first < next) {
			next = first
		}
	}
	if next == "" {
		return "", false
	}
	return Before(engram.SpaceID(next)), true
}

// Before returns a text that is no id, behind which the id, or first part of ids, comes
// first in their order.
func Before(id engram.SpaceID) engram.SpaceID {
	last := len(id) - 1
	return id[:last] + engram.SpaceID([]byte{id[last] - 1, 0xff}) // a byte that no id has
}

func (p *Principal) on(space engram.SpaceID) Verb {
	var verbs Verb
	for _, scope := range p.scopes {
		if scope.matches(space) {
			verbs |= scope.Verbs
		}
	}
	return verbs
}

// Only returns the space that a request of the principal means if it names
// none, where the credential leaves no choice: all scopes are for one space.
func (p *Principal) Only() (engram.SpaceID, bool) {
	if len(p.scopes) == 0 {
		return "", false
	}
	only := p.scopes[0].Pattern
	other := func(scope Scope) bool { return scope.Pattern != only }
	if strings.HasSuffix(only, "*") || slices.ContainsFunc(p.scopes, other) {
		return "", false
	}
	return engram.SpaceID(only), true
}

// Check returns nil while the credential counts, else ErrRevoked or ErrExpired.
// A stream calls it before each message: a revocation that was written before
// the call is seen by it.
func (p *Principal) Check() error {
	if p.refresh != nil {
		p.refresh()
	}
	if p.ended != nil && p.ended.Err() != nil {
		return ErrRevoked
	}
	if !p.expires.IsZero() && !time.Now().Before(p.expires) {
		return ErrExpired
	}
	return nil
}

// Context returns a context that ends with parent, and with ErrRevoked or
// ErrExpired as its cause when the credential stops counting, also while
// nothing is sent. The caller must call the function. Where the credential always
// counts, the context is parent itself.
func (p *Principal) Context(parent context.Context) (context.Context, context.CancelFunc) {
	if p.ended == nil && p.expires.IsZero() {
		return parent, func() {}
	}
	ctx, cancel := context.WithCancelCause(parent)
	stopTimer := func() {}
	if !p.expires.IsZero() {
		ctx, stopTimer = context.WithDeadlineCause(ctx, p.expires, ErrExpired)
	}
	stopWatch := func() bool { return true }
	if p.ended != nil {
		stopWatch = context.AfterFunc(p.ended, func() { cancel(ErrRevoked) })
	}
	return ctx, func() {
		stopWatch()
		stopTimer()
		cancel(context.Canceled)
	}
}
