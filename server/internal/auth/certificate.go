package auth

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// ErrCertificateRule is wrapped by errors about a malformed rule.
var ErrCertificateRule = errors.New("malformed rule for client certificates")

// Certificates says what the bearers of client certificates may do, by the
// certificate's name: cn:NAME of the subject, or dns:NAME or uri:URI of the
// alternative names. The kind is part of it, so that a name means what the one
// who wrote the rule thought of.
type Certificates map[string][]Scope

// Add takes a rule NAME=SCOPE into account; more than one may be for a name.
// It fails with ErrCertificateRule or ErrScope.
func (c Certificates) Add(rule string) error {
	cut := strings.LastIndex(rule, "=") // a URI may have one, a scope has none
	if cut < 0 {
		return fmt.Errorf("%w: %q: want NAME=PATTERN:VERB,VERB", ErrCertificateRule, rule)
	}
	name := rule[:cut]
	kind, value, _ := strings.Cut(name, ":")
	if value == "" || kind != "cn" && kind != "dns" && kind != "uri" {
		return fmt.Errorf("%w: name %q: want cn:NAME, dns:NAME or uri:URI", ErrCertificateRule, name)
	}
	scope, err := ParseScope(rule[cut+1:])
	if err != nil {
		return err
	}
	c[name] = append(c[name], scope)
	return nil
}

// authenticate returns the principal of a certificate. TLS has verified it when its
// connection began: on that it counts until it expires, whatever becomes of its authority.
func (c Certificates) authenticate(certificate *x509.Certificate) (*Principal, error) {
	names := []string{"cn:" + certificate.Subject.CommonName}
	for _, name := range certificate.DNSNames {
		names = append(names, "dns:"+name)
	}
	for _, uri := range certificate.URIs {
		names = append(names, "uri:"+uri.String())
	}
	p := &Principal{expires: certificate.NotAfter}
	for _, name := range names {
		if scopes := c[name]; scopes != nil {
			if p.name == "" {
				p.name = "certificate:" + name
			}
			p.scopes = append(p.scopes, scopes...)
		}
	}
	if p.name == "" {
		return nil, ErrUnknown
	}
	return p, p.Check()
}
