package sdp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ringfence"
)

const phoneOffer = "v=0\r\no=alice 2890844526 2890844526 IN IP4 10.1.2.3\r\ns=Alice's phone\r\ni=secret hint\r\nc=IN IP4 10.1.2.3\r\n" +
	"b=AS:128\r\nt=0 0\r\na=ice-ufrag:F7gI\r\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\n" +
	"m=audio 49170 RTP/SAVP 9 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n" +
	"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20 WSH=64\r\n" +
	"a=crypto:2 AEAD_AES_256_GCM inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDVBQkNERUZHSElKS0w=\r\n" +
	"a=candidate:1 1 UDP 2130706431 10.1.2.3 49170 typ host\r\na=ptime:20\r\na=x-vendor:alice-laptop\r\na=sendrecv\r\n" +
	"m=video 51372 RTP/SAVP 99\r\na=rtpmap:99 H264/90000\r\nm=image 9000 udptl t38\r\na=T38FaxVersion:0\r\n"

func mustParse(t *testing.T, text string) *Session {
	t.Helper()
	s, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return s
}

func ours(t *testing.T) RewriteOptions {
	t.Helper()
	keys, err := NewCryptos(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return RewriteOptions{Addr: netip.MustParseAddrPort("192.0.2.9:16384"), Crypto: keys, Origin: Origin{ID: 7, Version: 1}}
}

func TestParse(t *testing.T) {
	s := mustParse(t, phoneOffer)
	if s.Origin.User != "alice" || s.Origin.ID != 2890844526 || s.Connection.Host != "10.1.2.3" || len(s.Media) != 3 {
		t.Fatalf("session = %+v", s)
	}
	m := s.Media[0]
	if len(m.Codecs) != 3 || m.Codecs[0] != G722() || m.Codecs[1] != PCMA() || m.Codecs[2].FMTP != "0-16" || !m.Codecs[2].IsEvent() {
		t.Errorf("codecs = %+v", m.Codecs)
	}
	if len(m.Crypto) != 2 || m.Crypto[0].Params != "WSH=64" || !m.Crypto[0].Supported() || !m.Crypto[1].Supported() {
		t.Errorf("crypto = %v", m.Crypto)
	}
	if v, ok := m.Get("candidate"); !ok || !strings.Contains(v, "typ host") {
		t.Errorf("the candidate was not passed through: %q", v)
	}
	rtp, rtcp, ok := s.Remote(0)
	if !ok || rtp.String() != "10.1.2.3:49170" || rtcp.Port() != 49171 {
		t.Errorf("remote = %v %v %v", rtp, rtcp, ok)
	}
	if err := s.Sealed(); err != nil {
		t.Error(err)
	}
}

func TestParseTolerates(t *testing.T) {
	const m = "m=audio 4000 RTP/AVP 0\r\n"
	head := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
	tests := map[string]struct {
		in    string
		check func(*Session) bool
	}{
		"no s= and t=":       {head + "c=IN IP4 192.0.2.1\r\n" + m, func(s *Session) bool { return s.Name == "-" }},
		"no o=":              {"v=0\r\nc=IN IP4 192.0.2.1\r\n" + m, func(s *Session) bool { return s.Origin.User == "-" }},
		"b= before c=":       {head + "s=-\r\nb=AS:64\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n" + m, func(s *Session) bool { return s.Connection.Host == "192.0.2.1" && s.Lines[0].Type == 'b' }},
		"LF only":            {strings.ReplaceAll(head+m, "\r\n", "\n"), func(s *Session) bool { return len(s.Media) == 1 }},
		"no last line end":   {head + strings.TrimSpace(m), func(s *Session) bool { return s.Media[0].Port == 4000 }},
		"blank lines":        {"\r\n" + head + "\r\n" + m + "\r\n\r\n", func(s *Session) bool { return len(s.Media) == 1 }},
		"dash ids":           {"v=0\r\no=- - - IN IP4 192.0.2.1\r\n" + m, func(s *Session) bool { return s.Origin.ID == 0 }},
		"user with space":    {"v=0\r\no=My Phone 5 6 IN IP4 192.0.2.1\r\n" + m, func(s *Session) bool { return s.Origin.User == "My_Phone" && s.Origin.Version == 6 }},
		"unknown line types": {head + "x=abc\r\ny=def\r\n" + m + "z=odd\r\n", func(s *Session) bool { return s.Lines[1] == Line{'y', "def"} && s.Media[0].Lines[0].Value == "odd" }},
		"fax":                {head + "m=image 5000 udptl t38\r\na=T38MaxBitRate:14400\r\n", func(s *Session) bool { return s.Media[0].Formats[0] == "t38" && !s.Media[0].IsRTP() }},
		"refused, no format": {head + "m=video 0 RTP/AVP\r\n", func(s *Session) bool { return s.Media[0].Port == 0 }},
		"refused, named twice": {head + "m=audio 0 RTP/AVP 101\r\na=rtpmap:101 x/8000\r\na=rtpmap:101 y/8000\r\na=fmtp:101 a\r\na=fmtp:101 b\r\na=x\r\n", func(s *Session) bool {
			return s.Media[0].Codecs[0].Name == "x" && len(s.Media[0].Attributes) == 3
		}},
		"session direction":  {head + "a=inactive\r\n" + m, func(s *Session) bool { return s.Media[0].Direction == Inactive }},
		"media overrides":    {head + "a=inactive\r\n" + m + "a=sendonly\r\n", func(s *Session) bool { return s.Media[0].Direction == SendOnly }},
		"old hold":           {head + "c=IN IP4 0.0.0.0\r\n" + m, func(s *Session) bool { return s.Media[0].Direction == SendOnly }},
		"old hold, recvonly": {head + m + "c=IN IP4 0.0.0.0\r\na=recvonly\r\n", func(s *Session) bool { return s.Media[0].Direction == Inactive }},
		"ICE is no hold":     {head + "c=IN IP4 0.0.0.0\r\n" + m + "a=ice-ufrag:abcd\r\n", func(s *Session) bool { return s.Media[0].Direction == SendRecv }},
		"fmtp before rtpmap": {head + "m=audio 4000 RTP/AVP 96\r\na=fmtp:96 x=1\r\na=rtpmap:96 opus/48000/2\r\n", func(s *Session) bool { return s.Media[0].Codecs[0] == Codec{96, 2, 48000, "opus", "x=1"} }},
		"rtcp attribute":     {head + m + "a=rtcp:53020 IN IP4 192.0.2.7\r\n", func(s *Session) bool { return s.Media[0].RTCPAddr.Host == "192.0.2.7" }},
		"mux":                {head + m + "a=rtcp-mux\r\n", func(s *Session) bool { return s.Media[0].Mux }},
		"IPv6":               {"v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\nc=IN IP6 2001:db8::1\r\n" + m, func(s *Session) bool { a, _, ok := s.Remote(0); return ok && a.Addr().Is6() }},
		"multicast TTL":      {head + "c=IN IP4 224.2.1.1/127\r\n" + m, func(s *Session) bool { return s.Connection.Host == "224.2.1.1" }},
		"k= is dropped":      {head + "k=clear:hunter2\r\n" + m, func(s *Session) bool { return !bytes.Contains(s.Bytes(), []byte("hunter2")) }},
		"bad crypto is kept out": {head + "m=audio 4000 RTP/SAVP 0\r\na=crypto:x\r\n", func(s *Session) bool {
			return s.Media[0].BadCrypto == 1 && !bytes.Contains(s.Bytes(), []byte("crypto"))
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := mustParse(t, tt.in)
			if !tt.check(s) {
				t.Errorf("read as %+v", s)
			}
			checkStable(t, s)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	head := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
	for name, in := range map[string]string{
		"empty":              "",
		"not a description":  "hello",
		"version 1":          "v=1\r\n",
		"no version":         "o=- 1 1 IN IP4 192.0.2.1\r\n",
		"two versions":       "v=0\r\nv=0\r\n",
		"NUL":                head + "s=a\x00b\r\n",
		"lone CR":            head + "s=a\rb\r\n",
		"port too large":     head + "m=audio 65536 RTP/AVP 0\r\n",
		"negative port":      head + "m=audio -1 RTP/AVP 0\r\n",
		"payload type 128":   head + "m=audio 4000 RTP/AVP 128\r\n",
		"no formats":         head + "m=audio 4000 RTP/AVP\r\n",
		"short origin":       "v=0\r\no=- 1 1\r\n",
		"bad connection":     head + "c=IN IP4\r\n",
		"too many media":     head + strings.Repeat("m=audio 4000 RTP/AVP 0\r\n", MaxMedia+1),
		"too many formats":   head + "m=audio 4000 RTP/AVP" + strings.Repeat(" 1", MaxFormats+1) + "\r\n",
		"too many attribute": head + strings.Repeat("a=x\r\n", MaxAttributes+1),
		"too many lines":     head + strings.Repeat("\n", MaxLines),
		"long line":          head + "s=" + strings.Repeat("x", MaxLine) + "\r\n",
		"too long":           head + strings.Repeat("i="+strings.Repeat("x", 1000)+"\r\n", 20),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse([]byte(in))
			if s != nil || ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Errorf("Parse = %v, %v", s, err)
			}
		})
	}
}

// checkStable asserts that writing and reading again changes nothing more.
func checkStable(t *testing.T, s *Session) {
	t.Helper()
	once := s.Bytes()
	again, err := Parse(once)
	if err != nil {
		t.Fatalf("own output was refused: %v\n%q", err, once)
	}
	if twice := again.Bytes(); !bytes.Equal(once, twice) {
		t.Fatalf("not stable:\n%q\n%q", once, twice)
	}
}

func TestSealed(t *testing.T) {
	const key80 = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
	tests := map[string]struct {
		proto, attrs, want string // want: part of the text; empty means sealed
	}{
		"sealed":            {"RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 " + key80, ""},
		"feedback profile":  {"RTP/SAVPF", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 " + key80 + "|2^31", ""},
		"plain":             {"RTP/AVP", "a=x", "plain RTP"},
		"best effort":       {"RTP/AVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 " + key80, "optional encryption"},
		"no key":            {"RTP/SAVP", "a=x", "without an a=crypto line"},
		"malformed":         {"RTP/SAVP", "a=crypto:1 x", "malformed"},
		"weak suite":        {"RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_32 " + key80, "not supported"},
		"short key":         {"RTP/SAVP", "a=crypto:1 AEAD_AES_256_GCM " + key80, "wrong length"},
		"unencrypted":       {"RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 " + key80 + " UNENCRYPTED_SRTP", "session parameters"},
		"unauthenticated":   {"RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 " + key80 + " WSH=64 UNAUTHENTICATED_SRTP", "session parameters"},
		"master key index":  {"RTP/SAVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 " + key80 + "|2^20|1:4", "master key index"},
		"DTLS":              {"UDP/TLS/RTP/SAVPF", "a=setup:actpass", "DTLS-SRTP"},
		"something else":    {"TCP/FOO", "a=x", "not SRTP"},
		"second line is ok": {"RTP/SAVP", "a=crypto:1 F8_128_HMAC_SHA1_80 " + key80 + "\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 " + key80, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := mustParse(t, "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 "+tt.proto+" 0\r\n"+tt.attrs+"\r\n")
			err := s.Sealed()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if ringfence.KindOf(err) != ringfence.KindInsecure || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "WVNf") {
				t.Error("the error shows the key")
			}
		})
	}
}

func TestRewriteHidesTheOtherSide(t *testing.T) {
	s, o := mustParse(t, phoneOffer), ours(t)
	before := s.Bytes()
	out, err := Rewrite(s, o)
	if err != nil {
		t.Fatal(err)
	}
	text := string(out.Bytes())
	for _, leak := range []string{"10.1.2.3", "Alice", "alice", "candidate", "ice-", "WVNf", "QUJD", "x-vendor", "49170", "51372", "9000 ",
		"2890844526", "secret", "AS:128", "T38Fax"} {
		if strings.Contains(text, leak) {
			t.Errorf("%q passed:\n%s", leak, text)
		}
	}
	for _, want := range []string{"m=audio 16384 RTP/SAVP 9 8 101\r\n", "c=IN IP4 192.0.2.9\r\n", "a=fmtp:101 0-16\r\n", "a=ptime:20\r\n",
		"o=- 7 1 IN IP4 192.0.2.9\r\n", "m=video 0 RTP/SAVP 99\r\n", "m=image 0 udptl t38\r\n", "a=crypto:1 AEAD_AES_256_GCM inline:"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	if !bytes.Equal(before, s.Bytes()) {
		t.Error("Rewrite changed its input")
	}
	checkStable(t, out)

	o.Crypto = nil
	if _, err := Rewrite(s, o); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("without keys: %v", err)
	}
	o.Exception = "trunk-lab"
	if out, err = Rewrite(s, o); err != nil || out.Media[0].Proto != "RTP/AVP" || len(out.Media[0].Crypto) != 0 {
		t.Errorf("exception: %v, %v", out, err)
	}
}

// A format that nobody named cannot be shown to the other side, and a list of formats is only shared if it is what would be made.
func TestRewriteTakesTheFormatsWithAName(t *testing.T) {
	for name, tt := range map[string]struct {
		attrs  string
		change func(*Media)
		want   string
	}{
		"all":            {"a=rtpmap:96 opus/48000/2\r\n", nil, "m=audio 16384 RTP/SAVP 96 0 8\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 "},
		"one has none":   {"", nil, "m=audio 16384 RTP/SAVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 "},
		"fewer codecs":   {"", func(m *Media) { m.Codecs = m.Codecs[2:] }, "m=audio 16384 RTP/SAVP 8\r\na=rtpmap:8 "},
		"another format": {"", func(m *Media) { m.Codecs = []Codec{G722(), PCMU(), PCMA()} }, "m=audio 16384 RTP/SAVP 9 0 8\r\na=rtpmap:9 "},
	} {
		s := mustParse(t, "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 96 0 8\r\n"+tt.attrs)
		if tt.change != nil {
			tt.change(&s.Media[0])
		}
		out, err := Rewrite(s, ours(t))
		if err != nil || !strings.Contains(string(out.Bytes()), tt.want) {
			t.Errorf("%s: %v\n%s", name, err, out.Bytes())
			continue
		}
		before := string(s.Bytes())
		out.Media[0].Codecs = append(out.Media[0].Codecs, Events(101, 8000))
		out.Media[0].Formats = append(out.Media[0].Formats, "101")
		if after := string(s.Bytes()); after != before {
			t.Errorf("%s: adding to the result changed what it was made of:\n%s", name, after)
		}
	}
}

// TestRewriteAnswer passes an offer from A to B and B's answer back to A, as a B2BUA does.
func TestRewriteAnswer(t *testing.T) {
	a, toB, toA := mustParse(t, phoneOffer), ours(t), ours(t)
	offerToB, err := Rewrite(a, toB)
	if err != nil {
		t.Fatal(err)
	}
	phoneB := ours(t)
	phoneB.Addr = netip.MustParseAddrPort("10.9.9.9:5000")
	answerB, choiceB, err := Answer(offerToB, phoneB, PCMA(), Events(96, 8000))
	if err != nil {
		t.Fatal(err)
	}
	if choiceB.Codec != PCMA() || choiceB.Events.PayloadType != 101 || choiceB.RTP != toB.Addr || choiceB.Remote.Suite != AES256GCM {
		t.Errorf("B chose %+v", choiceB)
	}
	legB, err := Accept(offerToB, answerB)
	if err != nil || legB.Codec.Name != "PCMA" || legB.Local.Inline != toB.Crypto[0].Inline || legB.Remote.Inline != choiceB.Local.Inline {
		t.Fatalf("leg B = %+v, %v", legB, err)
	}
	toA.Offer = a
	toA.Addr = netip.MustParseAddrPort("[2001:db8::9]:20000")
	answerA, err := Rewrite(answerB, toA)
	if err != nil {
		t.Fatal(err)
	}
	text := string(answerA.Bytes())
	if strings.Contains(text, "10.9.9.9") || !strings.Contains(text, "m=audio 20000 RTP/SAVP 8 101\r\n") ||
		!strings.Contains(text, "a=crypto:2 AEAD_AES_256_GCM ") || strings.Count(text, "a=crypto") != 1 {
		t.Errorf("answer to A:\n%s", text)
	}
	if len(answerA.Media) != len(a.Media) || answerA.Media[1].Port != 0 || answerA.Media[2].Type != "image" {
		t.Errorf("sections: %+v", answerA.Media)
	}
	if legA, err := Accept(a, answerA); err != nil || legA.Remote.Tag != 2 || legA.RTP != toA.Addr {
		t.Errorf("leg A = %+v, %v", legA, err)
	}
}

func TestAnswerDirections(t *testing.T) {
	for _, tt := range []struct{ offered, ours, want Direction }{
		{SendRecv, SendRecv, SendRecv}, {SendOnly, SendRecv, RecvOnly}, {RecvOnly, SendRecv, SendOnly}, {Inactive, SendRecv, Inactive},
		{SendRecv, SendOnly, SendOnly}, {SendOnly, SendOnly, Inactive}, {SendRecv, Inactive, Inactive}, {RecvOnly, SendOnly, SendOnly},
	} {
		offer, err := BuildOffer(withDirection(ours(t), tt.offered), G722(), PCMU())
		if err != nil {
			t.Fatal(err)
		}
		answer, choice, err := Answer(offer, withDirection(ours(t), tt.ours), PCMU(), G722())
		if err != nil || answer.Media[0].Direction != tt.want || choice.Direction != tt.want || choice.Codec.Name != "PCMU" {
			t.Errorf("offered %v, wanted %v: %+v, %v", tt.offered, tt.ours, choice, err)
		}
		if got := mustParse(t, string(answer.Bytes())).Media[0].Direction; got != tt.want {
			t.Errorf("on the wire %v, want %v", got, tt.want)
		}
		back, err := Accept(offer, answer)
		if err != nil || back.Direction != tt.want.Reverse() {
			t.Errorf("offerer sees %v, %v", back.Direction, err)
		}
	}
}

func withDirection(o RewriteOptions, d Direction) RewriteOptions { o.Direction = d; return o }

func TestAnswerRefuses(t *testing.T) {
	plain := mustParse(t, "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n")
	if _, _, err := Answer(plain, ours(t), PCMU()); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("plain: %v", err)
	}
	o := ours(t)
	o.Exception = "pstn-gw"
	if answer, ch, err := Answer(plain, o, PCMU()); err != nil || answer.Media[0].Proto != "RTP/AVP" || len(answer.Media[0].Crypto) != 0 || ch.Remote.Suite != "" {
		t.Errorf("plain by exception: %v %v", answer, err)
	}
	sealed := mustParse(t, phoneOffer)
	if _, _, err := Answer(sealed, ours(t), Opus(96)); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Errorf("no codec: %v", err)
	}
	o = ours(t)
	o.Crypto = o.Crypto[1:2]
	if _, _, err := Answer(sealed, o, PCMA()); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("no common suite: %v", err)
	}
	o = ours(t)
	o.Exception, sealed.Media[0].Crypto = "pstn-gw", nil
	if _, _, err := Answer(sealed, o, PCMA()); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("an exception must not excuse SAVP without a key: %v", err)
	}
}

// An answer names one codec, or all that both sides have; and keys go on the clock of the codec where both sides have that (RFC 4733 section 2.1).
func TestAnswerWithOneCodecOrAll(t *testing.T) {
	offer, err := BuildOffer(ours(t), PCMU(), Events(101, 8000), G722(), Opus(96), Events(97, 48000))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		all       bool
		supported []Codec
		line      string
		chosen    uint8
		others    []Codec
		events    uint8
	}{
		{false, []Codec{Opus(111), PCMU(), Events(101, 8000), Events(110, 48000)}, "m=audio 30000 RTP/SAVP 96 97\r\n", 96, nil, 97},
		{true, []Codec{Opus(111), PCMA(), PCMU(), Events(101, 8000), Events(110, 48000)}, "m=audio 30000 RTP/SAVP 96 0 97\r\n", 96, []Codec{PCMU()}, 97},
		{true, []Codec{G722(), Opus(111), Events(101, 8000)}, "m=audio 30000 RTP/SAVP 9 96 101\r\n", 9, []Codec{Opus(96)}, 101},
		{true, []Codec{Opus(111), Events(101, 8000)}, "m=audio 30000 RTP/SAVP 96 101\r\n", 96, nil, 101}, // of another clock rather than none
	} {
		o := ours(t)
		o.All, o.Addr = tt.all, netip.MustParseAddrPort("192.0.2.9:30000")
		answer, ch, err := Answer(offer, o, tt.supported...)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Accept(offer, answer)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(answer.Bytes()), tt.line) {
			t.Errorf("want %q in\n%s", tt.line, answer.Bytes())
		}
		for who, c := range map[string]Choice{"answerer": ch, "offerer": back} {
			if c.Codec.PayloadType != tt.chosen || !slices.Equal(c.Others, tt.others) || c.Events.PayloadType != tt.events {
				t.Errorf("%s of %v: %+v", who, tt.supported, c)
			}
		}
	}
	// Whoever lists both kinds of events in an answer means that of the codec's clock, wherever it stands.
	answer, _, err := Answer(offer, ours(t), Opus(111), Events(101, 8000), Events(110, 48000))
	if err != nil {
		t.Fatal(err)
	}
	answer.Media[0].Codecs = []Codec{Opus(96), Events(101, 8000), Events(97, 48000)}
	if back, err := Accept(offer, answer); err != nil || back.Events.PayloadType != 97 {
		t.Errorf("%+v, %v", back.Events, err)
	}
}

func TestAcceptRefuses(t *testing.T) {
	offer, err := BuildOffer(ours(t), G722(), PCMA())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Session){
		"plain":            func(s *Session) { s.Media[0].Proto, s.Media[0].Crypto = "RTP/AVP", nil },
		"refused":          func(s *Session) { s.Media[0].Port = 0 },
		"other tag":        func(s *Session) { s.Media[0].Crypto[0].Tag = 9 },
		"our own key":      func(s *Session) { s.Media[0].Crypto[0].Inline = offer.Media[0].Crypto[0].Inline },
		"two keys":         func(s *Session) { s.Media[0].Crypto = append(s.Media[0].Crypto, s.Media[0].Crypto[0]) },
		"more sections":    func(s *Session) { s.Media = append(s.Media, Media{Type: "video", Proto: "RTP/SAVP"}) },
		"other media":      func(s *Session) { s.Media[0].Type = "video" },
		"a codec not ours": func(s *Session) { s.Media[0].Codecs = []Codec{PCMU()} },
	} {
		answer, _, err := Answer(offer, ours(t), PCMA())
		if err != nil {
			t.Fatal(err)
		}
		change(answer)
		if ch, err := Accept(offer, answer); err == nil {
			t.Errorf("%s: accepted %+v", name, ch)
		}
	}
}

func TestSetVersion(t *testing.T) {
	o := ours(t)
	first, _ := BuildOffer(o, G722())
	o.Origin = Origin{ID: 99, Version: 50}
	same, _ := BuildOffer(o, G722())
	if SetVersion(first, same) || same.Origin.Version != 1 || same.Origin.ID != 7 {
		t.Errorf("same body: %+v", same.Origin)
	}
	o.Direction = SendOnly
	held, _ := BuildOffer(o, G722())
	if !SetVersion(same, held) || held.Origin.Version != 2 || held.Origin.ID != 7 {
		t.Errorf("changed body: %+v", held.Origin)
	}
	if !SetVersion(nil, first) {
		t.Error("a first description is a change")
	}
}

func TestKeysAreNeverPrinted(t *testing.T) {
	s := mustParse(t, phoneOffer)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "crypto", s.Media[0].Crypto[0], "media", s.Media[0])
	for _, out := range []string{log.String(), fmt.Sprintf("%v %+v %#v %s", s, s.Media[0], s.Media, s.Media[0].Crypto)} {
		if strings.Contains(out, "WVNf") || strings.Contains(out, "QUJD") {
			t.Errorf("a key was printed: %s", out)
		}
	}
	if _, err := NewCrypto(1, AES256GCM, bytes.NewReader(nil)); err == nil {
		t.Error("a key without randomness")
	}
}

// TestStable is a property test: descriptions put together at random from real lines are stable after one round.
func TestStable(t *testing.T) {
	lines := strings.SplitAfter(phoneOffer, "\r\n")
	lines = append(lines, "a=rtcp:5000\r\n", "a=rtcp-mux\r\n", "a=maxptime:40\r\n", "a=fmtp:101 twice\r\n", "a=rtpmap:101 other/8000\r\n",
		"z=1 2\r\n", "x=?\r\n", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "a=ptime:30\r\n", "a=inactive\r\n", "c=IN IP4 0.0.0.0\r\n")
	parsed := 0
	for range 2000 {
		var b strings.Builder
		b.WriteString("v=0\r\n")
		for range pick(t, 20) {
			b.WriteString(lines[pick(t, len(lines))])
		}
		if s, err := Parse([]byte(b.String())); err == nil {
			parsed++
			checkStable(t, s)
		}
	}
	if parsed < 200 {
		t.Errorf("only %d descriptions were accepted", parsed)
	}
}

func pick(t *testing.T, n int) int {
	v, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		t.Fatal(err)
	}
	return int(v.Int64())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(phoneOffer))
	f.Add([]byte("v=0\no=- - - IN IP6 ::\nm=audio 9 UDP/TLS/RTP/SAVPF 111\na=setup:actpass\na=fingerprint:sha-256 AA"))
	f.Add([]byte("v=0\r\nm=audio 0 RTP/AVP 101\r\na=fmtp:101 a\r\na=FMTP:101 b\r\n"))
	f.Add([]byte("v=0\r\nm=image 0 udptl t38\r\nm=audio 1/2 RTP/AVP 96 97 0\r\na=rtpmap:96 L16/44100/2\r\na=fmtp:97 a;b\r\na=crypto:1 A inline:b|c d\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			var fault *ringfence.Fault
			if !errors.As(err, &fault) || s != nil {
				t.Fatalf("error %T with session %v", err, s)
			}
			return
		}
		checkStable(t, s)
		for i := range s.Media {
			s.Remote(i)
			_ = Sealed(&s.Media[i])
		}
		keys, _ := NewCryptos(rand.Reader)
		o := RewriteOptions{Addr: netip.MustParseAddrPort("192.0.2.9:4000"), Crypto: keys}
		if out, err := Rewrite(s, o); err == nil {
			if out.Sealed() != nil || len(out.Media) != len(s.Media) {
				t.Fatalf("rewritten to %q", out.Bytes())
			}
			checkStable(t, out)
		}
		if out, _, err := Answer(s, o, G722(), PCMA(), PCMU(), Events(101, 8000)); err == nil && out.Sealed() != nil {
			t.Fatalf("answered with %q", out.Bytes())
		}
	})
}

func BenchmarkParse(b *testing.B) {
	in := []byte(phoneOffer)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCall measures what the node does with the descriptions of one call: the caller's offer is read and shown to the called
// side, whose answer is read, taken, and shown to the caller.
func BenchmarkCall(b *testing.B) {
	keys, err := NewCryptos(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	head := func(host string) string {
		return "v=0\r\no=- 3973120419 3973120419 IN IP4 " + host + "\r\ns=-\r\nc=IN IP4 " + host + "\r\nt=0 0\r\n"
	}
	const (
		two   = " 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
		three = "a=crypto:1 AEAD_AES_256_GCM inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDVBQkNERUZHSElKS0w=\r\n" +
			"a=crypto:2 AEAD_AES_128_GCM inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMQ==\r\n" +
			"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
		one  = "a=crypto:1 AEAD_AES_256_GCM inline:S0xNTk9QUVJTVFVWV1hZWkFCQ0RFRkdISUowMTIzNDVLTE1OT1BRUlNUVVY=\r\n"
		many = " 96 9 8 0 18 3 97 98 112 113 101 110\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1; maxaveragebitrate=30000\r\n" +
			"a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n" +
			"a=rtpmap:3 GSM/8000\r\na=rtpmap:97 iLBC/8000\r\na=fmtp:97 mode=20\r\na=rtpmap:98 speex/8000\r\na=rtpmap:112 L16/16000\r\n" +
			"a=rtpmap:113 G726-32/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtpmap:110 telephone-event/48000\r\na=fmtp:110 0-16\r\n"
		end = "a=ptime:20\r\na=sendrecv\r\na=rtcp-mux\r\n"
	)
	for _, bm := range []struct{ name, offer, answer, exception string }{
		{"plain", "m=audio 40000 RTP/AVP" + two + "a=ptime:20\r\na=sendrecv\r\n", "m=audio 42000 RTP/AVP" + two + "a=ptime:20\r\na=sendrecv\r\n", "lab"},
		{"sealed", "m=audio 40000 RTP/SAVP" + two + one + end, "m=audio 42000 RTP/SAVP" + two + one + end, ""},
		{"codecs", "m=audio 40000 RTP/SAVP" + many + three + end, "m=audio 42000 RTP/SAVP" + two + one + end, ""},
	} {
		var wire []byte // outside, so that it is allocated as in a node
		caller, called := []byte(head("192.0.2.33")+bm.offer), []byte(head("198.51.100.77")+bm.answer)
		b.Run(bm.name, func(b *testing.B) {
			o := RewriteOptions{Addr: netip.MustParseAddrPort("192.0.2.9:16384"), Mux: true, Crypto: keys,
				Origin: Origin{ID: 1700000000000, Version: 1}, Exception: bm.exception}
			toCalled := o
			if bm.exception != "" {
				toCalled.Crypto = nil
			}
			b.ReportAllocs()
			for b.Loop() {
				heard, err := Parse(caller)
				if err != nil {
					b.Fatal(err)
				}
				if err := SealedOr(&heard.Media[heard.Audio()], bm.exception); err != nil {
					b.Fatal(err)
				}
				offer, err := Rewrite(heard, toCalled)
				if err != nil {
					b.Fatal(err)
				}
				wire = offer.Bytes()
				said, err := Parse(called)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := Accept(offer, said); err != nil {
					b.Fatal(err)
				}
				toCaller := o
				toCaller.Offer = heard
				answer, err := Rewrite(said, toCaller)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := Accept(heard, answer); err != nil {
					b.Fatal(err)
				}
				wire = answer.Bytes()
			}
			if !bytes.Contains(wire, []byte("m=audio 16384 RTP/")) {
				b.Fatalf("the last description was %q", wire)
			}
		})
	}
}

func BenchmarkNewCryptos(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewCryptos(rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}
