package ladder_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/node/observe/ladder"
)

var update = flag.Bool("update", false, "write the golden files instead of checking them")

func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// scene feeds a recorder as the node does.
type scene struct {
	r  *ladder.Recorder
	at time.Duration
}

func (s *scene) msg(sent bool, after time.Duration, lines ...string) {
	s.at += after
	s.r.Record(ladder.Packet{At: start().Add(s.at), Sent: sent, Remote: netip.MustParseAddrPort("192.0.2.7:40000"), Seal: "TLS 1.3", Data: []byte(strings.Join(lines, "\r\n"))})
}

func sdp(profile, way string, suites ...string) string {
	lines := []string{"v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0", "m=audio 16384 " + profile + " 9", "a=" + way}
	for i, suite := range suites {
		lines = append(lines, fmt.Sprintf("a=crypto:%d %s inline:TheSecretKey%d", i+1, suite, i))
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

const typeSDP = "Content-Type: application/sdp"

func invite(id, body string) []string {
	return []string{"INVITE sip:200@example.org SIP/2.0", "Via: SIP/2.0/TLS x", "From: <sip:100@example.org>;tag=1", "To: <sip:200@example.org>", "Call-ID: " + id, "CSeq: 1 INVITE",
		"Authorization: Digest response=\"f00d\"", typeSDP, "", body}
}

func reply(id, status, cseq string, more ...string) []string {
	return append([]string{"SIP/2.0 " + status, "i: " + id, "t: <sip:200@example.org>;tag=2", "CSeq: " + cseq}, more...)
}

func request(id, method string, more ...string) []string {
	return append([]string{method + " sip:x SIP/2.0", "Call-ID: " + id, "To: <sip:200@example.org>;tag=2", "CSeq: 2 " + method}, more...)
}

// call plays a call between two phones that ends with a hold.
func (s *scene) call() {
	s.msg(false, 0, invite("in", sdp("RTP/SAVP", "sendrecv", "AEAD_AES_256_GCM", "AES_CM_128_HMAC_SHA1_80"))...)
	s.r.Begin("c1", start())
	s.r.Link("c1", "c1-a", "in", "alice-desk")
	s.msg(true, time.Millisecond, reply("in", "100 Trying", "1 INVITE", "", "")...)
	s.msg(true, time.Millisecond, invite("out", sdp("RTP/SAVP", "sendrecv", "AEAD_AES_256_GCM"))...)
	s.r.Link("c1", "c1-b", "out", "bob-desk")
	s.msg(false, 20*time.Millisecond, reply("out", "180 Ringing", "1 INVITE", "", "")...)
	s.msg(true, 0, reply("in", "180 Ringing", "1 INVITE", "", "")...)
	s.msg(false, 1500*time.Millisecond, reply("out", "200 OK", "1 INVITE", typeSDP, "", sdp("RTP/SAVP", "sendrecv", "AEAD_AES_256_GCM"))...)
	s.msg(true, 0, request("out", "ACK", "", "")...)
	s.msg(true, time.Millisecond, reply("in", "200 OK", "1 INVITE", typeSDP, "", sdp("RTP/SAVP", "sendrecv", "AEAD_AES_256_GCM"))...)
	s.msg(false, time.Millisecond, request("in", "ACK", "", "")...)
	s.msg(false, 9*time.Second, request("out", "INVITE", typeSDP, "", sdp("RTP/SAVP", "sendonly", "AEAD_AES_256_GCM"))...)
	s.msg(false, 2*time.Second, request("in", "BYE", "Reason: Q.850;cause=16;text=\"over\"", "", "")...)
	s.msg(true, time.Millisecond, reply("in", "200 OK", "2 BYE", "", "")...)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func draw(t *testing.T, r *ladder.Recorder, id ringfence.CallID, width int) string {
	t.Helper()
	messages, _, ok := r.Messages(id)
	if !ok {
		t.Fatalf("%s is not remembered", id)
	}
	var out bytes.Buffer
	if err := ladder.Render(&out, messages, width); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestRender(t *testing.T) {
	s := &scene{r: ladder.New(ladder.Config{Node: "node-1"})}
	s.call()
	golden(t, "call.txt", draw(t, s.r, "c1", 90))
	golden(t, "narrow.txt", draw(t, s.r, "c1", 40))
}

func TestRenderRefusal(t *testing.T) {
	s := &scene{r: ladder.New(ladder.Config{Node: "node-1"})}
	s.msg(false, 0, invite("in", sdp("RTP/AVP", "sendrecv"))...)
	s.r.Begin("c2", start())
	s.r.Link("c2", "c2-a", "in", "a-phone-with-a-name-that-is-very-long")
	s.msg(true, time.Millisecond, reply("in", "488 Not Acceptable Here", "1 INVITE", "Warning: 399 example.org \"the offer \x1b[31m is not sealed\"", "", "")...)
	golden(t, "refusal.txt", draw(t, s.r, "c2", 0))
	var out bytes.Buffer
	if err := ladder.Render(&out, nil, 80); err != nil || out.String() != "nothing is remembered of this call\n" {
		t.Errorf("%q %v", out.String(), err)
	}
}

func TestMessagesHoldNoSecrets(t *testing.T) {
	s := &scene{r: ladder.New(ladder.Config{Node: "node-1"})}
	s.call()
	messages, omitted, ok := s.r.Messages("c1")
	if !ok || omitted != 0 || len(messages) != 12 {
		t.Fatalf("%d messages, %d omitted, %v", len(messages), omitted, ok)
	}
	text := fmt.Sprintf("%+v", messages)
	for _, secret := range []string{"TheSecretKey", "f00d", "Authorization"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is remembered", secret)
		}
	}
	m := messages[0]
	if m.From != "alice-desk" || m.To != "node-1" || m.Sent || !m.Request || m.Leg != "c1-a" || m.Seal != "TLS 1.3" || m.CSeq != "1 INVITE" ||
		m.Media == nil || !m.Media.Sealed() || len(m.Media.Suites) != 2 || !strings.Contains(strings.Join(m.SDP, "\n"), "a=crypto:1 AEAD_AES_256_GCM inline:xxx") {
		t.Errorf("%+v", m)
	}
	if id := s.r.CallOf("out"); id != "c1" {
		t.Errorf("the second leg belongs to %q", id)
	}
}

func TestBounds(t *testing.T) {
	r := ladder.New(ladder.Config{Node: "n", Calls: 3, Bytes: 1 << 20, Rate: 5, Keep: time.Minute})
	s := &scene{r: r}
	for i := range 10 { // ten begin in one second, five are taken, three are kept
		sip, id := fmt.Sprintf("in-%d", i), ringfence.CallID(fmt.Sprintf("c%d", i))
		s.msg(false, time.Millisecond, invite(sip, "")...)
		r.Begin(id, start())
		r.Link(id, "a", sip, "phone")
		s.msg(true, time.Millisecond, reply(sip, "100 Trying", "1 INVITE", "", "")...)
	}
	for i := range 10 {
		if _, _, ok := r.Messages(ringfence.CallID(fmt.Sprintf("c%d", i))); ok != (i >= 2 && i < 5) {
			t.Errorf("call %d remembered: %v", i, ok)
		}
	}
	if st := r.Stats(); st.Calls != 3 || st.Skipped != 5 {
		t.Errorf("%+v", st)
	}
	for range 1000 { // one call cannot push out the others
		s.msg(false, time.Millisecond, request("in-4", "OPTIONS", "", "")...)
	}
	m, omitted, _ := r.Messages("c4")
	if len(m)+omitted != 1002 || len(m) > 400 || r.Stats().Calls != 3 {
		t.Errorf("%d messages, %d omitted, %+v", len(m), omitted, r.Stats())
	}
	for i := range 5000 { // strangers who begin dialogs that never become calls
		s.msg(false, 0, invite(fmt.Sprintf("stranger-%d", i), strings.Repeat("x", 60_000))...)
	}
	if st := r.Stats(); st.Calls != 3 || st.Bytes > 160<<10 {
		t.Errorf("strangers take %+v", st)
	}
	r.Expire(start().Add(time.Hour))
	if st := r.Stats(); st.Calls != 0 {
		t.Errorf("after an hour: %+v", st)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	r := ladder.New(ladder.Config{Node: "n", Bytes: 64 << 10, Rate: 1000})
	s := &scene{r: r}
	for i := range 300 {
		sip, id := fmt.Sprintf("in-%d", i), ringfence.CallID(fmt.Sprintf("c%d", i))
		s.msg(false, time.Millisecond, invite(sip, sdp("RTP/SAVP", "sendrecv", "AEAD_AES_256_GCM"))...)
		r.Begin(id, start())
		r.Link(id, "a", sip, "phone")
	}
	if st := r.Stats(); st.Bytes > 64<<10 || st.Calls < 50 || st.Calls > 200 {
		t.Errorf("%+v", st)
	}
	if _, _, ok := r.Messages("c299"); !ok {
		t.Error("the latest call was forgotten")
	}
}

func TestLegMovesToAnotherCall(t *testing.T) {
	r := ladder.New(ladder.Config{Node: "n"})
	s := &scene{r: r}
	for _, id := range []string{"1", "2"} {
		s.msg(false, time.Second, invite("sip-"+id, "")...)
		r.Begin(ringfence.CallID("c"+id), start())
		r.Link(ringfence.CallID("c"+id), ringfence.LegID("leg"+id), "sip-"+id, "phone"+id)
	}
	r.Link("c1", "leg2", "sip-2", "phone2")
	if m, _, _ := r.Messages("c1"); len(m) != 2 || m[1].From != "phone2" {
		t.Errorf("%+v", m)
	}
	if m, _, _ := r.Messages("c2"); len(m) != 0 {
		t.Errorf("%+v", m)
	}
}

// FuzzRecord feeds hostile messages and checks that what is drawn is plain text of bounded size.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(strings.Join(invite("a", sdp("RTP/SAVP", "sendrecv", "X")), "\r\n")))
	f.Add([]byte("INVITE a\r\nCall-ID: x\r\nCSeq:\r\n \x1b[2J\r\n\r\nm=audio"))
	f.Add([]byte("SIP/2.0 99999 \r\ni:x\r\nReason: \xff\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := ladder.New(ladder.Config{Node: "n"})
		r.Record(ladder.Packet{At: start(), Data: []byte("INVITE sip:x SIP/2.0\r\nCall-ID: x\r\n\r\n")})
		r.Begin("c", start())
		r.Link("c", "leg", "x", "phone")
		r.Record(ladder.Packet{At: start(), Data: b})
		r.Record(ladder.Packet{At: start(), Sent: true, Data: append([]byte("SIP/2.0 200 OK\r\nCall-ID: x\r\n"), b...)})
		messages, _, _ := r.Messages("c")
		var out bytes.Buffer
		if err := ladder.Render(&out, messages, 80); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.Bytes() {
			if c != '\n' && (c < ' ' || c > '~') {
				t.Fatalf("%q", out.String())
			}
		}
	})
}

// Whether a message is wanted is what Record would do with it, whatever has come and gone.
func TestWants(t *testing.T) {
	now := time.Now()
	r := ladder.New(ladder.Config{Node: "n", Calls: 20, Rate: 1 << 20})
	wants := func(id string) bool {
		bye := []byte(strings.Join(request(id, "BYE"), "\r\n"))
		a, b := r.Wants([]byte(id), bye), r.Wants(nil, bye)
		if a != b {
			t.Errorf("%s is wanted by its Call-ID: %v, and without: %v", id, a, b)
		}
		return a
	}
	name := func(i int) string { return fmt.Sprint("call-", i) }
	for i := range 2000 {
		if wants(name(i)) {
			t.Fatalf("%d is wanted before it began", i)
		}
		r.Record(ladder.Packet{At: now, Data: []byte(strings.Join(invite(name(i), ""), "\r\n"))})
		if !wants(name(i)) {
			t.Fatalf("%d has begun and is not wanted", i)
		}
		if i%3 == 0 { // the others belong to no call
			id := ringfence.CallID(name(i))
			r.Begin(id, now)
			r.Link(id, "leg", name(i), "a")
		} else if i%3 == 1 {
			r.Link("none", "leg", name(i), "a")
		}
	}
	kept := 0
	for i := range 2000 {
		if wants(name(i)) {
			kept++
			if i%3 == 1 || i%3 == 0 && i < 2000-3*20 {
				t.Errorf("%d is forgotten and wanted", i)
			}
		}
	}
	if kept != 20+255 { // of those that belong to no call, the last pushed one out
		t.Errorf("%d are wanted", kept)
	}
	r.Expire(now.Add(2 * time.Hour))
	if wants(name(1998)) || r.Stats().Calls != 0 {
		t.Error("a call is wanted when its time is over")
	}
}

// A call that begins is wanted unless as many as may have begun in this second.
func TestWantsSoManyCallsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ladder.New(ladder.Config{Node: "n", Rate: 2})
		hello := []byte(strings.Join(invite("new", ""), "\r\n"))
		for i := range 3 {
			for n := range 4 {
				if got, want := r.Wants(nil, hello), n < 2; got != want {
					t.Errorf("second %d: after %d calls another is wanted: %v", i, n, got)
				}
				r.Begin(ringfence.CallID(fmt.Sprint(i, n)), time.Now())
			}
			time.Sleep(time.Second)
		}
	})
}

// What a busy node asks of nearly every message.
func BenchmarkWants(b *testing.B) {
	r := ladder.New(ladder.Config{Node: "n", Rate: 1 << 30})
	for i := range 1000 {
		id := fmt.Sprint("kept-", i)
		r.Record(ladder.Packet{At: start(), Data: []byte(strings.Join(invite(id, ""), "\r\n"))})
		r.Begin(ringfence.CallID(id), start())
		r.Link(ringfence.CallID(id), "leg", id, "a")
	}
	bye := []byte(strings.Join(request("b", "BYE"), "\r\n"))
	ids := make([][]byte, 256)
	for i := range ids {
		ids[i] = fmt.Appendf(nil, "a-call-id-of-some-length-%d@192.0.2.1", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if r.Wants(ids[i%len(ids)], bye) {
			b.Fatal("wanted")
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	r := ladder.New(ladder.Config{Node: "n", Rate: 1 << 30})
	msg := []byte(strings.Join(invite("a", sdp("RTP/SAVP", "sendrecv", "AEAD_AES_256_GCM")), "\r\n"))
	b.Run("kept", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r.Record(ladder.Packet{At: start(), Data: msg})
			if i%8 == 0 {
				r.Link("none", "", "a", "") // is forgotten
			}
		}
	})
	b.Run("not kept", func(b *testing.B) {
		other := []byte(strings.Join(request("b", "BYE", "", ""), "\r\n"))
		b.ReportAllocs()
		for b.Loop() {
			r.Record(ladder.Packet{At: start(), Data: other})
		}
	})
}
