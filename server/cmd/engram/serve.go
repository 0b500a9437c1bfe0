package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
)

const (
	defaultHTTPAddress  = "127.0.0.1:7432"
	defaultGRPCAddress  = "127.0.0.1:50051"
	exampleAdminAddress = "127.0.0.1:7433"
	grpcOff             = "off"
)

// serveFlags are the settings of a server. Each may also stand in the
// environment and in a file, see configure.
type serveFlags struct {
	config  string
	http    string
	grpc    string
	admin   string
	access  accessFlags
	traces  traceFlags
	options server.Options

	console  bool
	embedder embedderFlags
	memory   int64
}

func (f *serveFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.config, configFlag, "", "YAML `file` with settings, named as these flags are")
	flags.StringVar(&f.http, "http", defaultHTTPAddress, "address to listen on; port 0 takes a free one")
	flags.StringVar(&f.grpc, "grpc", defaultGRPCAddress, "address to listen on for gRPC; \"off\" for none")
	flags.StringVar(&f.admin, "admin", "", "address of the operator's listener, for example "+exampleAdminAddress+": metrics, health, profiles on loopback; default none")
	f.access.register(flags)
	f.traces.register(flags)
	f.embedder.register(flags)
	flags.Int64Var(&f.memory, "memory-budget", 0, "bytes of memory for the spaces that are awake; beyond, idle ones fall asleep; 0 means half of GOMEMLIMIT, or 1 GiB without it")
	flags.BoolVar(&f.console, "console", true, "serve the web console at /; it asks the API with the key that its user types in")
	o := &f.options
	flags.BoolVar(&o.RequireSpace, "require-space", false, "refuse requests that name no space instead of taking \"default\"")
	flags.BoolVar(&o.AutoCreate, "auto-create", false, "let a write create the space it names")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", 10*time.Second, "how long to wait at the end for requests that are under way")
	flags.StringArrayVar(&o.Hosts, "host", nil, "name by which clients may ask, beside localhost and addresses; * takes all; may be repeated")
	flags.Float64Var(&o.SpaceRate.PerSecond, "space-rate", 0, "requests a second for each space; 0 means no limit")
	flags.IntVar(&o.SpaceRate.Burst, "space-burst", 0, "requests at once for each space; 0 means those of a second")
	flags.Float64Var(&o.CallerRate.PerSecond, "caller-rate", 0, "requests a second of each credential; 0 means no limit")
	flags.IntVar(&o.CallerRate.Burst, "caller-burst", 0, "requests at once of each credential; 0 means those of a second")
	flags.IntVar(&o.MaxConnections, "max-connections", server.DefaultMaxConnections, "connections at once; beyond, they are closed")
	flags.IntVar(&o.MaxAddressConnections, "max-address-connections", server.DefaultMaxAddressConnections, "connections at once from one address, or one /64 of IPv6")
	flags.IntVar(&o.MaxCallerRequests, "max-caller-requests", server.DefaultMaxCallerRequests, "requests under way, streams among them, of each credential, or without credentials of each address")
	flags.Int64Var(&o.MaxBodyBytes, "max-body-bytes", server.DefaultMaxBodyBytes, "bytes in memory of bodies of requests under way, of what reads are answered with and of events on their way; one caller gets at most half")
}

// maxRate bounds the requests a second of a limit: more is none.
const maxRate = 1e9

// validate refuses numbers that would not do what they seem to.
func (f *serveFlags) validate() error {
	for _, l := range []struct {
		name string
		rate server.Rate
	}{{"space", f.options.SpaceRate}, {"caller", f.options.CallerRate}} {
		switch {
		case !(l.rate.PerSecond >= 0 && l.rate.PerSecond <= maxRate):
			return fmt.Errorf("--%s-rate %v: must be 0 to %.0f", l.name, l.rate.PerSecond, maxRate)
		case l.rate.Burst < 0:
			return fmt.Errorf("--%s-burst %d: is negative", l.name, l.rate.Burst)
		case l.rate.Burst > 0 && l.rate.PerSecond == 0:
			return fmt.Errorf("--%s-burst is of no use without --%s-rate", l.name, l.name)
		}
	}
	if f.options.CallerRate.PerSecond > 0 && !f.access.asked() {
		return errors.New("--caller-rate needs credentials (--keys): without them all callers are one, and none is limited")
	}
	for _, bound := range []struct {
		name         string
		value, least int64
	}{
		{"max-connections", int64(f.options.MaxConnections), 1},
		{"max-address-connections", int64(f.options.MaxAddressConnections), 1},
		{"max-caller-requests", int64(f.options.MaxCallerRequests), 1},
		{"max-body-bytes", f.options.MaxBodyBytes, server.MinMaxBodyBytes},
		{"memory-budget", f.memory, 0},
	} {
		if bound.value < bound.least {
			return fmt.Errorf("--%s %d: must be at least %d", bound.name, bound.value, bound.least)
		}
	}
	if f.options.DrainTimeout <= 0 {
		return fmt.Errorf("--drain-timeout %s: must be positive", f.options.DrainTimeout)
	}
	return nil
}

// listenAddresses are where a server listens. rpc and admin are nil where it does
// not.
type listenAddresses struct{ web, rpc, admin *net.TCPAddr }

// addresses checks all that can be checked without opening anything. The
// operator's listener asks nobody for credentials.
func (f *serveFlags) addresses() (all listenAddresses, err error) {
	if err := errors.Join(f.access.validate(), f.validate()); err != nil {
		return all, err
	}
	const secure = "give credentials (--keys) and TLS (--tls-cert, --tls-key), "
	if all.web, err = resolveAddress("http", f.http, secure, f.access.guarded()); err != nil {
		return all, err
	}
	if f.grpc != "" && f.grpc != grpcOff {
		if all.rpc, err = resolveAddress("grpc", f.grpc, secure, f.access.guarded()); err != nil {
			return all, err
		}
	}
	if f.admin != "" {
		all.admin, err = resolveAddress("admin", f.admin, "as this one asks nobody for credentials, ", f.access.withoutGuard)
	}
	return all, err
}

func (a *app) serveCommand() *cobra.Command {
	var settings serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a data directory over HTTP and gRPC",
		Long: `Serve a data directory over HTTP and gRPC, until SIGINT, SIGTERM or SIGHUP: then
requests that are under way are finished and the directory is closed. A second
signal ends the process at once; acknowledged memories survive that. No signal is
needed for keys and TLS files that change: they are read again. Other settings
count at the start.

With --embedder the contents of memories and the texts of cues are sent to that
service; without it no content is sent anywhere. Its key, if it wants one, is read
from the environment variable ENGRAM_EMBEDDER_KEY.

Every flag may also stand in the environment, as ENGRAM_SPACE_RATE for
--space-rate, or in the YAML file of --config, as space-rate: 100. A flag counts
before the environment, and that before the file. engram config check shows what
counts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := configure(cmd.Flags()); err != nil {
				return err
			}
			return a.serve(cmd.Context(), &settings)
		},
	}
	settings.register(cmd.Flags())
	return cmd
}

func (a *app) serve(ctx context.Context, settings *serveFlags) (err error) {
	addresses, err := settings.addresses()
	if err != nil {
		return err
	}
	embedder, err := settings.embedder.embedder(os.Getenv(embedderKeyVariable))
	if err != nil {
		return err
	}
	logger := newLogger(a.err)
	options := settings.options
	options.Logger = logger
	options.NoConsole = !settings.console
	if options.Auth, err = settings.access.open(ctx, logger); err != nil {
		return err
	}
	defer options.Auth.Close()
	var secured *tls.Config
	if settings.access.tlsCert != "" {
		if secured, err = openTLS(settings.access, logger); err != nil {
			return err
		}
	}
	traces, err := settings.traces.open(ctx, logger)
	if err != nil {
		return err
	}
	if traces != nil {
		options.TracerProvider = traces
	}
	defer func() { err = errors.Join(err, traces.Close()) }() // when all that it heard of has ended
	listeners, err := addresses.listen()                      // first: who cannot be asked needs no directory
	defer listeners.close()
	if err != nil {
		return err
	}
	registry, err := engram.Open(a.dataDir, engram.Options{Logger: logger, Embedder: embedder, MemoryBudget: settings.memory})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()

	served := server.New(registry, options)
	if listeners.admin != nil {
		end := serveAdmin(served, listeners.admin, addresses.admin.IP.IsLoopback(), logger)
		defer end() // after the other has drained: not ready shows here
	}
	web, also := listeners.web, ""
	if secured != nil {
		web = tls.NewListener(web, secured)
	}
	if listeners.rpc != nil {
		also = fmt.Sprintf(" and grpc://%s", listeners.rpc.Addr())
	}
	if _, err := fmt.Fprintf(a.out, "serving %s on %s://%s%s\n", a.dataDir, schemeOf(secured), web.Addr(), also); err != nil {
		return err
	}
	return serveAll(ctx, served, web, listeners.rpc, secured)
}

func schemeOf(secured *tls.Config) string {
	if secured != nil {
		return "https"
	}
	return "http"
}

// listeners are what a server answers on. rpc and admin are nil where it does not.
type listeners struct{ web, rpc, admin net.Listener }

// listen opens all of them. Those that are open have to be closed also where it fails.
func (all listenAddresses) listen() (opened listeners, err error) {
	for _, one := range []struct {
		flag    string
		address *net.TCPAddr
		to      *net.Listener
	}{{"http", all.web, &opened.web}, {"grpc", all.rpc, &opened.rpc}, {"admin", all.admin, &opened.admin}} {
		if one.address == nil {
			continue
		}
		listener, err := net.ListenTCP("tcp", one.address)
		if err != nil {
			return opened, fmt.Errorf("--%s: %w", one.flag, err)
		}
		*one.to = listener
	}
	return opened, nil
}

// close closes what nobody serves. Whoever serves one has closed it.
func (l listeners) close() {
	for _, listener := range []net.Listener{l.web, l.rpc, l.admin} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

// serveAll serves until ctx ends, or until one of the transports fails: then the
// other one ends too. rpc may be nil.
func serveAll(ctx context.Context, s *server.Server, web, rpc net.Listener, secured *tls.Config) error {
	if rpc == nil {
		return s.Serve(ctx, web)
	}
	var options []grpc.ServerOption
	if secured != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secured)))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- s.ServeGRPC(ctx, rpc, options...)
	}()
	err := s.Serve(ctx, web)
	cancel()
	return errors.Join(err, <-ended)
}

// serveAdmin starts answering the operator. The function that it returns ends it.
func serveAdmin(served *server.Server, listener net.Listener, profiles bool, logger *zap.Logger) (end func()) {
	logger.Info("serving the operator", zap.Stringer("address", listener.Addr()))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := served.ServeAdmin(ctx, listener, profiles); err != nil {
			logger.Error("the operator's listener failed", zap.Error(err))
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// resolveAddress refuses an address that is not the machine's own where nobody
// is asked for credentials, or they travel in the clear. The resolved address is
// what counts and what is listened on, not its spelling. advice says what else helps.
func resolveAddress(flag, address, advice string, guarded bool) (*net.TCPAddr, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	if !guarded && !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("--%s %s: other machines could reach this address: use a loopback address, "+
			"%sor allow it with --insecure", flag, address, advice)
	}
	return resolved, nil
}

// newLogger writes lines for people to a terminal, JSON to everything else.
func newLogger(out io.Writer) *zap.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if isTerminal(out) {
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(out)), zap.InfoLevel))
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
