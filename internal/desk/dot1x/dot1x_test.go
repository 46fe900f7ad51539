package dot1x

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
)

func full() Config {
	return Config{Methods: []Method{TLS, FAST}, Identity: "anonymous", CA: "/etc/ca.pem", ServerName: "radius.example.com", Cert: "/etc/phone.pem", Key: "/etc/phone.key", User: "phone", Password: "\"\n}\nnetwork={", PAC: "/var/pac"}
}

func TestConfig(t *testing.T) {
	b, err := full().File("/run/x")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{"ctrl_interface=/run/x\n", "\teap=TLS FAST\n", "\tidentity=70686f6e65\n", "\tanonymous_identity=616e6f6e796d6f7573\n", "\tpassword=220a7d0a6e6574776f726b3d7b\n", "\tca_cert=\"/etc/ca.pem\"\n", "\tdomain_match=\"radius.example.com\"\n",
		"\tphase2=\"auth=MSCHAPV2\"\n", "fast_provisioning=2 ", "tls_disable_tlsv1_0=1"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Count(text, "network={") != 1 || strings.Count(text, "}") != 1 {
		t.Error(text)
	}
	only := full()
	only.Methods, only.User, only.Password = []Method{TLS}, "", ""
	if b, err = only.File("/run/x"); err != nil || strings.Contains(string(b), "fast_prov") || !strings.Contains(string(b), "\tidentity=616e6f6e796d6f7573\n") {
		t.Errorf("%v %s", err, b)
	}
	any := full()
	any.Methods, any.AnyPAC, any.CA, any.PAC = []Method{FAST}, true, "", ""
	if b, err = any.File("/run/x"); err != nil || !strings.Contains(string(b), "fast_provisioning=3") || !strings.Contains(string(b), "pac_file=\"blob://pac\"") {
		t.Errorf("%v %s", err, b)
	}
	for name, change := range map[string]func(*Config){"no method": func(c *Config) { c.Methods = nil }, "another method": func(c *Config) { c.Methods = []Method{"EAP-MD5"} }, "no key": func(c *Config) { c.Key = "" }, "no password": func(c *Config) { c.Password = "" }, "no authority": func(c *Config) { c.CA = "" },
		"any for TLS": func(c *Config) { c.CA, c.AnyPAC = "", true }, "a file with a quote": func(c *Config) { c.Cert = "/a\"b" }, "a file with a line": func(c *Config) { c.PAC = "/a\nb" }, "no name": func(c *Config) { c.ServerName = "a b\"" }, "long": func(c *Config) { c.User = strings.Repeat("x", 999) }} {
		c := full()
		change(&c)
		if b, err := c.File("/run/x"); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v %s", name, err, b)
		}
	}
	if _, err := full().File("/run/a b"); err == nil {
		t.Error("a directory with a blank")
	}
}

func TestStatus(t *testing.T) {
	var s Status
	s.take(ParseStatus([]byte("wpa_state=COMPLETED\nSupplicant PAE state=AUTHENTICATED\nsuppPortStatus=Authorized\nEAP state=SUCCESS\nselectedMethod=13 (EAP-TLS)\neap_tls_version=TLSv1.3\nEAP TLS cipher=TLS_AES_256_GCM_SHA384\n")))
	if s.State != Authenticated || s.Protocol != TLS || s.TLS != "TLSv1.3, TLS_AES_256_GCM_SHA384" {
		t.Errorf("%+v", s)
	}
	s.take(ParseStatus([]byte("suppPortStatus=Unauthorized\nEAP state=IDLE\nselectedMethod=43 (EAP-FAST)")))
	if s.State != Authenticating || s.Protocol != FAST {
		t.Errorf("%+v", s)
	}
	s.take(ParseStatus([]byte("Supplicant PAE state=HELD\nselectedMethod=4 (EAP-MD5)")))
	if s.State != Held || s.Protocol != FAST {
		t.Errorf("%+v", s)
	}
	e, ok := ParseEvent([]byte("<3>CTRL-EVENT-EAP-TLS-CERT-ERROR reason=4 depth=0 subject='/CN=a=b c' err='certificate has expired'\n"))
	if !ok || e.Name != "CTRL-EVENT-EAP-TLS-CERT-ERROR" || e.Args["subject"] != "/CN=a=b c" || e.Args["err"] != "certificate has expired" || e.Args["depth"] != "0" {
		t.Errorf("%+v", e)
	}
	s.hear(e)
	if s.hear(Event{Name: "CTRL-EVENT-EAP-FAILURE"}); !strings.Contains(s.Error, "certificate has expired (/CN=a=b c)") || s.State != Held {
		t.Errorf("%+v", s)
	}
	s.hear(Event{Name: "CTRL-EVENT-EAP-METHOD"})
	if s.hear(Event{Name: "CTRL-EVENT-EAP-PROPOSED-METHOD", Text: "vendor=0 method=4 -> NAK"}); !strings.Contains(s.Error, "does not have") {
		t.Errorf("%+v", s)
	}
	for _, b := range []string{"", "OK", "<", "<3", "no event"} {
		if e, ok := ParseEvent([]byte(b)); ok {
			t.Errorf("%q: %+v", b, e)
		}
	}
}

// control is the other end of two control sockets, of few lines.
type control struct {
	mu       sync.Mutex
	status   string
	commands []string
	events   net.Conn
}

func (c *control) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := theirs.Read(b)
			if err != nil {
				return
			}
			c.mu.Lock()
			c.commands = append(c.commands, string(b[:n]))
			answer := map[string]string{"PING": "PONG\n", "ATTACH": "OK\n", "LOGOFF": "OK\n", "STATUS": c.status}[string(b[:n])]
			if answer == "" {
				answer = "UNKNOWN COMMAND\n"
			}
			attached := string(b[:n]) == "ATTACH"
			if attached {
				c.events = theirs
			}
			c.mu.Unlock()
			_, _ = theirs.Write([]byte(answer))
			if attached {
				return
			}
		}
	}()
	return ours, nil
}

func (c *control) tell(status, event string) {
	c.mu.Lock()
	c.status = status
	events := c.events
	c.mu.Unlock()
	_, _ = events.Write([]byte(event))
}

func TestSupplicant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := &control{status: "suppPortStatus=Unauthorized\nEAP state=IDLE\n"}
		n := 0
		s, err := Attach(ctx, func(ctx context.Context) (net.Conn, error) {
			if n++; n < 3 { // it is just starting
				return nil, os.ErrNotExist
			}
			return c.dial(ctx)
		}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		short, done := context.WithTimeout(ctx, 3*time.Second)
		if err := s.WaitSettled(short); ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Errorf("%v", err)
		}
		done()
		go c.tell("EAP state=FAILURE\nSupplicant PAE state=HELD\n", "<3>CTRL-EVENT-EAP-FAILURE EAP authentication failed")
		if err := s.WaitSettled(ctx); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("%v", err)
		}
		// An event gets lost, and the phone finds out all the same.
		c.mu.Lock()
		c.status = "suppPortStatus=Authorized\nEAP state=SUCCESS\nselectedMethod=13 (EAP-TLS)\n"
		c.mu.Unlock()
		go c.tell(c.status, "<3>CTRL-EVENT-EAP-METHOD EAP vendor 0 method 13 (TLS) selected")
		synctest.Wait()
		if err := s.WaitSettled(ctx); err != nil || s.Status().Protocol != TLS || s.Status().Error != "" {
			t.Errorf("%v %+v", err, s.Status())
		}
		if err := s.Logoff(); err != nil {
			t.Error(err)
		}
		if err := s.Logon(); ringfence.KindOf(err) != ringfence.KindUnsupported {
			t.Errorf("%v", err)
		}
		c.mu.Lock()
		if !slices.Contains(c.commands, "LOGOFF") {
			t.Errorf("%q", c.commands)
		}
		c.mu.Unlock()
		cancel()
		synctest.Wait()

		began := time.Now()
		if _, err := Attach(t.Context(), func(context.Context) (net.Conn, error) { return nil, errors.New("nobody") }, time.Now); ringfence.KindOf(err) != ringfence.KindUnavailable || time.Since(began) != startTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// wire is a port in memory.
type wire struct {
	in, out chan []byte
	once    sync.Once
	closed  chan struct{}
}

func newWire() *wire {
	return &wire{in: make(chan []byte, 16), out: make(chan []byte, 16), closed: make(chan struct{})}
}

func (w *wire) Read(b []byte) (int, error) {
	select {
	case f := <-w.in:
		return copy(b, f), nil
	case <-w.closed:
		return 0, net.ErrClosed
	}
}

func (w *wire) Write(b []byte) (int, error) { w.out <- slices.Clone(b); return len(b), nil }
func (w *wire) Close() error                { w.once.Do(func() { close(w.closed) }); return nil }

func frame(to, from [6]byte, kind byte, body ...byte) []byte {
	b := slices.Concat(to[:], from[:], []byte{0x88, 0x8e, 2, kind, 0, byte(len(body))}, body)
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

func TestPassThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, pc, other, sw := [6]byte{2, 1}, [6]byte{2, 2}, [6]byte{2, 3}, [6]byte{2, 9}
		var mu sync.Mutex
		up := true
		plug := func(in bool) { mu.Lock(); up = in; mu.Unlock(); time.Sleep(2 * linkLook); synctest.Wait() }
		s, p := newWire(), newWire()
		pass := &PassThrough{Own: own, Switch: s, PC: p, Now: time.Now, Up: func() bool { mu.Lock(); defer mu.Unlock(); return up }}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { pass.Run(ctx); close(ended) }()
		say := func(w *wire, b []byte) { w.in <- b; synctest.Wait() }
		heard := func(w *wire) []byte {
			select {
			case b := <-w.out:
				return b
			default:
				return nil
			}
		}
		if pass.Behind().State != Nobody {
			t.Errorf("%+v", pass.Behind())
		}
		start := frame(Group(), pc, typeStart)
		say(p, start)
		if got := heard(s); !slices.Equal(got, start) || pass.Behind().State != Asking {
			t.Errorf("%x %+v", got, pass.Behind())
		}
		say(s, frame(own, sw, typeEAP, 1, 1, 0, 5, 1)) // for the phone
		say(s, frame(other, sw, typeEAP, codeSuccess, 1, 0, 4))
		if heard(p) != nil || pass.Behind().State != Asking {
			t.Errorf("what is for others reached the computer: %+v", pass.Behind())
		}
		say(s, frame(Group(), sw, typeEAP, 1, 1, 0, 5, 1))
		if heard(p) == nil {
			t.Error("a question to everybody did not reach the computer")
		}
		say(p, frame(Group(), own, typeLogoff)) // whoever sits there says they are the phone
		if heard(s) != nil {
			t.Error("a computer may log the phone off")
		}
		say(s, frame(pc, sw, typeEAP, codeSuccess, 1, 0, 4))
		if b := pass.Behind(); heard(p) == nil || b.State != LetIn || b.Station != "02:02:00:00:00:00" {
			t.Errorf("%+v", b)
		}
		plug(false)
		f, err := ParseFrame(heard(s))
		if err != nil || f.From != pc || f.To != Group() || f.Type != typeLogoff || f.Version != 2 || pass.Behind().State != LoggedOff || pass.Behind().Logoffs != 1 {
			t.Errorf("%+v %v %+v", f, err, pass.Behind())
		}
		plug(true)
		plug(false)
		if heard(s) != nil {
			t.Error("one that was logged off is logged off again")
		}
		// Another computer takes the place of one that was let in, behind a switch of the desk.
		plug(true)
		say(p, start)
		heard(s)
		say(s, frame(pc, sw, typeEAP, codeSuccess, 1, 0, 4))
		say(p, frame(Group(), other, typeStart))
		if f, err := ParseFrame(heard(s)); err != nil || f.Type != typeLogoff || f.From != pc {
			t.Errorf("%+v %v", f, err)
		}
		heard(s)
		say(s, frame(other, sw, typeEAP, codeFailure, 1, 0, 4))
		if pass.Behind().State != Refused {
			t.Errorf("%+v", pass.Behind())
		}
		say(p, frame(Group(), other, typeStart))
		heard(s)
		cancel() // the phone ends, and nobody would notice any more that the computer goes
		<-ended
		if f, err := ParseFrame(heard(s)); err != nil || f.Type != typeLogoff || f.From != other {
			t.Errorf("%+v %v", f, err)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	f.Add(frame(Group(), [6]byte{2}, typeEAP, 1, 1, 0, 5, 1))
	f.Add(Logoff([6]byte{2}, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseFrame(b)
		if err == nil && (len(x.Body) > len(b)-headLen-4 || x.From[0]&1 != 0 || x.Type == typeEAP && len(x.Body) < 4) {
			t.Errorf("%+v", x)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte("suppPortStatus=Authorized\nEAP state=SUCCESS\nselectedMethod=13 (EAP-TLS)\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Status
		pairs := ParseStatus(b)
		if s.take(pairs); len(pairs) > maxPairs || s.Protocol != "" && s.Protocol != TLS && s.Protocol != FAST || strings.ContainsFunc(s.TLS, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%+v", s)
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte("<3>CTRL-EVENT-EAP-PEER-CERT depth=0 subject='/CN=x' hash=00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := ParseEvent(b)
		if !ok {
			return
		}
		var s Status
		if s.hear(e); len(e.Args) > maxPairs || strings.ContainsFunc(s.Error+s.Server, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%+v %+v", e, s)
		}
	})
}
