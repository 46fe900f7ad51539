package transaction

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/sip"
)

func eachTransport(t *testing.T, test func(t *testing.T, network string)) {
	for _, network := range []string{"UDP", "TCP"} {
		t.Run(network, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, network) })
		})
	}
}

// Timers A, B, E and F: what is repeated, when, and when it is given up.
func TestClientWithoutAnswer(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		for method, want := range map[sip.Method]string{
			sip.INVITE:  "0.0 0.5 1.5 3.5 7.5 15.5 31.5",
			sip.OPTIONS: "0.0 0.5 1.5 3.5 7.5 11.5 15.5 19.5 23.5 27.5 31.5",
		} {
			r := newRig(t, network, nil)
			answers := &tally{}
			r.request(method, answers)
			r.after(31900 * time.Millisecond)
			if network == "TCP" {
				want = "0.0"
			}
			if got := seconds(r.take()); got != want || len(answers.get()) != 0 {
				t.Errorf("%v was sent at %s, answers %v", method, got, answers.get())
			}
			r.after(200 * time.Millisecond)
			if !slices.Equal(answers.get(), []int{0}) || r.l.Counters()["timeouts"] != 1 {
				t.Errorf("%v: answers %v", method, answers.get())
			}
			r.close()
		}
	})
}

func TestInviteClientProceedsAndFails(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		answers := &tally{}
		r.request(sip.INVITE, answers)
		invite := r.take()[0]
		r.answer(invite, 180, "x")
		r.after(5 * time.Minute) // it may ring for long: no repetition, no timeout
		r.answer(invite, 183, "x")
		r.answer(invite, 486, "x")
		got := r.take()
		if startLines(got) != "ACK" || !slices.Equal(answers.get(), []int{180, 183, 486}) {
			t.Errorf("%s, answers %v", startLines(got), answers.get())
		}
		var ack, inv sip.Message
		if ack.Parse([]byte(got[0].text), sip.Limits{}) != nil || inv.Parse([]byte(invite.text), sip.Limits{}) != nil {
			t.Fatal("malformed")
		}
		seq, method, _ := ack.CSeq()
		if string(ack.Get(sip.HeaderVia)) != string(inv.Get(sip.HeaderVia)) || string(ack.ToTag()) != "x" || seq != 7 || method != sip.ACK ||
			string(ack.Get(sip.HeaderRoute)) != "<sip:edge.example.com;lr>" {
			t.Errorf("ACK is %s", got[0].text)
		}
		r.answer(invite, 486, "x") // Timer D: a repetition gets another ACK, but is not heard again
		if got := startLines(r.take()); network == "UDP" && got != "ACK" || network == "TCP" && got != "" {
			t.Errorf("a repeated 486 gave %q", got)
		}
		r.after(33 * time.Second)
		r.answer(invite, 486, "x")
		if got := startLines(r.take()); got != "" || len(answers.get()) != 3 || r.l.Counters()["stray"] == 0 {
			t.Errorf("after timer D: %q, %v", got, answers.get())
		}
		r.close()
	})
}

func TestInviteClientHearsEvery2xx(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		answers := &tally{}
		r.request(sip.INVITE, answers)
		invite := r.take()[0]
		r.answer(invite, 200, "x")
		r.answer(invite, 200, "x") // repeated
		r.after(20 * time.Second)
		r.answer(invite, 200, "y") // forked
		r.answer(invite, 486, "z") // too late to matter
		if got := r.take(); len(got) != 0 || !slices.Equal(answers.get(), []int{200, 200, 200}) {
			t.Errorf("%s, answers %v", startLines(got), answers.get())
		}
		r.after(13 * time.Second) // Timer M
		r.answer(invite, 200, "x")
		if len(answers.get()) != 3 {
			t.Errorf("answers %v", answers.get())
		}
		r.close()
	})
}

func TestNonInviteClient(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, nil)
		answers := &tally{}
		r.request(sip.OPTIONS, answers)
		r.after(100 * time.Millisecond)
		request := r.take()[0]
		r.answer(request, 100, "")
		r.after(10 * time.Second) // while proceeding it repeats every T2
		want := "0.5 4.5 8.5"
		if network == "TCP" {
			want = ""
		}
		if got := seconds(r.take()); got != want {
			t.Errorf("repeated at %q", got)
		}
		r.answer(request, 200, "x")
		r.answer(request, 200, "x")
		if !slices.Equal(answers.get(), []int{100, 200}) {
			t.Errorf("answers %v", answers.get())
		}
		stray := map[string]uint64{"TCP": 1}[network] // nothing comes twice there
		r.after(31 * time.Second)                     // longer than Timer K
		if got := r.l.Counters()["stray"]; got != stray {
			t.Errorf("%d answers are taken for nobody's", got)
		}
		r.after(3 * time.Second)
		r.answer(request, 200, "x")
		if got := r.l.Counters()["stray"]; got != stray+1 || !slices.Equal(answers.get(), []int{100, 200}) {
			t.Errorf("%d answers are taken for nobody's, answers %v", got, answers.get())
		}
		r.close()
	})
}

func TestCancel(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		stop := func(r *rig, tx *Client) {
			r.l.Shards()[0].Do(func() {
				tx.Cancel(func(w *sip.Writer) { w.Header(sip.HeaderReason, "SIP;cause=200") })
				tx.Cancel(nil) // asking twice is asking once
			})
		}
		t.Log("before a provisional response: it waits for one")
		r := newRig(t, network, nil)
		answers := &tally{}
		tx := r.request(sip.INVITE, answers)
		invite := r.take()[0]
		stop(r, tx)
		if got := r.take(); len(got) != 0 {
			t.Errorf("sent %s", startLines(got))
		}
		r.answer(invite, 100, "")
		got := r.take()
		if startLines(got) != "CANCEL" || !strings.Contains(got[0].text, "Reason: SIP;cause=200\r\n") || !strings.Contains(got[0].text, "CSeq: 7 CANCEL") {
			t.Fatalf("sent %v", got)
		}
		r.answer(got[0], 200, "x")
		r.answer(invite, 180, "x") // crossing: may not lift the timeout
		r.answer(invite, 487, "x")
		if got := startLines(r.take()); got != "ACK" || !slices.Equal(answers.get(), []int{100, 180, 487}) {
			t.Errorf("sent %s, answers %v", got, answers.get())
		}
		r.after(33 * time.Second)
		r.close()

		t.Log("the peer answers the CANCEL but never the INVITE, and rings on")
		r = newRig(t, network, nil)
		answers = &tally{}
		tx = r.request(sip.INVITE, answers)
		invite = r.take()[0]
		r.answer(invite, 180, "x")
		stop(r, tx)
		r.answer(r.take()[0], 200, "x")
		r.after(10 * time.Second)
		r.answer(invite, 180, "x")
		r.after(23 * time.Second)
		if !slices.Equal(answers.get(), []int{180, 180, 0}) {
			t.Errorf("answers %v", answers.get())
		}
		r.close()

		t.Log("after the final answer: nothing is sent")
		r = newRig(t, network, nil)
		answers = &tally{}
		tx = r.request(sip.INVITE, answers)
		r.answer(r.take()[0], 200, "x")
		stop(r, tx)
		if got := r.take(); len(got) != 0 {
			t.Errorf("sent %s", startLines(got))
		}
		r.after(33 * time.Second)
		r.close()
	})
}

func TestLostConnectionFailsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "TCP", func(c *Config) { c.Shards = 4 })
		answers := &tally{}
		for range 5 {
			r.request(sip.INVITE, answers)
			r.request(sip.OPTIONS, answers)
		}
		ok := r.take()[0]
		r.answer(ok, 200, "x") // accepted: it has its answer
		start := time.Now()
		r.hang()
		synctest.Wait()
		if len(answers.get()) != 10 || answers.get()[0] != 200 || slices.Max(answers.get()[1:]) != 0 || time.Since(start) != 0 {
			t.Errorf("answers %v after %v", answers.get(), time.Since(start))
		}
		var err error
		s := r.l.Shards()[0]
		s.Do(func() {
			s.Request(r.conn, sip.OPTIONS, func(w *sip.Writer, via string) {}, func(a Answer) { err = a.Err })
		})
		if ringfence.KindOf(err) != ringfence.KindUnavailable || !IsClosed(err) || (Answer{Err: err}).Status() != 503 || r.closed != 1 {
			t.Errorf("a request on a closed connection: %v", err)
		}
		r.close()
	})
}

func TestResponsesThatAreNotForUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "TCP", nil)
		answers := &tally{}
		r.request(sip.OPTIONS, answers)
		request := r.take()[0]
		stranger, err := r.net.Host(netip.MustParseAddr("192.0.2.66")).Dial(t.Context(), "x", ours)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.trans.ListenUDP(t.Context(), "udp", ours); err != nil {
			t.Fatal(err)
		}
		r.trans.PeerUDP("udp", theirs)
		pc, err := r.net.Host(theirs.Addr()).ListenUDP(t.Context(), "x", theirs)
		if err != nil {
			t.Fatal(err)
		}
		good := response(t, request.text, 200, "x")
		_, _ = stranger.Write([]byte(good)) // another connection
		_, _ = pc.WriteTo([]byte(good), addrOf(ours))
		r.send(strings.Replace(good, "CSeq: 7 OPTIONS", "CSeq: 7 INVITE", 1))
		for _, branch := range []string{"z9hG4bK0", "z9hG4bKxyz", "other", "z9hG4bK" + strings.Repeat("f", 17)} {
			i := strings.Index(good, "branch=") + 7
			j := i + strings.IndexByte(good[i:], ';')
			r.send(good[:i] + branch + good[j:])
		}
		synctest.Wait()
		if len(answers.get()) != 0 || r.l.Counters()["stray"] != 7 {
			t.Errorf("answers %v, %v", answers.get(), r.l.Counters())
		}
		r.answer(request, 200, "x")
		if !slices.Equal(answers.get(), []int{200}) {
			t.Errorf("answers %v", answers.get())
		}
		_, _ = stranger.Close(), pc.Close()
		r.close()
	})
}

func TestNothingIsLeftAfterManyTransactions(t *testing.T) {
	eachTransport(t, func(t *testing.T, network string) {
		r := newRig(t, network, func(c *Config) { c.Shards = 4 })
		r.onRequest = func(tx *Server) {
			if tx.Method != sip.ACK {
				tx.Reply(200+100*(len(tx.Request.CallID())%3), "", nil)
			}
		}
		answers := &tally{}
		for i := range 2500 {
			branch := fmt.Sprint("z9hG4bK", i)
			r.send(incoming("INVITE", branch, network))
			r.send(incoming("OPTIONS", branch, network))
			r.request(sip.INVITE, answers)
			r.request(sip.OPTIONS, answers)
			for k, a := range r.take() {
				if strings.HasPrefix(a.text, "SIP/2.0") {
					continue
				}
				if status := 200 + 100*((i+k)%4); status < 500 {
					r.send(response(t, a.text, status, "x"))
				}
			}
		}
		r.after(time.Minute)
		if n := len(answers.get()); n != 5000 {
			t.Errorf("%d answers", n)
		}
		r.close()
	})
}
