// Package load makes the same work for every server: phones that register and call over TLS, and sealed media.
//
// SIPp 3.6.1 as Debian builds it has no TLS, so the scenarios are played here. The generator is lean, so that one core of it
// can keep one core of a server busy.
package load

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what digest of RFC 3261 means
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"ringfence/internal/sip"
)

// Target is a server under load.
type Target struct {
	Addr     netip.AddrPort
	Domain   string
	Password string // of every device
	Leaf     []byte // the certificate that the server must show
	Group    tls.CurveID
	Sessions tls.ClientSessionCache // nil: every handshake is a full one
	DeviceID bool                   // the digest username is d<n>, not u<n>
	Plain    bool                   // SIP over UDP and RTP in the clear, instead of TLS and SRTP
}

// via is the start of a Via field, and param what a URI says of its transport.
func (t *Target) via() string {
	if t.Plain {
		return "SIP/2.0/UDP "
	}
	return "SIP/2.0/TLS "
}

func (t *Target) param() string {
	if t.Plain {
		return ""
	}
	return ";transport=tls"
}

// Phone is one TLS connection, or one UDP socket, of one registered user.
type Phone struct {
	t           *Target
	n           int
	user        string
	name        string // digest username
	ha1         string
	tc          net.Conn
	self        string // host:port of our end
	seq         uint32
	id          string // Call-ID of its registrations
	buf         []byte
	first, used int // what is in buf and not yet read
	out         []byte
	msg         sip.Message
	roams       bool
	expires     int // seconds
	nonce       string
	qop         bool
	count       uint32 // uses of nonce
	// Resumed tells that the last handshake was a resumption.
	Resumed bool
}

// NewPhone returns the phone of user u<n>, not connected.
func NewPhone(t *Target, n int) *Phone {
	p := &Phone{t: t, n: n, user: "u" + strconv.Itoa(n), buf: make([]byte, 8192), expires: 3600}
	p.name = p.user
	if t.DeviceID {
		p.name = "d" + strconv.Itoa(n)
	}
	p.ha1 = hash(p.name, t.Domain, t.Password)
	p.id = fmt.Sprintf("%s-%x", p.user, time.Now().UnixNano())
	return p
}

func hash(parts ...string) string {
	sum := md5.Sum([]byte(join(parts)))
	return hex.EncodeToString(sum[:])
}

func join(parts []string) string {
	var b []byte
	for i, p := range parts {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, p...)
	}
	return string(b)
}

// Connect opens the TLS 1.3 connection, or the socket.
func (p *Phone) Connect() error {
	p.first, p.used, p.nonce = 0, 0, ""
	if p.t.Plain {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.t.Addr))
		if err != nil {
			return err
		}
		p.tc, p.self = c, c.LocalAddr().String()
		return c.SetReadBuffer(1 << 20)
	}
	nc, err := net.DialTimeout("tcp", p.t.Addr.String(), 5*time.Second)
	if err != nil {
		return err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: p.t.Domain, ClientSessionCache: p.t.Sessions,
		InsecureSkipVerify: true, // the certificate is compared with the expected one below, which is stricter and costs no signature
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 || !bytes.Equal(cs.PeerCertificates[0].Raw, p.t.Leaf) {
				return errors.New("the server showed another certificate")
			}
			return nil
		}}
	if p.t.Group != 0 {
		conf.CurvePreferences = []tls.CurveID{p.t.Group}
	}
	tc := tls.Client(nc, conf)
	_ = tc.SetDeadline(time.Now().Add(10 * time.Second))
	if err := tc.Handshake(); err != nil {
		_ = nc.Close()
		return err
	}
	_ = tc.SetDeadline(time.Time{})
	p.tc, p.Resumed, p.self = tc, tc.ConnectionState().DidResume, nc.LocalAddr().String()
	return nil
}

// Close ends the connection.
func (p *Phone) Close() {
	if p.tc != nil {
		_ = p.tc.Close()
	}
}

// Register registers once: REGISTER, 401, REGISTER with credentials, 200.
func (p *Phone) Register() error {
	if p.t.Plain { // what is lost is not sent again here
		_ = p.tc.SetReadDeadline(time.Now().Add(5 * time.Second))
		defer func() { _ = p.tc.SetReadDeadline(time.Time{}) }()
	}
	if err := p.send(""); err != nil {
		return err
	}
	status, err := p.answer()
	if err != nil {
		return err
	}
	if status == 200 { // the server remembers the connection
		return errNotChallenged
	}
	if status != 401 {
		return fmt.Errorf("REGISTER: %d", status)
	}
	if err := p.challenged(); err != nil {
		return err
	}
	if err := p.send(p.credentials("REGISTER", "sip:"+p.t.Domain)); err != nil {
		return err
	}
	if status, err = p.answer(); err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("REGISTER with credentials: %d %s", status, p.msg.Reason())
	}
	return nil
}

var errNotChallenged = errors.New("REGISTER was not challenged")

// Refresh registers on a connection that may be known already: a 200 without a challenge is fine.
func (p *Phone) Refresh() error {
	if err := p.Register(); !errors.Is(err, errNotChallenged) {
		return err
	}
	return nil
}

// Unregister removes the phone's binding.
func (p *Phone) Unregister() error {
	p.expires = 0
	err := p.Refresh()
	p.expires = 3600
	return err
}

func (p *Phone) send(auth string) error {
	p.seq++
	b := p.out[:0]
	b = append(b, "REGISTER sip:"...)
	b = append(b, p.t.Domain...)
	b = append(b, " SIP/2.0\r\nVia: "...)
	b = append(b, p.t.via()...)
	b = append(b, p.self...)
	b = append(b, ";branch=z9hG4bK"...)
	b = append(b, p.id...)
	b = strconv.AppendUint(b, uint64(p.seq), 10)
	b = append(b, ";rport\r\nMax-Forwards: 70\r\nFrom: <sip:"...)
	b = append(b, p.user...)
	b = append(b, '@')
	b = append(b, p.t.Domain...)
	b = append(b, ">;tag=t"...)
	b = append(b, p.user...)
	b = append(b, "\r\nTo: <sip:"...)
	b = append(b, p.user...)
	b = append(b, '@')
	b = append(b, p.t.Domain...)
	b = append(b, ">\r\nCall-ID: "...)
	b = append(b, p.id...)
	b = append(b, "\r\nCSeq: "...)
	b = strconv.AppendUint(b, uint64(p.seq), 10)
	b = append(b, " REGISTER\r\nContact: "...)
	b = append(b, p.contact()...)
	b = append(b, "\r\nExpires: "...)
	b = strconv.AppendInt(b, int64(p.expires), 10)
	b = append(b, "\r\nUser-Agent: bench\r\n"...)
	if auth != "" {
		b = append(b, "Authorization: "...)
		b = append(b, auth...)
		b = append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: 0\r\n\r\n"...)
	p.out = b
	_, err := p.tc.Write(b)
	return err
}

// contact is the same after a reconnection if the phone roams: then its binding is replaced, by every server's rules.
func (p *Phone) contact() string {
	if p.roams {
		return "<sip:" + p.user + "@" + p.user + ".phone.invalid" + p.t.param() + ">"
	}
	return "<sip:" + p.user + "@" + p.self + p.t.param() + ">"
}

// answer reads one response; it stays in p.msg until the next one is read.
func (p *Phone) answer() (int, error) {
	for {
		if err := p.next(); err != nil {
			return 0, err
		}
		if status := p.msg.Status(); status >= 200 {
			return status, nil
		}
	}
}

// next reads the next message into p.msg; the one before is gone.
func (p *Phone) next() error {
	for {
		if p.first < p.used {
			start, n, _, err := sip.Frame(p.buf[p.first:p.used], sip.DefaultLimits())
			if err != nil {
				return err
			}
			if n > 0 {
				at := p.first + start
				p.first = at + n
				return p.msg.Parse(p.buf[at:p.first:p.first], sip.DefaultLimits())
			}
		}
		p.used = copy(p.buf, p.buf[p.first:p.used])
		p.first = 0
		if p.used == len(p.buf) {
			p.buf = append(p.buf, make([]byte, len(p.buf))...)
		}
		n, err := p.tc.Read(p.buf[p.used:])
		p.used += n
		if err != nil {
			return err
		}
	}
}

// challenged takes the MD5 challenge from p.msg (RFC 3261 section 22.4).
func (p *Phone) challenged() error {
	for line := range p.msg.All(sip.HeaderWWWAuthenticate) {
		nonce, ok := field(line, "nonce")
		if alg, has := field(line, "algorithm"); !ok || has && string(alg) != "MD5" {
			continue
		}
		_, p.qop = field(line, "qop")
		p.nonce, p.count = string(nonce), 0
		return nil
	}
	return errors.New("no MD5 challenge")
}

// credentials answers the last challenge for a request, with qop=auth if that was offered.
func (p *Phone) credentials(method, uri string) string {
	ha2 := hash(method, uri)
	head := `Digest username="` + p.name + `", realm="` + p.t.Domain + `", nonce="` + p.nonce + `", uri="` + uri + `", algorithm=MD5`
	if !p.qop {
		return head + `, response="` + hash(p.ha1, p.nonce, ha2) + `"`
	}
	p.count++
	const cnonce = "0a4f113b"
	nc := fmt.Sprintf("%08x", p.count)
	return head + `, qop=auth, nc=` + nc + `, cnonce="` + cnonce + `", response="` + hash(p.ha1, p.nonce, nc, cnonce, "auth", ha2) + `"`
}

// field finds name=value or name="value" in a challenge.
func field(line []byte, name string) ([]byte, bool) {
	for rest := line; ; {
		i := bytes.Index(rest, []byte(name+"="))
		if i < 0 {
			return nil, false
		}
		v := rest[i+len(name)+1:]
		if i > 0 && rest[i-1] != ' ' && rest[i-1] != ',' {
			rest = v
			continue
		}
		if len(v) > 0 && v[0] == '"' {
			v = v[1:]
			end := bytes.IndexByte(v, '"')
			return v[:max(end, 0)], end >= 0
		}
		if end := bytes.IndexAny(v, ", "); end >= 0 {
			v = v[:end]
		}
		return v, true
	}
}
