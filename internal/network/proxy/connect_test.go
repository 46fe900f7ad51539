package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
)

// fake is a proxy that answers the n-th request of a connection as it is told. The request is handed over as text.
func fake(t *testing.T, answer func(connection, n int, request string) string) *Dialer {
	connections := 0
	d := &Dialer{Name: "proxy.example.com", Who: Credentials{User: "alice", Password: "secret"}}
	d.Dial = func(context.Context) (net.Conn, error) {
		connections++
		here, there := net.Pipe()
		me := connections
		go func() {
			defer there.Close()
			r := bufio.NewReader(there)
			for n := 1; ; n++ {
				q, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				text := answer(me, n, fmt.Sprintf("%s %s %s", q.Method, q.RequestURI, q.Header.Get("Proxy-Authorization")))
				if _, err := io.WriteString(there, strings.ReplaceAll(text, "\n", "\r\n")); err != nil || text == "" {
					return
				}
				if strings.Contains(text, "HTTP/1.1 200") {
					_, _ = io.Copy(there, r)
					return
				}
			}
		}()
		t.Cleanup(func() { here.Close() })
		return here, nil
	}
	return d
}

func wants(challenges string) string {
	return "HTTP/1.1 407 Authenticate\n" + challenges + "Content-Length: 4\n\nbody"
}

const open = "HTTP/1.1 200 OK\n\n"

func TestConnect(t *testing.T) {
	digest := "Proxy-Authenticate: Digest realm=r, nonce=one, qop=auth\n"
	second := base64.StdEncoding.EncodeToString(challengeOf(ntlmUnicode|ntlmTargetInfo, "01234567", pair(0, nil)))
	for name, c := range map[string]struct {
		answer func(connection, n int, request string) string
		change func(*Dialer)
		used   Scheme
		kind   ringfence.Kind
		says   string
	}{
		"no question": {answer: func(_, _ int, q string) string { return open }, used: None},
		"interim":     {answer: func(_, _ int, q string) string { return "HTTP/1.1 100 Continue\n\n" + open }, used: None},
		"basic, sealed": {answer: func(_, _ int, q string) string {
			if strings.HasSuffix(q, "Basic YWxpY2U6c2VjcmV0") {
				return open
			}
			return wants("Proxy-Authenticate: Basic realm=r\n")
		}, change: func(d *Dialer) { d.Sealed = true }, used: Basic},
		"basic, by name":      {answer: func(_, _ int, q string) string { return wants("Proxy-Authenticate: Basic realm=r\n") }, change: func(d *Dialer) { d.Only = []Scheme{Basic} }, used: Basic, kind: ringfence.KindUnauthenticated, says: "does not accept"},
		"basic, in the clear": {answer: func(_, _ int, q string) string { return wants("Proxy-Authenticate: Basic realm=r\n") }, kind: ringfence.KindInsecure},
		"no user":             {answer: func(_, _ int, q string) string { return wants(digest) }, change: func(d *Dialer) { d.Who = Credentials{} }, kind: ringfence.KindUnauthenticated, says: "by digest"},
		"digest, a stale nonce": {answer: func(_, _ int, q string) string {
			switch {
			case strings.Contains(q, `nonce="two"`):
				return open
			case strings.Contains(q, `nonce="one"`):
				return wants("Proxy-Authenticate: Digest realm=r, nonce=two, qop=auth, stale=true\n")
			}
			return wants(digest)
		}, used: Digest},
		"digest, stale for ever": {answer: func(_, _ int, q string) string { return wants(strings.TrimSuffix(digest, "\n") + ", stale=true\n") }, used: Digest, kind: ringfence.KindUnauthenticated},
		"digest, the best": {answer: func(_, _ int, q string) string {
			if strings.Contains(q, "algorithm=SHA-256") {
				return open
			}
			return wants("Proxy-Authenticate: Digest realm=r, nonce=one, algorithm=MD5, Digest realm=r, nonce=one, algorithm=SHA-256, Digest realm=r, nonce=x, algorithm=SHA-9\n")
		}, used: Digest},
		"digest, an impostor": {answer: func(_, _ int, q string) string {
			if strings.Contains(q, "Digest") {
				return "HTTP/1.1 200 OK\nProxy-Authentication-Info: rspauth=\"00000000000000000000000000000000\", qop=auth\n\n"
			}
			return wants(digest)
		}, used: Digest, kind: ringfence.KindInsecure},
		"closed after each refusal": {answer: func(c, n int, q string) string {
			if c == 2 && strings.Contains(q, "Digest") {
				return open
			}
			return "HTTP/1.0 407 Authenticate\n" + digest + "\nbody without length"
		}, used: Digest},
		"closed silently": {answer: func(c, n int, q string) string {
			if c == 1 && n == 2 {
				return ""
			}
			if strings.Contains(q, "Digest") {
				return open
			}
			return wants(digest)
		}, used: Digest},
		"ntlm": {answer: func(c, n int, q string) string {
			switch {
			case c == 1 && n == 3 && strings.Contains(q, ntlmThird):
				return open
			case strings.Contains(q, "NTLM TlRMTVNTUAAB"):
				return wants("Proxy-Authenticate: NTLM " + second + "\n")
			}
			return wants("Proxy-Authenticate: NTLM\n")
		}, used: NTLM},
		"ntlm, closed between": {answer: func(c, n int, q string) string {
			if strings.Contains(q, "NTLM TlRMTVNTUAAB") {
				return "HTTP/1.1 407 Authenticate\nConnection: close\nContent-Length: 0\nProxy-Authenticate: NTLM " + second + "\n\n"
			}
			return wants("Proxy-Authenticate: NTLM\n")
		}, used: NTLM, kind: ringfence.KindUnsupported, says: "in the middle of NTLM"},
		"ntlm, broken": {answer: func(c, n int, q string) string { return wants("Proxy-Authenticate: NTLM TlRMTVNTUAAC\n") }, used: NTLM, kind: ringfence.KindInvalid},
		"negotiate falls back": {answer: func(c, n int, q string) string {
			switch {
			case strings.Contains(q, "Negotiate"+ntlmThird):
				return open
			case strings.Contains(q, "Negotiate TlRMTVNTUAAB"):
				return wants("Proxy-Authenticate: Negotiate " + second + "\n")
			}
			return wants("Proxy-Authenticate: Negotiate\n")
		}, used: Negotiate},
		"kerberos": {answer: func(c, n int, q string) string {
			if strings.HasSuffix(q, "Negotiate "+base64.StdEncoding.EncodeToString([]byte("for HTTP/proxy.example.com"))) {
				return open
			}
			return wants("Proxy-Authenticate: Negotiate\n")
		}, change: func(d *Dialer) {
			d.Who = Credentials{Token: func(_ context.Context, s string) ([]byte, error) { return []byte("for " + s), nil }}
		}, used: Negotiate},
		"forbidden":    {answer: func(_, _ int, q string) string { return "HTTP/1.1 403 No\nContent-Length: 0\n\n" }, kind: ringfence.KindDenied},
		"bad gateway":  {answer: func(_, _ int, q string) string { return "HTTP/1.1 502 No\nContent-Length: 0\n\n" }, kind: ringfence.KindUnavailable},
		"late gateway": {answer: func(_, _ int, q string) string { return "HTTP/1.1 504 No\nContent-Length: 0\n\n" }, kind: ringfence.KindTimeout},
		"a web server": {answer: func(_, _ int, q string) string { return "HTTP/1.1 400 No\nContent-Length: 0\n\n" }, kind: ringfence.KindUnsupported},
		"no HTTP":      {answer: func(_, _ int, q string) string { return "220 mail.example.com ESMTP\n" }, kind: ringfence.KindInvalid},
		"endless": {answer: func(_, _ int, q string) string {
			return "HTTP/1.1 200 OK\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\n", 100)
		}, kind: ringfence.KindInvalid, says: "too long"},
		"closes": {answer: func(_, _ int, q string) string { return "" }, kind: ringfence.KindUnavailable},
		"a new scheme each time": {answer: func(c, n int, q string) string {
			return wants(fmt.Sprintf("Proxy-Authenticate: Digest realm=r, nonce=n%d, X%d a=b\n", n, n))
		}, used: Digest, kind: ringfence.KindUnauthenticated},
		"only interim": {answer: func(_, _ int, q string) string { return strings.Repeat("HTTP/1.1 103 Hints\n\n", 6) }, kind: ringfence.KindInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			d := fake(t, c.answer)
			if c.change != nil {
				c.change(d)
			}
			conn, out, err := d.Connect(t.Context(), "service.example.com:443")
			if failed := c.kind != 0; failed != (err != nil) || failed && ringfence.KindOf(err) != c.kind || err != nil && !strings.Contains(err.Error(), c.says) || out.Used != c.used {
				t.Fatalf("%v %+v", err, out)
			}
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.Write([]byte("through")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 7)
			if _, err := io.ReadFull(conn, b); err != nil || string(b) != "through" {
				t.Errorf("%q %v", b, err)
			}
		})
	}
}

// TestFirstBytes has the far end speak first, in the same segment as the proxy's answer: nothing of it is lost.
func TestFirstBytes(t *testing.T) {
	d := fake(t, func(_, _ int, _ string) string {
		return "HTTP/1.1 200 OK\nContent-Length: 3\nTransfer-Encoding: chunked\n\n220 ready"
	})
	conn, _, err := d.Connect(t.Context(), "mail.example.com:25")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 9)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "220 ready" {
		t.Errorf("%q %v", b, err)
	}
}

// TestSilence waits for a proxy that never answers, and gives up when told.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		go io.Copy(io.Discard, there)
		d := &Dialer{Dial: func(context.Context) (net.Conn, error) { return here, nil }}
		began := time.Now()
		if _, _, err := d.Connect(t.Context(), "a.example:443"); ringfence.KindOf(err) != ringfence.KindTimeout || time.Since(began) != stepTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		here, there2 := net.Pipe()
		defer there2.Close()
		go io.Copy(io.Discard, there2)
		d = &Dialer{Dial: func(context.Context) (net.Conn, error) { return here, nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, _, err := d.Connect(ctx, "a.example:443"); ringfence.KindOf(err) != ringfence.KindTimeout || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestHostileInput(t *testing.T) {
	d := fake(t, func(_, _ int, _ string) string { return open })
	for _, target := range []string{"", "a", "a:0", "a:70000", "a b:1", "a\r\nX: y:443", ":443", strings.Repeat("a", 254) + ":1"} {
		if _, _, err := d.Connect(t.Context(), target); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%q: %v", target, err)
		}
	}
	d.Who.User = "a\r\nX: y"
	if _, out, err := d.Connect(t.Context(), "a:1"); ringfence.KindOf(err) != ringfence.KindInvalid || out.Requests != 0 {
		t.Errorf("%+v %v", out, err)
	}
}

func FuzzConnect(f *testing.F) {
	f.Add([]byte("HTTP/1.1 407 x\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 407 x\r\nProxy-Authenticate: NTLM TlRM\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &Dialer{Who: Credentials{User: "a", Password: "b"}, Dial: func(context.Context) (net.Conn, error) { return &script{r: bytes.NewReader(b)}, nil }}
		conn, out, err := d.Connect(t.Context(), "a.example:443")
		if (conn == nil) == (err == nil) || out.Requests > maxRequests+1 || slices.Contains(out.Offered, Scheme("")) {
			t.Errorf("%v %+v", err, out)
		}
	})
}

// script is a connection that says what it is told to, whatever it hears.
type script struct {
	net.Conn
	r io.Reader
}

func (s *script) Read(b []byte) (int, error)  { return s.r.Read(b) }
func (s *script) Write(b []byte) (int, error) { return len(b), nil }
func (s *script) SetDeadline(time.Time) error { return nil }
func (s *script) Close() error                { return nil }
