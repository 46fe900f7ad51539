package directory

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/openldap"
)

// TestSlapd searches OpenLDAP by TLS and by StartTLS, with each way to bind.
func TestSlapd(t *testing.T) {
	ca := testkit.NewAuthority("CA")
	plain, sealed := openldap.Start(t, ca)
	base := Server{TLS: &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12}, Lookup: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}, Dial: func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", at.String())
	}}
	ways := map[string]Server{}
	for name, s := range map[string]Server{"none": {Method: None}, "simple": {Method: Simple, DN: "uid=desk,ou=people,dc=example,dc=com", Password: "right password"}, "digest": {Method: Digest, User: "desk", Password: "right password"}} {
		s.TLS, s.Lookup, s.Dial = base.TLS, base.Lookup, base.Dial
		s.URL = "ldaps://dir.example.com:" + sealed
		ways[name+" within TLS"] = s
		s.URL, s.StartTLS = "ldap://dir.example.com:"+plain, true
		ways[name+" by StartTLS"] = s
	}
	search := func(s Server, typed, at string, limit int) ([]Entry, bool, Proof, error) {
		t.Helper()
		filter, err := Phrase("(sn=$VALUE*)", "(givenName=$VALUE*)", typed)
		if err != nil {
			t.Fatal(err)
		}
		return s.Search(t.Context(), Query{Base: at, Filter: filter, Attributes: []string{"cn", "telephoneNumber"}, Limit: limit})
	}
	for name, s := range ways {
		found, more, proof, err := search(s, "love", "dc=example,dc=com", 10)
		want := 1
		if s.Method == None { // nobody may not see the people
			want = 0
		}
		if err != nil || more || len(found) != want || !strings.HasPrefix(proof.TLS, "TLS 1.3") || proof.InTheClear || proof.Subject != "CN=dir.example.com" {
			t.Errorf("%s: %+v %+v %v", name, found, proof, err)
		}
		if want == 1 && err == nil && (found[0].DN != "uid=ada,ou=people,dc=example,dc=com" || len(found[0].Attributes) != 2) {
			t.Errorf("%s: %+v", name, found)
		}
	}
	s := ways["none within TLS"]
	if found, _, _, err := search(s, "(Sales)*", "ou=public,dc=example,dc=com", 10); err != nil || len(found) != 1 || found[0].Attributes[0].Values[0] != "Zoë (Sales)*" {
		t.Errorf("%+v %v", found, err)
	}
	if found, _, _, err := search(s, "*", "ou=public,dc=example,dc=com", 10); err != nil || len(found) != 0 { // a star that is typed is a star
		t.Errorf("%+v %v", found, err)
	}
	for _, limit := range []int{2, 100} { // the phone's limit, and the server's own
		if found, more, _, err := search(s, "Bee", "ou=public,dc=example,dc=com", limit); err != nil || !more || len(found) != min(limit, 3) {
			t.Errorf("%d: %+v %v %v", limit, found, more, err)
		}
	}
	expired := &tls.Config{RootCAs: ca.Pool, Time: func() time.Time { return time.Date(2101, 1, 1, 0, 0, 0, 0, time.UTC) }}
	// Who is bound gets the rest in pages.
	for limit, want := range map[int]int{100: 4, 4: 4, 3: 3} {
		if found, more, _, err := search(ways["simple within TLS"], "Bee", "ou=public,dc=example,dc=com", limit); err != nil || more != (limit == 3) || len(found) != want {
			t.Errorf("%d: %d %v %v", limit, len(found), more, err)
		}
	}
	for name, x := range map[string]struct {
		of     string
		change func(*Server)
		kind   ringfence.Kind
	}{
		"a wrong password":               {"simple within TLS", func(s *Server) { s.Password = "wrong" }, ringfence.KindUnauthenticated},
		"a wrong password, by digest":    {"digest by StartTLS", func(s *Server) { s.Password = "wrong" }, ringfence.KindUnauthenticated},
		"another authority":              {"none within TLS", func(s *Server) { s.TLS = &tls.Config{RootCAs: testkit.NewAuthority("CA").Pool} }, ringfence.KindInsecure},
		"another authority, by StartTLS": {"none by StartTLS", func(s *Server) { s.TLS = &tls.Config{RootCAs: testkit.NewAuthority("CA").Pool} }, ringfence.KindInsecure},
		"another name within TLS":        {"none within TLS", func(s *Server) { s.URL = "ldaps://other.example.com:" + sealed }, ringfence.KindInsecure},
		"expired":                        {"simple within TLS", func(s *Server) { s.TLS = expired }, ringfence.KindInsecure},
		"expired, by StartTLS":           {"digest by StartTLS", func(s *Server) { s.TLS = expired }, ringfence.KindInsecure},
		"another name":                   {"none by StartTLS", func(s *Server) { s.URL = "ldap://other.example.com:" + plain }, ringfence.KindInsecure},
		"a password in the clear":        {"simple by StartTLS", func(s *Server) { s.StartTLS, s.Clear = false, true }, ringfence.KindInsecure},
		"in the clear, and nobody said":  {"none by StartTLS", func(s *Server) { s.StartTLS = false }, ringfence.KindInsecure},
		"LDAP at the port of LDAPS":      {"none by StartTLS", func(s *Server) { s.URL = "ldap://dir.example.com:" + sealed }, ringfence.KindUnavailable},
	} {
		s := ways[x.of]
		x.change(&s)
		if found, _, _, err := search(s, "love", "dc=example,dc=com", 10); ringfence.KindOf(err) != x.kind {
			t.Errorf("%s: %+v %v", name, found, err)
		}
	}
	if _, _, _, err := search(s, "love", "dc=nowhere", 10); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Errorf("%v", err)
	}
	if _, _, _, err := search(s, "love", "no name", 10); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%v", err)
	}
}
