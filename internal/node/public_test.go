package node_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence/internal/node/config"
	"ringfence/internal/testkit"
)

// slow is a directory that says nothing of an order until it is let go, so that the port of challenges stays open.
type slow struct {
	base  string
	ready chan struct{} // closed when the challenge was accepted
	once  bool
}

func (d *slow) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Replay-Nonce", "n"+q.URL.Path[1:])
	say := func(status int, text string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(text, "BASE", d.base))
	}
	switch q.URL.Path {
	case "/dir":
		say(200, `{"newNonce":"BASE/nonce","newAccount":"BASE/account","newOrder":"BASE/order"}`)
	case "/account":
		w.Header().Set("Location", d.base+"/account/1")
		say(201, `{"status":"valid"}`)
	case "/order":
		w.Header().Set("Location", d.base+"/order/1")
		say(201, `{"status":"pending","authorizations":["BASE/authz"],"finalize":"BASE/finalize"}`)
	case "/authz":
		say(200, `{"status":"pending","identifier":{"type":"dns","value":"pbx.public.example"},"challenges":[{"type":"http-01","url":"BASE/chall","token":"0123456789abcdef","status":"pending"}]}`)
	case "/chall":
		if !d.once {
			d.once = true
			close(d.ready)
		}
		say(200, `{"type":"http-01","url":"BASE/chall","token":"0123456789abcdef","status":"processing"}`)
	default:
		say(200, `{}`)
	}
}

// While an order runs the port of challenges answers the one file to a few, and the end of the node ends it.
func TestPortOfChallenges(t *testing.T) {
	authority := testkit.NewAuthority("Directory")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &slow{base: "https://" + ln.Addr().String(), ready: make(chan struct{})}
	hs := &http.Server{Handler: d, TLSConfig: authority.Server("127.0.0.1")}
	go func() { _ = hs.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { _ = hs.Close() })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().(*net.TCPAddr).AddrPort()
	_ = free.Close()
	s := newSite(t, func(c *config.Config) {
		c.Observe.Authorities = pemFile(t, t.TempDir(), "ca.pem", "CERTIFICATE", authority.Root())
		c.Trust.Public = config.Public{Directory: d.base + "/dir", Names: []string{"pbx.public.example"}, Listen: at}
	})
	select {
	case <-d.ready:
	case <-s.Ctx.Done():
		t.Fatal("no challenge was accepted")
	}
	ask := func(name, path string) (int, string) {
		t.Helper()
		c := dialPort(t, s.Ctx, at)
		defer c.Close()
		_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	const file = "/.well-known/acme-challenge/0123456789abcdef"
	if code, text := ask("pbx.public.example", file); code != 200 || !strings.HasPrefix(text, "0123456789abcdef.") {
		t.Errorf("%d %q", code, text)
	}
	for _, x := range [][2]string{{"other.example", file}, {"pbx.public.example", "/"}, {"pbx.public.example", "/api/v1/status"}} {
		if code, text := ask(x[0], x[1]); code != 404 || text != "" {
			t.Errorf("%q: %d %q", x, code, text)
		}
	}
	// Whoever opens many gets no more than a few; when they are gone there is room again.
	var held []net.Conn
	for range 100 {
		held = append(held, dialPort(t, s.Ctx, at))
	}
	soon := time.Now().Add(4 * time.Second) // before the others are closed because they say nothing
	for i, c := range held[40:] {
		_ = c.SetReadDeadline(soon)
		_, err := c.Read(make([]byte, 1))
		if e, ok := err.(net.Error); err == nil || ok && e.Timeout() {
			t.Fatalf("connection %d of 100 is open: %v", 40+i, err)
		}
	}
	for _, c := range held {
		_ = c.Close()
	}
	s.Until("there is room again", func() bool { code, _ := ask("pbx.public.example", file); return code == 200 })
	s.Node.Close()
	if c, err := net.Dial("tcp", at.String()); err == nil {
		_ = c.Close()
		t.Error("the port is open after the end of the node")
	}
}

func dialPort(t *testing.T, ctx context.Context, at netip.AddrPort) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
