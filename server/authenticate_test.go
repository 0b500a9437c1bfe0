package server

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/auth"
)

// caller is one column of the matrix: who asks, and what it was granted on the
// spaces that the matrix is about.
type caller struct {
	name    string
	token   string
	known   bool      // it is admitted at all
	granted auth.Verb // on alpha, fresh and renamed
	all     bool      // on every space
}

// callers returns the columns and the gate that knows them.
func callers(t *testing.T) ([]caller, *Auth) {
	t.Helper()
	now := time.Now()
	var keys []auth.Key
	issue := func(expires time.Time, verbs string, patterns ...string) string {
		var texts []string
		for _, pattern := range patterns {
			texts = append(texts, pattern+":"+verbs)
		}
		scopes, err := auth.ParseScopes(texts)
		require.NoError(t, err)
		key, text := auth.NewKey("", scopes, now, expires)
		keys = append(keys, key)
		return text
	}
	const everything = "read,write,admin"
	mine := []string{"alpha", "fresh", "renamed"}
	columns := []caller{
		{name: "no key"},
		{name: "wrong key", token: "engram_aaaaaaaaaaaaaaaa_" + strings.Repeat("a", 52)},
		{name: "rubbish", token: "rubbish"},
		{name: "expired", token: issue(now.Add(-time.Hour), everything, "*")},
		{name: "revoked", token: issue(time.Time{}, everything, "*")},
		{name: "of another space", known: true, token: issue(time.Time{}, everything, "other", "alph", "alpha-*", "default")},
		{name: "read-only", known: true, token: issue(time.Time{}, "read", mine...), granted: auth.Read},
		{name: "write", known: true, token: issue(time.Time{}, "write", mine...), granted: auth.Write},
		{name: "admin", known: true, token: issue(time.Time{}, "admin", mine...), granted: auth.Admin},
		{name: "everything here", known: true, token: issue(time.Time{}, everything, mine...), granted: auth.All},
		{name: "operator", known: true, token: issue(time.Time{}, everything, "*"), granted: auth.All, all: true},
	}
	keys[1].Revoked = now
	return columns, &Auth{auth.Gate{Keys: auth.NewKeyring(keys)}}
}

// TestLogSaysWhyACredentialDoesNotCount: the caller is told only that it does not, and
// the log has neither the token nor more of the caller's words than it can bear.
func TestLogSaysWhyACredentialDoesNotCount(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	keySet := filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(keySet, fmt.Appendf(nil,
		`{"keys":[{"kty":"OKP","kid":"k","crv":"Ed25519","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public)), 0o600))
	tokens, err := auth.OpenTokens(t.Context(), auth.TokenConfig{KeySet: keySet, Issuer: "issuer", Audience: "engram"}, zap.NewNop())
	require.NoError(t, err)
	core, logs := observer.New(zap.InfoLevel)
	w := newWired(t, Options{Logger: zap.New(core), Auth: &Auth{auth.Gate{Tokens: tokens}}})
	w.create("alpha")
	sign := func(keyID, audience, scopes string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": "issuer", "aud": audience, "sub": "agent", "exp": time.Now().Add(time.Hour).Unix(), auth.DefaultScopeClaim: scopes,
		})
		token.Header["kid"] = keyID
		text, err := token.SignedString(private)
		require.NoError(t, err)
		return text
	}
	for _, shown := range []struct{ token, why string }{
		{sign("k", "engram", "*:read"), ""},
		{sign("k", "other", "*:read"), "audience"},
		{sign("other", "engram", "*:read"), `id "other"`},
		{sign(strings.Repeat("x", 1<<10), "engram", "*:read"), "xxx"},
		{sign("k", "engram", ""), auth.DefaultScopeClaim},
		{"rubbish", "malformed"},
	} {
		answer := w.call("GET", "/v1/spaces/alpha", "", "Authorization", "Bearer "+shown.token)
		said := w.askRPC("/engram.v1.SpaceService/GetSpace", "alpha", shown.token)
		entries := logs.FilterMessage("request").All()
		logs.TakeAll()
		require.Len(t, entries, 2)
		for _, entry := range entries {
			why, refused := entry.ContextMap()["refused"]
			require.Equal(t, shown.why != "", refused, shown.why)
			require.NotContains(t, fmt.Sprint(entry.ContextMap()), shown.token)
			if refused {
				require.Contains(t, why, shown.why)
				require.LessOrEqual(t, len(why.(string)), maxRefusedBytes)
			}
		}
		if shown.why != "" {
			require.Equal(t, auth.ErrUnknown.Error(), answer.problem(401, "unauthenticated").Detail)
			require.Equal(t, codes.Unauthenticated, status.Code(said))
			require.NotContains(t, said.Error(), shown.why)
		}
	}
}

// ask sends a valid request to a route, about the space.
func (f *fixture) ask(rt route, space, token string) reply {
	f.t.Helper()
	method, headers := rt.method, []string{requestIDHeader, "pinned"}
	if strings.HasSuffix(rt.path, "events") {
		method = http.MethodHead // which a stream answers without going on
	}
	if reachOf(rt) == reachSpace && rt.path != "/v1/spaces" && !strings.Contains(rt.path, "{space}") {
		headers = append(headers, spaceHeader, space)
	}
	if token != "" {
		headers = append(headers, "Authorization", "Bearer "+token)
	}
	body := strings.Replace(bodyFor(rt), "fresh", freshFor(space), 1)
	return f.call(method, fill(rt.path, space, "x"), body, headers...)
}

// freshFor names the space that a request about space would create.
func freshFor(space string) string {
	if space == "alpha" {
		return "fresh"
	}
	return space
}

// TestMatrix asks every route as every caller. What it expects it takes from
// the route's verb alone.
func TestMatrix(t *testing.T) {
	columns, gate := callers(t)
	shared := newFixture(t, Options{Auth: gate})
	shared.create("other")
	for _, rt := range routes() {
		t.Run(rt.method+" "+rt.path, func(t *testing.T) {
			f := &fixture{t: t, registry: shared.registry, server: shared.server}
			for _, c := range columns {
				f.reset()
				reply := f.ask(rt, "alpha", c.token)
				what := c.name + ": " + reply.body
				needed := rt.verb.permission()
				makes := rt.path == "/v1/spaces" && rt.method == "POST" || strings.HasSuffix(rt.path, "/rename")
				switch {
				case rt.verb == verbPublic:
					require.Less(t, reply.status, 400, what)
				case !c.known:
					reply.problem(401, "unauthenticated")
					challenge := reply.header.Get("WWW-Authenticate")
					require.True(t, strings.HasPrefix(challenge, "Bearer "), what)
					require.Equal(t, c.token != "", strings.Contains(challenge, "invalid_token"), what)
				case rt.path == mcpPath: // the calls in it are authorised, TestMCPAuthorisesEachCall
					require.Equal(t, http.StatusUnsupportedMediaType, reply.status, what)
				case reachOf(rt) == reachVisible, c.all:
					requireAdmitted(t, reply, what)
				case reachOf(rt) == reachRegistry:
					reply.problem(403, "forbidden")
				case c.granted == 0 && makes:
					reply.problem(403, "forbidden")
				case c.granted == 0:
					reply.problem(404, "space-not-found")
				case c.granted&needed == 0:
					reply.problem(403, "forbidden")
				default:
					requireAdmitted(t, reply, what)
				}
			}
		})
	}
}

// reset leaves the spaces alpha and other.
func (f *fixture) reset() {
	f.t.Helper()
	made := f.spaces()
	for _, id := range made {
		if id != "alpha" && id != "other" {
			require.NoError(f.t, f.registry.Delete(f.t.Context(), id))
		}
	}
	if !slices.Contains(made, "alpha") {
		f.create("alpha")
	}
}

func requireAdmitted(t *testing.T, reply reply, what string) {
	t.Helper()
	require.NotContains(t, []int{401, 403, 500}, reply.status, what)
	require.NotContains(t, reply.body, "space-not-found", what)
	require.Empty(t, reply.header.Get("WWW-Authenticate"), what)
}

// TestForbiddenAnswersAsMissing: to one who may not see a space, it is not
// there: the same status, headers and body, but for the id that was sent.
func TestForbiddenAnswersAsMissing(t *testing.T) {
	columns, gate := callers(t)
	operator := columns[len(columns)-1].token
	outsiders := map[string]string{}
	for _, c := range columns {
		if c.known && c.granted == 0 {
			outsiders[c.name] = c.token
		}
	}
	require.NotEmpty(t, outsiders)
	f := newFixture(t, Options{Auth: gate})
	f.create("alpha")
	f.create("gone1")
	require.NoError(t, f.registry.Delete(t.Context(), "gone1"))
	for _, rt := range routes() {
		if reachOf(rt) != reachSpace {
			continue
		}
		same := func(space, token string) reply {
			r := f.ask(rt, space, token)
			r.body = strings.ReplaceAll(r.body, space, "SPACE")
			r.header.Del("Content-Length")
			return r
		}
		for _, token := range outsiders {
			exists := same("alpha", token)
			require.Equal(t, exists, same("gone1", token), rt.path)
			require.Equal(t, exists, same("never", token), rt.path)
			creates := exists.status == 403 || strings.HasSuffix(rt.path, "/import")
			if !creates {
				require.Equal(t, exists, same("never", operator), "%s: as if the caller could see it and it were not there", rt.path)
			}
		}
	}
	require.Equal(t, []engram.SpaceID{"alpha"}, f.spaces())
}

func TestListingShowsOnlyWhatIsVisible(t *testing.T) {
	scopes, err := auth.ParseScopes([]string{"team-*:read", "ops:admin"})
	require.NoError(t, err)
	key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
	f := newFixture(t, Options{Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}}})
	for _, id := range []engram.SpaceID{"aaa", "ops", "opsx", "team-a", "team-b", "team-c", "tean", "zzz"} {
		f.create(id)
	}
	var got []string
	for after := "aaa"; after != ""; {
		var page spacePage
		f.call("GET", "/v1/spaces?limit=2&after="+after, "", keyHeader, token).into(200, &page)
		for _, item := range page.Spaces {
			got = append(got, string(item.ID))
		}
		after = string(page.Next)
	}
	require.Equal(t, []string{"ops", "team-a", "team-b", "team-c"}, got)
	var page spacePage
	f.call("GET", "/v1/spaces?limit=4", "", keyHeader, token).into(200, &page)
	require.Empty(t, page.Next, "spaces that are not visible must not show as another page")
}

func TestCredentialsInHeaders(t *testing.T) {
	scopes, err := auth.ParseScopes([]string{"alpha:read"})
	require.NoError(t, err)
	key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
	f := newFixture(t, Options{Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}}})
	f.create("alpha")
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + token},
		{"Authorization", "bearer " + token},
		{keyHeader, token},
	} {
		require.Equal(t, 200, f.call("GET", "/v1/spaces/alpha", "", headers...).status, headers)
		// The only space of the credential is what an unscoped request means.
		r := f.call("POST", "/v1/recall", `{"text":"x"}`, headers...)
		require.Equal(t, 200, r.status, r.body)
		require.Empty(t, r.header.Get(fallbackHeader))
	}
	for _, headers := range [][]string{
		{"Authorization", token},
		{"Authorization", "Basic " + token},
		{"Authorization", "Bearer"},
		{"Authorization", "Bearer "},
		{"Authorization", "Bearer  " + token},
		{keyHeader, ""},
		{keyHeader, token, keyHeader, token},
		{keyHeader, token, "Authorization", "Bearer " + token},
		{"Authorization", "Bearer " + token, "Authorization", "Bearer " + token},
		{"Cookie", "key=" + token},
	} {
		f.call("GET", "/v1/spaces/alpha", "", headers...).problem(401, "unauthenticated")
	}
	f.call("GET", "/v1/spaces/alpha?key="+token, "").problem(401, "unauthenticated")
}

func TestClientCertificates(t *testing.T) {
	rules := auth.Certificates{}
	require.NoError(t, rules.Add("cn:agent=alpha:read"))
	f := newFixture(t, Options{Auth: &Auth{auth.Gate{Certificates: rules}}})
	f.create("alpha")
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "agent"}, NotAfter: time.Now().Add(time.Hour)}
	ask := func(state *tls.ConnectionState) int {
		r := httptest.NewRequest("GET", "https://localhost/v1/spaces/alpha", nil)
		r.TLS = state
		w := httptest.NewRecorder()
		f.server.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, 200, ask(&tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}))
	require.Equal(t, 401, ask(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}), "shown, but not verified")
	require.Equal(t, 401, ask(&tls.ConnectionState{}))
}

// revocable returns a key with scopes, on a ring that is read from a file, and
// what revokes it there.
func revocable(t *testing.T, scopes ...string) (ring *auth.Keyring, token string, revoke func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	parsed, err := auth.ParseScopes(scopes)
	require.NoError(t, err)
	key, token := auth.NewKey("", parsed, time.Now(), time.Time{})
	put := func() {
		require.NoError(t, auth.UpdateKeys(path, func([]auth.Key) ([]auth.Key, error) { return []auth.Key{key}, nil }))
	}
	put()
	ring, err = auth.OpenKeyring(path, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(func() { ring.Close() })
	return ring, token, func() {
		key.Revoked = time.Now()
		put()
	}
}

// TestRevocationEndsStreams: the next message of a stream whose key was revoked
// is its end, and one that is idle ends without a message.
func TestRevocationEndsStreams(t *testing.T) {
	for _, idle := range []bool{false, true} {
		ring, token, revoke := revocable(t, "alpha:read")
		f := newFixture(t, Options{Auth: &Auth{auth.Gate{Keys: ring}}})
		space := f.create("alpha")
		web := httptest.NewServer(f.server)
		defer web.Close()
		request, err := http.NewRequestWithContext(t.Context(), "GET", web.URL+"/v1/spaces/alpha/events", nil)
		require.NoError(t, err)
		request.Header.Set(keyHeader, token)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.Equal(t, 200, response.StatusCode)
		lines := bufio.NewScanner(response.Body)
		remember := func(content string) {
			_, err := space.Remember(t.Context(), engram.Memory{Content: content})
			require.NoError(t, err)
		}
		remember("before")
		for lines.Scan() && !strings.Contains(lines.Text(), "before") {
			continue
		}
		revoke()
		if !idle {
			remember("after")
		}
		var rest []string
		for lines.Scan() {
			rest = append(rest, lines.Text())
		}
		require.NoError(t, lines.Err())
		require.NoError(t, response.Body.Close())
		all := strings.Join(rest, "\n")
		require.NotContains(t, all, "after")
		require.Contains(t, all, "event: end")
		require.Contains(t, all, "revoked")
	}
}

// TestStreamsDoNotFollowARename to an id that the caller may not read.
func TestStreamsDoNotFollowARename(t *testing.T) {
	for scope, follows := range map[string]bool{"alpha:read": false, "alp*:read": false, "*:write": false, "*:read": true} {
		scopes, err := auth.ParseScopes([]string{"alpha:read", scope})
		require.NoError(t, err)
		key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
		w := newWired(t, Options{Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}}})
		space := w.create("alpha")
		web := httptest.NewServer(w.server)
		defer web.Close()
		defer web.CloseClientConnections()
		request, err := http.NewRequestWithContext(t.Context(), "GET", web.URL+"/v1/spaces/alpha/events", nil)
		require.NoError(t, err)
		request.Header.Set(keyHeader, token)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		stream, err := w.memories.Subscribe(withToken(t.Context(), token), &engramv1.SubscribeRequest{MemorySpaceId: "alpha"})
		require.NoError(t, err)
		_, err = stream.Recv() // its configuration
		require.NoError(t, err)
		require.NoError(t, w.registry.Rename(t.Context(), "alpha", "hidden"))
		_, err = space.Remember(t.Context(), engram.Memory{Content: "canary"})
		require.NoError(t, err)

		event, err := stream.Recv()
		lines, text := bufio.NewScanner(response.Body), ""
		for !strings.Contains(text, "event: end") && !strings.Contains(text, "canary") && lines.Scan() {
			text += lines.Text() + "\n"
		}
		if follows {
			require.NoError(t, err)
			require.Equal(t, "canary", event.GetEvent().GetMemory().GetContent())
			require.Contains(t, text, "canary")
		} else {
			refused(t, err, codes.NotFound, "SPACE_NOT_FOUND")
			require.NotContains(t, err.Error(), "hidden")
			for lines.Scan() {
				text += lines.Text() + "\n"
			}
			require.NotContains(t, text, "canary")
			require.NotContains(t, text, "hidden")
			require.Contains(t, text, "space-not-found")
		}
		require.NoError(t, response.Body.Close())
	}
}

// renamingEmbedder has a space renamed, and a canary written to it, while a recall of it
// waits for the vector of its cue.
type renamingEmbedder struct {
	namedEmbedder
	rename func()
}

func (e *renamingEmbedder) EmbedQuery(ctx context.Context, text string) ([]float32, error) {
	e.rename()
	return e.namedEmbedder.EmbedQuery(ctx, text)
}

// TestRecallsDoNotFollowARename: what a space holds under an id that the caller may not
// see is not in the answer of a recall that began before.
func TestRecallsDoNotFollowARename(t *testing.T) {
	scopes, err := auth.ParseScopes([]string{"alpha:read"})
	require.NoError(t, err)
	key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
	embedder := &renamingEmbedder{namedEmbedder: "one"}
	registry, err := engram.Open(t.TempDir(), engram.Options{Embedder: embedder})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	f := &fixture{t: t, registry: registry, server: New(registry, Options{
		Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}},
	})}
	w := wireTo(t, f)
	space := w.create("alpha")
	rememberEmbedded(t, space)
	embedder.rename = func() {
		require.NoError(t, registry.Rename(t.Context(), "alpha", "hidden"))
		_, err := space.Remember(t.Context(), engram.Memory{Content: "tea, a canary"})
		require.NoError(t, err)
	}
	answer := w.call("POST", "/v1/spaces/alpha/recall", `{"text":"tea"}`, keyHeader, token)
	answer.problem(404, "space-not-found")
	require.NotContains(t, answer.body, "hidden")

	require.NoError(t, registry.Rename(t.Context(), "hidden", "alpha"))
	_, err = w.memories.Recall(withToken(t.Context(), token), &engramv1.RecallRequest{
		MemorySpaceId: "alpha", Cue: &engramv1.Cue{Text: "tea"},
	})
	refused(t, err, codes.NotFound, "SPACE_NOT_FOUND")
}

// TestRevocationEndsImports: what comes after the key was revoked makes no space.
func TestRevocationEndsImports(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	scopes, err := auth.ParseScopes([]string{"copy:admin"})
	require.NoError(t, err)
	key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
	put := func() {
		require.NoError(t, auth.UpdateKeys(path, func([]auth.Key) ([]auth.Key, error) { return []auth.Key{key}, nil }))
	}
	put()
	ring, err := auth.OpenKeyring(path, zap.NewNop())
	require.NoError(t, err)
	defer ring.Close()
	r := start(t, newFixture(t, Options{Auth: &Auth{auth.Gate{Keys: ring}}}))
	export := bodyFor(route{method: "POST", path: "/import"})
	connection := r.dial()
	r.send(connection, fmt.Sprintf("POST /v1/spaces/copy/import HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: %s\r\n"+
		"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", token, len(export)))
	answers := bufio.NewReader(connection)
	response, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusContinue, response.StatusCode) // it is being read
	key.Revoked = time.Now()
	put()
	r.send(connection, export)
	response, err = http.ReadResponse(answers, nil)
	require.NoError(t, err)
	reply := readReply(t, response)
	reply.problem(401, "unauthenticated")
	require.Contains(t, reply.header.Get("WWW-Authenticate"), "invalid_token")
	require.Empty(t, r.spaces())
}

// TestReachOfEveryRoute: the rule by paths finds what each route is about.
func TestReachOfEveryRoute(t *testing.T) {
	registryWide := map[string]bool{
		consolePath: true, consoleAssetPath: true, "/readyz": true, "/openapi.json": true, // public: it is not looked at
		"/v1/stats": true, "/v1/settle": true, "/v1/space-events": true,
	}
	for _, rt := range routes() {
		require.Equal(t, registryWide[rt.path], reachOf(rt) == reachRegistry, rt.path)
	}
	require.Equal(t, reachRegistry, reachOf(route{method: "POST", path: "/v1/anything-new", verb: verbRead}))
	require.Zero(t, verb(0).permission())
	require.Zero(t, verbPublic.permission())
}

// TestNobodyIsAsked: credentials that are meant for something else do not matter where
// none are asked for.
func TestNobodyIsAsked(t *testing.T) {
	w := newWired(t, Options{})
	w.create("alpha")
	for _, shown := range []string{"Basic dXNlcjpwYXNz", "Bearer x", ""} {
		require.Equal(t, 200, w.call("GET", "/v1/spaces/alpha", "", "Authorization", shown).status, shown)
		_, err := w.spaces.GetSpace(metadata.AppendToOutgoingContext(t.Context(), authorizationMetadata, shown), &engramv1.GetSpaceRequest{MemorySpaceId: "alpha"})
		require.NoError(t, err, shown)
	}
}

func TestRateLimits(t *testing.T) {
	columns, gate := callers(t)
	token := map[string]string{}
	for _, c := range columns {
		token[c.name] = c.token
	}
	f := newFixture(t, Options{
		Auth:       gate,
		SpaceRate:  Rate{PerSecond: 0.01, Burst: 3},
		CallerRate: Rate{PerSecond: 0.02, Burst: 5},
	})
	f.create("alpha")
	f.create("other")
	ask := func(space, who string) reply {
		return f.call("GET", "/v1/spaces/"+space, "", keyHeader, token[who])
	}
	for range 4 {
		ask("alpha", "of another space").problem(404, "space-not-found")
	}
	for range 3 {
		require.Equal(t, 200, ask("alpha", "read-only").status, "strangers use up nothing of a space")
	}
	r := ask("alpha", "operator")
	require.Equal(t, "space-requests", r.problem(429, "rate-limited").Limit)
	require.Equal(t, "100", r.header.Get("Retry-After"))
	require.Equal(t, 200, ask("other", "of another space").status, "another space has its own")
	r = ask("other", "of another space")
	require.Equal(t, "caller-requests", r.problem(429, "rate-limited").Limit)
	require.Equal(t, "50", r.header.Get("Retry-After"))
	require.Equal(t, 200, ask("other", "operator").status, "another caller has its own")
	require.Equal(t, 200, f.call("GET", "/readyz", "").status)
}

// TestRateLimitsCountWhatOneRequestAsksFor: a stream of writes is not one request.
func TestRateLimitsCountWhatOneRequestAsksFor(t *testing.T) {
	const burst = 3
	ring, token, _ := revocable(t, "alpha:read,write")
	w := newWired(t, Options{Auth: &Auth{auth.Gate{Keys: ring}}, CallerRate: Rate{PerSecond: 1e-6, Burst: burst}})
	w.create("alpha")
	stream, err := w.memories.RememberStream(withToken(t.Context(), token))
	require.NoError(t, err)
	reasons := map[string]int{}
	for i := range uint64(burst + 2) {
		space := "alpha"
		if i == 0 {
			space = "!" // counts too
		}
		require.NoError(t, stream.Send(&engramv1.RememberStreamRequest{Tag: i, MemorySpaceId: space, Memory: memoryOf("", "x")}))
		answer, err := stream.Recv()
		require.NoError(t, err)
		reasons[codes.Code(answer.GetFailure().GetCode()).String()]++
	}
	require.Equal(t, map[string]int{"InvalidArgument": 1, "OK": burst - 1, "ResourceExhausted": 2}, reasons)
}
