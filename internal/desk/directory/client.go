package directory

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

// Method is how a phone binds.
type Method string

// The methods, as LDAP_Auth_Method has them.
const (
	None   Method = "None"
	Simple Method = "Simple"
	Digest Method = "DIGEST-MD5"
)

// Server is a directory and how to bind to it.
type Server struct {
	URL      string // ldaps://host[:port] or ldap://host[:port]
	StartTLS bool   // of ldap://
	Clear    bool   // ldap:// without StartTLS is taken
	Method   Method
	DN       string // of Simple
	User     string // of DIGEST-MD5
	Password string

	TLS    *tls.Config // anchors and suites; the name of the server is added
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, at netip.AddrPort) (net.Conn, error)
}

// Proof is how far an answer can be believed.
type Proof struct {
	Server     string `json:"server"` // address
	TLS        string `json:"tls,omitempty"`
	Subject    string `json:"subject,omitempty"`
	InTheClear bool   `json:"in_the_clear"`
}

const (
	patience     = 15 * time.Second
	maxServers   = 4
	startTLS     = "1.3.6.1.4.1.1466.20037" // RFC 4511 section 4.14
	maxSkipped   = 64                       // messages that answer nothing of ours
	resultLimit  = 4
	saslProgress = 14
)

// address reads where the directory is.
func (s Server) address() (host string, port uint16, sealed bool, err error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Scheme != "ldap" && u.Scheme != "ldaps" {
		return "", 0, false, fault(ringfence.KindInvalid, fmt.Sprintf("%.80q is no directory", s.URL), "write ldaps://HOST or ldaps://HOST:PORT", nil)
	}
	port = map[string]uint16{"ldap": 389, "ldaps": 636}[u.Scheme]
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return "", 0, false, fault(ringfence.KindInvalid, text+" is no port", "", nil)
		}
		port = uint16(n)
	}
	if u.Scheme == "ldap" && !s.StartTLS && !s.Clear {
		return "", 0, false, fault(ringfence.KindInsecure, fmt.Sprintf("%.80s is in the clear: whoever is on the way reads what is searched and the password, and changes what is found", s.URL), "write ldaps://, or switch LDAP_StartTLS_Enable on", nil)
	}
	return u.Hostname(), port, u.Scheme == "ldaps", nil
}

// conn is a connection to a directory.
type conn struct {
	net.Conn
	id    uint32
	proof Proof
}

// open connects and binds.
func (s Server) open(ctx context.Context) (*conn, error) {
	host, port, sealed, err := s.address()
	if err != nil {
		return nil, err
	}
	found, err := s.Lookup(ctx, host)
	if err != nil || len(found) == 0 {
		return nil, fault(ringfence.KindUnavailable, "there is no address of "+host, "see LDAP_Server", err)
	}
	var worst error
	for i, addr := range found {
		if i == maxServers || ctx.Err() != nil {
			break
		}
		c, err := s.connect(ctx, host, netip.AddrPortFrom(addr, port), sealed)
		if err == nil {
			if err = s.bind(c, host); err == nil {
				return c, nil
			}
			_ = c.Close()
			return nil, err // another address is the same directory
		}
		if ringfence.KindOf(worst) != ringfence.KindInsecure {
			worst = err
		}
	}
	return nil, worst
}

// connect opens a connection, within TLS unless the profile says otherwise.
func (s Server) connect(ctx context.Context, host string, at netip.AddrPort, sealed bool) (*conn, error) {
	raw, err := s.Dial(ctx, at)
	if err != nil {
		return nil, fault(ringfence.KindUnavailable, "nobody answers at "+at.String(), "see LDAP_Server", err)
	}
	c := &conn{Conn: raw, proof: Proof{Server: at.String(), InTheClear: !sealed && !s.StartTLS}}
	if end, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(end)
	}
	if !sealed && s.StartTLS {
		m, err := c.ask(tlv(opExtended, tlv(context0, []byte(startTLS))), opExtendedDone)
		if err == nil && m.Code != 0 {
			err = fault(ringfence.KindInsecure, fmt.Sprintf("the directory has no StartTLS (it answers %d %s), and a search in its clear is not made", m.Code, m.Text), "a desk phone would go on in the clear; let the directory have a certificate, or write ldaps://", nil)
		}
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	if !c.proof.InTheClear {
		conf := s.TLS.Clone()
		conf.ServerName = host
		t := tls.Client(raw, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, fault(ringfence.KindInsecure, "the directory at "+at.String()+" is not believed to be "+host, "is its authority that of --ca, and does its certificate have this name?", err)
		}
		state := t.ConnectionState()
		c.Conn = t
		c.proof.TLS = tls.VersionName(state.Version) + ", " + tls.CipherSuiteName(state.CipherSuite)
		if len(state.PeerCertificates) > 0 {
			c.proof.Subject = state.PeerCertificates[0].Subject.String()
		}
	}
	return c, nil
}

const context0 = contextual

// send sends a request, and returns its number.
func (c *conn) send(op []byte, controls ...[]byte) (uint32, error) {
	c.id++
	if _, err := c.Write(tlv(tagSequence, append([][]byte{integer(tagInteger, c.id), op}, controls...)...)); err != nil {
		return 0, gone(err)
	}
	return c.id, nil
}

// receive returns the next message that answers a request.
func (c *conn) receive(id uint32) (Message, error) {
	for range maxSkipped {
		b, err := readMessage(c)
		if err != nil {
			if ringfence.KindOf(err) == ringfence.KindInvalid {
				return Message{}, err
			}
			return Message{}, gone(err)
		}
		m, err := ParseMessage(b)
		switch {
		case err != nil:
			return m, err
		case m.ID == 0 && m.Op == opExtendedDone: // a notice of disconnection (RFC 4511 section 4.4.1)
			return m, fault(ringfence.KindUnavailable, fmt.Sprintf("the directory hangs up: %d %s", m.Code, m.Text), "", nil)
		case m.ID == id:
			return m, nil
		}
	}
	return Message{}, bad("the directory answers what was not asked")
}

func (c *conn) ask(op []byte, want byte) (Message, error) {
	id, err := c.send(op)
	if err != nil {
		return Message{}, err
	}
	m, err := c.receive(id)
	if err == nil && m.Op != want {
		err = bad("the directory answers something else")
	}
	return m, err
}

func gone(err error) error {
	if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
		return fault(ringfence.KindTimeout, "the directory does not answer in time", "", err)
	}
	return fault(ringfence.KindUnavailable, "the directory hung up", "", err)
}

// bind says who searches.
func (s Server) bind(c *conn, host string) error {
	request := func(name string, auth []byte) []byte {
		return tlv(opBind, integer(tagInteger, 3), octets(name), auth)
	}
	switch s.Method {
	case None, "":
		return nil // who does not bind is anonymous (RFC 4511 section 4.2)
	case Simple:
		if s.DN == "" || s.Password == "" { // a name without a password would be let in as nobody (RFC 4513 section 5.1.2)
			return fault(ringfence.KindInvalid, "Simple needs a name and a password", "see LDAP_Client_DN and LDAP_Password", nil)
		}
		m, err := c.ask(request(s.DN, tlv(contextual, []byte(s.Password))), opBindAnswer)
		if err != nil {
			return err
		}
		return m.failed("binding as " + s.DN)
	case Digest:
		return s.digest(c, host, request)
	}
	return fault(ringfence.KindInvalid, fmt.Sprintf("%.20q is no way to bind", s.Method), "it is None, Simple or DIGEST-MD5", nil)
}

// digest binds by DIGEST-MD5 in two steps, and believes the server only if it knew the password as well.
func (s Server) digest(c *conn, host string, request func(string, []byte) []byte) error {
	if s.User == "" || s.Password == "" {
		return fault(ringfence.KindInvalid, "DIGEST-MD5 needs a user and a password", "see LDAP_Username and LDAP_Password", nil)
	}
	sasl := func(credentials []byte) (Message, error) {
		parts := [][]byte{octets(string(Digest))}
		if credentials != nil {
			parts = append(parts, tlv(tagOctets, credentials))
		}
		return c.ask(request("", tlv(contextual|constructed|3, parts...)), opBindAnswer)
	}
	m, err := sasl(nil)
	if err != nil {
		return err
	}
	if m.Code != saslProgress {
		return cmp.Or(m.failed("binding by DIGEST-MD5"), bad("the directory asks nothing"))
	}
	challenge, err := ParseChallenge(m.SASL)
	if err != nil {
		return err
	}
	d, err := answer(challenge, s.User, s.Password, "ldap/"+host, rand.Text())
	if err != nil {
		return err
	}
	if m, err = sasl([]byte(d.response)); err != nil {
		return err
	}
	if m.Code != 0 && m.Code != saslProgress {
		return m.failed("binding by DIGEST-MD5 as " + s.User)
	}
	if !d.proven(m.SASL) {
		return fault(ringfence.KindInsecure, "the directory does not know the password that it asked for", "somebody may stand in for it", nil)
	}
	if m.Code == saslProgress { // the proof came as a challenge, and wants an empty answer
		if m, err = sasl([]byte{}); err != nil {
			return err
		}
	}
	return m.failed("binding by DIGEST-MD5 as " + s.User)
}

// Query is a search.
type Query struct {
	Base       string
	Filter     string
	Attributes []string
	Limit      int // entries
}

// MaxLimit is how many entries a search brings at most.
const MaxLimit = 2000

// Search asks the directory. more tells that there is more than the limit, or than the server gives. A server that gives fewer at a time than are wanted is asked for them in pages (RFC 2696).
func (s Server) Search(ctx context.Context, q Query) (found []Entry, more bool, proof Proof, err error) {
	filter, err := ParseFilter(q.Filter)
	if err != nil {
		return nil, false, proof, err
	}
	if q.Limit < 1 || q.Limit > MaxLimit {
		return nil, false, proof, bad(fmt.Sprintf("from 1 to %d entries can be asked for", MaxLimit))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := s.open(ctx)
	if err != nil {
		return nil, false, proof, err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	var wanted [][]byte
	for _, a := range q.Attributes {
		wanted = append(wanted, octets(a))
	}
	request := func(limit int) []byte {
		return tlv(opSearch, octets(q.Base), integer(tagEnumerated, 2), integer(tagEnumerated, 0), integer(tagInteger, uint32(limit)), integer(tagInteger, uint32(patience/time.Second)), tlv(tagBoolean, []byte{0}), filter, tlv(tagSequence, wanted...))
	}
	found, more, _, err = c.search(request(q.Limit), q.Limit)
	for size, cookie := len(found), []byte(nil); err == nil && more && size > 0 && size < q.Limit; {
		if cookie == nil {
			found = nil
		}
		var some []Entry
		if some, more, cookie, err = c.search(request(0), q.Limit-len(found), page(size, cookie)); err != nil {
			break
		}
		found = append(found, some...)
		if more = more || len(cookie) > 0; len(cookie) == 0 || len(found) >= q.Limit || len(some) == 0 {
			break // all of them, or as many as the server gives
		}
	}
	if err != nil { // who talks nonsense is not taken leave of
		return nil, false, c.proof, err
	}
	_, _ = c.send(tlv(opUnbind))
	return found, more, c.proof, nil
}

// search makes one request, and returns up to limit entries of its answer, and where the next page begins.
func (c *conn) search(op []byte, limit int, controls ...[]byte) (found []Entry, more bool, cookie []byte, err error) {
	id, err := c.send(op, controls...)
	for err == nil {
		var m Message
		if m, err = c.receive(id); err != nil {
			break
		}
		switch m.Op {
		case opEntry:
			if len(found) >= limit { // a server that minds no limit, or a page that is larger
				return found, true, nil, nil
			}
			found = append(found, m.Entry)
		case opReference:
		case opSearchDone:
			if m.Code == resultLimit {
				return found, true, nil, nil
			}
			return found, false, m.Cookie, m.failed("searching")
		default:
			err = bad("the directory answers something else")
		}
	}
	return nil, false, nil, err
}

// Phrase makes the filter for what a user typed, of the filters for last and first names. Of two words either may be the last name.
func Phrase(last, first, typed string) (string, error) {
	words := strings.Fields(typed)
	put := func(template, value string) string {
		return strings.ReplaceAll(template, "$VALUE", Escape(value))
	}
	switch len(words) {
	case 0:
		return "", fault(ringfence.KindInvalid, "there is no name to look for", "", nil)
	case 1:
		return "(|" + put(last, words[0]) + put(first, words[0]) + ")", nil
	}
	head, tail := words[0], words[len(words)-1]
	all := strings.Join(words, " ")
	return "(|(&" + put(first, head) + put(last, tail) + ")(&" + put(last, head) + put(first, tail) + ")" + put(last, all) + put(first, all) + ")", nil
}
