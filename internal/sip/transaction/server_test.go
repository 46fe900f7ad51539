package transaction

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ringfence/internal/sip"
)

// do runs work on the shard of a server transaction.
func (r *rig) do(tx *Server, fn func()) { tx.Shard.Do(fn) }

// only returns the one request the user heard of.
func (r *rig) only() *Server {
	r.take()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.requests) != 1 {
		r.t.Fatalf("the user heard of %d requests", len(r.requests))
	}
	return r.requests[0]
}

// Timers G, H and I: a refusal is repeated until its ACK comes.
func TestInviteServerRefuses(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		for _, acked := range []bool{true, false} {
			r := newRig(t, network, nil)
			invite := incoming("INVITE", "z9hG4bK1", network)
			r.send(invite)
			tx := r.only()
			r.do(tx, func() { tx.Reply(180, "", nil) })
			r.send(invite) // absorbed, and answered with the last provisional response
			if got := startLines(r.take()); got != "180 180" {
				t.Errorf("got %q", got)
			}
			r.start = time.Now()
			r.do(tx, func() {
				tx.Reply(486, "", nil)
				tx.Reply(200, "", nil) // a second final response is dropped
			})
			r.after(3 * time.Second)
			want := "0.0"
			if network == "UDP" {
				want = "0.0 0.5 1.5"
			}
			got := r.take()
			if seconds(got) != want || !strings.Contains(startLines(got), "486") || strings.Contains(startLines(got), "200") {
				t.Errorf("refused at %q: %s", seconds(got), startLines(got))
			}
			want = ""
			if acked {
				r.send(incomingTo("ACK", "z9hG4bK1", network, "<sip:alice@example.com>;tag="+tx.ToTag()))
			} else if network == "UDP" {
				want = "3.5 7.5 11.5 15.5 19.5 23.5 27.5 31.5"
			}
			r.after(40 * time.Second)
			if got := seconds(r.take()); got != want {
				t.Errorf("acked %v: repeated at %q", acked, got)
			}
			if len(r.requests) != 1 {
				t.Errorf("the user heard of %d requests", len(r.requests))
			}
			r.close()
		}
	})
}

// A user that takes its time lets the transaction say 100; one that rings at once saves it (RFC 3261 section 17.2.1).
func TestInviteServerTries(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		r.start = time.Now()
		r.send(incoming("INVITE", "z9hG4bK1", network))
		tx := r.only()
		r.after(time.Second)
		got := r.take()
		if startLines(got) != "100" || seconds(got) != "0.2" {
			t.Errorf("a slow user: %s at %s", startLines(got), seconds(got))
		}
		r.do(tx, func() { tx.Reply(486, "", nil) })
		r.send(incomingTo("ACK", "z9hG4bK1", network, "<sip:alice@example.com>;tag="+tx.ToTag()))
		r.take()

		r.requests = nil
		r.send(incoming("INVITE", "z9hG4bK2", network))
		tx = r.only()
		r.do(tx, func() { tx.Reply(180, "", nil) })
		r.after(time.Second)
		if got := startLines(r.take()); got != "180" {
			t.Errorf("a user that rings at once: %s", got)
		}
		r.do(tx, func() { tx.Reply(486, "", nil) })
		r.send(incomingTo("ACK", "z9hG4bK2", network, "<sip:alice@example.com>;tag="+tx.ToTag()))
		r.after(40 * time.Second)
		r.close()
	})
}

func TestInviteServerAccepts(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		invite := incoming("INVITE", "z9hG4bK1", network)
		r.send(invite)
		tx := r.only()
		r.do(tx, func() { tx.Reply(200, "", nil) })
		if network == "UDP" {
			r.send(invite) // RFC 6026: absorbed, the user repeats the 2xx
		}
		r.send(incoming("ACK", "z9hG4bK2", network)) // as it must be: a branch of its own
		r.send(incoming("ACK", "z9hG4bK1", network)) // as some do it
		if got := startLines(r.take()); got != "200" || len(r.requests) != 3 || r.requests[1].Method != sip.ACK || r.requests[2].Method != sip.ACK {
			t.Errorf("%q, %d requests", got, len(r.requests))
		}
		r.send(incoming("CANCEL", "z9hG4bK1", network)) // too late; where nothing is repeated, it is forgotten already
		if got := r.take(); network == "UDP" && (startLines(got) != "200" || !strings.Contains(got[0].text, ";tag="+tx.ToTag()+"\r\n")) || network == "TCP" && startLines(got) != "481" || r.cancelled != 0 {
			t.Errorf("the CANCEL is answered by %v", got)
		}
		r.after(33 * time.Second) // Timer L
		r.close()
	})
}

func TestNonInviteServer(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		options := incoming("OPTIONS", "z9hG4bK1", network)
		r.send(options)
		tx := r.only()
		r.send(options) // trying: nothing to say yet
		if got := r.take(); len(got) != 0 {
			t.Errorf("sent %s", startLines(got))
		}
		if string(tx.Request.CallID()) != "c-z9hG4bK1" {
			t.Error("the request was not kept")
		}
		r.do(tx, func() { tx.Reply(200, "", nil) })
		if network == "UDP" {
			r.send(options)
			r.after(31 * time.Second)
			r.send(options)
		}
		want := map[string]string{"UDP": "200 200 200", "TCP": "200"}[network]
		if got := startLines(r.take()); got != want || len(r.requests) != 1 {
			t.Errorf("%q, %d requests", got, len(r.requests))
		}
		r.after(33 * time.Second) // Timer J
		r.close()
	})
}

func TestCancelOfTheirs(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		r.send(incoming("CANCEL", "z9hG4bK1", network)) // nothing to cancel
		if got := startLines(r.take()); got != "481" {
			t.Errorf("got %q", got)
		}
		r.send(incoming("INVITE", "z9hG4bK1", network))
		r.only()
		r.send(incoming("CANCEL", "z9hG4bK1", network))
		if got := startLines(r.take()); got != "200 487" || r.cancelled != 1 {
			t.Errorf("got %q, cancelled %d", got, r.cancelled)
		}
		r.send(incoming("CANCEL", "z9hG4bK1", network))
		r.send(incoming("ACK", "z9hG4bK1", network))
		if got := startLines(r.take()); got != "200" || r.cancelled != 1 {
			t.Errorf("got %q, cancelled %d", got, r.cancelled)
		}
		r.after(33 * time.Second)
		r.close()
	})
}

func TestOverloadAndMalformed(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, func(c *Config) { c.MaxTransactions, c.Server = 2, "test/1" })
		for _, b := range []string{"z9hG4bK1", "z9hG4bK2", "z9hG4bK3"} {
			r.send(incoming("INVITE", b, network))
		}
		got := r.take()
		if startLines(got) != "503" || !strings.Contains(got[0].text, "Retry-After: ") || !strings.Contains(got[0].text, "Server: test/1\r\n") || len(r.requests) != 2 {
			t.Fatalf("got %v", got)
		}
		for _, b := range []string{"z9hG4bK4", "z9hG4bK5", "z9hG4bK6"} { // others have more room, but not without end
			r.send(incoming("OPTIONS", b, network))
		}
		r.send(incoming("ACK", "z9hG4bK7", network))
		if got := startLines(r.take()); got != "503" || len(r.requests) != 5 || r.l.Counters()["overload"] != 2 {
			t.Errorf("got %q, %d requests, %v", got, len(r.requests), r.l.Counters())
		}
		for _, tx := range append([]*Server(nil), r.requests...) {
			r.do(tx, func() { tx.Reply(486, "", nil) })
		}
		r.take()
		r.send(strings.Replace(incoming("OPTIONS", "z9hG4bK8", network), "CSeq: 3 OPTIONS", "CSeq: 3 INVITE", 1))
		r.send(strings.Replace(incoming("ACK", "z9hG4bK9", network), "CSeq: 3 ACK", "CSeq: 3 INVITE", 1))
		want := "400"
		if network == "UDP" {
			want = "" // the transport refuses it without an answer
		}
		if got := startLines(r.take()); got != want {
			t.Errorf("got %q", got)
		}
		r.after(40 * time.Second)
		r.close()
	})
}

// A client of RFC 2543 has no branch; its requests are told apart by what it keeps the same.
func TestOldClients(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		invite := strings.Replace(incoming("INVITE", "1", network), ";branch=1", "", 1)
		r.send(invite)
		r.send(invite)
		tx := r.only()
		r.do(tx, func() { tx.Reply(486, "", nil) })
		r.send(strings.ReplaceAll(invite, "INVITE", "ACK"))
		if got := startLines(r.take()); got != "486" {
			t.Errorf("got %q", got)
		}
		r.after(6 * time.Second)
		r.close()
	})
}

// A transaction that was answered is kept against retransmissions, and is no load any more.
func TestAnsweredIsNoLoad(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, func(c *Config) { c.MaxTransactions = 1 })
		r.onRequest = func(tx *Server) { tx.Reply(200, "", nil) }
		for i := range keptLimit {
			r.send(incoming("INVITE", fmt.Sprintf("z9hG4bK%d", i), network))
			if got := startLines(r.take()); got != "200" {
				t.Errorf("INVITE %d: %s", i+1, got)
			}
			if r.l.Active() != 0 {
				t.Errorf("%d transactions are counted as active", r.l.Active())
			}
		}
		// What is kept has a bound too.
		r.send(incoming("INVITE", "z9hG4bKmore", network))
		want := "200"
		if network == "UDP" {
			want = "503"
		}
		if got := startLines(r.take()); got != want {
			t.Errorf("one more: %s, want %s", got, want)
		}
		r.after(40 * time.Second)
		r.close()
	})
}
