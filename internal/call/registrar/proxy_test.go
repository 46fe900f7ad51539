package registrar_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/sip"
)

const edgePath = "Path: <sip:edge-1:5061;transport=tls;lr>"

// throughEdge lets alice's phone, which knows a password, come through edge-1; bob has one too.
func throughEdge(p *people, cfg *registrar.Config) {
	withDigest(true)(p, cfg)
	cfg.Proxies = []string{"edge-1"}
}

// A proxy speaks for nobody: whoever comes through it proves himself each time, and a Path leads to the proxy or nowhere.
func TestProxySpeaksForNobody(t *testing.T) {
	inOffice(t, throughEdge, func(o *office) {
		h := o.dial("edge-1", "alice")
		c := h.challenged(sip.DigestSHA256)
		h.want(400, h.contact("x", ""), answer(c, "alice-old", password, 1))
		for i, path := range [...]string{"Path: <sip:192.0.2.66:22;lr>", "Path: <sip:edge-2;lr>", "Path: <sip:evil@edge-1.example;lr>"} {
			h.want(403, h.contact("x", ""), path, answer(c, "alice-old", password, uint32(2+i)))
		}
		h.want(400, h.contact("x", ""), "Path: <sip:edge-1>", answer(c, "alice-old", password, 5))
		h.want(400, h.contact("x", ""), "Path: <tel:5>", answer(c, "alice-old", password, 6))
		if got := o.reg.All(); len(got) != 0 {
			t.Fatalf("bound: %+v", got)
		}
		m := h.want(200, h.contact("x", ";+sip.instance=\"<urn:uuid:1>\";reg-id=1"), edgePath, "Supported: path, outbound", answer(c, "alice-old", password, 7))
		if string(m.Get(sip.HeaderPath)) != edgePath[len("Path: "):] {
			t.Errorf("the answer's Path: %q", m.Get(sip.HeaderPath))
		}
		h.want(401, h.contact("y", ""), edgePath) // nothing was learnt about the connection
		if _, known := o.reg.Known(o.reg.All()[0].Conn); known {
			t.Error("the proxy's connection speaks for somebody")
		}
		at := o.reg.Locate("alice")
		if len(at) != 1 || at[0].Proof.Via != "edge-1" || at[0].Proof.Auth != ringfence.AuthDigestSHA256 || at[0].Proof.Peer != "device alice-old" {
			t.Errorf("%+v", at)
		}
		other := o.dial("edge-2", "alice") // a certificate of the right role that nobody named
		other.want(403, other.contact("x", ""), "Path: <sip:edge-2;lr>")
		// A phone that writes a Path itself is as it was: its own connection is the way, and nobody dials.
		alone := o.dial("alice-desk", "alice")
		alone.want(200, alone.contact("z", ""), "Path: <sip:192.0.2.66:22;lr>")
		_ = alone.conn.Close()
		synctest.Wait()
		if got := o.reg.Stranded(); len(got) != 0 {
			t.Errorf("stranded: %v", got)
		}
	})
}

// Outbound works only if the first hop keeps the flow (RFC 5626 section 6).
func TestProxyWithoutOutbound(t *testing.T) {
	inOffice(t, throughEdge, func(o *office) {
		h := o.dial("edge-1", "alice")
		c := h.challenged(sip.DigestSHA256)
		for i, path := range [...]string{edgePath, "Path: <sip:edge-1;lr>, <sip:x.example;lr;ob>"} {
			want := i == 1
			fields := []string{h.contact("x", ";+sip.instance=\"<urn:uuid:1>\";reg-id=1"), path, "Via: SIP/2.0/TLS 192.0.2.77;branch=z9hG4bKphone", "Supported: path, outbound"}
			m := h.want(200, append(fields, answer(c, "alice-old", password, uint32(1+i)))...)
			if got := m.HasOption(sip.HeaderRequire, "outbound"); got != want {
				t.Errorf("%s: Require: outbound is %v", path, got)
			}
		}
	})
}

// When the proxy's connection ends, those behind it are stranded until another connection of the same proxy takes them.
func TestProxyComesBack(t *testing.T) {
	inOffice(t, throughEdge, func(o *office) {
		h := o.dial("edge-1", "alice")
		c := h.challenged(sip.DigestSHA256)
		h.want(200, h.contact("x", ""), edgePath, answer(c, "alice-old", password, 1))
		h.user, h.id = "bob", "call-bob"
		h.want(200, h.contact("y", ""), edgePath, answer(c, "bob-older", password, 2))
		old := o.reg.Locate("alice")[0].Conn
		// Revoking one phone does not cut the others off.
		if n, err := o.reg.Drop(o.Context(), "bob-older", errors.New("revoked")); n != 0 || err != nil || old.State() != "Established" {
			t.Errorf("dropped %d connections, %v", n, err)
		}
		old.Close(errors.New("cut"))
		synctest.Wait()
		want := "map[edge-1:sip:edge-1:5061;transport=tls;lr]"
		if got := o.reg.Stranded(); fmt.Sprint(got) != want || len(o.reg.Locate("alice")) != 0 {
			t.Fatalf("stranded: %v, want %s", got, want)
		}
		another := o.dial("edge-2", "alice")
		another.want(403)
		desk := o.dial("alice-desk", "alice")
		desk.want(200)
		again := o.dial("edge-1", "carol")
		again.want(401)
		joined := 0
		for _, conn := range o.wires.Conns() {
			joined += o.reg.Rejoin(conn)
			if conn.Peer.Name == "edge-1" && o.reg.Rejoin(conn) != 0 {
				t.Error("joined twice")
			}
		}
		at := o.reg.Locate("alice")
		if joined != 1 || len(at) != 1 || at[0].Conn == old || at[0].Conn.Peer.Name != "edge-1" || len(o.reg.Stranded()) != 0 {
			t.Errorf("joined %d; %+v", joined, at)
		}
		at[0].Conn.Close(errors.New("cut again"))
		synctest.Wait()
		if o.reg.Rejoin(at[0].Conn) != 0 || len(o.reg.Stranded()) != 1 {
			t.Error("a closed connection was taken")
		}
	})
}
