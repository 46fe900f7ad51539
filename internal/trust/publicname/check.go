package publicname

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"ringfence"
)

// maxChain is how many certificates a chain may have.
const maxChain = 8

// certificate checks what an authority sent for an order: leaf first, for our key and exactly our names, good now, usable as a server, and each signed by the next. It returns the chain as
// PEM, and the leaf.
func certificate(ders [][]byte, key crypto.PublicKey, names []string, now time.Time) ([]byte, *x509.Certificate, error) {
	bad := func(format string, args ...any) ([]byte, *x509.Certificate, error) {
		return nil, nil, fault(ringfence.KindInvalid, "the authority's certificate is not what was ordered: "+fmt.Sprintf(format, args...), "what is there stays in use; the log of the authority may say more", nil)
	}
	if len(ders) == 0 || len(ders) > maxChain {
		return bad("%d certificates came", len(ders))
	}
	var chain []*x509.Certificate
	var out bytes.Buffer
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("certificate %d cannot be read", i+1)
		}
		chain = append(chain, c)
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return bad("certificate %d cannot be written", i+1)
		}
	}
	leaf := chain[0]
	own, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !own.Equal(leaf.PublicKey):
		return bad("it is for another key")
	case leaf.IsCA:
		return bad("it is one of an authority")
	case !sameNames(leaf.DNSNames, names) || len(leaf.IPAddresses)+len(leaf.URIs)+len(leaf.EmailAddresses) > 0:
		return bad("it names %s, and not %s alone", clean(strings.Join(leaf.DNSNames, " "), 200), strings.Join(names, " "))
	case now.Before(leaf.NotBefore.Add(-time.Minute)):
		return bad("it is good only from %s on; is this host's clock right?", leaf.NotBefore.UTC().Format(time.RFC3339))
	case !now.Before(leaf.NotAfter):
		return bad("it ended on %s; is this host's clock right?", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return bad("certificate %d is not signed by the one after it", i+1)
		}
	}
	// Which roots people believe is not known here. What signed the certificate must be good; further up a chain may end in the expired certificate of an older root, which
	// those who know the newer one do not look at.
	roots := x509.NewCertPool()
	roots.AddCert(chain[min(1, len(chain)-1)])
	for _, name := range names {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: maxTime(now, leaf.NotBefore), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			return bad("it does not verify for %s: %s", name, clean(err.Error(), 200))
		}
	}
	return out.Bytes(), leaf, nil
}

func maxTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// sameNames reports whether two lists have the same names, in any order.
func sameNames(a, b []string) bool {
	sorted := func(list []string) []string {
		out := make([]string, len(list))
		for i, s := range list {
			out[i] = strings.ToLower(s)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(sorted(a), sorted(b))
}

// renewAt is when a certificate is to be replaced: at two thirds of its life.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}
