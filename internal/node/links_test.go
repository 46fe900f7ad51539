package node_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit/onehost"
	"ringfence/internal/trust/ca"
)

// twoNodes opens two nodes of one database, which reach each other.
func twoNodes(t *testing.T, change func(*config.Config)) (one, two *site) {
	t.Helper()
	shared := "sqlite:" + filepath.Join(t.TempDir(), "shared.db")
	var sites []*site
	var key []byte
	for _, name := range []string{"node-1", "node-2"} {
		data, at := t.TempDir(), netip.MustParseAddrPort(closedPort(t))
		if key != nil {
			if err := os.WriteFile(filepath.Join(data, "seal.key"), key, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := &site{onehost.Open(t, onehost.Options{Data: data, Change: func(c *config.Config) {
			c.Node, c.Store.DSN, c.SIP.TLS, c.SIP.ReachedAt = name, shared, at, at
			if change != nil {
				change(c)
			}
		}})}
		var err error
		key, err = os.ReadFile(filepath.Join(data, "seal.key"))
		s.OK(err)
		sites = append(sites, s)
	}
	return sites[0], sites[1]
}

// together has the other node know the users and devices that were added at one.
func together(sites ...*site) {
	for _, s := range sites {
		s.OK(s.Node.Roster.Reload(s.Ctx))
	}
}

// Phones at two nodes of one database call each other, alone, in groups and with the caller's name withheld; what fails there is told here.
func TestCallsBetweenNodes(t *testing.T) {
	one, two := twoNodes(t, func(c *config.Config) {
		c.Plan.Groups = []dialplan.Group{
			{Number: "300", Name: "all", Strategy: dialplan.RingAll, Members: []ringfence.UserID{"anna", "bob"}},
			{Number: "301", Name: "in turn", Strategy: dialplan.Sequential, Members: []ringfence.UserID{"dora", "bob"}},
		}
	})
	one.User("alice", "101")
	one.User("anna", "102")
	one.User("bob", "103")
	one.User("carol", "104", func(u *store.User) { u.Forward.Unreachable, u.Forward.NoAnswer = "103", "102" })
	one.User("dora", "105")
	together(two)
	alice, anna := one.Phone("alice"), one.Phone("anna")
	bob := two.Phone("bob")
	together(one)

	out, in := one.Talk(alice, bob, "103")
	one.Hears(out, 700)
	one.Hears(in, 440)
	if got := in.Peer(); got.Number != "101" {
		t.Errorf("bob is told that %+v calls", got)
	}
	here, there := one.Node.Calls.List(), two.Node.Calls.List()
	if len(here) != 1 || len(there) != 1 || here[0].Legs[1].Via != "node-2" || here[0].Legs[1].Peer != "device bob-desk" || there[0].Legs[0].Peer != "node node-1" ||
		here[0].Verdict != ringfence.Sealed || there[0].Verdict != ringfence.Sealed || !slices.ContainsFunc(here[0].Reasons, func(r string) bool { return strings.Contains(r, "connected at node-2") }) {
		t.Fatalf("here %+v\nthere %+v", here, there)
	}
	// The connection between the nodes is cut; the next one carries on with the call.
	link := func(s *site) *transport.Conn {
		all := s.Node.Transport.Conns()
		if i := slices.IndexFunc(all, func(c *transport.Conn) bool { return c.Peer.Role == string(ca.RoleNode) }); i >= 0 {
			return all[i]
		}
		return nil
	}
	old := link(two)
	link(one).Close(errors.New("cut by the test"))
	one.Until("the nodes have found each other again", func() bool {
		c := link(two)
		return c != nil && c != old && old.State() == "Closed"
	})
	in.Hangup()
	one.OK(out.WaitEnded(one.Ctx))

	// The other way, and from the other end.
	out, in = two.Talk(bob, alice, "101")
	two.Hears(out, 700)
	out.Hangup()
	two.OK(in.WaitEnded(two.Ctx))
	one.Until("no call is left", func() bool { return one.Node.Calls.Count()+two.Node.Calls.Count() == 0 })

	// A group rings at both nodes, and whoever answers has the call.
	out, err := alice.Call(one.Ctx, "300", phone.CallOptions{Audio: phone.Tone(440)})
	one.OK(err)
	late, first := one.Incoming(anna), two.Incoming(bob)
	one.OK(first.Answer(one.Ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	one.OK(out.WaitAnswered(one.Ctx))
	_ = late.WaitEnded(one.Ctx)
	out.Hangup()
	one.OK(first.WaitEnded(one.Ctx))
	out, in = one.Talk(alice, bob, "301") // dora has no phone anywhere
	out.Hangup()
	one.OK(in.WaitEnded(one.Ctx))

	// Who is called there sends the caller on to a phone here.
	out, in = one.Talk(alice, bob, "103")
	sent := make(chan error, 1)
	go func() { sent <- in.BlindTransfer(one.Ctx, "102") }()
	next := one.Incoming(anna)
	one.OK(next.Answer(one.Ctx, phone.CallOptions{Audio: phone.Tone(900)}))
	one.OK(<-sent)
	one.OK(in.WaitEnded(one.Ctx))
	one.Hears(out, 900)
	one.Hears(next, 440)
	out.Hangup()
	one.OK(next.WaitEnded(one.Ctx))
	one.Until("no call is left", func() bool { return one.Node.Calls.Count()+two.Node.Calls.Count() == 0 })

	// What the phone there says is heard here.
	out, err = alice.Call(one.Ctx, "103", phone.CallOptions{})
	one.OK(err)
	one.OK(two.Incoming(bob).Reject(486))
	var refused *phone.RejectedError
	if err := out.WaitAnswered(one.Ctx); !errors.As(err, &refused) || refused.Status != 486 {
		t.Errorf("bob is busy, alice heard %v", err)
	}

	// Who withholds the name is known to the other node, and to nobody behind it.
	raw := one.raw(one.Identity("alice", "alice-raw"))
	together(two)
	uri := "sip:103@" + one.Domain
	raw.send("INVITE", uri, "<"+uri+">", one.offer(), "Privacy: id")
	hidden := two.Incoming(bob)
	if hidden.Peer().Number != "anonymous" {
		t.Errorf("bob is told that %+v calls", hidden.Peer())
	}
	two.OK(hidden.Reject(603))
	raw.final()

	// One phone is asked for by its GRUU (RFC 5627), wherever it is connected; the user's other phone stays quiet.
	var gruus []string
	var phones []*rawPeer
	for i, device := range []ringfence.DeviceID{"dora-desk", "dora-soft"} {
		p := two.raw(two.Identity("dora", device))
		together(one)
		p.params = fmt.Sprintf(`;+sip.instance="<urn:uuid:00000000-0000-1000-8000-00000000000%d>"`, i)
		p.send("REGISTER", "sip:"+two.Domain, "<sip:dora@"+two.Domain+">", nil, "Supported: gruu")
		for v := range p.final().All(sip.HeaderContact) {
			a, err := sip.ParseNameAddr(v)
			two.OK(err)
			if gruu, ok := a.Params.Get("pub-gruu"); ok && strings.HasSuffix(string(gruu), fmt.Sprint(i)) {
				gruus = append(gruus, string(gruu))
			}
		}
		phones = append(phones, p)
	}
	if len(gruus) != 2 {
		t.Fatalf("GRUUs: %q", gruus)
	}
	raw.id += "x"
	raw.send("INVITE", gruus[0], "<"+gruus[0]+">", one.offer())
	phones[0].reply(phones[0].recv(), 486, nil)
	if m := raw.final(); m.Status() != 486 {
		t.Errorf("the phone that was asked for is busy, the caller heard %d", m.Status())
	}
	_ = phones[1].conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if b, err := phones[1].r.Peek(1); err == nil {
		t.Errorf("the other phone got something that begins with %q", b)
	}

	// A phone that left the other node without a word: what is said of an unreachable one holds.
	gone := two.raw(two.Identity("carol", "carol-desk"))
	together(one)
	gone.send("REGISTER", "sip:"+two.Domain, "<sip:carol@"+two.Domain+">", nil)
	if m := gone.final(); m.Status() != 200 {
		t.Fatalf("REGISTER: %d", m.Status())
	}
	two.OK(gone.conn.Close())
	two.Until("its connection is gone", func() bool { return two.Node.Registrar.FlowOf("carol-desk") == nil })
	out, in = one.Talk(alice, bob, "104")
	out.Hangup()
	one.OK(in.WaitEnded(one.Ctx))
}

// A phone at one node sends a caller at the other to a phone there.
func TestDeflectionBetweenNodes(t *testing.T) {
	one, two := twoNodes(t, nil)
	one.User("alice", "101")
	one.User("anna", "102")
	one.User("bob", "103")
	together(two)
	alice, anna, bob := one.Phone("alice"), one.Phone("anna"), two.Phone("bob")
	together(one)
	out, err := alice.Call(one.Ctx, "103", phone.CallOptions{Audio: phone.Tone(440)})
	one.OK(err)
	one.OK(two.Incoming(bob).Redirect("102"))
	in := one.Incoming(anna)
	one.OK(in.Answer(one.Ctx, phone.CallOptions{Audio: phone.Tone(900)}))
	one.OK(out.WaitAnswered(one.Ctx))
	one.Hears(out, 900)
	out.Hangup()
	one.OK(in.WaitEnded(one.Ctx))
}

// A call is started at one node for a user whose phone is connected at the other.
func TestCallStartedForAPhoneElsewhere(t *testing.T) {
	one, two := twoNodes(t, nil)
	one.User("alice", "101")
	one.User("bob", "102")
	together(two)
	bob, alice := one.Phone("bob"), two.Phone("alice")
	together(one)
	_, err := one.Node.Calls.Originate("alice", "102")
	one.OK(err)
	first := two.Incoming(alice)
	one.OK(first.Answer(one.Ctx, phone.CallOptions{Audio: phone.Tone(440)}))
	in := one.Incoming(bob)
	if got := in.Peer(); got.Number != "101" {
		t.Errorf("bob is told that %+v calls", got)
	}
	one.OK(in.Answer(one.Ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	one.Hears(in, 440)
	one.Hears(first, 700)
	in.Hangup()
	one.OK(first.WaitEnded(one.Ctx))
}

// An emergency call reaches a phone at a node that takes no other calls.
func TestEmergencyAtAnotherNode(t *testing.T) {
	one, two := twoNodes(t, func(c *config.Config) { c.Plan.EmergencyTo, c.Calls.Max = "103", 1 })
	one.User("alice", "101")
	one.User("bob", "102")
	one.User("guard", "103")
	together(two)
	alice, bob, guard := one.Phone("alice"), two.Phone("bob"), two.Phone("guard")
	together(one)
	echo, err := bob.Call(two.Ctx, "*43", phone.CallOptions{})
	two.OK(err)
	two.OK(echo.WaitAnswered(two.Ctx))
	full, err := alice.Call(one.Ctx, "103", phone.CallOptions{})
	one.OK(err)
	if err := full.WaitAnswered(one.Ctx); err == nil {
		t.Fatal("a call above the limit was taken")
	}
	out, err := alice.Call(one.Ctx, "112", phone.CallOptions{Audio: phone.Tone(440)})
	one.OK(err)
	in := two.Incoming(guard)
	one.OK(in.Answer(one.Ctx, phone.CallOptions{}))
	one.OK(out.WaitAnswered(one.Ctx))
	one.Hears(in, 440)
	out.Hangup()
	one.OK(in.WaitEnded(one.Ctx))
}

// What says that it comes from a node is believed if a certificate of that role proves it, rings nothing but a phone that is here, and gets nowhere at a node that
// is not to be reached by others.
func TestRequestsOfNodes(t *testing.T) {
	one, two := twoNodes(t, nil)
	one.User("alice", "101")
	one.User("bob", "102", func(u *store.User) { u.Forward.Unreachable = "101" })
	together(two)
	alice := one.raw(one.Identity("alice", "alice-desk"))
	alice.send("REGISTER", "sip:"+one.Domain, "<sip:alice@"+one.Domain+">", nil)
	alice.final()
	asNode := func(s *site) *rawPeer {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s.OK(err)
		issued, err := s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleNode, Name: "node-3", DNSNames: []string{s.Domain}, PublicKey: key.Public()})
		s.OK(err)
		d := tls.Dialer{Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: []tls.Certificate{{Certificate: issued.Chain, PrivateKey: key}}}}
		c, err := d.DialContext(s.Ctx, "tcp", s.SIP.String())
		s.OK(err)
		s.Cleanup(func() { _ = c.Close() })
		return &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: "102", id: rand.Text()}
	}
	registered := "sip:alice@" + alice.conn.LocalAddr().String() + ";transport=tls"
	node := asNode(one)
	for _, c := range []struct {
		uri, to string
		status  int
	}{
		{"sip:101@" + one.Domain, "sip:101@" + one.Domain, 430},           // a number is the other node's to look up
		{registered, "sip:bob@" + one.Domain, 430},                        // whose phone is it?
		{"sip:bob@192.0.2.1;transport=tls", "sip:bob@" + one.Domain, 430}, // no forwarding, and nothing outside
		{registered, "sip:alice@elsewhere.example", 430},
	} {
		node.id += "x"
		node.send("INVITE", c.uri, "<"+c.to+">", one.offer(), "P-Asserted-Identity: <sip:102@"+one.Domain+">")
		if m := node.final(); m.Status() != c.status {
			t.Errorf("%s to %s: %d, want %d", c.uri, c.to, m.Status(), c.status)
		}
	}
	plain := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
	node.id += "x"
	node.send("INVITE", registered, "<sip:alice@"+one.Domain+">", []byte(plain))
	if m := node.final(); m.Status() != 488 {
		t.Errorf("plain RTP of a node: %d", m.Status())
	}
	for _, method := range []string{"REGISTER", "SUBSCRIBE"} {
		node.id += "x"
		node.send(method, "sip:"+one.Domain, "<sip:102@"+one.Domain+">", nil, "Event: dialog")
		if m := node.final(); m.Status() != 403 {
			t.Errorf("%s of a node: %d", method, m.Status())
		}
	}
	node.id += "x"
	node.send("INVITE", registered, "<sip:alice@"+one.Domain+">", one.offer(), "P-Asserted-Identity: <sip:102@"+one.Domain+">")
	invite := alice.recv()
	if pai := string(invite.Get(sip.HeaderPAssertedIdentity)); invite.Method() != sip.INVITE || !strings.Contains(pai, "sip:102@") {
		t.Errorf("alice got %s", invite.Bytes())
	}
	alice.reply(invite, 486, nil)
	if m := node.final(); m.Status() != 486 {
		t.Errorf("alice is busy, the node heard %d", m.Status())
	}

	// A device says the same, and is a device.
	device := one.raw(one.Identity("bob", "bob-desk"))
	device.send("INVITE", registered, "<sip:alice@"+one.Domain+">", one.offer(), "P-Asserted-Identity: <sip:112@"+one.Domain+">")
	for invite = alice.recv(); invite.Method() == sip.ACK; {
		invite = alice.recv()
	}
	if pai := string(invite.Get(sip.HeaderPAssertedIdentity)); !strings.Contains(pai, "sip:102@") || strings.Contains(pai, "112") {
		t.Errorf("a device says that it is 112, alice is told %s", pai)
	}
	alice.reply(invite, 486, nil)
	if m := device.final(); m.Status() != 486 {
		t.Errorf("alice is busy, the device heard %d", m.Status())
	}

	alone := newSite(t, nil)
	peer := asNode(alone)
	peer.send("INVITE", registered, "<sip:alice@"+alone.Domain+">", alone.offer())
	if m := peer.final(); m.Status() != 403 {
		t.Errorf("a node without others answered %d", m.Status())
	}
}

// Another node that takes connections and says nothing, or one that is somebody else, holds up no call to a phone here for long, and gets none.
func TestNodeThatIsNotThere(t *testing.T) {
	one, two := twoNodes(t, func(c *config.Config) { c.Plan.EmergencyTo = "101" })
	one.User("alice", "101")
	one.User("bob", "102")
	together(two)
	desk, bob := one.Phone("alice"), one.Phone("bob")
	together(two)
	soft := two.Start(two.Known(two.Identity("alice", "alice-soft")))
	together(one)

	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	one.OK(err)
	defer deaf.Close()
	holder, err := os.ReadFile(filepath.Join(filepath.Dir(two.Node.SocketPath()), "node.id"))
	one.OK(err)
	says := func(reach string) {
		t.Helper()
		one.OK(one.Node.Store.TakeLease(one.Ctx, store.Lease{Node: "node-2", Holder: strings.TrimSpace(string(holder)), Session: rand.Text(), Place: "a test", Reach: reach}, time.Hour))
	}
	rings := func(number string, within time.Duration) {
		t.Helper()
		began := time.Now()
		out, err := bob.Call(one.Ctx, number, phone.CallOptions{})
		one.OK(err)
		in := one.Incoming(desk)
		if took := time.Since(began); took > within {
			t.Errorf("%s rings after %v, want within %v", number, took, within)
		}
		out.Hangup()
		_ = in.WaitEnded(one.Ctx)
	}
	link := func(s *site) *transport.Conn {
		all := s.Node.Transport.Conns()
		if i := slices.IndexFunc(all, func(c *transport.Conn) bool { return c.Peer.Role == string(ca.RoleNode) }); i >= 0 {
			return all[i]
		}
		return nil
	}

	// Both phones of alice ring.
	out, err := bob.Call(one.Ctx, "101", phone.CallOptions{})
	one.OK(err)
	first, second := one.Incoming(desk), two.Incoming(soft)
	out.Hangup()
	_, _ = first.WaitEnded(one.Ctx), second.WaitEnded(one.Ctx)

	// A quiet connection between nodes is kept: each minute it is heard that the other is there.
	there := link(two)
	heard := there.LastRead()
	one.Until("the other node is asked whether it is there", func() bool {
		one.Node.Maintain(one.Ctx)
		return there.LastRead().After(heard)
	})

	// The address in the database leads to this node itself, which is not the one that was meant.
	says(one.SIP.String())
	link(one).Close(errors.New("cut by the test"))
	one.Until("the connection is gone", func() bool { return link(one) == nil })
	rings("101", 2*time.Second)
	if n := one.Node.Calls.Count(); n > 1 {
		t.Errorf("%d calls: it goes in circles", n)
	}

	// It leads to who takes connections and says nothing.
	says(deaf.Addr().String())
	rings("112", time.Second)
	rings("101", 4*time.Second)
	rings("101", time.Second) // it has been waited for
	select {
	case <-soft.Incoming():
		t.Error("the phone at the other node rang")
	default:
	}
}
