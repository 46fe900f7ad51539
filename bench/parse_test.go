package bench

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	peer "github.com/emiago/sipgo/sip"

	"ringfence/internal/sip"
)

const tortureFolder = "../internal/sip/testdata/torture"

func invite() []byte {
	body := "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 9 8 0 101\r\n" +
		"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n" +
		"a=crypto:1 AEAD_AES_256_GCM inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVzcyAoKCkgewkyMjA7fQp9Cg==\r\na=sendrecv\r\n"
	return []byte("INVITE sip:bob@example.com;transport=tls SIP/2.0\r\n" +
		"Via: SIP/2.0/TLS 192.0.2.10:5061;branch=z9hG4bK776asdhds;rport\r\nMax-Forwards: 70\r\n" +
		"From: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\nTo: Bob <sip:bob@example.com>\r\n" +
		"Call-ID: a84b4c76e66710@192.0.2.10\r\nCSeq: 314159 INVITE\r\nContact: <sip:alice@192.0.2.10:5061;transport=tls>\r\n" +
		"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\nSupported: replaces, timer, outbound\r\n" +
		"User-Agent: test\r\nContent-Type: application/sdp\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

func response() []byte {
	return []byte("SIP/2.0 180 Ringing\r\nVia: SIP/2.0/TLS p.example.com;branch=z9hG4bKabc\r\nVia: SIP/2.0/TLS 192.0.2.10:5061;branch=z9hG4bK1\r\n" +
		"Record-Route: <sip:p.example.com;transport=tls;lr>\r\nFrom: <sip:alice@example.com>;tag=1\r\nTo: \"Bob, B.\" <sip:bob@example.com>;tag=2\r\n" +
		"Call-ID: a84b4c76e66710\r\nCSeq: 7 INVITE\r\nContact: <sip:bob@192.0.2.20:5061;transport=tls>;expires=60\r\nContent-Length: 0\r\n\r\n")
}

// seeds are the messages that are mutated.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(tortureFolder, "*.dat"))
	if err != nil || len(files) < 61 {
		t.Fatalf("%d torture messages, %v", len(files), err)
	}
	out := [][]byte{invite(), response()}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b, invite(), response()) // as many plain messages as odd ones
	}
	return out
}

// mutate changes a copy of one or two seeds in one to three places.
func mutate(r *rand.Rand, seeds [][]byte) []byte {
	words := [...]string{"\r\n", "\r\n ", ";", ",", "\"", "<", ">", "\\", ":", "@", "=", " ", "\t", "%41", "%", "sip:", "tag=x", ";branch=z9hG4bKq",
		"Via: SIP/2.0/UDP h;branch=z9hG4bKz\r\n", "f: <sip:x@y>;tag=z\r\n", "0", "99999999999", "[::1]", "\x00", "\xff", "(", ")", "SIP/2.0"}
	b := bytes.Clone(seeds[r.IntN(len(seeds))])
	for range 1 + r.IntN(3) {
		if len(b) < 4 {
			break
		}
		at := r.IntN(len(b))
		end := min(len(b), at+1+r.IntN(12))
		switch r.IntN(8) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.IntN(256))
		case 2:
			b = slices.Delete(b, at, end)
		case 3:
			b = slices.Insert(b, at, slices.Clone(b[at:end])...)
		case 4, 5:
			b = slices.Insert(b, at, []byte(words[r.IntN(len(words))])...)
		case 6:
			lines := bytes.SplitAfter(b, []byte("\r\n"))
			i, j := r.IntN(len(lines)), r.IntN(len(lines))
			lines[i], lines[j] = lines[j], lines[i]
			b = bytes.Join(lines, nil)
		case 7:
			other := seeds[r.IntN(len(seeds))]
			b = append(b[:at:at], other[min(at, len(other)):]...)
		}
	}
	return b
}

// view is what both parsers must agree on.
type view struct{ start, callID, cseq, fromTag, branch string }

func ourView(b []byte) (v view, err error) {
	var m sip.Message
	if err := m.Parse(bytes.Clone(b), sip.Limits{}); err != nil {
		return v, err
	}
	if err := m.Validate(); err != nil {
		return v, err
	}
	v.start = strconv.Itoa(m.Status())
	if m.IsRequest() {
		v.start = string(m.MethodText())
	}
	via, err := m.TopVia()
	if err != nil {
		return v, fmt.Errorf("validated, but its Via does not parse: %w", err)
	}
	cseq := bytes.Fields(m.Get(sip.HeaderCSeq))
	seq, _, _ := m.CSeq()
	v.callID, v.cseq = string(m.CallID()), fmt.Sprint(seq, " ", string(cseq[1]))
	v.fromTag, v.branch = string(m.FromTag()), string(via.Branch())
	return v, nil
}

func peerView(p *peer.Parser, separators *regexp.Regexp, b []byte) (v view, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	// The peer loses what follows white space before a semicolon, or an empty parameter; so it gets the head without.
	head, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	head = separators.ReplaceAll(head, []byte(";"))
	m, err := p.ParseSIP(slices.Concat(head, []byte("\r\n\r\n"), body))
	if err != nil {
		return v, err
	}
	if m.CallID() == nil || m.CSeq() == nil || m.From() == nil || m.Via() == nil || m.To() == nil {
		return v, fmt.Errorf("a mandatory field is missing")
	}
	switch m := m.(type) {
	case *peer.Request:
		v.start = string(m.Method)
	case *peer.Response:
		v.start = strconv.Itoa(m.StatusCode)
	}
	// The peer keeps white space that the grammar allows around tokens, and an escape in a quoted value.
	v.callID, v.cseq = string(*m.CallID()), fmt.Sprint(m.CSeq().SeqNo, " ", strings.TrimSpace(string(m.CSeq().MethodName)))
	v.fromTag, v.branch = param(m.From().Params, "tag"), param(m.Via().Params, "branch")
	return v, nil
}

func param(params peer.HeaderParams, name string) string {
	for _, kv := range params {
		if strings.EqualFold(strings.TrimSpace(kv.K), name) {
			return strings.Trim(strings.TrimSpace(kv.V), `"`)
		}
	}
	return ""
}

// TestDifferential runs 100,000 mutated messages through both parsers. Where both accept, they must agree on what
// identifies transactions and dialogs; where one accepts alone, the reasons are counted.
func TestDifferential(t *testing.T) {
	const total = 100_000
	r := rand.New(rand.NewPCG(4475, 5118))
	from, parser, separators := seeds(t), peer.NewParser(), regexp.MustCompile(`[ \t;]*;`)
	both, neither, lost, disagreements := 0, 0, 0, map[string]int{}
	onlyOurs, onlyPeer, examples := map[string]int{}, map[string]int{}, map[string]string{}
	for range total {
		b := mutate(r, from)
		ours, ourErr := ourView(b)
		theirs, peerErr := peerView(parser, separators, b)
		switch {
		case ourErr == nil && peerErr == nil:
			both++
			what := difference(ours, theirs)
			if what == "branch" && theirs.branch == "" {
				lost++ // odd white space in Via makes the peer lose its parameters
				continue
			}
			if what != "" {
				disagreements[what]++
				examples[what] = fmt.Sprintf("ours %q, peer %q in %q", ours, theirs, b)
			}
		case ourErr == nil:
			onlyOurs[reason(peerErr)]++
		case peerErr == nil:
			onlyPeer[reason(ourErr)]++
		default:
			neither++
		}
	}
	t.Logf("%d messages: %d accepted by both, %d by neither, %d only by ours, %d only by the peer", total, both, neither, sum(onlyOurs), sum(onlyPeer))
	report(t, "only ours accepts; the peer says", onlyOurs)
	report(t, "only the peer accepts; ours says", onlyPeer)
	for what, n := range disagreements {
		t.Errorf("%d disagreements about %s, e.g. %s", n, what, examples[what])
	}
	if lost > 20 {
		t.Errorf("the peer finds no branch in %d messages, ours does", lost)
	}
	if both < total/10 {
		t.Errorf("only %d messages were accepted by both: the comparison is worth little", both)
	}
	if n := sum(onlyOurs); n > total/200 {
		t.Errorf("%d messages are accepted by ours alone", n)
	}
	if n := sum(onlyPeer); n > total*3/10 {
		t.Errorf("%d messages are accepted by the peer alone", n)
	}
}

func difference(a, b view) string {
	switch {
	case !strings.EqualFold(a.start, b.start): // the peer makes methods upper case, though case matters (RFC 3261 section 7.1)
		return "method or status"
	case a.callID != b.callID:
		return "Call-ID"
	case a.cseq != b.cseq:
		return "CSeq"
	case a.fromTag != b.fromTag:
		return "From tag"
	case a.branch != b.branch:
		return "branch"
	}
	return ""
}

// reason shortens an error to its kind.
func reason(err error) string {
	text := err.Error()
	if i := strings.IndexAny(text, "'\"("); i > 0 {
		text = text[:i]
	}
	return text[:min(len(text), 60)]
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func report(t *testing.T, what string, counts map[string]int) {
	t.Helper()
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return counts[b] - counts[a] })
	for _, k := range keys[:min(len(keys), 12)] {
		t.Logf("%s: %6d %s", what, counts[k], k)
	}
}

// BenchmarkParseInvite parses one INVITE with ours and with the peer, by turns, and reports the ratio of the times.
// Both end with the top Via in hand.
func BenchmarkParseInvite(b *testing.B) {
	text := invite()
	b.Run("ours", func(b *testing.B) {
		var m sip.Message
		b.ReportAllocs()
		for b.Loop() {
			parseOurs(b, &m, text)
		}
	})
	b.Run("peer", func(b *testing.B) {
		p := peer.NewParser()
		b.ReportAllocs()
		for b.Loop() {
			parsePeer(b, p, text)
		}
	})
	b.Run("ratio", func(b *testing.B) {
		var m sip.Message
		var ours, theirs time.Duration
		p := peer.NewParser()
		for b.Loop() {
			start := time.Now()
			for range 100 {
				parseOurs(b, &m, text)
			}
			middle := time.Now()
			for range 100 {
				parsePeer(b, p, text)
			}
			ours, theirs = ours+middle.Sub(start), theirs+time.Since(middle)
		}
		b.ReportMetric(float64(ours)/float64(theirs), "ours/peer")
	})
}

func parseOurs(b *testing.B, m *sip.Message, text []byte) {
	if err := m.Parse(text, sip.Limits{}); err != nil {
		b.Fatal(err)
	}
	if _, err := m.TopVia(); err != nil {
		b.Fatal(err)
	}
}

func parsePeer(b *testing.B, p *peer.Parser, text []byte) {
	m, err := p.ParseSIP(text)
	if err != nil || m.Via() == nil {
		b.Fatal(err)
	}
}
