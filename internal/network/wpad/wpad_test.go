package wpad

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
)

// reply makes a server's answer to a question.
func reply(q []byte, options ...byte) []byte {
	b := bytes.Clone(q[:headLen+4])
	b[0] = 2
	return append(append(b, optionType, 1, typeAck), options...)
}

func TestOffer(t *testing.T) {
	q := Inform(7, netip.MustParseAddr("10.0.0.2"), [6]byte{2, 1, 2, 3, 4, 5})
	if len(q) != 300 || q[0] != 1 || !bytes.Equal(q[12:16], []byte{10, 0, 0, 2}) {
		t.Errorf("%x", q)
	}
	opt := func(n byte, s string) []byte { return append([]byte{n, byte(len(s))}, s...) }
	good := reply(q, slices.Concat(opt(optionWPAD, "http://wpad.example.com/"), opt(optionWPAD, "wpad.dat\x00"), opt(optionDomain, "example.com"), opt(optionServer, "\x0a\x00\x00\x01"), []byte{0, 255})...)
	if o, err := ParseOffer(good, 7); err != nil || o.URL != "http://wpad.example.com/wpad.dat" || o.Domain != "example.com" || o.Server != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("%+v %v", o, err)
	}
	over := reply(q, opt(optionOverload, "\x03")...)
	copy(over[108:], opt(optionWPAD, "http://a/"))
	copy(over[44:], opt(optionDomain, "b"))
	over[44+3] = 255
	over[108+11] = 255
	if o, err := ParseOffer(over, 7); err != nil || o.URL != "http://a/" || o.Domain != "b" {
		t.Errorf("%+v %v", o, err)
	}
	if o, err := ParseOffer(reply(q), 7); err != nil || o.URL != "" {
		t.Errorf("%+v %v", o, err)
	}
	for name, b := range map[string][]byte{"a question": q, "short": good[:200], "long": make([]byte, maxReply+1), "cut": reply(q, optionWPAD, 9, 'h'), "no type": append(reply(q)[:headLen+4], 255), "control": reply(q, opt(optionWPAD, "http://a/\x1b[2J")...),
		"another": reply(Inform(8, netip.MustParseAddr("10.0.0.2"), [6]byte{}))} {
		if o, err := ParseOffer(b, 7); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func finder(handler http.HandlerFunc) (*Finder, *httptest.Server) {
	s := httptest.NewServer(handler)
	return &Finder{Lookup: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}, Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", to.String())
	}}, s
}

func TestFetch(t *testing.T) {
	f, s := finder(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wpad.dat":
			w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
			_, _ = io.WriteString(w, "function FindProxyForURL() { }")
		case "/moved":
			http.Redirect(w, r, "/wpad.dat", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/slow":
			<-r.Context().Done()
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "x")
		default:
			http.NotFound(w, r)
		}
	})
	defer s.Close()
	for _, path := range []string{"/wpad.dat", "/moved"} {
		if file, err := f.Fetch(t.Context(), strings.Replace(s.URL, "127.0.0.1", "wpad.example.com", 1)+path); err != nil || len(file.Body) != 30 || !strings.Contains(file.Type, "autoconfig") || !strings.HasSuffix(file.URL, "/wpad.dat") {
			t.Errorf("%s: %+v %v", path, file, err)
		}
	}
	for path, kind := range map[string]ringfence.Kind{"/none": ringfence.KindNotFound, "/round": ringfence.KindInvalid, "/file": ringfence.KindInvalid, "/endless": ringfence.KindInvalid, "/cut": ringfence.KindInvalid} {
		if _, err := f.Fetch(t.Context(), s.URL+path); ringfence.KindOf(err) != kind {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := f.Fetch(ctx, s.URL+"/slow"); ringfence.KindOf(err) != ringfence.KindTimeout {
		t.Error(err)
	}
	for _, u := range []string{"", "ftp://a/", "http:///x", "http://user:pw@a/", "http://a/ b", "http://a:0/", "wpad.dat", "http://" + strings.Repeat("a", maxURL), "https://127.0.0.1:1/"} {
		if _, err := f.Fetch(t.Context(), u); err == nil {
			t.Errorf("%q is fetched", u)
		}
	}
	f.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
	if _, err := f.ByDNS(t.Context(), "wpad.example.com"); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	for domain, want := range map[string]string{"example.com": "wpad.example.com", "A.B.Example.com.": "wpad.a.b.example.com wpad.b.example.com wpad.example.com", "lan": "wpad.lan"} {
		if got := strings.Join(Names(domain), " "); got != want {
			t.Errorf("%s: %s", domain, got)
		}
	}
}

// TestDHCP has a server that first says nonsense; another host's answer is not believed.
func TestDHCP(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	stranger, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	go func() {
		b := make([]byte, maxReply)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			q := b[:n]
			opt := func(s string) []byte { return append([]byte{optionWPAD, byte(len(s))}, s...) }
			_, _ = stranger.WriteTo(reply(q, opt("http://evil/")...), from)
			_, _ = server.WriteTo([]byte("nonsense"), from)
			other := reply(q, opt("http://other/")...)
			binary.BigEndian.PutUint32(other[4:], 1)
			_, _ = server.WriteTo(other, from)
			_, _ = server.WriteTo(reply(q, opt("http://wpad/")...), from)
		}
	}()
	f := &Finder{Listen: func(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
		if at.Port() != 68 {
			return nil, fmt.Errorf("port %d", at.Port())
		}
		return net.ListenPacket("udp4", "127.0.0.1:0")
	}}
	at := server.LocalAddr().(*net.UDPAddr).AddrPort()
	if o, err := f.ByDHCP(t.Context(), netip.MustParseAddr("127.0.0.1"), at); err != nil || o.URL != "http://wpad/" {
		t.Errorf("%+v %v", o, err)
	}
	if _, err := f.ByDHCP(t.Context(), netip.MustParseAddr("::1"), at); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Error(err)
	}
	f.Listen = func(context.Context, netip.AddrPort) (net.PacketConn, error) { return nil, io.ErrClosedPipe }
	if _, err := f.ByDHCP(t.Context(), netip.MustParseAddr("127.0.0.1"), at); ringfence.KindOf(err) != ringfence.KindDenied {
		t.Error(err)
	}
}

func FuzzOffer(f *testing.F) {
	q := Inform(7, netip.MustParseAddr("10.0.0.2"), [6]byte{})
	f.Add(reply(q, optionWPAD, 3, 'a', ':', 'b', 255))
	f.Add(reply(q, optionOverload, 1, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := ParseOffer(b, 7); err == nil && strings.ContainsAny(o.URL+o.Domain, "\r\n\x00\x1b") {
			t.Errorf("%+v", o)
		}
	})
}

func FuzzURL(f *testing.F) {
	f.Add("http://wpad.example.com:8080/wpad.dat?x")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseURL(s); err == nil && (u.Hostname() == "" || strings.ContainsAny(u.RequestURI()+u.Host, " \r\n")) {
			t.Errorf("%q: %+v", s, u)
		}
	})
}
