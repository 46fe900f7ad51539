package interop_test

import (
	"crypto/tls"
	"net"
	"regexp"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/testkit"
)

// anonymous takes the answer out of what sipsak prints, and replaces what must differ between two questions, so that two answers can be compared.
func (s *site) anonymous(text, user string) string {
	for _, r := range []struct{ from, to string }{
		{`(?m)^(New message|our Via|Call-ID|Via|From|Contact|WWW-Authenticate: Digest realm="[^"]*", nonce="[^"]*").*`, "$1"},
		{`tag=\S+`, "tag"}, {`nonce="[^"]*"`, "nonce"}, {`[0-9.]+ ms`, "time"}, {`\d+ byte`, "size"}, {regexp.QuoteMeta("sip:"+user) + `\b`, "sip:USER"},
	} {
		text = regexp.MustCompile(r.from).ReplaceAllString(text, r.to)
	}
	return regexp.MustCompile(`(?s)SIP/2\.0 4.*?Content-Length: 0`).FindString(text)
}

// Nobody learns from the answers who exists here.
func TestSipsakLearnsNothing(t *testing.T) {
	t.Parallel()
	path := testkit.Need(t, "sipsak", "sipsak")
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.Password("alice", "alice-desk", "SECRET", ringfence.AuthDigestMD5)
	s.Phone("bob")
	target := s.tunnel(nil) // its own TLS takes the session tickets of TLS 1.3 for an error
	for _, c := range []struct {
		name string
		args []string
	}{{"OPTIONS", nil}, {"REGISTER", []string{"-U", "-C", "sip:me@127.0.0.1"}}} {
		t.Run(c.name, func(t *testing.T) {
			answers := map[string]string{}
			for _, user := range []string{"alice", "101", "alice-desk", "bob", "102", "nobody", "999"} {
				p := start(t, s.home, path, append([]string{"--transport=tcp", "-vvv", "-s", "sip:" + user + "@" + target}, c.args...)...)
				p.finish(s.Ctx)
				got := p.text()
				if !strings.Contains(got, "SIP/2.0 401 Unauthorized") {
					t.Fatalf("%s: no 401 in\n%s", user, got)
				}
				answers[user] = s.anonymous(got, user)
			}
			for user, got := range answers {
				if got != answers["nobody"] {
					t.Errorf("%s is answered\n%s\nand nobody is answered\n%s", user, got, answers["nobody"])
				}
			}
		})
	}
}

// datagrams lets a scanner that speaks only UDP talk to the node: its datagrams go through one TLS connection.
func (s *site) datagrams() string {
	s.Helper()
	near, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	s.OK(err)
	far, err := tls.Dial("tcp", s.Node.SIPAddr().String(), s.clientTLS(nil))
	s.OK(err)
	done := make(chan struct{})
	peer := make(chan net.Addr, 1)
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		known := false
		for {
			n, addr, err := near.ReadFrom(buf)
			if err != nil {
				return
			}
			if !known {
				peer <- addr
				known = true
			}
			if _, err := far.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		buf := make([]byte, 65536)
		var to net.Addr
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			if to == nil {
				to = <-peer
			}
			if _, err := near.WriteTo(buf[:n], to); err != nil {
				return
			}
		}
	}()
	s.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
		<-done
		<-answers
	})
	return near.LocalAddr().String()
}

// sipvicious finds no user, neither over UDP, where nobody answers, nor when somebody lends it a TLS connection.
func TestSipviciousFindsNothing(t *testing.T) {
	t.Parallel()
	svwar := testkit.Need(t, "svwar", "sipvicious")
	svmap := testkit.Need(t, "svmap", "sipvicious")
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.Password("alice", "105", "SECRET", ringfence.AuthDigestMD5) // the id of a device may look like a number
	s.Phone("bob")

	p := start(t, s.home, svmap, "-p", s.port(), "127.0.0.1")
	p.finish(s.Ctx)
	if !strings.Contains(p.text(), "found nothing") {
		t.Errorf("svmap found something:\n%s", p.text())
	}
	for _, method := range []string{"REGISTER", "OPTIONS", "INVITE"} {
		t.Run(method, func(t *testing.T) {
			host, port, _ := strings.Cut(s.datagrams(), ":")
			p := start(t, s.home, svwar, "-v", "-e", "100-120", "-m", method, "--force", "--maximumtime=3", "-p", port, host)
			p.finish(s.Ctx)
			got := p.text()
			// It says of an extension that exists "reqauth" or "noauth" where others are answered differently; here all are alike.
			rows := regexp.MustCompile(`(?m)^\| *(\d+) *\| *(\w+) *\|`).FindAllStringSubmatch(got, -1)
			if n := len(rows); n != 0 && n != 21 {
				t.Errorf("svwar tells %d of 21 extensions apart:\n%s", n, got)
			}
			for _, r := range rows {
				if r[2] != rows[0][2] {
					t.Errorf("svwar sees %s as %s and %s as %s", r[1], r[2], rows[0][1], rows[0][2])
				}
			}
			if len(rows) == 0 && !strings.Contains(got, "found nothing") {
				t.Errorf("svwar did not end its search:\n%s", got)
			}
		})
	}
}
