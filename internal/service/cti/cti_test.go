package cti

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
)

// house has calls and users.
type house struct {
	mu    sync.Mutex
	calls map[ringfence.UserID][]Call
	dnd   map[ringfence.UserID]bool
	s     *Server
}

func (h *house) Do(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *house) Of(user ringfence.UserID) []Call { return slices.Clone(h.calls[user]) }

func (h *house) Find(target string) (ringfence.UserID, bool) {
	user, _, _ := strings.Cut(target, "@")
	return ringfence.UserID(user), slices.Contains([]string{"alice", "bob", "carol"}, user)
}

func (h *house) DoNotDisturb(user ringfence.UserID) bool { return h.dnd[user] }

// now has the calls of a user become these.
func (h *house) now(user ringfence.UserID, calls ...Call) {
	h.Do(func() {
		h.calls[user] = calls
		h.s.Changed(user)
	})
}

func newHouse(change func(*Config)) *house {
	h := &house{calls: map[ringfence.UserID][]Call{}, dnd: map[ringfence.UserID]bool{}}
	c := Config{Domain: "example.com", Clients: func() []Client {
		return []Client{{"all.example", []ringfence.UserID{Everybody}}, {"some.example", []ringfence.UserID{"alice", "bob"}}}
	}, Calls: h, Users: h, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	h.s = New(c)
	return h
}

// follower is a client at the other end of a pipe.
type follower struct {
	*testing.T
	conn net.Conn
	over chan error
}

func (h *house) connect(t *testing.T, identity string) *follower {
	t.Helper()
	near, far := net.Pipe()
	f := &follower{t, far, make(chan error, 1)}
	i := slices.IndexFunc(h.s.cfg.Clients(), func(c Client) bool { return c.Identity == identity })
	go func() {
		f.over <- h.s.run(t.Context(), near, h.s.cfg.Clients()[i], "aa", Session{Identity: identity, Remote: netip.MustParseAddrPort("192.0.2.1:1"), Since: time.Now()})
	}()
	t.Cleanup(func() { _ = far.Close() })
	return f
}

func (f *follower) say(text string) {
	f.Helper()
	if err := WriteMessage(f.conn, []byte(text)); err != nil {
		f.Fatal(err)
	}
}

// hear returns the next message that is no heartbeat, in short.
func (f *follower) hear() string {
	f.Helper()
	for {
		b, err := ReadMessage(f.conn)
		if err != nil {
			f.Fatal(err)
		}
		if s := short(f, b); s != "ChannelHeartBeat" {
			return s
		}
	}
}

// short is a message in one line, and what a generic reader of XML makes of it.
func short(t testing.TB, b []byte) string {
	t.Helper()
	var m struct {
		XMLName xml.Name
		Type    string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
		Seq     string `xml:"sequenceNumber"`
		Target  string `xml:"targetId"`
		Code    string `xml:"errorCode"`
		Summary string `xml:"summary"`
		Reason  string `xml:"reason"`
		Data    struct {
			Type   string     `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
			Active string     `xml:"active"`
			Call   []shortOne `xml:"call"`
			Calls  []shortOne `xml:"calls>call"`
		} `xml:"eventData"`
	}
	if err := xml.Unmarshal(b, &m); err != nil || m.XMLName.Space != Namespace {
		t.Fatalf("%v %s", err, b)
	}
	parts := []string{m.XMLName.Local, m.Type, m.Seq, m.Target, m.Code, m.Summary, m.Reason, m.Data.Type, m.Data.Active}
	for _, c := range append(m.Data.Call, m.Data.Calls...) {
		parts = append(parts, fmt.Sprintf("%s %s %s %s %s", c.ID, c.Personality, c.State, c.Remote.Address, c.Remote.Type))
	}
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}

type shortOne struct {
	ID          string `xml:"callId"`
	Personality string `xml:"personality"`
	State       string `xml:"state"`
	Remote      struct {
		Address string `xml:"address"`
		Type    string `xml:"callType"`
	} `xml:"remoteParty"`
}

func (f *follower) expect(want ...string) {
	f.Helper()
	for _, w := range want {
		if got := f.hear(); got != w {
			f.Fatalf("heard %q, want %q", got, w)
		}
	}
}

const (
	aChannel = `<Channel xmlns="http://schema.broadsoft.com/xsi"><channelSetId>set-1</channelSetId><priority>1</priority><weight>50</weight><expires>3600</expires></Channel>`
	aBeat    = `<xsi:ChannelHeartBeat xmlns:xsi="http://schema.broadsoft.com/xsi"/>`
)

func sub(target, pack string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><Subscription xmlns="http://schema.broadsoft.com/xsi"><targetIdType>User</targetIdType><targetId>` + target + `</targetId><event>` + pack + `</event><expires>3600</expires></Subscription>`
}

// TestCalls follows a call of alice's from ringing to its end, with a transfer between, and another that was there before.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(nil)
		start := time.Now()
		h.now("alice", Call{ID: "c0", State: Active, Number: "100", User: "bob", Start: start, Answered: start})
		f := h.connect(t, "some.example")
		f.say(aChannel)
		f.expect("Channel")
		f.say(sub("alice@example.com", "Standard Call"))
		f.expect("Subscription alice@example.com", "Event SubscriptionEvent 1 alice@example.com CallSubscriptionEvent c0:o Originator Active tel:100 Group")
		h.now("alice", Call{ID: "c1", Receives: true, State: Alerting, Number: "+4930111", Start: start})
		f.expect("Event SubscriptionEvent 2 alice@example.com CallReleasedEvent c0:o Originator Released tel:100 Group", "Event SubscriptionEvent 3 alice@example.com CallReceivedEvent c1:t Terminator Alerting tel:+4930111 Network")
		for i, c := range []struct {
			state State
			num   string
			want  string
		}{{Active, "+4930111", "CallAnsweredEvent c1:t Terminator Active"}, {Held, "+4930111", "CallHeldEvent c1:t Terminator Held"}, {Active, "+4930111", "CallRetrievedEvent c1:t Terminator Active"},
			{RemoteHeld, "+4930111", "CallUpdatedEvent c1:t Terminator Remote Held"}, {RemoteHeld, "101", "CallUpdatedEvent c1:t Terminator Remote Held"}} {
			h.now("alice", Call{ID: "c1", Receives: true, State: c.state, Number: c.num, Start: start})
			f.expect(fmt.Sprintf("Event SubscriptionEvent %d alice@example.com %s tel:%s Network", i+4, c.want, c.num))
		}
		h.now("alice") // nothing is up
		f.expect("Event SubscriptionEvent 9 alice@example.com CallReleasedEvent c1:t Terminator Released tel:101 Network")
		h.now("alice", Call{ID: "c2", State: Active, Number: "102"}) // answered before anybody looked
		f.expect("Event SubscriptionEvent 10 alice@example.com CallOriginatedEvent c2:o Originator Alerting tel:102 Network", "Event SubscriptionEvent 11 alice@example.com CallAnsweredEvent c2:o Originator Active tel:102 Network")
		h.now("carol", Call{ID: "c3"}) // nobody follows her
		if h.s.Follows("carol") || !h.s.Follows("alice") {
			t.Error("follows")
		}
		_ = f.conn.Close()
		synctest.Wait()
		if h.s.Follows("alice") || len(h.s.Sessions()) > 0 {
			t.Error("somebody is left")
		}
	})
}

// TestScope has a client follow only whom he may, learn nothing of others, and lose whom he may follow no more.
func TestScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allowed := []ringfence.UserID{"alice", "bob"}
		h := newHouse(func(c *Config) {
			all := c.Clients
			c.Clients = func() []Client {
				list := all()
				list[1].Users = allowed
				return list
			}
		})
		f := h.connect(t, "some.example")
		f.say(aChannel)
		f.expect("Channel")
		for target, want := range map[string]string{"carol": `ErrorInfo 403 some.example may not follow "carol"`, "nobody": `ErrorInfo 403 some.example may not follow "nobody"`} {
			f.say(sub(target, "Basic Call"))
			f.expect(want)
		}
		f.say(sub("alice", "Weather"))
		f.expect(`ErrorInfo 400 there is no event package "Weather"`)
		f.say(strings.Replace(sub("alice", "Basic Call"), "<event>", "<clientId>all.example</clientId><event>", 1))
		f.expect(`ErrorInfo 403 "all.example" is not who connected`)
		f.say(strings.Replace(sub("alice", "Basic Call"), ">User<", ">System<", 1))
		f.expect(`ErrorInfo 400 a subscription to a "System"`)
		f.say(sub("bob", "Do Not Disturb"))
		f.expect("Subscription bob", "Event SubscriptionEvent 1 bob DoNotDisturbEvent false")
		h.dnd["bob"] = true
		h.s.UsersChanged()
		h.s.UsersChanged()
		f.expect("Event SubscriptionEvent 2 bob DoNotDisturbEvent true")
		f.say(sub("alice", "Basic Call"))
		f.expect("Subscription alice", "Event SubscriptionEvent 3 alice CallSubscriptionEvent")
		allowed = []ringfence.UserID{"bob"}
		h.s.UsersChanged()
		f.expect("Event SubscriptionTerminatedEvent 4 alice the user is there no more, or may not be followed")
		if h.s.Follows("alice") {
			t.Error("alice is followed")
		}
		all := h.connect(t, "all.example")
		all.say(aChannel)
		all.expect("Channel")
		all.say(sub("nobody", "Basic Call"))
		all.expect(`ErrorInfo 404 there is no user "nobody"`)
	})
}

// TestEnds has channels end when a certificate is revoked, a client is silent or does not read, and subscriptions when nobody renews them; and the client is told why.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(func(c *Config) { c.MaxWait = 3 })
		open := func() *follower {
			f := h.connect(t, "all.example")
			f.say(aChannel)
			f.expect("Channel")
			return f
		}
		f := open()
		if n := h.s.Cut(func(serial string) bool { return serial == "bb" }); n != 0 {
			t.Errorf("%d cut", n)
		}
		if n := h.s.Cut(func(serial string) bool { return serial == "aa" }); n != 1 {
			t.Errorf("%d cut", n)
		}
		f.expect("Event ChannelTerminatedEvent 1 the certificate of all.example was revoked")
		if err := <-f.over; ringfence.KindOf(err) != ringfence.KindDenied {
			t.Error(err)
		}

		f = open()
		began := time.Now()
		f.expect("Event ChannelTerminatedEvent 1 nothing was heard of the client for 1m0s")
		if d := time.Since(began); d != time.Minute {
			t.Error(d)
		}

		f = open()
		f.say(sub("alice", "Basic Call"))
		f.expect("Subscription alice", "Event SubscriptionEvent 1 alice CallSubscriptionEvent")
		for i := range 3 { // none is answered
			h.now("alice", Call{ID: ringfence.CallID(fmt.Sprint(i)), State: Alerting})
		}
		f.expect("Event SubscriptionEvent 2 alice CallOriginatedEvent 0:o Originator Alerting Network", "Event SubscriptionEvent 3 alice CallReleasedEvent 0:o Originator Released Network",
			"Event ChannelTerminatedEvent 4 the client does not take its events")
		if err := <-f.over; ringfence.KindOf(err) != ringfence.KindOverload {
			t.Error(err)
		}
		h.now("alice")

		f = open()
		f.say(strings.Replace(sub("alice", "Basic Call"), "3600", "60", 1))
		b, err := ReadMessage(f.conn)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "<subscriptionId>")
		id, _, _ := strings.Cut(rest, "<")
		f.expect("Event SubscriptionEvent 1 alice CallSubscriptionEvent")
		renew := func(expires string) {
			f.say(`<Subscription xmlns="http://schema.broadsoft.com/xsi"><subscriptionId>` + id + `</subscriptionId><expires>` + expires + `</expires></Subscription>`)
		}
		for range 4 {
			wait := time.Now()
			heard := short(t, must(ReadMessage(f.conn)))
			if heard != "ChannelHeartBeat" || time.Since(wait) > 16*time.Second {
				t.Errorf("%s after %s", heard, time.Since(wait))
			}
			renew("60")
			f.expect("Subscription alice")
			f.say(aBeat)
		}
		for range 4 {
			f.say(aBeat)
			f.expectBeat()
		}
		f.expect("Event SubscriptionTerminatedEvent 2 alice nobody renewed it")
		renew("60")
		f.expect(`ErrorInfo 404 there is no subscription "` + id + `" on this channel`)

		h.s.Close()
		f.expect("Event ChannelTerminatedEvent 3 the node is stopping, or the connection broke")
		synctest.Wait()
		if len(h.s.Sessions()) > 0 || h.s.Follows("alice") {
			t.Error("somebody is left")
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// expectBeat waits for the next heartbeat, if there is one within its time.
func (f *follower) expectBeat() {
	f.Helper()
	_ = f.conn.SetReadDeadline(time.Now().Add(15 * time.Second))
	b, err := ReadMessage(f.conn)
	_ = f.conn.SetReadDeadline(time.Time{})
	if errors.Is(err, context.DeadlineExceeded) || err == nil && short(f, b) == "ChannelHeartBeat" {
		return
	}
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		f.Fatal(err)
	}
}

// TestHostile has what is no message end the channel with a reason, and limits hold.
func TestHostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(func(c *Config) { c.MaxEach, c.MaxSubs = 2, 1 })
		for text, want := range map[string]string{
			sub("alice", "Basic Call"):        "ErrorInfo 400 there is no channel yet",
			"<a":                              "ErrorInfo 400 the message is no XML",
			"<Channel/>":                      `ErrorInfo 400 the message is of the namespace ""`,
			aChannel + "<more/>":              "ErrorInfo 400 something follows",
			strings.Repeat(" ", MaxMessage):   "ErrorInfo 400 the message is no XML",
			aChannel[:len(aChannel)-10] + ">": "ErrorInfo 400 the message is no XML",
			strings.Replace(aChannel, "3600", "soon", 1):                                                                  `ErrorInfo 400 "soon" is no number of seconds`,
			strings.Replace(aChannel, "set-1", strings.Repeat("x", 300), 1):                                               "ErrorInfo 400 a value has more than 256 bytes",
			`<!DOCTYPE x [<!ENTITY a "b">]><Channel xmlns="` + Namespace + `"><channelSetId>&a;</channelSetId></Channel>`: "ErrorInfo 400 the message is no XML",
		} {
			f := h.connect(t, "all.example")
			f.say(text)
			if got := f.hear(); !strings.HasPrefix(got, want) {
				t.Errorf("%.60q: %s, want %s", text, got, want)
			}
			if err := <-f.over; ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Errorf("%.60q: %v", text, err)
			}
		}
		f := h.connect(t, "all.example")
		if _, err := f.conn.Write([]byte{0, 1, 0, 1}); err != nil {
			t.Fatal(err)
		}
		f.expect("ErrorInfo 400 a message of 65537 bytes")
		<-f.over
		a, b := h.connect(t, "all.example"), h.connect(t, "all.example")
		synctest.Wait()
		if err := <-h.connect(t, "all.example").over; ringfence.KindOf(err) != ringfence.KindOverload {
			t.Error(err)
		}
		if list := h.s.Sessions(); len(list) != 2 || list[0].Identity != "all.example" || h.s.Refused() != 1 {
			t.Errorf("%+v, %d refused", list, h.s.Refused())
		}
		a.say(aChannel)
		a.expect("Channel")
		a.say(sub("alice", "Basic Call"))
		a.expect("Subscription alice", "Event SubscriptionEvent 1 alice CallSubscriptionEvent")
		a.say(sub("alice", "Basic Call"))
		a.expect("ErrorInfo 503 there are too many subscriptions on this channel")
		a.say(`<Dance xmlns="http://schema.broadsoft.com/xsi"/>`)
		a.expect(`ErrorInfo 400 "Dance" is no message`, `Event ChannelTerminatedEvent 2 "Dance" is no message`)
		_ = b.conn.Close()
	})
}

func FuzzMessage(f *testing.F) {
	for _, text := range []string{aChannel, aBeat, sub("alice", "Standard Call"), `<EventResponse xmlns="http://schema.broadsoft.com/xsi"><eventID>1</eventID><statusCode>200</statusCode><reason>OK</reason></EventResponse>`} {
		var b bytes.Buffer
		if err := WriteMessage(&b, []byte(text)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadMessage(bytes.NewReader(b))
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			return
		}
		r, err := parse(m)
		if err == nil && (r.XMLName.Space != Namespace || len(r.TargetID) > maxText) {
			t.Errorf("%+v", r)
		}
	})
}
