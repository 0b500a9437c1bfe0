package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/engramdb/engram"
)

// Bounds and defaults of a Config.
const (
	DefaultSpaces  = 6
	MinSpaces      = 3
	MaxSpaces      = 200
	DefaultTimeout = time.Minute
)

// readyPause is how long to wait between two looks whether a server is back.
const readyPause = 100 * time.Millisecond

// ErrConfig says that a Config cannot be carried out.
var ErrConfig = errors.New("cannot verify")

// Config says what is verified, and how.
type Config struct {
	// Dir is an embedded data directory, which is made if it is not there. Nobody
	// else may have it open. Either Dir or Addr is given.
	Dir string
	// Addr is the address of a server, as http://127.0.0.1:7432, and GRPCAddr,
	// host:port, where it answers gRPC; default nowhere.
	Addr, GRPCAddr string
	// MCPAddr is where that server speaks the Model Context Protocol, as
	// http://127.0.0.1:7432/mcp; default: its tools are not verified.
	MCPAddr string
	// TLS of both where Addr begins with https; default the system's authorities.
	TLS *tls.Config
	// Keys of the server; default none are shown.
	Keys []Key
	// Restart starts the server again, and may return before it is ready; default:
	// it is not restarted. A directory is opened again without it.
	Restart func(ctx context.Context) error
	// Child returns a process, not started, that carries out an order with
	// RunWriter; default: no process is killed.
	Child func(order WriterOrder) (*exec.Cmd, error)

	Spaces   int            // of a stage, MinSpaces to MaxSpaces; 0 means DefaultSpaces
	Seed     uint64         // of everything that is drawn but the ids of spaces
	Duration time.Duration  // whole rounds until it has passed; 0 means one
	Timeout  time.Duration  // of each assertion; 0 means DefaultTimeout
	Only     *regexp.Regexp // which assertions, by name; default all
	Command  string         // that a line to reproduce an assertion begins with
	Progress func(Result)   // hears of each assertion that has been tried; may be nil

	nonce string // in ids of spaces; tests set it
}

func (c Config) withDefaults() Config {
	if c.Spaces == 0 {
		c.Spaces = DefaultSpaces
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Only == nil {
		c.Only = regexp.MustCompile("")
	}
	if c.Progress == nil {
		c.Progress = func(Result) {}
	}
	return c
}

func (c Config) validate() error {
	switch {
	case (c.Dir == "") == (c.Addr == ""):
		return fmt.Errorf("%w: give either a directory or a server", ErrConfig)
	case c.Addr == "" && (c.GRPCAddr != "" || c.MCPAddr != "" || len(c.Keys) > 0):
		return fmt.Errorf("%w: an address for gRPC and keys are for a server", ErrConfig)
	case c.Spaces < MinSpaces || c.Spaces > MaxSpaces:
		return fmt.Errorf("%w: spaces must be %d to %d", ErrConfig, MinSpaces, MaxSpaces)
	case c.Timeout < 0 || c.Duration < 0:
		return fmt.Errorf("%w: a duration is negative", ErrConfig)
	}
	return nil
}

// run is one verification.
type run struct {
	config     Config
	spaces     *spaces
	transports []transport
	embedded   *library // nil: a server
	mayKill    bool     // nobody else's spaces are in the directory
	tenants    tenants
	closers    []func() error
}

// Run verifies what the configuration names, and cleans up. The report is good as
// far as it goes also where there is an error, which says that the verification
// did not come to its end: ctx has ended, the installation is not there, or a
// space that is not the run's was met (ErrNotOurs). That an assertion fails is no
// error but the report's verdict.
func Run(ctx context.Context, config Config) (report Report, err error) {
	config = config.withDefaults()
	report = newReport(config)
	began := time.Now()
	defer func() {
		report.finish(time.Since(began), err)
	}()
	if err := config.validate(); err != nil {
		return report, err
	}
	r := &run{config: config}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(ctx); err != nil {
		return report, err
	}
	defer func() {
		left, cleanErr := r.spaces.cleanUp(ctx)
		report.LeftBehind = append(report.LeftBehind, left...)
		err = errors.Join(err, cleanErr)
	}()
	for round := 0; round == 0 || time.Since(began) < config.Duration; round++ {
		report.Rounds++
		if err := r.round(ctx, &report, config.Seed+uint64(round)); err != nil {
			return report, err
		}
	}
	if len(report.Assertions) == 0 {
		return report, fmt.Errorf("%w: no assertion has such a name", ErrConfig)
	}
	return report, nil
}

// open reaches the installation over each transport.
func (r *run) open(ctx context.Context) error {
	if r.config.Dir != "" {
		embedded, err := openLibrary(r.config.Dir)
		if err != nil {
			return err
		}
		r.spaces = newSpaces(roles{}, r.config.nonce)
		r.embedded, r.transports = embedded, []transport{embedded}
		r.closers = append(r.closers, func() error { return embedded.Close() })
		r.mayKill = r.config.Child != nil && embedded.Stats().Spaces == 0
		return nil
	}
	keys, err := rolesOf(r.config.Keys)
	if err != nil {
		return err
	}
	r.spaces = newSpaces(keys, r.config.nonce)
	if r.transports, err = r.dial(keys.operator); err != nil {
		return err
	}
	if err := r.dialTenants(keys); err != nil {
		return err
	}
	return r.ready(ctx)
}

// dial reaches the server with a key.
func (r *run) dial(key string) ([]transport, error) {
	var secured *tls.Config
	if strings.HasPrefix(r.config.Addr, "https:") {
		if secured = r.config.TLS; secured == nil {
			secured = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	server, err := openWeb(r.config.Addr, key, secured)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, func() error {
		server.http.CloseIdleConnections()
		return nil
	})
	transports := []transport{server}
	if r.config.GRPCAddr != "" {
		calls, err := openRPC(r.config.GRPCAddr, key, secured)
		if err != nil {
			return nil, err
		}
		r.closers = append(r.closers, calls.close)
		transports = append(transports, calls)
	}
	if r.config.MCPAddr != "" {
		tools, err := openTools(r.config.MCPAddr, server)
		if err != nil {
			return nil, err
		}
		r.closers = append(r.closers, tools.close)
		transports = append(transports, tools)
	}
	return transports, nil
}

// ready asks each transport for a space that nobody has: a server answers that.
func (r *run) ready(ctx context.Context) error {
	for _, over := range r.transports {
		_, err := over.Info(ctx, r.spaces.next(1)[0])
		if err != nil && !errors.Is(err, engram.ErrSpaceNotFound) {
			return fmt.Errorf("%w: the server does not answer over %s as it should: %w", ErrConfig, over.name(), err)
		}
	}
	return nil
}

func (r *run) close() error {
	var err error
	for i := len(r.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, r.closers[i]())
	}
	return err
}

// other returns the other one of HTTP and gRPC.
func (r *run) other(over transport) transport {
	for _, other := range r.transports {
		if other != over && other.name() != overMCP {
			return other
		}
	}
	return over
}

// restart starts the installation again, and returns when it answers.
func (r *run) restart(ctx context.Context) error {
	if r.embedded != nil {
		return r.embedded.reopen(ctx)
	}
	if err := r.config.Restart(ctx); err != nil {
		return fmt.Errorf("restart the server: %w", err)
	}
	for {
		if r.ready(ctx) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server does not come back: %w", ctx.Err())
		case <-time.After(readyPause):
		}
	}
}

// assertions returns the whole table.
func assertions() []assertion {
	var all []assertion
	for _, area := range [][]assertion{
		isolation(), events(), lifecycle(), routing(), consistency(), tenancy(), durability(), noise(), toolClaims(),
	} {
		all = append(all, area...)
	}
	return all
}

// applies reports whether an assertion is about such a transport at all.
func (r *run) applies(a assertion, over transport) bool {
	name := over.name()
	switch {
	case a.needs&needMCP != 0 || name == overMCP:
		return name == overMCP && (a.needs&needMCP != 0 || alsoOverTools(a.name))
	case a.needs&(needLibrary|needKill) != 0:
		return name == overLibrary
	case a.needs&needHTTP != 0:
		return name == overHTTP
	case a.needs&needGRPC != 0:
		return name == overGRPC
	case a.needs&(needPages|needBoth|needTenant) != 0:
		return name != overLibrary
	}
	return true
}

// lacks says what is missing to try an assertion; "" where nothing is.
func (r *run) lacks(a assertion) string {
	switch {
	case a.needs&needBoth != 0 && r.config.GRPCAddr == "":
		return "only one transport is given: --grpc-addr"
	case a.needs&needRestart != 0 && r.embedded == nil && r.config.Restart == nil:
		return "nothing says how to restart the server: --restart"
	case a.needs&needKill != 0 && !r.mayKill:
		return "the directory holds spaces of others, beside which no process is killed"
	case a.needs&needTenant != 0 && len(r.tenants) == 0:
		return "no key is given that sees a part of the spaces: --keys"
	}
	return ""
}

// round tries every assertion once.
func (r *run) round(ctx context.Context, report *Report, seed uint64) error {
	for _, over := range r.transports {
		var chosen []assertion
		for _, a := range assertions() {
			if r.applies(a, over) && r.config.Only.MatchString(over.name()+"/"+a.name) {
				chosen = append(chosen, a)
			}
		}
		if err := r.tryAll(ctx, report, seed, over, chosen); err != nil {
			return err
		}
	}
	return nil
}

// tryAll tries assertions over one transport, on one stage.
func (r *run) tryAll(ctx context.Context, report *Report, seed uint64, over transport, chosen []assertion) error {
	var set *stage
	for _, a := range chosen {
		result := Result{
			Name: over.name() + "/" + a.name, Transport: over.name(), Claim: a.claim, Failures: []string{},
			Reproduce: fmt.Sprintf("%s --spaces %d --seed %d --only '^%s/%s$'", r.config.Command, r.config.Spaces, seed, over.name(), a.name),
		}
		if reason := r.lacks(a); reason != "" {
			result.Verdict, result.Reason = Skipped, reason
			r.config.Progress(report.add(result))
			continue
		}
		if set == nil {
			var err error
			if set, err = buildStage(ctx, r.spaces, over, seed, r.config.Spaces); err != nil {
				return err
			}
		}
		err := r.try(ctx, a, &result, &check{run: r, over: over, stage: set, random: randomOf(seed, result.Name)})
		r.config.Progress(report.add(result))
		if err != nil {
			return err
		}
	}
	if set == nil {
		return nil
	}
	return r.strike(ctx, over)
}

// try tries one assertion. An error ends the run.
func (r *run) try(ctx context.Context, a assertion, result *Result, c *check) error {
	began := time.Now()
	c.interrupted = func() bool { return ctx.Err() != nil }
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	err := a.try(limited, c)
	result.Milliseconds = milliseconds(time.Since(began))
	switch {
	case ctx.Err() != nil:
		c.intoShort(result, "the run was interrupted")
		return ctx.Err()
	case errors.Is(err, ErrNotOurs):
		c.intoShort(result, err.Error())
		return err
	case limited.Err() != nil:
		c.fail(fmt.Errorf("it did not end within %s", r.config.Timeout))
	case err != nil:
		c.fail(err)
	}
	c.into(result)
	return nil
}

// strike deletes the spaces that were made over a transport.
func (r *run) strike(ctx context.Context, over transport) error {
	for _, id := range r.spaces.over(over) {
		if err := r.spaces.remove(ctx, over, id); err != nil {
			return err
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / float64(time.Millisecond/time.Microsecond)
}

// unauthenticated reports whether an error says that no valid key was shown.
func unauthenticated(err error) bool { return reasonOf(err) == "unauthenticated" }
