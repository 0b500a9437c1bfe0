package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/internal/auth"
)

// accessFlags say who is admitted.
type accessFlags struct {
	auth         server.AuthConfig
	tlsCert      string
	tlsKey       string
	tlsClientCA  string
	withoutGuard bool // --insecure
}

func (f *accessFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.auth.Keys, "keys", "", "`file` of API keys, made by engram key create; requests then need one (the environment may hold the file's JSON itself)")
	flags.StringVar(&f.auth.Tokens.KeySet, "jwt-jwks", "", "key set that signs JSON Web Tokens: a file, or an https `URL`")
	flags.StringVar(&f.auth.Tokens.Issuer, "jwt-issuer", "", "issuer that a token must name")
	flags.StringVar(&f.auth.Tokens.Audience, "jwt-audience", "", "audience that a token must name")
	flags.StringVar(&f.auth.Tokens.Claim, "jwt-claim", auth.DefaultScopeClaim, "claim of a token that holds its scopes")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "certificate `file` for TLS; it is read again when it changes")
	flags.StringVar(&f.tlsKey, "tls-key", "", "private key `file` for TLS")
	flags.StringVar(&f.tlsClientCA, "tls-client-ca", "", "`file` of the authorities whose client certificates are taken")
	flags.StringArrayVar(&f.auth.Certificates, "client-cert", nil, "what the bearer of a client certificate may do, as `NAME=SCOPE` with cn:, dns: or uri: before the name; may be repeated")
	flags.BoolVar(&f.withoutGuard, "insecure", false, "allow an address that other machines reach without TLS and credentials")
}

// validate refuses combinations that would not do what they seem to.
func (f *accessFlags) validate() error {
	switch {
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key are needed together")
	case f.tlsClientCA != "" && f.tlsCert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key")
	case len(f.auth.Certificates) > 0 && f.tlsClientCA == "":
		return errors.New("--client-cert needs --tls-client-ca")
	case f.tlsClientCA != "" && len(f.auth.Certificates) == 0:
		return errors.New("--tls-client-ca needs --client-cert: no certificate could do anything")
	case f.auth.Tokens.KeySet == "" && (f.auth.Tokens.Issuer != "" || f.auth.Tokens.Audience != "" ||
		cmp.Or(f.auth.Tokens.Claim, auth.DefaultScopeClaim) != auth.DefaultScopeClaim):
		return errors.New("--jwt-issuer, --jwt-audience and --jwt-claim need --jwt-jwks")
	}
	return nil
}

// asked reports whether requests need credentials.
func (f *accessFlags) asked() bool {
	return f.auth.Keys != "" || f.auth.Tokens.KeySet != "" || len(f.auth.Certificates) > 0
}

// guarded reports whether the server may be reached by other machines.
func (f *accessFlags) guarded() bool {
	return f.withoutGuard || f.asked() && f.tlsCert != ""
}

// open loads all that the flags name, and returns nil if they name nothing.
func (f *accessFlags) open(ctx context.Context, logger *zap.Logger) (*server.Auth, error) {
	if !f.asked() {
		return nil, nil
	}
	config := f.auth
	config.Logger = logger
	return server.OpenAuth(ctx, config)
}
