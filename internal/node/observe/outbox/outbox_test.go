package outbox_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/node/observe/outbox"
)

func config(dial func(context.Context) (io.WriteCloser, error)) outbox.Config[string] {
	return outbox.Config[string]{Name: "test", Dial: dial, Log: slog.New(slog.DiscardHandler),
		Encode: func(dst []byte, s string) []byte { return append(append(dst, s...), '\n') },
		Lost:   func(dst []byte, n uint64) []byte { return append(dst, "lost "+string(rune('0'+n))+"\n"...) }}
}

func expect(t *testing.T, r *bufio.Reader, want ...string) {
	t.Helper()
	for _, w := range want {
		if got, err := r.ReadString('\n'); err != nil || got != w+"\n" {
			t.Fatalf("got %q, %v; want %q", got, err, w)
		}
	}
}

func TestDeliversAndDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		o := outbox.New(config(func(context.Context) (io.WriteCloser, error) { return ours, nil }))
		o.Put("a")
		r := bufio.NewReader(theirs)
		expect(t, r, "a")
		o.Put("b")
		o.Put("c")
		go o.Close() // before the batch is due
		expect(t, r, "b", "c")
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the end: %v", err)
		}
		synctest.Wait()
		if s := o.Stats(); s.Sent != 3 || s.Dropped != 0 || s.Connects != 1 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestKeepsWhileAwayAndSaysWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 2)
		var reachable atomic.Bool
		cfg := config(func(context.Context) (io.WriteCloser, error) {
			if !reachable.Load() {
				return nil, errors.New("unreachable")
			}
			a, b := net.Pipe()
			conns <- b
			return a, nil
		})
		cfg.Queue = 2
		o := outbox.New(cfg)
		o.Put("1")
		time.Sleep(time.Second) // one is taken, and waits with its taker
		for _, s := range []string{"2", "3"} {
			if !o.Put(s) {
				t.Fatal("the queue has room for two")
			}
		}
		if o.Put("4") {
			t.Fatal("the queue is full")
		}
		reachable.Store(true)
		r := bufio.NewReader(<-conns)
		expect(t, r, "lost 1", "1", "2", "3")
		if s := o.Stats(); s.Dropped != 1 || !s.Up {
			t.Fatalf("%+v", s)
		}
		o.Close()
	})
}

func TestReconnectsWhenTheCollectorLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 2)
		o := outbox.New(config(func(context.Context) (io.WriteCloser, error) {
			a, b := net.Pipe()
			conns <- b
			return a, nil
		}))
		o.Put("1")
		first := <-conns
		expect(t, bufio.NewReader(first), "1")
		first.Close()
		synctest.Wait()
		o.Put("2") // is not written into the dead connection
		expect(t, bufio.NewReader(<-conns), "2")
		o.Close()
	})
}

func TestStopsWithoutACollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outbox.New(config(func(ctx context.Context) (io.WriteCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		o.Put("1")
		start := time.Now()
		o.Close()
		if d := time.Since(start); d > 12*time.Second {
			t.Fatalf("it took %s", d)
		}
	})
}
