package publicname

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

// Bounds on what a directory may cost.
const (
	maxAnswer   = 512 << 10 // bytes of one answer
	maxRequests = 300       // of one order
	maxPoll     = time.Minute
)

// errElsewhere marks a request that a directory would have us send to somebody else.
var errElsewhere = errors.New("it names an address on another host")

// guard carries the requests of one order, and holds the directory to its own host and to bounds.
type guard struct {
	origin  string // scheme://host:port
	next    http.RoundTripper
	left    int
	patient time.Duration // how long the authority wanted us to wait, from the last refusal
	now     func() time.Time
}

// originOf returns scheme, host and port of a URL in one spelling.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return strings.ToLower(u.Scheme + "://" + u.Hostname() + ":" + port)
}

// RoundTrip implements http.RoundTripper. One order makes one request after the other.
func (g *guard) RoundTrip(q *http.Request) (*http.Response, error) {
	if originOf(q.URL) != g.origin {
		return nil, fault(ringfence.KindDenied, "the directory names an address on another host: "+clean(originOf(q.URL), 120), "the directory at "+g.origin+" must be complete by itself", errElsewhere)
	}
	if g.left--; g.left < 0 {
		return nil, fault(ringfence.KindTimeout, "the authority does not come to an end", "", nil)
	}
	res, err := g.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	wait := after(res.Header.Get("Retry-After"), g.now())
	switch {
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable:
		g.patient = wait
	case res.Header.Get("Retry-After") != "": // when to look again
		res.Header.Set("Retry-After", strconv.Itoa(int(min(max(wait, time.Second), maxPoll)/time.Second)))
	}
	res.Body = &short{res.Body, maxAnswer}
	return res, nil
}

// after reads a Retry-After (RFC 9110 section 10.2.3), in seconds or as a date; zero if it says nothing that can be read or lies in the past.
func after(text string, now time.Time) time.Duration {
	const longest = 10 * 365 * 24 * 3600
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), longest)) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// short is a body that may not be longer than it should.
type short struct {
	io.ReadCloser
	left int
}

func (s *short) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, fault(ringfence.KindInvalid, "an answer of the authority is too long", "", nil)
	}
	n, err := s.ReadCloser.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// clean makes what somebody else wrote fit to be shown: one line of plain text, at most limit bytes.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x200b && r <= 0x202e || r >= 0x2060 && r <= 0x206f {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
