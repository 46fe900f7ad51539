package probe

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

const tlsTime = 5 * time.Second

// interception compares the key that we are shown by TLS with the one that the reflector says it shows.
func (p *Prober) interception(ctx context.Context) (verdict.Check, error) {
	c := verdict.Check{ID: "tls", Kind: "tls", Title: "Interception of TLS", Required: true, Status: verdict.Pass, Values: map[string]string{}}
	r, err := p.ask(ctx, wire.Request{Op: "presented"})
	if err != nil {
		return c, err
	}
	if p.TLS == nil || r.SPKI == "" {
		return skipped(c.ID, c.Kind, c.Title, "the reflector speaks no TLS"), nil
	}
	ports := slices.Clone(p.worksT)
	if len(ports) == 0 {
		open, err := p.need(ctx, "tcp", []uint16{443, 5061, 8443})
		if err != nil {
			return c, err
		}
		for q, o := range p.tcp(ctx, []pair{{0, p.Reflector.Port()}}) {
			if o.ok {
				open = append(open, q.to)
			}
		}
		ports = open
	}
	slices.SortStableFunc(ports, func(a, b uint16) int { // first where inspectors look
		rank := func(q uint16) int {
			return map[bool]int{true: 0, false: 1}[slices.Contains([]uint16{443, 5061, 8443, 8934}, q)]
		}
		return cmp.Compare(rank(a), rank(b))
	})
	var bad, good, silent, broken []string
	for _, port := range slices.Compact(ports)[:min(4, len(ports))] {
		f, err := p.shown(ctx, port, r)
		name := fmt.Sprint(port)
		switch {
		case err != nil:
			silent = append(silent, fmt.Sprintf("%s: %v", name, err))
		case f.spki == r.SPKI:
			good = append(good, name)
			broken = append(broken, f.faults(name, r)...)
		default:
			broken = append(broken, f.faults(name, r)...)
			c.Values[name] = "SPKI " + f.spki + ", issuer " + f.issuer
			bad = append(bad, fmt.Sprintf("port %s: a certificate of %q with another key", name, f.issuer))
		}
	}
	c.Values["presented"] = "SPKI " + r.SPKI + ", issuer " + r.Issuer
	c.Sent = fmt.Sprintf("TLS handshakes for %q to ports %s", p.Name, strings.Join(append(slices.Clone(good), append(texted(bad), texted(silent)...)...), ", "))
	switch {
	case len(bad) > 0:
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Intercepted, joined(bad)
		c.Change = "exempt the service's names and addresses from TLS inspection on the machine whose name is in the certificate's issuer (`ringfence network render squid-splice` writes the list for Squid); phones believe their own anchors only"
		c.Seen = joined(append([]string{c.Seen}, broken...))
	case len(silent) > 0 && len(good) == 0:
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Rejected, "TLS does not come about: "+joined(silent)
		c.Change = "let TLS 1.2 and 1.3 pass as they are; the ports pass other bytes"
	case len(good) == 0:
		return skipped(c.ID, c.Kind, c.Title, "no TCP port answers"), nil
	case len(broken) > 0:
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Replaced, "the reflector's own key is shown, and yet "+joined(broken)
		c.Change = "let what is in TLS pass as it is: find the machine that takes part in the connection"
	default:
		c.Seen = "the reflector's own key at ports " + strings.Join(good, ", ")
	}
	return c, nil
}

// faults are what is lost within TLS.
func (f face) faults(port string, r wire.Reply) (out []string) {
	if f.alpn != r.ALPN {
		out = append(out, fmt.Sprintf("port %s: the protocol agreed on within TLS (ALPN) is %q, not %q", port, f.alpn, r.ALPN))
	}
	if f.socket != nil {
		out = append(out, fmt.Sprintf("port %s: web sockets do not pass: %v", port, f.socket))
	}
	return out
}

// texted leaves of findings only where they were made.
func texted(all []string) (out []string) {
	for _, s := range all {
		at, _, _ := strings.Cut(s, ":")
		out = append(out, strings.TrimPrefix(at, "port "))
	}
	return out
}

// shown makes one handshake and returns what was shown.
func (p *Prober) shown(ctx context.Context, port uint16, r wire.Reply) (face, error) {
	ctx, cancel := context.WithTimeout(ctx, tlsTime)
	defer cancel()
	raw, err := p.Opener.DialFrom(ctx, FlowTCP, netip.AddrPortFrom(p.local, 0), netip.AddrPortFrom(p.Reflector.Addr(), port))
	if err != nil {
		return face{}, root(err)
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(tlsTime))
	return p.show(ctx, raw, r)
}

// face is what somebody showed by TLS.
type face struct {
	spki, issuer string
	alpn         string // the protocol that was agreed on
	socket       error  // why a web socket does not pass; nil if it does, or was not tried
}

// show makes a handshake over a connection, looks at what is shown, and sends a probe through a web socket if the reflector answers those.
func (p *Prober) show(ctx context.Context, raw net.Conn, r wire.Reply) (face, error) {
	conf := p.TLS.Clone()
	conf.ServerName = p.Name
	if r.ALPN != "" {
		conf.NextProtos = []string{r.ALPN}
	}
	t := tls.Client(raw, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		return face{}, err
	}
	leaf := t.ConnectionState().PeerCertificates[0]
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	f := face{spki: hex.EncodeToString(sum[:]), issuer: leaf.Issuer.String(), alpn: t.ConnectionState().NegotiatedProtocol}
	if r.Sockets {
		f.socket = p.socket(t)
	}
	return f, nil
}

// socket sends a probe through a web socket.
func (p *Prober) socket(t net.Conn) error {
	var random [20]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	key := base64.StdEncoding.EncodeToString(random[:16])
	q := p.next(wire.Reach)
	if _, err := t.Write(wire.SocketRequest(p.Name, key, q.Append(nil, p.ch.Key, wire.Size))); err != nil {
		return root(err)
	}
	in := bufio.NewReader(t)
	if err := wire.ParseSocketResponse(in, key); err != nil {
		return err
	}
	q = p.next(wire.Reach)
	if _, err := t.Write(wire.Frame(q.Append(nil, p.ch.Key, wire.Size), (*[4]byte)(random[16:]))); err != nil {
		return root(err)
	}
	b, err := wire.ParseFrame(in, false)
	if err != nil {
		return err
	}
	if a, ok := p.genuine(b); !ok || a.Seq != q.Seq {
		return &ringfence.Fault{Op: "probe", Kind: ringfence.KindInvalid, Text: "somebody else answers in the web socket"}
	}
	return nil
}
