package phone

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transaction"
)

// ask sends a request to a registered phone outside every dialog and returns the answer.
func (w *world) ask(t *testing.T, user string, method sip.Method, extra func(*sip.Writer), contentType, body string) *sip.Message {
	t.Helper()
	w.mu.Lock()
	b := w.bindings[user]
	w.mu.Unlock()
	got := make(chan *sip.Message, 1)
	w.do(func() {
		shard := w.txs.Shards()[0]
		shard.Request(b.conn, method, func(m *sip.Writer, via string) {
			m.RequestLine(method, b.contact)
			m.Header(sip.HeaderVia, via)
			m.Uint(sip.HeaderMaxForwards, 70)
			m.Header(sip.HeaderFrom, "<sip:switch@example.test>;tag=s1")
			m.Header(sip.HeaderTo, "<sip:"+user+"@example.test>")
			m.Header(sip.HeaderCallID, w.txs.NewCallID(shard))
			m.CSeq(1, method)
			m.Header(sip.HeaderContact, "<sip:switch@192.0.2.1>")
			if extra != nil {
				extra(m)
			}
			m.Body(contentType, []byte(body))
		}, func(a transaction.Answer) {
			if a.Status() >= 200 && a.Message != nil {
				got <- a.Clone()
			}
		})
	})
	select {
	case m := <-got:
		return m
	case <-time.After(40 * time.Second):
		t.Fatalf("no answer to %v", method)
		return nil
	}
}

func TestRequestsOutsideCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.phone(t, "alice", 10), w.phone(t, "bob", 11)
		for len(a.Events()) > 0 {
			<-a.Events()
		}
		if m := w.ask(t, "alice", sip.OPTIONS, nil, "", ""); m.Status() != 200 || !m.HasOption(sip.HeaderAllow, "REFER") {
			t.Errorf("OPTIONS: %s", m.Bytes())
		}
		if m := w.ask(t, "alice", sip.PUBLISH, nil, "", ""); m.Status() != 405 || !m.HasOption(sip.HeaderAllow, "INVITE") {
			t.Errorf("PUBLISH: %s", m.Bytes())
		}
		w.ask(t, "alice", sip.NOTIFY, func(m *sip.Writer) { m.Header(sip.HeaderEvent, "message-summary") }, "application/simple-message-summary", "Messages-Waiting: no\r\n")
		if e := <-a.Events(); e.Kind != Notified || e.Package != "message-summary" || !strings.HasPrefix(string(e.Body), "Messages-Waiting") {
			t.Errorf("%+v", e)
		}
		w.ask(t, "alice", sip.MESSAGE, nil, "text/plain", "hello")
		if e := <-a.Events(); e.Kind != MessageReceived || e.From != "sip:switch@example.test" || string(e.Body) != "hello" {
			t.Errorf("%+v", e)
		}
		if m := w.ask(t, "alice", sip.INVITE, func(m *sip.Writer) { m.Header(sip.HeaderRequire, "100rel, magic") }, "", ""); m.Status() != 420 || string(m.Get(sip.HeaderUnsupported)) != "magic" {
			t.Errorf("an unknown extension: %s", m.Bytes())
		}
		if m := w.ask(t, "alice", sip.INVITE, func(m *sip.Writer) { m.Header(sip.HeaderReplaces, "x;to-tag=1;from-tag=2") }, "", ""); m.Status() != 481 {
			t.Errorf("Replaces of no call: %s", m.Bytes())
		}
		if m := w.ask(t, "alice", sip.INVITE, nil, "application/sdp", "v=0\r\nm=audio x\r\n"); m.Status() != 400 {
			t.Errorf("a broken description: %s", m.Bytes())
		}

		// Click-to-dial: the server asks alice to call bob, and hears how that goes.
		if m := w.ask(t, "alice", sip.REFER, func(m *sip.Writer) { m.Header(sip.HeaderReferTo, "<sip:bob@example.test>") }, "", ""); m.Status() != 202 {
			t.Fatalf("REFER: %s", m.Bytes())
		}
		if err := (<-b.Incoming()).Answer(ctxFor(t), CallOptions{}); err != nil {
			t.Fatal(err)
		}
		e := <-a.Events()
		if e.Kind != Transferred || e.Call.WaitAnswered(ctxFor(t)) != nil {
			t.Fatalf("%+v", e)
		}
		pass(time.Second)
		if n := drain(w.seen, "NOTIFY alice"); n != 2 {
			t.Errorf("%d reports, want 100 and 200", n)
		}
		e.Call.Hangup()
		if m := w.ask(t, "alice", sip.REFER, func(m *sip.Writer) { m.Header(sip.HeaderReferTo, "<https://example.test>") }, "", ""); m.Status() != 400 {
			t.Errorf("REFER to a web page: %s", m.Bytes())
		}
		c := w.phone(t, "carol", 12, func(c *Config) { c.RefuseTransfer = true })
		if m := w.ask(t, "carol", sip.REFER, func(m *sip.Writer) { m.Header(sip.HeaderReferTo, "<sip:bob@example.test>") }, "", ""); m.Status() != 603 || len(c.Calls()) != 0 {
			t.Errorf("a phone that refuses: %s", m.Bytes())
		}
	})
}

// lateLeg calls without an offer and never answers what the phone offers in its 2xx.
type lateLeg struct {
	switchLeg
	offers chan []byte
	ended  chan dialog.End
}

func (l *lateLeg) Answered(_ *dialog.Session, m *sip.Message) {
	l.offers <- append([]byte(nil), m.Body()...)
}
func (l *lateLeg) Progress(*dialog.Session, *sip.Message) {}
func (l *lateLeg) Ended(_ *dialog.Session, e dialog.End)  { l.ended <- e }

func TestCallWithoutAnOffer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.phone(t, "alice", 10)
		leg := &lateLeg{offers: make(chan []byte, 1), ended: make(chan dialog.End, 1)}
		w.do(func() {
			w.dialogs.Invite(w.txs.Shards()[0], dialog.Invitation{Conn: w.bindings["alice"].conn, URI: w.bindings["alice"].contact, From: "<sip:switch@example.test>",
				To: "<sip:alice@example.test>", Contact: "<sip:switch@192.0.2.1>"}, leg)
		})
		in := <-a.Incoming()
		if err := in.Answer(ctxFor(t), CallOptions{}); err != nil {
			t.Fatal(err)
		}
		s, err := sdp.Parse(<-leg.offers)
		if err != nil || s.Sealed() != nil || len(s.Media[0].Crypto) != 3 {
			t.Fatalf("the phone's offer: %v", err)
		}
		// The ACK carries no answer, so the phone cannot speak, and says why it hangs up.
		if err := in.WaitAnswered(ctxFor(t)); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("got %v", err)
		}
		if e := <-leg.ended; !e.Remote || !strings.Contains(e.Reason, "no session description") {
			t.Errorf("got %+v", e)
		}
	})
}

func TestInfoAndMediaPorts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ports := ringfence.PortRange{First: 17001, Last: 17006}
		a, b := w.phone(t, "alice", 10, func(c *Config) { c.MediaPorts = ports }), w.phone(t, "bob", 11)
		ctx := ctxFor(t)
		used := map[uint16]bool{}
		var calls []*Call
		for range 3 {
			out, _ := join(t, a, b, CallOptions{}, CallOptions{})
			port := out.sealedMedia().addr.Port()
			if !ports.Contains(port) || port%2 != 0 || used[port] {
				t.Errorf("port %d", port)
			}
			used[port] = true
			calls = append(calls, out)
		}
		if _, err := a.Call(ctx, "bob", CallOptions{}); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Errorf("a call without a port: %v", err)
		}
		if len(a.Calls()) != 3 {
			t.Errorf("%d calls", len(a.Calls()))
		}
		in := b.Calls()[0]
		in.shard.Do(func() {
			in.s.Send(sip.INFO, nil, "application/dtmf-relay", []byte("Signal=5\r\nDuration=160\r\n"), nil)
		})
		pass(time.Second)
		heard := 0
		for _, c := range calls {
			if len(c.Digits()) == 1 && <-c.Digits() == '5' {
				heard++
			}
		}
		if heard != 1 {
			t.Errorf("%d calls heard the key", heard)
		}
	})
}

func TestRefusalWords(t *testing.T) {
	err := error(&RejectedError{Status: 488, Phrase: "Not Acceptable Here", Warning: "plain RTP"})
	if err.Error() != "488 Not Acceptable Here (plain RTP)" {
		t.Error(err)
	}
	if cause, why := parseReason([]byte(`SIP;cause=200;text="elsewhere", Q.850;cause=16;text="Normal, clearing"`)); cause != 16 || why != "Normal, clearing" {
		t.Error(cause, why)
	}
	if got := warningText(`399 example.test "a \"quoted\" word", 304 x "y"`); got != `a "quoted" word` {
		t.Error(got)
	}
	for status, kind := range map[int]ringfence.Kind{401: ringfence.KindUnauthenticated, 403: ringfence.KindDenied, 404: ringfence.KindNotFound, 480: ringfence.KindUnavailable,
		486: ringfence.KindBusy, 488: ringfence.KindInsecure, 503: ringfence.KindOverload} {
		if got := ringfence.KindOf(rejected("x", "y", &RejectedError{Status: status})); got != kind {
			t.Errorf("%d is %v", status, got)
		}
	}
	if got := ringfence.KindOf(rejected("x", "y", &RejectedError{Status: 488, Cause: 79})); got != ringfence.KindUnsupported {
		t.Errorf("488 for a codec is %v", got)
	}
	if got := quote("a\r\nVia: \"x\""); got != `"a  Via: \"x\""` {
		t.Error(got)
	}
	if got := escapeUser("*70#@"); got != "*70%23%40" {
		t.Error(got)
	}
	if got := uriHeader([]byte("a=b&Replaces="+escapeHeader("1@h;to-tag=a;from-tag=b")), "replaces"); got != "1@h;to-tag=a;from-tag=b" {
		t.Error(got)
	}
}

func TestFlowsAndConfig(t *testing.T) {
	if err := ringfence.CheckFlows(Flows(ringfence.PortRange{First: 5061, Last: 5061}, ringfence.PortRange{First: 16384, Last: 32767})); err != nil {
		t.Error(err)
	}
	good := Config{Server: netip.MustParseAddrPort("192.0.2.1:5061"), ServerName: "x", User: "u", Domain: "d", MediaAddr: netip.MustParseAddr("192.0.2.2")}
	var f *ringfence.Fault
	if err := good.Validate(); !errors.As(err, &f) || f.Kind != ringfence.KindInsecure {
		t.Errorf("without TLS: %v", err)
	}
	u, err := sip.ParseURI([]byte("urn:uuid:" + newInstance()[9:]))
	if err != nil || len(u.Opaque) != 41 {
		t.Errorf("%s: %v", newInstance(), err)
	}
}

func FuzzFragments(f *testing.F) {
	f.Add([]byte("SIP/2.0 200 OK\r\n"))
	f.Add([]byte(`Q.850;cause=16;text="x"`))
	f.Add([]byte(`399 a "b\`))
	f.Add([]byte("Signal=5\r\n"))
	f.Add([]byte("a=b&Replaces=%3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := fragStatus(b); s != 0 && (s < 100 || s > 699) {
			t.Errorf("status %d", s)
		}
		parseReason(b)
		warningText(string(b))
		infoDigit("application/dtmf-relay", string(b))
		uriHeader(b, "Replaces")
		contacts([]string{string(b)})
		if q := quote(string(b)); strings.ContainsAny(q, "\r\n") {
			t.Errorf("%q", q)
		}
		if u := escapeUser(string(b)); strings.ContainsAny(u, "\r\n@<>\" ") {
			t.Errorf("%q", u)
		}
	})
}

func FuzzParseMessages(f *testing.F) {
	f.Add([]byte("Messages-Waiting: yes\r\nMessage-Account: sip:a@b\r\nVoice-Message: 4/8 (1/2)\r\n"))
	f.Add([]byte("voice-message: 99999999999/0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseMessages(b); err != nil && (m != Messages{} || ringfence.KindOf(err) != ringfence.KindInvalid) {
			t.Errorf("%+v %v", m, err)
		}
	})
}

func FuzzParseDialogInfo(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0"?><dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="3" state="full" entity="sip:a@b"><dialog id="1" direction="recipient"><state>early</state><remote><identity>sip:c@d</identity></remote></dialog></dialog-info>`))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><dialog-info/>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := ParseDialogInfo(b)
		if err != nil && (ringfence.KindOf(err) != ringfence.KindInvalid || len(info.Dialogs) != 0) {
			t.Errorf("%+v %v", info, err)
		}
	})
}

func TestParseDialogInfo(t *testing.T) {
	info, err := ParseDialogInfo([]byte(`<?xml version="1.0"?><dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="3" state="full" entity="sip:a@b"><dialog id="1" direction="recipient"><state>Early</state><remote><identity display="C">sip:c@d</identity></remote></dialog></dialog-info>`))
	if err != nil || info.Version != 3 || !info.Full || info.Entity != "sip:a@b" || len(info.Dialogs) != 1 ||
		info.Dialogs[0] != (DialogState{ID: "1", State: "early", Direction: "recipient", Remote: "sip:c@d"}) {
		t.Errorf("%+v %v", info, err)
	}
	named := DialogState{Remote: "sip:c@d", CallID: "x@y", LocalTag: "b", RemoteTag: "c"}
	if to, value, ok := named.Replaces(); !ok || to != "sip:c@d" || value != "x@y;to-tag=c;from-tag=b;early-only" {
		t.Errorf("%q %q %v", to, value, ok)
	}
	for name, d := range map[string]DialogState{"no tag": {Remote: "sip:c@d", CallID: "x", LocalTag: "b"}, "a line end": {Remote: "sip:c@d", CallID: "x\r\nX: y", LocalTag: "b", RemoteTag: "c"}, "a parameter": {Remote: "sip:c@d", CallID: "x", LocalTag: "b;x", RemoteTag: "c"},
		"no address": {CallID: "x", LocalTag: "b", RemoteTag: "c"}, "not of SIP": {Target: "tel:1", Remote: "sip:c@d", CallID: "x", LocalTag: "b", RemoteTag: "c"}} {
		if to, value, ok := d.Replaces(); ok {
			t.Errorf("%s: %q %q", name, to, value)
		}
	}
	if _, err := ParseDialogInfo([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><dialog-info/>`)); err == nil {
		t.Error("a document type was taken")
	}
}

// FuzzPacket feeds a call's media socket: nothing that does not authenticate may change what is heard.
func FuzzPacket(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3})
	f.Add([]byte{0x80, 200, 0, 1, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fuzzMedia(t)
		m.packet(b[:min(len(b), 1500)], make([]byte, 0, 1500), new(rtcpControl))
		if m.rejected != 1 || m.receiver.Snapshot().PacketsIn != 0 {
			t.Errorf("rejected %d, heard %d", m.rejected, m.receiver.Snapshot().PacketsIn)
		}
	})
}
