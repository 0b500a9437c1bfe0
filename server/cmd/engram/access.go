package main

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/engramdb/engram/server/internal/auth"
)

// accessFlags say who is admitted.
type accessFlags struct {
	keys         string
	clientCerts  []string
	tokens       auth.TokenConfig
	tlsCert      string
	tlsKey       string
	tlsClientCA  string
	withoutGuard bool // --insecure
}

func (f *accessFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.keys, "keys", "", "`file` of API keys, made by engram key create; requests then need one (the environment may hold the file's JSON itself)")
	flags.StringVar(&f.tokens.KeySet, "jwt-jwks", "", "key set that signs JSON Web Tokens: a file, or an https `URL`")
	flags.StringVar(&f.tokens.Issuer, "jwt-issuer", "", "issuer that a token must name")
	flags.StringVar(&f.tokens.Audience, "jwt-audience", "", "audience that a token must name")
	flags.StringVar(&f.tokens.Claim, "jwt-claim", auth.DefaultScopeClaim, "claim of a token that holds its scopes")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "certificate `file` for TLS; it is read again when it changes")
	flags.StringVar(&f.tlsKey, "tls-key", "", "private key `file` for TLS")
	flags.StringVar(&f.tlsClientCA, "tls-client-ca", "", "`file` of the authorities whose client certificates are taken")
	flags.StringArrayVar(&f.clientCerts, "client-cert", nil, "what the bearer of a client certificate may do, as `NAME=SCOPE` with cn:, dns: or uri: before the name; may be repeated")
	flags.BoolVar(&f.withoutGuard, "insecure", false, "allow an address that other machines reach without TLS and credentials")
}

// validate refuses combinations that would not do what they seem to.
func (f *accessFlags) validate() error {
	switch {
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key are needed together")
	case f.tlsClientCA != "" && f.tlsCert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key")
	case len(f.clientCerts) > 0 && f.tlsClientCA == "":
		return errors.New("--client-cert needs --tls-client-ca")
	case f.tlsClientCA != "" && len(f.clientCerts) == 0:
		return errors.New("--tls-client-ca needs --client-cert: no certificate could do anything")
	case f.tokens.KeySet == "" && (f.tokens.Issuer != "" || f.tokens.Audience != "" ||
		cmp.Or(f.tokens.Claim, auth.DefaultScopeClaim) != auth.DefaultScopeClaim):
		return errors.New("--jwt-issuer, --jwt-audience and --jwt-claim need --jwt-jwks")
	}
	return nil
}

// asked reports whether requests need credentials.
func (f *accessFlags) asked() bool {
	return f.keys != "" || f.tokens.KeySet != "" || len(f.clientCerts) > 0
}

// guarded reports whether the server may be reached by other machines.
func (f *accessFlags) guarded() bool {
	return f.withoutGuard || f.asked() && f.tlsCert != ""
}

// open loads all that the flags name, and returns nil if they name nothing.
// The function that it returns releases it.
func (f *accessFlags) open(ctx context.Context, logger *zap.Logger) (gate *auth.Gate, release func(), err error) {
	release = func() {}
	if !f.asked() {
		return nil, release, nil
	}
	gate = &auth.Gate{}
	if f.tokens.KeySet != "" {
		if gate.Tokens, err = auth.OpenTokens(ctx, f.tokens, logger); err != nil {
			return nil, release, err
		}
	}
	if len(f.clientCerts) > 0 {
		gate.Certificates = auth.Certificates{}
	}
	for _, rule := range f.clientCerts {
		if err := gate.Certificates.Add(rule); err != nil {
			return nil, release, err
		}
	}
	switch {
	case isInline(f.keys):
		keys, err := auth.ParseKeys([]byte(f.keys))
		if err != nil {
			return nil, release, err
		}
		gate.Keys = auth.NewKeyring(keys)
	case f.keys != "":
		if gate.Keys, err = auth.OpenKeyring(f.keys, logger); err != nil {
			return nil, release, err
		}
		release = gate.Keys.Close
	}
	return gate, release, nil
}

// isInline reports whether the value of --keys is the JSON of a key file itself,
// as a container gets it from its environment.
func isInline(keys string) bool { return strings.HasPrefix(strings.TrimSpace(keys), "{") }
