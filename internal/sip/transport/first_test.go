package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
)

// places are a host that swallows everything, one where nothing listens, one with another name, and the right one.
type places struct {
	t      *testing.T
	net    *testkit.Net
	client *Layer
	heard  *recorder
	server *recorder
	failed []string
}

var (
	swallows = netip.MustParseAddrPort("198.51.100.1:5061")
	nobody   = netip.MustParseAddrPort("198.51.100.2:5061")
	impostor = netip.MustParseAddrPort("198.51.100.3:5061")
)

func newPlaces(t *testing.T) *places {
	n, l, server := virtual(t, nil)
	t.Cleanup(l.Close)
	p := &places{t: t, net: n, heard: newRecorder(), server: server}
	n.Blackhole(clientAddr, swallows.Addr())
	other := newLayer(n.Host(impostor.Addr()), newRecorder(), nil)
	t.Cleanup(other.Close)
	if _, err := other.Listen(t.Context(), "sip-tls", impostor, authority().Server("evil.example.com")); err != nil {
		t.Fatal(err)
	}
	p.client = newLayer(n.Host(clientAddr), p.heard, nil)
	t.Cleanup(p.client.Close)
	return p
}

func (p *places) dial(opened func(*Conn), at ...netip.AddrPort) *Conn {
	return p.client.DialFirst(p.t.Context(), "out", func(context.Context) ([]Candidate, error) {
		var out []Candidate
		for _, a := range at {
			out = append(out, Candidate{Addr: a, TLS: authority().Client("alice-desk", "sip.example.com"), Failed: func(err error) {
				p.failed = append(p.failed, fmt.Sprint(a, " ", ringfence.KindOf(err)))
			}})
		}
		return out, nil
	}, opened)
}

// The first that answers and proves its name gets what was queued, and nobody else gets anything.
func TestDialFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(t)
		began := time.Now()
		var up []*Conn
		c := p.dial(func(c *Conn) { up = append(up, c) }, swallows, nobody, impostor, serverPort)
		for i := range 3 {
			if _, err := c.Queue(message(i, "")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(p.server.messages()) != 3 || c.State() != "Established" || c.Remote != serverPort || c.Local.Addr() != clientAddr {
			t.Errorf("%d messages arrived, the connection is %s to %s", len(p.server.messages()), c.State(), c.Remote)
		}
		want := []string{swallows.String() + " unavailable", nobody.String() + " unavailable", impostor.String() + " insecure"}
		if !slices.Equal(p.failed, want) || len(up) != 1 || up[0] != c {
			t.Errorf("failed %q, want %q; opened %v", p.failed, want, up)
		}
		if got := p.server.messages()[0].conn.Since.Sub(began); got > 6*time.Second {
			t.Errorf("it took %v", got)
		}
	})
}

// If none does, the one with the false name is what is told.
func TestDialFirstFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(t)
		c := p.dial(nil, nobody, impostor, nobody)
		time.Sleep(time.Minute)
		synctest.Wait()
		if causes := p.heard.causes(c); len(causes) != 1 || ringfence.KindOf(causes[0]) != ringfence.KindInsecure || !strings.Contains(causes[0].Error(), impostor.String()) {
			t.Errorf("closed with %v", causes)
		}
		for what, find := range map[string]func(context.Context) ([]Candidate, error){
			"nowhere": func(context.Context) ([]Candidate, error) { return nil, nil },
			"no name": func(context.Context) ([]Candidate, error) { return nil, errors.New("no name") },
			"not sealed": func(context.Context) ([]Candidate, error) {
				return []Candidate{{Addr: serverPort, TLS: (*tls.Config)(nil)}}, nil
			},
		} {
			c := p.client.DialFirst(t.Context(), "out", find, func(*Conn) { t.Errorf("%s: opened", what) })
			synctest.Wait()
			if c.State() != "Closed" || c.Cause() == nil {
				t.Errorf("%s: %s, %v", what, c.State(), c.Cause())
			}
		}
		// Closed while it looks for the first place.
		c = p.client.DialFirst(t.Context(), "out", func(ctx context.Context) ([]Candidate, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil)
		began := time.Now()
		p.client.Close()
		if c.State() != "Closed" || time.Since(began) > 0 {
			t.Errorf("%s after %v", c.State(), time.Since(began))
		}
		// Of a layer that is closed nobody is told before Dial returns: whoever dials may hold what its Receiver needs.
		c = p.dial(nil, swallows)
		if causes := p.heard.causes(c); c.State() != "Closed" || !errors.Is(c.Cause(), net.ErrClosed) || len(causes) != 0 {
			t.Errorf("%s, %v, told %v", c.State(), c.Cause(), causes)
		}
	})
}
