package cwmp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/sip"
)

// Event is why a session is made (TR-069 section 3.7.1.5).
type Event string

// The events of a phone.
const (
	Bootstrap  Event = "0 BOOTSTRAP" // the first session with this ACS
	Boot       Event = "1 BOOT"
	Periodic   Event = "2 PERIODIC"
	Scheduled  Event = "3 SCHEDULED"
	Changed    Event = "4 VALUE CHANGE"
	Requested  Event = "6 CONNECTION REQUEST"
	Completed  Event = "7 TRANSFER COMPLETE"
	Rebooted   Event = "M Reboot" // that the ACS asked for; it has a command key, as those below
	Asked      Event = "M ScheduleInform"
	Downloaded Event = "M Download"
	maxRPCs          = 1000 // of one session
	maxHops          = 3
	maxAnswers       = 4 // addresses of one ACS
	patience         = 30 * time.Second
	maxHeader        = 64 << 10
	sessionMax       = 5 * time.Minute
)

// Identity is who the phone is (DeviceIdStruct).
type Identity struct {
	Manufacturer string
	OUI          string // 6 hexadecimal digits
	ProductClass string
	Serial       string
}

// ACS is an auto-configuration server and how it is reached.
type ACS struct {
	URL      string
	User     string
	Password string
	Version  int  // of CWMP: 0 or 2
	Named    bool // by DHCP, which anybody may have said: such an ACS is not told the password (by Basic)

	TLS    *tls.Config // anchors, suites and the phone's certificate; the name of the server is added
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, at netip.AddrPort) (net.Conn, error)
	Now    func() time.Time
}

// Occasion is an event with its command key.
type Occasion struct {
	Event Event  `json:"event"`
	Key   string `json:"command_key,omitempty"`
}

// Session is what a session came to.
type Session struct {
	At      time.Time  `json:"at"`
	URL     string     `json:"url"`
	Server  string     `json:"server,omitempty"` // address
	TLS     string     `json:"tls,omitempty"`
	Subject string     `json:"subject,omitempty"`
	Events  []Occasion `json:"events"`
	Done    []Done     `json:"requests"`
	Error   string     `json:"error,omitempty"`
	Hint    string     `json:"hint,omitempty"`
	Reboot  bool       `json:"reboot"` // the ACS asks for a restart
	Key     string     `json:"-"`      // of the Reboot
}

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "cwmp", Kind: kind, Text: text, Hint: hint, Err: err}
}

// ParseURL reads where an ACS is: within TLS, whoever says otherwise.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 2048 || u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "0":
		return nil, fault(ringfence.KindInvalid, fmt.Sprintf("%.80q is no ACS", s), "write https://acs.example.com/", err)
	case u.Scheme != "https":
		return nil, fault(ringfence.KindInsecure, fmt.Sprintf("%.80s is in the clear: whoever is on the way could take the place of the ACS, and configure the phone", s), "serve it by https", nil)
	}
	if p := u.Port(); p != "" {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return nil, fault(ringfence.KindInvalid, p+" is no port", "", nil)
		}
	}
	u.Fragment = ""
	return u, nil
}

// talk is one HTTP conversation.
type talk struct {
	acs       ACS
	phone     Phone
	at        *url.URL
	transport *http.Transport
	jar       *cookiejar.Jar
	session   *Session
	challenge *sip.Challenge
	nc        uint32
	basic     bool
}

// Run makes one session: Inform, and then whatever the ACS asks.
func (a ACS) Run(ctx context.Context, id Identity, phone Phone, events []Occasion, retries int) (s Session, err error) {
	ctx, cancel := context.WithTimeout(ctx, sessionMax)
	defer cancel()
	s = Session{At: a.Now().UTC().Truncate(time.Second), URL: a.URL, Events: events, Done: []Done{}}
	defer func() {
		if err != nil {
			s.Error, s.Hint = err.Error(), ringfence.HintOf(err)
		}
	}()
	u, err := ParseURL(a.URL)
	if err != nil {
		return s, err
	}
	jar, err := cookiejar.New(nil) // an ACS knows a session by its cookies (section 3.4.1)
	if err != nil {
		return s, err
	}
	t := &talk{acs: a, phone: phone, at: u, jar: jar, session: &s}
	t.transport = &http.Transport{DisableCompression: true, MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, MaxResponseHeaderBytes: maxHeader, ResponseHeaderTimeout: patience, DialTLSContext: t.dial}
	defer t.transport.CloseIdleConnections()
	server := &server{phone: phone, cwmp: fmt.Sprintf("%s%d", nsCWMP, a.Version), now: a.Now}
	number := rand.Text()[:8]
	changed, transfers := phone.Changed(), phone.Transfers()
	s.Events = all(events, changed, transfers)
	b, err := t.post(ctx, inform(server.cwmp, number, id, phone.Parameters(), changed, s.Events, a.Now(), retries))
	if err != nil {
		return s, err
	}
	e, err := ParseEnvelope(b)
	switch {
	case err != nil:
		return s, fault(ringfence.KindInvalid, "what answers at "+a.URL+" is no ACS", "", err)
	case e.Method == "Fault":
		return s, fault(ringfence.KindDenied, "the ACS refuses the Inform: "+refusalOf(e), "does it know this phone?", nil)
	case e.Method != "InformResponse" || e.ID != number:
		return s, fault(ringfence.KindInvalid, "the ACS answers the Inform with "+printable(e.Method), "", nil)
	}
	if err := phone.Heard(); err != nil {
		return s, fault(ringfence.KindInternal, "what the ACS heard cannot be kept", "", err)
	}
	if err := t.tell(ctx, server.cwmp, transfers); err != nil {
		return s, err
	}
	var request []byte // empty: the phone has nothing more to ask
	for range maxRPCs {
		if b, err = t.post(ctx, request); err != nil || len(bytes.TrimSpace(b)) == 0 {
			break
		}
		if e, err = ParseEnvelope(b); err != nil {
			return s, fault(ringfence.KindInvalid, "the ACS asks what is no request", "", err)
		}
		if e.Method == "" {
			request = nil
			continue
		}
		var done Done
		request, done = server.answer(e)
		s.Done = append(s.Done, done)
	}
	s.Reboot, s.Key = server.asked, server.reboot
	if err == nil && len(s.Done) == maxRPCs {
		err = fault(ringfence.KindOverload, fmt.Sprintf("the ACS asks more than %d times in one session", maxRPCs), "", nil)
	}
	return s, err
}

// all are the events of a session, with those that the phone finds out itself.
func all(events []Occasion, changed []Parameter, transfers []Transfer) []Occasion {
	out := slices.Clone(events)
	if len(changed) > 0 {
		out = append(out, Occasion{Event: Changed})
	}
	if len(transfers) > 0 {
		out = append(out, Occasion{Event: Completed})
	}
	for _, x := range transfers {
		out = append(out, Occasion{Event: Downloaded, Key: x.Key})
	}
	return out
}

// tell tells the ACS what became of files, one after the other (TransferComplete).
func (t *talk) tell(ctx context.Context, cwmp string, transfers []Transfer) error {
	for _, x := range transfers {
		number := rand.Text()[:8]
		b, err := t.post(ctx, transferComplete(cwmp, number, x))
		if err != nil {
			return err
		}
		e, err := ParseEnvelope(b)
		switch {
		case err != nil:
			return fault(ringfence.KindInvalid, "the ACS answers TransferComplete with nonsense", "", err)
		case e.Method == "Fault":
			return fault(ringfence.KindDenied, "the ACS does not take what became of a file: "+refusalOf(e), "", nil)
		case e.Method != "TransferCompleteResponse" || e.ID != number:
			return fault(ringfence.KindInvalid, "the ACS answers TransferComplete with "+printable(e.Method), "", nil)
		}
		if err := t.phone.Delivered(1); err != nil {
			return fault(ringfence.KindInternal, "what the ACS heard cannot be kept", "", err)
		}
		t.session.Done = append(t.session.Done, Done{Method: "TransferComplete", Fault: x.Text})
	}
	return nil
}

func refusalOf(e Envelope) string {
	f := e.body.child("detail").child("Fault")
	return printable(strings.TrimSpace(f.value("FaultCode") + " " + cmp.Or(f.value("FaultString"), e.body.value("faultstring"))))
}

// inform writes the first message of a session.
func inform(cwmp, number string, id Identity, all, changed []Parameter, events []Occasion, now time.Time, retries int) []byte {
	return envelope(cwmp, number, func(w *writer) {
		w.WriteString("<cwmp:Inform><DeviceId>")
		w.leaf("Manufacturer", id.Manufacturer)
		w.leaf("OUI", id.OUI)
		w.leaf("ProductClass", id.ProductClass)
		w.leaf("SerialNumber", id.Serial)
		w.WriteString("</DeviceId>")
		w.list("Event", "cwmp:EventStruct", len(events))
		for _, e := range events {
			w.WriteString("<EventStruct>")
			w.leaf("EventCode", string(e.Event))
			w.leaf("CommandKey", e.Key)
			w.WriteString("</EventStruct>")
		}
		w.WriteString("</Event>")
		w.leaf("MaxEnvelopes", "1")
		w.leaf("CurrentTime", now.UTC().Format(time.RFC3339))
		w.leaf("RetryCount", strconv.Itoa(retries))
		var forced []Parameter
		for _, p := range all {
			if p.Forced || slices.ContainsFunc(changed, func(c Parameter) bool { return c.Name == p.Name }) {
				forced = append(forced, p)
			}
		}
		w.list("ParameterList", "cwmp:ParameterValueStruct", len(forced))
		for _, p := range forced {
			w.value(p.shown())
		}
		w.WriteString("</ParameterList></cwmp:Inform>")
	})
}

// dial opens the connection of a session to the first address that answers, and believes nobody who does not prove the name.
func (t *talk) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	found, err := t.acs.Lookup(ctx, t.at.Hostname())
	if ringfence.KindOf(err) == ringfence.KindDenied && err != nil {
		return nil, err
	}
	if err != nil || len(found) == 0 {
		return nil, fault(ringfence.KindUnavailable, "there is no address of "+t.at.Hostname(), "see ACS_URL", err)
	}
	port, _ := strconv.ParseUint(cmp.Or(t.at.Port(), "443"), 10, 16)
	var worst error
	for _, a := range found[:min(len(found), maxAnswers)] {
		at := netip.AddrPortFrom(a, uint16(port))
		raw, err := t.acs.Dial(ctx, at)
		if err != nil {
			worst = cmp.Or(worst, error(fault(ringfence.KindUnavailable, "nobody answers at "+at.String(), "see ACS_URL", err)))
			continue
		}
		conf := t.acs.TLS.Clone()
		conf.ServerName, conf.NextProtos = t.at.Hostname(), nil
		c := tls.Client(raw, conf)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			worst = fault(ringfence.KindInsecure, "the ACS at "+at.String()+" is not believed to be "+t.at.Hostname(), "is its authority that of --ca, and does its certificate have this name?", err)
			continue
		}
		state := c.ConnectionState()
		t.session.Server, t.session.TLS = at.String(), tls.VersionName(state.Version)+", "+tls.CipherSuiteName(state.CipherSuite)
		if len(state.PeerCertificates) > 0 {
			t.session.Subject = state.PeerCertificates[0].Subject.String()
		}
		return c, nil
	}
	return nil, worst
}

// post sends a message, or an empty body, and returns what comes back. It answers one challenge, and follows a few redirections of the ACS.
func (t *talk) post(ctx context.Context, body []byte) ([]byte, error) {
	hops, tried := 0, false
	for {
		resp, b, err := t.once(ctx, body)
		if err != nil {
			return nil, err
		}
		switch code := resp.StatusCode; {
		case code == http.StatusOK:
			return b, nil
		case code == http.StatusNoContent:
			return nil, nil
		case code == http.StatusUnauthorized && !tried && t.acs.User != "":
			tried = true
			if !t.challenged(resp.Header.Values("WWW-Authenticate")) {
				if t.acs.Named {
					return nil, fault(ringfence.KindInsecure, "the ACS that DHCP named asks for the password itself", "set ACS_URL, if it is the right one", nil)
				}
				return nil, fault(ringfence.KindUnsupported, "the ACS asks for a way to sign in that is neither Digest nor Basic", "", nil)
			}
		case code == http.StatusUnauthorized || code == http.StatusForbidden:
			return nil, fault(ringfence.KindUnauthenticated, fmt.Sprintf("the ACS answers %d: it does not let the phone in", code), "see ACS_Username and ACS_Password", nil)
		case (code == http.StatusFound || code == http.StatusTemporaryRedirect) && hops < maxHops:
			hops++
			next, err := t.at.Parse(resp.Header.Get("Location"))
			if err != nil {
				return nil, fault(ringfence.KindInvalid, "the ACS redirects to what is no address", "", err)
			}
			u, err := ParseURL(next.String())
			if err != nil {
				return nil, err
			}
			if u.Host != t.at.Host { // the password is for the ACS that the profile names
				t.acs.User, t.acs.Password, t.challenge, t.basic = "", "", nil, false
				t.transport.CloseIdleConnections()
			}
			t.at = u
		default:
			return nil, fault(ringfence.KindUnavailable, fmt.Sprintf("the ACS answers %d %s", code, http.StatusText(code)), "", nil)
		}
	}
}

func (t *talk) once(ctx context.Context, body []byte) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, fault(ringfence.KindInvalid, "the ACS cannot be asked", "", err)
	}
	req.Header.Set("User-Agent", "Ringfence desk phone")
	if len(body) > 0 {
		req.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
		req.Header.Set("SOAPAction", `""`)
	}
	for _, c := range t.jar.Cookies(t.at) {
		req.AddCookie(c)
	}
	switch {
	case t.challenge != nil:
		t.nc++
		req.Header.Set("Authorization", t.challenge.Authorize(sip.Answer{Username: t.acs.User, Password: t.acs.Password, Method: http.MethodPost, URI: t.at.RequestURI(), CNonce: rand.Text(), NC: t.nc}))
	case t.basic: // TLS covers it
		req.SetBasicAuth(t.acs.User, t.acs.Password)
	}
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		if f, ok := errors.AsType[*ringfence.Fault](err); ok {
			return nil, nil, f
		}
		if ctx.Err() != nil {
			return nil, nil, fault(ringfence.KindTimeout, "the session with the ACS takes too long", "", err)
		}
		return nil, nil, fault(ringfence.KindUnavailable, "the ACS broke off", "", err)
	}
	defer func() { _ = resp.Body.Close() }()
	t.jar.SetCookies(t.at, resp.Cookies())
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxEnvelope+1))
	if err != nil {
		return nil, nil, fault(ringfence.KindUnavailable, "the ACS broke off", "", err)
	}
	if len(b) > MaxEnvelope {
		return nil, nil, fault(ringfence.KindInvalid, "the ACS sends more than 1 MiB", "", nil)
	}
	return resp, b, nil
}

// challenged takes what the ACS asks for: Digest, the strongest, else Basic.
func (t *talk) challenged(values []string) bool {
	var best sip.Challenge
	digest, basic := false, false
	for _, v := range values {
		if len(v) > 4096 {
			continue
		}
		if c, err := sip.ParseChallenge([]byte(v)); err == nil && (!digest || c.Algorithm > best.Algorithm) {
			best, digest = c, true
		}
		scheme, _, _ := strings.Cut(v, " ")
		basic = basic || strings.EqualFold(scheme, "Basic")
	}
	basic = basic && !t.acs.Named
	t.challenge, t.nc, t.basic = nil, 0, basic && !digest
	if digest {
		t.challenge = &best
	}
	return digest || basic
}
