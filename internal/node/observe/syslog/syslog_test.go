package syslog_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/node/observe/syslog"
	"ringfence/internal/testkit"
)

// read takes one message off a stream framed by octet counting: digits, a space, and that many bytes.
func read(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var n int
	digits, err := r.ReadString(' ')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(digits, "%d ", &n); err != nil || n > 8192 {
		t.Fatalf("frame of %q: %v", digits, err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func config(dial func(context.Context) (io.WriteCloser, error)) syslog.Config {
	return syslog.Config{Dial: dial, Host: "node 1.example", App: "ringfence", PID: 42, Log: slog.New(slog.DiscardHandler), Level: slog.LevelInfo}
}

func TestFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		h := syslog.New(config(func(context.Context) (io.WriteCloser, error) { return ours, nil }))
		log, r := slog.New(h), bufio.NewReader(theirs)
		const head = `1 2000-01-01T00:00:00.000000Z node_1.example ringfence 42 - `
		log.Debug("not sent")
		for _, c := range []struct {
			log  func()
			want string
		}{
			{func() { log.Info("a call") }, "<30>" + head + "- \ufeffa call"},
			{func() { log.Error("bad\nline \xff\u2028é", "err", errors.New(`a "b" ]\`), "n", 3) }, "<27>" + head + `[attrs@32473 err="a \"b\" \]\\" n="3"] ` + "\ufeffbad line ? é"},
			{func() {
				log.With("call", "c1").WithGroup("leg").With("side", "caller").Warn("w", slog.Group("tls", "version", "1.3"), "a=b] \"", 1)
			},
				"<28>" + head + `[attrs@32473 call="c1" leg.side="caller" leg.tls.version="1.3" leg.a_b___="1"] ` + "\ufeffw"},
		} {
			c.log()
			got := read(t, r)
			got = regexp.MustCompile(`2000-01-01T\S+`).ReplaceAllString(got, "2000-01-01T00:00:00.000000Z")
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		}
		log.Info(strings.Repeat("é", 10_000), "long", strings.Repeat("x", 10_000), "more", strings.Repeat("y", 10_000))
		if got := read(t, r); len(got) < 8000 || len(got) > 8192 || !strings.HasSuffix(got, "é") {
			t.Errorf("a long message has %d bytes", len(got))
		}
		h.Close()
	})
}

func TestTellsWhatWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns, away := make(chan net.Conn, 1), make(chan struct{})
		h := syslog.New(config(func(context.Context) (io.WriteCloser, error) {
			select {
			case <-away:
			default:
				return nil, errors.New("away")
			}
			a, b := net.Pipe()
			conns <- b
			return a, nil
		}))
		log := slog.New(h)
		log.Info("first")
		time.Sleep(time.Second)
		for range 1030 { // 1,024 wait
			log.Info("more")
		}
		close(away)
		r := bufio.NewReader(<-conns)
		if got := read(t, r); !strings.Contains(got, `[attrs@32473 lost="6"]`) || !strings.HasPrefix(got, "<28>1 ") {
			t.Errorf("%q", got)
		}
		if got := read(t, r); !strings.HasSuffix(got, "first") {
			t.Errorf("%q", got)
		}
		for range 1024 {
			read(t, r)
		}
		h.Close()
	})
}

// TestTLS sends to a collector that proves its name, and to none that does not.
func TestTLS(t *testing.T) {
	authority := testkit.NewAuthority("logs")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", authority.Server("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dial := func(roots *testkit.Authority) func(context.Context) (io.WriteCloser, error) {
		return func(ctx context.Context) (io.WriteCloser, error) {
			d := tls.Dialer{Config: &tls.Config{RootCAs: roots.Pool, MinVersion: tls.VersionTLS13}}
			return d.DialContext(ctx, "tcp", ln.Addr().String())
		}
	}
	got := make(chan string, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			c.Close()
			if len(b) > 0 {
				got <- string(b)
			}
		}
	}()
	wrong := syslog.New(config(dial(testkit.NewAuthority("stranger"))))
	slog.New(wrong).Info("must not arrive")
	wrong.Close()
	right := syslog.New(config(dial(authority)))
	slog.New(right).Info("arrives")
	right.Close()
	if b := <-got; !strings.HasSuffix(b, "arrives") || strings.Contains(b, "must not") {
		t.Errorf("%q", b)
	}
	if s := wrong.Stats(); s.Sent != 0 || s.Connects != 0 {
		t.Errorf("%+v", s)
	}
}
