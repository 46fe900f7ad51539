package registrar_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/call/registrar"
	"ringfence/internal/sip"
)

func TestSeveralBindingsOfOneUser(t *testing.T) {
	inOffice(t, nil, func(o *office) {
		desk, soft, bob := o.dial("alice-desk", "alice"), o.dial("alice-soft", "alice"), o.dial("bob-desk", "bob")
		soft.id = "call-soft"
		desk.want(200, desk.contact("d1", ""))
		m := soft.want(200, soft.contact("s1", ""), soft.contact("s2", ";expires=120"))
		if !same(listed(m), "d1", "s1", "s2") || !same(o.bound("alice"), "d1", "s1", "s2") {
			t.Errorf("listed %v, bound %v", listed(m), o.bound("alice"))
		}
		for line := range m.All(sip.HeaderContact) {
			if strings.Contains(string(line), "s2@") != strings.Contains(string(line), "expires=120") {
				t.Errorf("contact %s", line)
			}
		}
		// A question changes nothing.
		if m = desk.want(200); !same(listed(m), "d1", "s1", "s2") {
			t.Errorf("a question was answered with %v", listed(m))
		}
		// One binding ends; the wildcard takes the rest of that device, and nothing of another one.
		soft.want(200, soft.contact("s1", ";expires=0"))
		if !same(o.bound("alice"), "d1", "s2") {
			t.Errorf("bound %v", o.bound("alice"))
		}
		bob.want(200, bob.contact("b1", ""))
		for _, bad := range [][]string{{"Contact: *"}, {"Contact: *", "Expires: 60"}, {"Contact: *", soft.contact("s3", ""), "Expires: 0"}, {soft.contact("s3", ""), "Contact: *", "Expires: 0"}} {
			soft.want(400, bad...)
		}
		soft.want(200, "Contact: *", "Expires: 0")
		if !same(o.bound("alice"), "d1") || !same(o.bound("bob"), "b1") || len(o.ledger.contacts()) != 2 {
			t.Errorf("bound %v and %v, on disk %v", o.bound("alice"), o.bound("bob"), o.ledger.contacts())
		}
		if m := bob.registerAs("alice", 9, bob.contact("b2", "")); m.Status() != 403 {
			t.Errorf("REGISTER for another user: %d", m.Status())
		}
		if st := o.reg.Stats(); st.Registered != 4 || st.Unregistered != 2 || st.Refused != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestOrderOfRequests(t *testing.T) {
	inOffice(t, nil, func(o *office) {
		h := o.dial("alice-desk", "alice")
		for _, c := range []struct {
			seq, status int
			fields      []string
		}{
			{5, 200, []string{h.contact("a", "")}},
			{5, 500, []string{h.contact("a", "")}},
			{4, 500, []string{h.contact("a", ";expires=0")}},
			{4, 500, []string{"Contact: *", "Expires: 0"}},
			{6, 200, []string{h.contact("a", "")}},
			{7, 200, []string{"Contact: *", "Expires: 0"}},
		} {
			if m := h.registerAs("alice", c.seq, c.fields...); m.Status() != c.status {
				t.Errorf("CSeq %d %q: %d, want %d", c.seq, c.fields, m.Status(), c.status)
			}
		}
		h.want(200, h.contact("a", ""))
		h.id = "another" // a phone that was started anew
		if m := h.registerAs("alice", 1, h.contact("a", "")); m.Status() != 200 {
			t.Errorf("a new Call-ID: %d", m.Status())
		}
	})
}

func TestLimits(t *testing.T) {
	inOffice(t, func(_ *people, c *registrar.Config) { c.MaxPerUser = 3 }, func(o *office) {
		h := o.dial("alice-desk", "alice")
		m := h.want(423, h.contact("a", ";expires=59"))
		if string(m.Get(sip.HeaderMinExpires)) != "60" {
			t.Errorf("Min-Expires %q", m.Get(sip.HeaderMinExpires))
		}
		m = h.want(200, h.contact("a", ";expires=999999"))
		if !strings.Contains(string(m.Get(sip.HeaderContact)), ";expires=3600") {
			t.Errorf("contact %s", m.Get(sip.HeaderContact))
		}
		h.want(200, h.contact("b", ""), h.contact("c", ""))
		h.want(403, h.contact("d", ""))
		h.want(200, h.contact("c", "")) // a refresh is not one more
		h.want(200, h.contact("c", ";expires=0"))
		h.want(200, h.contact("d", ""))
		m = h.want(420, h.contact("a", ""), "Require: path, teleport")
		if string(m.Get(sip.HeaderUnsupported)) != "teleport" {
			t.Errorf("Unsupported %q", m.Get(sip.HeaderUnsupported))
		}
		h.want(400, "Contact: <mailto:a@b>")
		h.want(400, h.contact("e", ";reg-id=0"))
		if !same(o.bound("alice"), "a", "b", "d") {
			t.Errorf("bound %v", o.bound("alice"))
		}
	})
}

func TestBindingsExpire(t *testing.T) {
	inOffice(t, nil, func(o *office) {
		h := o.dial("alice-desk", "alice")
		h.want(200, h.contact("a", ";expires=60"), h.contact("b", ";expires=600"))
		<-time.After(61 * time.Second)
		if !same(o.bound("alice"), "b") || len(o.reg.All()) != 1 || len(o.ledger.contacts()) != 2 {
			t.Errorf("after a minute: %v, on disk %v", o.bound("alice"), o.ledger.contacts())
		}
		if err := o.reg.Expire(t.Context()); err != nil || len(o.ledger.contacts()) != 1 {
			t.Errorf("on disk %v, %v", o.ledger.contacts(), err)
		}
		if m := h.want(200); !same(listed(m), "b") {
			t.Errorf("listed %v", listed(m))
		}
	})
}

// A phone that went over to another node on the same ledger keeps the binding that it has there.
func TestExpiryOfAnotherNodesBinding(t *testing.T) {
	inOffice(t, nil, func(o *office) {
		h := o.dial("alice-desk", "alice")
		h.want(200, h.contact("a", ";expires=60"))
		o.ledger.mu.Lock()
		for key, b := range o.ledger.rows {
			b.Expires = b.Expires.Add(time.Hour)
			o.ledger.rows[key] = b
		}
		o.ledger.mu.Unlock()
		<-time.After(61 * time.Second)
		if err := o.reg.Expire(t.Context()); err != nil || len(o.reg.All()) != 0 || len(o.ledger.contacts()) != 1 {
			t.Errorf("here %d, on disk %v, %v", len(o.reg.All()), o.ledger.contacts(), err)
		}
	})
}

// What could not be kept was not done, neither on disk nor in memory, and the phone is told to come again.
func TestLedgerFails(t *testing.T) {
	inOffice(t, nil, func(o *office) {
		h := o.dial("alice-desk", "alice")
		h.want(200, h.contact("a", ""))
		o.ledger.failing(errors.New("disk full"))
		for _, fields := range [][]string{{h.contact("b", "")}, {h.contact("a", ";expires=0")}, {"Contact: *", "Expires: 0"}} {
			if m := h.want(503, fields...); string(m.Get(sip.HeaderRetryAfter)) != "10" {
				t.Errorf("Retry-After %q", m.Get(sip.HeaderRetryAfter))
			}
		}
		o.ledger.failing(nil)
		if m := h.want(200); !same(listed(m), "a") || !same(o.ledger.contacts(), "sip:a@192.0.2.9:40000") {
			t.Errorf("listed %v, on disk %v", listed(m), o.ledger.contacts())
		}
	})
}

func TestRestartBringsBindingsBack(t *testing.T) {
	inOffice(t, nil, func(o *office) {
		h := o.dial("alice-desk", "alice")
		h.want(200, h.contact("a", `;+sip.instance="<urn:uuid:1>";reg-id=1`), "Supported: gruu, outbound", "Path: <sip:edge.example;lr>")
		h.want(200, h.contact("short", ";expires=60"))
		o.close()
		<-time.After(2 * time.Minute)
		o.open(nil)
		all := o.reg.All()
		if len(all) != 1 || all[0].Instance != "urn:uuid:1" || all[0].RegID != 1 || len(all[0].Path) != 1 || all[0].Live() {
			t.Fatalf("after the restart: %+v", all)
		}
		if len(o.reg.Locate("alice")) != 0 {
			t.Error("a phone without a connection can be called")
		}
		again := o.dial("alice-desk", "alice")
		again.id = "after"
		again.want(200, again.contact("a", `;+sip.instance="<urn:uuid:1>";reg-id=1`))
		if !same(o.bound("alice"), "a") || len(o.reg.All()) != 1 {
			t.Errorf("bound %v of %d", o.bound("alice"), len(o.reg.All()))
		}
	})
}

// RFC 5626: the flows of one phone are one place to ring, the newest one that is alive. RFC 5627 and RFC 3327 beside it.
func TestFlowsOfOneInstance(t *testing.T) {
	inOffice(t, nil, func(o *office) {
		const instance = `;+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"`
		first, second := o.dial("alice-desk", "alice"), o.dial("alice-desk", "alice")
		first.id, second.id = "flow-1", "flow-2"
		m := first.want(200, first.contact("one", instance+";reg-id=1"), "Supported: path, outbound, gruu", "Path: <sip:edge1.example;lr;ob>", "Path: <sip:edge2.example;lr>")
		if string(m.Get(sip.HeaderRequire)) != "outbound" || string(m.Get(sip.HeaderFlowTimer)) != "120" {
			t.Errorf("Require %q, Flow-Timer %q", m.Get(sip.HeaderRequire), m.Get(sip.HeaderFlowTimer))
		}
		var path []string
		for line := range m.All(sip.HeaderPath) {
			path = append(path, string(line))
		}
		if !same(path, "<sip:edge1.example;lr;ob>", "<sip:edge2.example;lr>") {
			t.Errorf("Path %q", path)
		}
		if c := string(m.Get(sip.HeaderContact)); !strings.Contains(c, `;pub-gruu="sip:alice@`+domain+`;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"`) {
			t.Errorf("contact %s", c)
		}
		if m = second.want(200, second.contact("two", instance+";reg-id=2"), "Supported: outbound"); strings.Contains(string(m.Get(sip.HeaderContact)), "pub-gruu") {
			t.Error("a GRUU for a phone that knows none")
		}
		if all := o.reg.All(); len(all) != 2 || !same(o.bound("alice"), "two") {
			t.Fatalf("%d bindings, rings %v; want the newest of two", len(all), o.bound("alice"))
		}
		_ = second.conn.Close()
		synctest.Wait()
		if at := o.reg.Locate("alice"); len(at) != 1 || at[0].RegID != 1 || len(at[0].Path) != 2 || o.reg.FlowOf("alice-desk") != at[0].Conn {
			t.Errorf("after the newest flow died: %+v", at)
		}
		_ = first.conn.Close()
		synctest.Wait()
		if at := o.reg.Locate("alice"); len(at) != 0 || len(o.reg.All()) != 2 {
			t.Errorf("without flows: %+v of %d", at, len(o.reg.All()))
		}
		// The same flow again replaces its binding whatever its contact is; something that is no URN gets no GRUU.
		third := o.dial("alice-desk", "alice")
		third.id = "flow-3"
		third.want(200, third.contact("elsewhere", instance+";reg-id=2"))
		if at := o.reg.Locate("alice"); len(at) != 1 || at[0].RegID != 2 || len(o.reg.All()) != 2 {
			t.Errorf("%+v of %d", at, len(o.reg.All()))
		}
		m = third.want(200, third.contact("odd", `;+sip.instance="<a;b?c>"`), "Supported: gruu")
		for line := range m.All(sip.HeaderContact) {
			if strings.Contains(string(line), "odd@") && strings.Contains(string(line), "pub-gruu") {
				t.Errorf("contact %s", line)
			}
		}
	})
}
