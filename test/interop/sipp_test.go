package interop_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/enroll"
)

// tunnel lets a program without TLS (sipp and sipsak as Debian builds them) speak to the node: each TCP connection to the
// returned port becomes a TLS connection, with the certificate of a device if there is one.
func (s *site) tunnel(id *enroll.Identity) string {
	s.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	s.OK(err)
	var wg sync.WaitGroup
	conf := s.clientTLS(id)
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer near.Close()
				far, err := tls.Dial("tcp", s.Node.SIPAddr().String(), conf)
				if err != nil {
					return
				}
				defer far.Close()
				wg.Go(func() { _, _ = io.Copy(far, near); _ = far.CloseWrite() })
				_, _ = io.Copy(near, far)
			})
		}
	})
	s.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

func (s *site) clientTLS(id *enroll.Identity) *tls.Config {
	conf := &tls.Config{RootCAs: s.Node.Authority.Roots(), ServerName: s.Node.Config.Domain, MinVersion: tls.VersionTLS12}
	if id != nil {
		conf.Certificates = []tls.Certificate{id.Certificate()}
	}
	return conf
}

// sipp runs a scenario until all of its calls are over. It succeeds if each of them did.
func (s *site) sipp(to, scenario string, keys map[string]string, args ...string) {
	s.Helper()
	s.sippDone(s.sippStart(to, scenario, keys, args...), scenario)
}

// sippDone waits until sipp has ended, and shows what it did not expect if it is not content.
func (s *site) sippDone(p *program, scenario string) {
	s.Helper()
	if code := p.finish(s.Ctx); code != 0 {
		b, _ := os.ReadFile(s.path(scenario + ".err"))
		s.Fatalf("sipp %s: exit status %d\n%s", scenario, code, clip(string(b), 6000))
	}
}

func (s *site) sippStart(to, scenario string, keys map[string]string, args ...string) *program {
	s.Helper()
	path := testkit.Need(s.T, "sipp", "sip-tester")
	file, err := filepath.Abs(filepath.Join("testdata", "sipp", scenario+".xml"))
	s.OK(err)
	all := []string{"-sf", file, "-t", "t1", "-i", "127.0.0.1", "-nostdin", "-timeout", "60", "-timeout_error", "-recv_timeout", "20000", "-trace_err", "-error_file", s.path(scenario + ".err")}
	for k, v := range keys {
		all = append(all, "-key", k, v)
	}
	return start(s.T, s.home, path, append(append(all, args...), to)...)
}

func TestSippRegistersAndCalls(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	id := s.Identity("alice", "alice-sipp")
	var phones []*phone.Phone
	callees := "SEQUENTIAL\n"
	for i := range 10 { // one person has at most four calls at a time, and sipp at most eight
		user := ringfence.UserID(fmt.Sprintf("agent%d", i))
		number := fmt.Sprint(200 + i)
		s.User(user, ringfence.Number(number))
		callees += number + ";\n"
		phones = append(phones, s.Phone(user, func(c *phone.Config) {
			c.Auto = func(ctx context.Context, call *phone.Call) {
				if call.Answer(ctx, phone.CallOptions{}) == nil {
					_ = call.WaitEnded(ctx)
				}
			}
		}))
	}
	to := s.tunnel(&id)
	s.sipp(to, "register", map[string]string{"user": "alice"}, "-m", "200", "-r", "200")
	if all := s.Node.Registrar.All(); len(all) != 11 {
		t.Errorf("%d bindings, want the last one of sipp and those of the phones", len(all))
	}
	s.sipp(to, "call", map[string]string{"user": "alice"}, "-m", "60", "-r", "20", "-l", "8", "-inf", s.file("callees.csv", []byte(callees)))
	s.over()
	s.Until("60 records are kept", func() bool {
		cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 100)
		if err != nil || len(cdrs) != 60 {
			return false
		}
		for _, c := range cdrs {
			if c.Answer.IsZero() || c.Verdict != ringfence.Sealed || len(c.Legs) != 2 || c.From != "101" || !strings.HasPrefix(c.To, "20") {
				t.Fatalf("record %+v", c)
			}
		}
		return true
	})
	for _, p := range phones {
		s.Until("the phone is idle", func() bool { return len(p.Calls()) == 0 })
	}
}

func TestSippIsRefusedPlainRTP(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	id := s.Identity("alice", "alice-sipp")
	s.Phone("bob")
	s.sipp(s.tunnel(&id), "plain", map[string]string{"user": "alice", "called": "102"}, "-m", "5")
	if n := s.Node.Calls.Refused(); n != 5 {
		t.Errorf("%d refusals are counted, want 5", n)
	}
	s.over()
}

// The right Call-ID and tags are no proof of being in a call.
func TestSippCannotEndACallOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("mallory", "103")
	var mu sync.Mutex
	var invite, ok []byte
	alice := s.Phone("alice", func(c *phone.Config) {
		c.Trace = func(_ *transport.Conn, msg []byte, sent bool) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case sent && bytes.HasPrefix(msg, []byte("INVITE ")):
				invite = bytes.Clone(msg)
			case !sent && bytes.HasPrefix(msg, []byte("SIP/2.0 200")) && bytes.Contains(msg, []byte(" INVITE\r\n")):
				ok = bytes.Clone(msg)
			}
		}
	})
	bob := s.Phone("bob")
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{Audio: phone.Tone(600)})
	s.OK(err)
	in := s.Incoming(bob)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(out, 1000)

	mu.Lock()
	tag := func(msg []byte, field string) string {
		m := regexp.MustCompile(`(?m)^` + field + `: .*;tag=([^;\s]+)`).FindSubmatch(msg)
		if m == nil {
			t.Fatalf("no %s tag in %s", field, msg)
		}
		return string(m[1])
	}
	keys := map[string]string{"user": "alice", "called": "102", "theirs": tag(invite, "From"), "ours": tag(ok, "To")}
	victim := out.ID()
	mu.Unlock()
	id := s.Identity("mallory", "mallory-sipp")
	s.sipp(s.tunnel(&id), "foreign-bye", keys, "-m", "1", "-cid_str", victim) // another device
	s.sipp(s.tunnel(nil), "foreign-bye", keys, "-m", "1", "-cid_str", victim) // nobody at all
	s.Hears(in, 600)
	s.sealed("AEAD_AES_256_GCM", "AEAD_AES_256_GCM")
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
}

// A flood of unknown users must neither use up memory nor keep others from calling.
func TestSippFloodOfStrangers(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	to := s.tunnel(nil)
	s.sipp(to, "stranger", nil, "-m", "500", "-r", "1000") // whatever is made once, is made now
	before := heap()
	flood := s.sippStart(to, "stranger", nil, "-m", "4000", "-r", "1000")
	for range 20 {
		out, err := alice.Call(s.Ctx, "102", phone.CallOptions{})
		s.OK(err)
		in := s.Incoming(bob)
		s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
		s.OK(out.WaitAnswered(s.Ctx))
		out.Hangup()
		s.OK(in.WaitEnded(s.Ctx))
	}
	s.sippDone(flood, "stranger")
	s.Until("the memory is given back", func() bool { return heap() < before+4<<20 })
	if all := s.Node.Registrar.All(); len(all) != 2 {
		t.Errorf("%d bindings", len(all))
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Garbage ends the connection it came on, or is answered by 400, and hurts nobody else.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	id := s.Identity("alice", "alice-raw")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	field := "Via: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bK-garbage\r\nFrom: <sip:alice@ringfence.internal>;tag=1\r\nTo: <sip:alice@ringfence.internal>\r\nCall-ID: garbage\r\nMax-Forwards: 70\r\n"
	// What cannot be answered is passed over; then the next request on the connection is answered.
	probe := "OPTIONS sip:ringfence.internal SIP/2.0\r\n" + strings.Replace(field, "garbage\r\n", "probe\r\n", 1) + "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
	for _, c := range []struct{ name, send, want string }{
		{"bytes", "\x00\xff\x17\x03\x01\xde\xad\xbe\xef\r\n\r\n", "400|closed"},
		{"another protocol", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "400|closed"},
		{"no CSeq", "OPTIONS sip:ringfence.internal SIP/2.0\r\n" + field + "Content-Length: 0\r\n\r\n" + probe, "400|200"},
		{"negative length", "OPTIONS sip:ringfence.internal SIP/2.0\r\n" + field + "CSeq: 1 OPTIONS\r\nContent-Length: -5\r\n\r\n", "400|closed"},
		{"huge length", "OPTIONS sip:ringfence.internal SIP/2.0\r\n" + field + "CSeq: 1 OPTIONS\r\nContent-Length: 4000000000\r\n\r\n", "400|413|513|closed"},
		{"other version", "OPTIONS sip:ringfence.internal SIP/7.0\r\n" + field + "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n" + probe, "505|400|200|closed"},
		{"endless field", "OPTIONS sip:ringfence.internal SIP/2.0\r\nX: " + strings.Repeat("a", 1<<20), "400|413|513|closed"},
		{"many fields", "OPTIONS sip:ringfence.internal SIP/2.0\r\n" + field + strings.Repeat("X: y\r\n", 20000) + "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", "400|413|513|closed"},
		{"cut off", "INVITE sip:102@ringfence.internal SIP/2.0\r\n" + field + "CSeq: 1 INVITE\r\nContent-Length: 200\r\n\r\nv=0\r\n", "closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := s.answerTo(t, &id, []byte(c.send), c.name == "cut off")
			if !regexp.MustCompile(`^(` + c.want + `)$`).MatchString(got) {
				t.Errorf("answer %q, want %s", got, c.want)
			}
		})
	}
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{Audio: phone.Tone(600)})
	s.OK(err)
	in := s.Incoming(bob)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
	s.Hears(in, 600)
	s.Hears(out, 1000)
}

// answerTo sends bytes over a connection of a device and returns the status of the first answer, or "closed".
func (s *site) answerTo(t *testing.T, id *enroll.Identity, b []byte, half bool) string {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Node.SIPAddr().String(), s.clientTLS(id))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		_, _ = conn.Write(b) // may fail when the node has seen enough
		if half {
			_ = conn.CloseWrite()
		}
	}()
	var got []byte
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if m := regexp.MustCompile(`(?m)^SIP/2\.0 (\d{3}) `).FindSubmatch(got); m != nil {
			return string(m[1])
		}
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return fmt.Sprintf("silence after %q", got)
			}
			return "closed"
		}
	}
}
