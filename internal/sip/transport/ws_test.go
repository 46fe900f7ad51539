package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

func wsServer(t *testing.T, change func(*Config)) (*testkit.Net, *Layer, *recorder) {
	t.Helper()
	n := testkit.New(1)
	r := newRecorder()
	l := newLayer(n.Host(serverAddr), r, change)
	if _, err := l.ListenWS(t.Context(), "sip-wss", serverPort, authority().Server("sip.example.com"), []string{"phone.example.com"}); err != nil {
		t.Fatal(err)
	}
	return n, l, r
}

type browser struct {
	*websocket.Conn
	status int
	pings  atomic.Int32
}

// browse opens a WebSocket as a browser would whose page came from origin.
func browse(t *testing.T, n *testkit.Net, origin string, protocols ...string) (*browser, error) {
	t.Helper()
	b := &browser{}
	client := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialTLS(t, n), nil
	}}}
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, res, err := websocket.Dial(ctx, "wss://sip.example.com/", &websocket.DialOptions{HTTPClient: client, HTTPHeader: header, Subprotocols: protocols,
		OnPingReceived: func(context.Context, []byte) bool { b.pings.Add(1); return true }})
	b.Conn = ws
	if res != nil {
		b.status = res.StatusCode
	}
	client.CloseIdleConnections()
	return b, err
}

func TestWebSocketCarriesOneMessageAFrame(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := wsServer(t, nil)
		defer l.Close()
		r.on = func(c *Conn, m *sip.Message) {
			_, _ = c.Queue(m.Bytes())
			_, _ = c.Queue(append([]byte(nil), message(77, "two\xff")...)) // not UTF-8: a binary frame
			c.Flush()
		}
		b, err := browse(t, n, "https://phone.example.com", "sip")
		if err != nil {
			t.Fatal(err)
		}
		defer b.CloseNow()
		ctx := t.Context()
		if err := b.Write(ctx, websocket.MessageText, message(1, strings.Repeat("long", 3000))); err != nil {
			t.Fatal(err)
		}
		b.SetReadLimit(1 << 20)
		kind, got, err := b.Read(ctx)
		if err != nil || kind != websocket.MessageText || string(got) != string(message(1, strings.Repeat("long", 3000))) {
			t.Errorf("first frame: %v, %v, %d bytes", kind, err, len(got))
		}
		if kind, got, err = b.Read(ctx); err != nil || kind != websocket.MessageBinary || string(got) != string(message(77, "two\xff")) {
			t.Errorf("second frame: %v, %v, %q", kind, err, got)
		}
		if err := b.Write(ctx, websocket.MessageText, []byte("\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, got, err := b.Read(ctx); err != nil || string(got) != "\r\n" {
			t.Errorf("pong: %q, %v", got, err)
		}
		conn := r.messages()[0].conn
		if conn.Network != "WSS" || conn.Peer.Name != "alice-desk" || !conn.Secure() || !conn.Reliable() {
			t.Errorf("%+v", conn)
		}
		_ = b.Close(websocket.StatusNormalClosure, "") // may find that the server was quicker to close
		synctest.Wait()
		if conn.State() != "Closed" || len(l.Conns()) != 0 || l.Stats().RemoteClosures != 1 {
			t.Errorf("%s, %+v", conn.State(), l.Stats())
		}
	})
}

func TestWebSocketPingsBothWays(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, _ := wsServer(t, nil)
		defer l.Close()
		b, err := browse(t, n, "", "sip")
		if err != nil {
			t.Fatal(err)
		}
		ctx := b.CloseRead(t.Context()) // answers pings
		if err := b.Ping(t.Context()); err != nil {
			t.Errorf("our ping: %v", err)
		}
		time.Sleep(time.Hour) // kept alive by the server's pings although no SIP is spoken
		if len(l.Conns()) != 1 || b.pings.Load() < 5 {
			t.Errorf("%d connections, %d pings", len(l.Conns()), b.pings.Load())
		}
		n.Blackhole(serverAddr, clientAddr)
		time.Sleep(16 * time.Minute)
		if len(l.Conns()) != 0 {
			t.Error("a browser that vanished is still there")
		}
		n.Heal(serverAddr, clientAddr)
		<-ctx.Done()
		_ = b.CloseNow()
	})
}

func TestWebSocketRefusals(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := wsServer(t, nil)
		defer l.Close()
		for _, tc := range []struct {
			what, origin, protocol string
			status                 int
		}{
			{"a stranger's page", "https://evil.example.net", "sip", http.StatusForbidden},
			{"no subprotocol", "https://phone.example.com", "chat", http.StatusBadRequest},
			{"own page", "https://sip.example.com", "sip", http.StatusSwitchingProtocols},
		} {
			b, err := browse(t, n, tc.origin, tc.protocol)
			if b.status != tc.status || (err == nil) != (tc.status == http.StatusSwitchingProtocols) {
				t.Errorf("%s: status %d, %v", tc.what, b.status, err)
			}
			if b.Conn != nil {
				_ = b.CloseNow()
			}
		}
		// A client that says nothing after TLS, and one whose request never ends, do not keep others out.
		silent, endless := dialTLS(t, n), dialTLS(t, n)
		go func() {
			_, _ = io.WriteString(endless, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 100<<10))
		}()
		b, err := browse(t, n, "", "sip")
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Write(t.Context(), websocket.MessageText, message(1, ""))
		synctest.Wait()
		if len(r.messages()) != 1 {
			t.Error("others were not served")
		}
		_ = b.CloseNow()
		start := time.Now()
		if _, err := silent.Read(make([]byte, 1)); err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("the silent client: %v after %v", err, time.Since(start))
		}
		if _, err := endless.Read(make([]byte, 1)); err == nil || time.Since(start) > 10*time.Second {
			t.Errorf("the endless client: %v after %v", err, time.Since(start))
		}
		if st := l.Stats(); st.ServerHandshakes != 4 {
			t.Errorf("%+v", st)
		}
		_, _ = silent.Close(), endless.Close()
	})
}

func TestWebSocketFrameLimit(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := wsServer(t, func(c *Config) { c.Limits = sip.Limits{Message: 2000, Headers: 50, Header: 1000, Body: 1000} })
		defer l.Close()
		b, err := browse(t, n, "", "sip")
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Write(t.Context(), websocket.MessageText, message(1, strings.Repeat("x", 4000)))
		_, _, err = b.Read(t.Context())
		if websocket.CloseStatus(err) != websocket.StatusMessageTooBig && !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		synctest.Wait()
		if len(r.messages()) != 0 || len(l.Conns()) != 0 {
			t.Errorf("%d messages, %d connections", len(r.messages()), len(l.Conns()))
		}
		_ = b.CloseNow()
	})
}
