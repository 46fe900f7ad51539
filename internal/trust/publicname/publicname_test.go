package publicname

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
)

const day = 24 * time.Hour

// run runs a keeper for a while of virtual time, and stops it.
func run(t *testing.T, k *Keeper, long time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx)
	}()
	synctest.Wait()
	time.Sleep(long)
	synctest.Wait()
	cancel()
	<-done
}

func TestOrdersAndRenewsAtTwoThirds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(c *Config) { c.Names = []string{host, "voice.example.org"} })
		k := s.open()
		if st := k.Status(); st.State != Waiting || st.Serial != "" || st.Next.IsZero() {
			t.Errorf("before: %+v", st)
		}
		run(t, k, time.Minute)
		first := s.leaf()
		if first == nil || !sameNames(first.DNSNames, s.c.Names) {
			t.Fatalf("there is %v; %+v", first, k.Status())
		}
		if s.door.opened != 1 || s.door.open != nil {
			t.Errorf("the port was opened %d times, and is open: %v", s.door.opened, s.door.open != nil)
		}
		st := k.Status()
		if st.State != Waiting || st.Failures != 0 || st.Error != "" || st.Account != base+"/account/1" || !st.Renewal.Equal(first.NotBefore.Add(first.NotAfter.Sub(first.NotBefore)*2/3).UTC()) || !st.Next.Equal(st.Renewal.Truncate(time.Second)) || len(st.Steps) < 6 {
			t.Errorf("%+v", st)
		}
		if len(s.audit) != 1 || s.audit[0] != "publicname.order public pbx.example.org done" {
			t.Errorf("%q", s.audit)
		}
		run(t, k, 59*day)
		if !s.leaf().Equal(first) || s.ca.placed() != 1 {
			t.Errorf("after 59 days there were %d orders", s.ca.placed())
		}
		k = s.open() // a start in between changes nothing
		run(t, k, 2*day)
		if s.leaf().Equal(first) || s.ca.placed() != 2 {
			t.Errorf("after 61 days there were %d orders", s.ca.placed())
		}
		// The account is the same one, and its key is nowhere but in the vault.
		if n := count(s, "POST /account"); n != 1 {
			t.Errorf("%d accounts were made", n)
		}
		// By hand at once.
		second := s.leaf()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); k.Run(ctx) }()
		synctest.Wait()
		if err := k.Renew(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		time.Sleep(10 * time.Second)
		if s.leaf().Equal(second) {
			t.Error("nothing was renewed by hand")
		}
		cancel()
		<-done
	})
}

func count(s *site, what string) (n int) {
	s.ca.mu.Lock()
	defer s.ca.mu.Unlock()
	for _, r := range s.ca.requests {
		if r == what {
			n++
		}
	}
	return n
}

// lie is what an authority may do wrong, and what is said of it.
type lie struct {
	lie  func(s *site)
	want string // in what is said, or in the hint
	no   string // a request that must not have been made
}

func lies(other *ecdsa.PrivateKey) map[string]lie {
	elsewhere := "https://evil.example"
	return map[string]lie{
		"an order elsewhere": {lie: func(s *site) { s.ca.dir = func(m map[string]any) { m["newOrder"] = elsewhere + "/order" } }, want: "another host: https://evil.example:443"},
		"a nonce elsewhere":  {lie: func(s *site) { s.ca.dir = func(m map[string]any) { m["newNonce"] = "https://acme.example.net:8443/n" } }, want: "another host"},
		"an account without TLS": {lie: func(s *site) {
			s.ca.dir = func(m map[string]any) { m["newOrder"] = "http://acme.example.net:443/order" }
		}, want: "another host"},
		"a finalization elsewhere": {lie: func(s *site) { s.ca.order = func(m map[string]any) { m["finalize"] = elsewhere } }, want: "another host"},
		"no directory":             {lie: func(s *site) { s.ca.dir = func(m map[string]any) { clear(m) } }, want: "RFC 8555"},
		"terms nobody agreed to": {lie: func(s *site) {
			s.ca.dir = func(m map[string]any) { m["meta"] = map[string]any{"termsOfService": "https://acme.example.net/terms"} }
		}, want: "trust.public.agree", no: "POST /account"},
		"a binding is needed": {lie: func(s *site) {
			s.ca.dir = func(m map[string]any) { m["meta"] = map[string]any{"externalAccountRequired": true} }
		}, want: "trust.public.binding", no: "POST /account"},
		"another name to show": {lie: func(s *site) {
			s.ca.authz = func(m map[string]any) { m["identifier"] = map[string]any{"type": "dns", "value": "bank.example"} }
		}, want: "not ordered: bank.example", no: "POST /chall/" + host},
		"a wildcard to show": {lie: func(s *site) { s.ca.authz = func(m map[string]any) { m["wildcard"] = true } }, want: "not ordered", no: "POST /chall/" + host},
		"more names to show": {lie: func(s *site) {
			s.ca.order = func(m map[string]any) {
				m["authorizations"] = []string{base + "/authz/" + host, base + "/authz/x.example"}
			}
		}, want: "wants 2 names shown, and 1"},
		"another challenge": {lie: func(s *site) {
			s.ca.authz = func(m map[string]any) {
				m["challenges"] = []map[string]any{{"type": "dns-01", "url": base, "token": "0123456789abcdef"}}
			}
		}, want: "it offers dns-01", no: "POST /chall/" + host},
		"a token that is a path": {lie: func(s *site) {
			s.ca.authz = func(m map[string]any) {
				m["challenges"] = []map[string]any{{"type": HTTP01, "url": base + "/chall/" + host, "token": "../../../../etc/passwd"}}
			}
		}, want: "no good token", no: "POST /chall/" + host},
		"a name that is not believed": {lie: func(s *site) {
			s.ca.authz = func(m map[string]any) {
				m["status"] = "invalid"
				m["challenges"].([]map[string]any)[0]["error"] = map[string]any{"type": "urn:ietf:params:acme:error:connection", "detail": "timeout during connect"}
			}
		}, want: "refuses pbx.example.org: timeout during connect"},
		"a name that is refused":       {lie: func(s *site) { s.ca.before = problem("/order", 400, "rejectedIdentifier", "the policy forbids it") }, want: "the policy forbids it"},
		"CAA":                          {lie: func(s *site) { s.ca.before = problem("/finalize", 403, "caa", "CAA says no") }, want: "RFC 8659"},
		"an account that is not known": {lie: func(s *site) { s.ca.before = problem("/order", 400, "accountDoesNotExist", "who?") }, want: "a new account is made"},
		"no nonce is good":             {lie: func(s *site) { s.ca.before = problem("/order", 400, "badNonce", "stale") }, want: "stale"},
		"a broken server":              {lie: func(s *site) { s.ca.before = problem("/order", 500, "serverInternal", "oops") }, want: "oops"},
		"control characters":           {lie: func(s *site) { s.ca.before = problem("/order", 400, "malformed", "a\x1b[31m\r\nb\u202ec") }, want: "a [31m  b c"},
		"a page that never ends": {lie: func(s *site) {
			s.ca.before = func(w http.ResponseWriter, path string) bool {
				_, _ = w.Write([]byte(`{"x":"` + strings.Repeat("a", 2*maxAnswer)))
				return true
			}
		}, want: "too long"},
		"a redirect": {lie: func(s *site) {
			s.ca.before = func(w http.ResponseWriter, path string) bool {
				w.Header().Set("Location", elsewhere)
				w.WriteHeader(302)
				return true
			}
		}, want: "302"},
		"an order that never ends": {lie: func(s *site) {
			s.ca.order = func(m map[string]any) {
				if m["status"] == "ready" {
					m["status"] = "processing"
				}
			}
		}, want: "does not come to an end"},
		"an order that never ends, fast": {lie: func(s *site) {
			s.ca.order = func(m map[string]any) {
				if m["status"] == "ready" {
					m["status"] = "processing"
				}
			}
			s.ca.before = func(w http.ResponseWriter, _ string) bool { w.Header().Set("Retry-After", "-1"); return false }
		}, want: "does not come to an end"},
		"an order that is given up": {lie: func(s *site) {
			s.ca.order = func(m map[string]any) {
				if m["status"] == "ready" {
					m["status"] = "invalid"
				}
			}
		}, want: "given up"},
		"a certificate for another key": {lie: func(s *site) { s.ca.leaf = func(_ *x509.Certificate, pub *any) { *pub = other.Public() } }, want: "it is for another key"},
		"a certificate with more names": {lie: func(s *site) {
			s.ca.leaf = func(c *x509.Certificate, _ *any) { c.DNSNames = append(c.DNSNames, "x.example") }
		}, want: "names pbx.example.org x.example"},
		"a certificate with other names": {lie: func(s *site) {
			s.ca.leaf = func(c *x509.Certificate, _ *any) { c.DNSNames = []string{"x.example"} }
		}, want: "names x.example"},
		"a certificate that is over": {lie: func(s *site) {
			s.ca.leaf = func(c *x509.Certificate, _ *any) {
				c.NotBefore, c.NotAfter = time.Now().Add(-2*day), time.Now().Add(-day)
			}
		}, want: "clock"},
		"a certificate that is to come": {lie: func(s *site) {
			s.ca.leaf = func(c *x509.Certificate, _ *any) { c.NotBefore = time.Now().Add(day) }
		}, want: "clock"},
		"a certificate of no server": {lie: func(s *site) {
			s.ca.leaf = func(c *x509.Certificate, _ *any) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			}
		}, want: "does not verify"},
		"a certificate of an authority": {lie: func(s *site) {
			s.ca.leaf = func(c *x509.Certificate, _ *any) { c.IsCA, c.BasicConstraintsValid = true, true }
		}, want: "one of an authority"},
		"a chain that does not hold": {lie: func(s *site) {
			stranger := newAuthority(s.T, s.door)
			s.ca.bundle = func(c []*x509.Certificate) []*x509.Certificate { return []*x509.Certificate{c[0], stranger.cert} }
		}, want: "is not signed by the one after it"},
		"a port that is taken": {lie: func(s *site) {
			s.door.fail = fault(ringfence.KindUnavailable, "flow public-http cannot listen", "see who uses the port", nil)
		}, want: "see who uses the port", no: "POST /chall/" + host},
	}
}

// Every failure leaves the certificate that is there where it is, says what is wrong, and waits.
func TestWhatIsWrongIsSaidAndTheOldOneStays(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range lies(other) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				run(t, s.open(), time.Minute)
				old := s.leaf()
				if old == nil {
					t.Fatal("there is none to begin with")
				}
				// The account is new again, so that all of the way is gone.
				b, _ := json.Marshal(func() record { r := s.record(); r.Account = ""; return r }())
				s.vault.held["publicname/v1/public"] = string(b)
				s.ca.requests = nil
				c.lie(s)
				k := s.open()
				if err := k.Renew(t.Context()); err != nil {
					t.Fatal(err)
				}
				run(t, k, orderTime+10*time.Second)
				st := k.Status()
				if !strings.Contains(st.Error+" "+st.Hint, c.want) || st.Failures != 1 {
					t.Errorf("it says %q, hint %q, %d failures; want %q", st.Error, st.Hint, st.Failures, c.want)
				}
				if !s.leaf().Equal(old) || !st.Until.Equal(old.NotAfter) {
					t.Error("the certificate has changed")
				}
				if c.no != "" && s.requested(c.no) {
					t.Errorf("it went as far as %s: %q", c.no, s.ca.requests)
				}
				if len(s.ca.requests) > maxRequests {
					t.Errorf("%d requests", len(s.ca.requests))
				}
				if s.door.open != nil {
					t.Error("the port is still open")
				}
				if wait := s.record().Next.Sub(st.Tried); wait < firstWait || wait > firstWait+orderTime {
					t.Errorf("the next attempt is after %s", wait)
				}
				if n := len(s.audit); n != 2 || strings.HasSuffix(s.audit[1], " done") {
					t.Errorf("%q", s.audit)
				}
			})
		})
	}
}

func TestWaitsLongerEachTimeAndTheOldOneStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.ca.before = problem("/order", 500, "serverInternal", "oops")
		var at []time.Time
		broken := s.ca.before
		s.ca.before = func(w http.ResponseWriter, path string) bool {
			if path == "/order" {
				at = append(at, time.Now())
			}
			return broken(w, path)
		}
		k := s.open()
		run(t, k, 2*day)
		var gaps []time.Duration
		for i := 1; i < len(at); i++ {
			gaps = append(gaps, at[i].Sub(at[i-1]).Round(10*time.Minute))
		}
		if len(gaps) < 8 || gaps[0] > 20*time.Minute || gaps[2] < gaps[1] || gaps[len(gaps)-1] != 6*time.Hour {
			t.Errorf("the gaps are %v", gaps)
		}
		// Starting again and again does not make it faster.
		before := len(at)
		for range 20 {
			run(t, s.open(), time.Second)
		}
		if len(at) > before+1 {
			t.Errorf("%d attempts at 20 starts", len(at)-before)
		}
		s.ca.before = nil
		run(t, s.open(), 7*time.Hour)
		if st := s.open().Status(); s.leaf() == nil || st.Failures != 0 || st.Error != "" {
			t.Errorf("after the authority has come back: %+v", st)
		}
	})
}

func TestDoesAsTheAuthoritySaysOfRates(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		least  time.Duration
		most   time.Duration
	}{
		"two days":  {"172800", 2 * day, 2*day + time.Minute},
		"a date":    {"Mon, 03 Jan 2000 00:00:00 GMT", 2*day - time.Minute, 2*day + time.Minute}, // the bubble begins on the first
		"for ever":  {"99999999999999999999", time.Hour, time.Hour + time.Minute},
		"ten years": {"315360000", longestAsk, longestAsk + time.Minute},
		"nothing":   {"", time.Hour, time.Hour + time.Minute},
		"the past":  {"-5", time.Hour, time.Hour + time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				s.ca.before = problem("/order", 429, "rateLimited", "too many certificates", "Retry-After", c.header)
				k := s.open()
				run(t, k, 10*time.Second)
				st := k.Status()
				if wait := st.Next.Sub(st.Tried); wait < c.least || wait > c.most || !strings.Contains(st.Error, "too many certificates") {
					t.Errorf("the next attempt is after %s; %+v", wait, st)
				}
				if err := k.Renew(t.Context()); ringfence.KindOf(err) != ringfence.KindOverload || err == nil {
					t.Errorf("by hand before that: %v", err)
				}
				run(t, k, time.Until(st.Next)-lookTime)
				if n := count(s, "POST /order"); n != 1 {
					t.Errorf("%d orders before that", n)
				}
				s.ca.before = nil
				run(t, k, 3*lookTime)
				if s.leaf() == nil {
					t.Errorf("none after that: %+v", k.Status())
				}
			})
		})
	}
}

func TestLeavesAForeignIdentityAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		other := newSite(t)
		run(t, other.open(), time.Minute)
		s.ring.held = other.ring.held
		brought := s.leaf()
		k := s.open()
		run(t, k, 30*day)
		if st := k.Status(); s.ca.placed() != 0 || !s.leaf().Equal(brought) || st.State != Foreign || st.Hint == "" {
			t.Errorf("%d orders; %+v", s.ca.placed(), st)
		}
		if err := k.Renew(t.Context()); ringfence.KindOf(err) != ringfence.KindConflict || err == nil {
			t.Errorf("by hand: %v", err)
		}
		s.ring.held = nil // it was removed
		run(t, k, 2*lookTime)
		if s.leaf() == nil {
			t.Errorf("%+v", k.Status())
		}
	})
}

func TestOtherNamesOrAnotherAuthorityAreOrderedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		run(t, s.open(), time.Minute)
		key := s.record().Key
		s.c.Names = []string{host, "voice.example.org"}
		run(t, s.open(), time.Minute)
		if !sameNames(s.leaf().DNSNames, s.c.Names) || !slices.Equal(s.record().Key, key) {
			t.Errorf("%q", s.leaf().DNSNames)
		}
		// Another authority knows nothing of the account; the certificate is good until its time.
		old := s.leaf()
		s.c.Directory = base + "/dir?other"
		k := s.open()
		run(t, k, time.Minute)
		if r := s.record(); slices.Equal(r.Key, key) || r.Account != "" || !s.leaf().Equal(old) || k.Status().State != Waiting {
			t.Errorf("%+v", k.Status())
		}
		run(t, k, 61*day)
		if s.leaf().Equal(old) || s.record().Account == "" {
			t.Errorf("%+v", k.Status())
		}
	})
}

func TestOfSeveralNodesOneOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		second := func(c *Config) { c.Node = "node-2" }
		a, b := s.open(), s.open(second)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{}, 2)
		for _, k := range []*Keeper{a, b} {
			go func() { k.Run(ctx); done <- struct{}{} }()
		}
		synctest.Wait()
		time.Sleep(70 * day)
		synctest.Wait()
		if n := s.ca.placed(); n != 2 {
			t.Errorf("%d orders, want the first and a renewal", n)
		}
		cancel()
		<-done
		<-done
		// A node that is gone in the middle of an order is waited for, and not for ever.
		r := s.record()
		r.Node, r.Lease = "node-1", time.Now().Add(leaseTime)
		text, _ := json.Marshal(r)
		s.vault.held["publicname/v1/public"] = string(text)
		b = s.open(second)
		if err := b.Renew(t.Context()); ringfence.KindOf(err) != ringfence.KindConflict || err == nil {
			t.Errorf("while another one orders: %v", err)
		}
		time.Sleep(leaseTime)
		if err := b.Renew(t.Context()); err != nil {
			t.Errorf("after its time: %v", err)
		}
		run(t, b, time.Minute)
		// Other names under the same alias would replace each other for ever.
		n := s.ca.placed()
		k := s.open(func(c *Config) { c.Names = []string{"other.example.org"} })
		run(t, k, day)
		if st := k.Status(); s.ca.placed() != n || !strings.Contains(st.Error, "node-2 keeps other names") {
			t.Errorf("%d orders more; %+v", s.ca.placed()-n, st)
		}
	})
}

func TestAStopIsNobodysFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.ca.order = func(m map[string]any) { m["status"] = "processing" }
		k := s.open()
		run(t, k, 5*time.Second)
		if r := s.record(); r.Failures != 0 || r.Error != "" || !r.Lease.IsZero() || s.door.open != nil {
			t.Errorf("%+v", r)
		}
		// One that was killed counts, and what it left does not look like somebody else's.
		s.ca.order = nil
		r := s.record()
		r.Failures, r.Next, r.Lease, r.Error = 1, time.Now().Add(firstWait), time.Now().Add(leaseTime), "the node ended"
		text, _ := json.Marshal(r)
		s.vault.held["publicname/v1/public"] = string(text)
		n := s.ca.placed()
		k = s.open()
		run(t, k, 10*time.Minute)
		if s.ca.placed() != n {
			t.Error("a node that was killed orders again at once")
		}
		run(t, k, 10*time.Minute)
		if s.leaf() == nil {
			t.Errorf("%+v", k.Status())
		}
	})
}

// Authorities send their root as an older one has signed it, for old devices, also when that signature is over.
func TestTakesAChainThatEndsInThePast(t *testing.T) {
	for name, c := range map[string]struct {
		over int // which certificate of the chain has expired
		want bool
	}{"the last": {2, true}, "the one that signed": {1, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				older := newAuthority(t, s.door)
				s.ca.bundle = func(chain []*x509.Certificate) []*x509.Certificate {
					again := *s.ca.cert
					again.SerialNumber = big.NewInt(77)
					if c.over == 1 {
						again.NotAfter = time.Now().Add(-time.Minute)
					}
					der, err := x509.CreateCertificate(rand.Reader, &again, older.cert, s.ca.key.Public(), older.key)
					if err != nil {
						t.Error(err)
					}
					cross, err := x509.ParseCertificate(der)
					if err != nil {
						t.Error(err)
					}
					top := *older.cert
					if c.over == 2 {
						top.NotAfter = time.Now().Add(-time.Minute)
					}
					if der, err = x509.CreateCertificate(rand.Reader, &top, &top, older.key.Public(), older.key); err != nil {
						t.Error(err)
					}
					root, err := x509.ParseCertificate(der)
					if err != nil {
						t.Error(err)
					}
					return []*x509.Certificate{chain[0], cross, root}
				}
				k := s.open()
				run(t, k, time.Minute)
				if got := s.leaf() != nil; got != c.want {
					t.Errorf("taken: %v; %+v", got, k.Status())
				}
			})
		})
	}
}

// Outside of a challenge nothing is answered, and within one only what was asked for.
func TestAnswersNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		asked := false
		s.ca.before = func(w http.ResponseWriter, path string) bool {
			if strings.HasPrefix(path, "/chall/") {
				asked = true
				for _, c := range []struct {
					name, path string
					want       int
				}{
					{host, wellKnown + "token-of-pbx-example-org", 200}, {host + ":80", wellKnown + "token-of-pbx-example-org", 200}, {"PBX.example.org", wellKnown + "token-of-pbx-example-org", 200},
					{"other.example.org", wellKnown + "token-of-pbx-example-org", 404}, {host, wellKnown + "token-of-pbx-example-orh", 404}, {host, wellKnown, 404}, {host, "/", 404}, {"127.0.0.1", "/etc/passwd", 404},
				} {
					if code, text := s.door.ask(c.name, c.path); code != c.want || code != 200 && text != "" {
						t.Errorf("%s%s: %d %q, want %d", c.name, c.path, code, text, c.want)
					}
				}
			}
			return false
		}
		run(t, s.open(), time.Minute)
		if !asked || s.leaf() == nil {
			t.Error("no challenge came")
		}
		r := &Responder{}
		if _, err := r.Certificate(&tls.ClientHelloInfo{ServerName: host, SupportedProtos: []string{"acme-tls/1"}}); err == nil {
			t.Error("a certificate without a challenge")
		}
	})
}
