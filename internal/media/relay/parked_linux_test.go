//go:build !386

package relay

import (
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"ringfence/internal/media/rtp"
)

// A closed leg's sockets stay open for the next leg. What arrives meanwhile is thrown away and reaches nobody.
func TestParkedSockets(t *testing.T) {
	e := newHostEngine(t, 23800, func(c *Config) { c.Rest = time.Nanosecond })
	old := newPhone(t, e, "old", rtp.AEAD_AES_256_GCM, listenHost(t))
	port := old.leg.Local()
	sock := old.leg.out.socks[0].(*kernelSocket)
	old.leg.Close()
	stray, err := net.Dial("udp", port.String())
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	for range 100 {
		if _, err := stray.Write([]byte("late")); err != nil { // a closed port would refuse
			t.Fatal(err)
		}
	}
	waiting := func() int {
		n := 0
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(sock.fd), syscall.TIOCINQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
			t.Fatal(errno)
		}
		return n
	}
	for waiting() > 0 {
		runtime.Gosched()
	}
	again := newPhone(t, e, "again", rtp.AES_CM_128_HMAC_SHA1_80, listenHost(t))
	if again.leg.Local() != port || again.leg.out.socks[0] != socket(sock) {
		t.Errorf("the next leg got other sockets: %v, not %v", again.leg.Local(), port)
	}
	other := newPhone(t, e, "other", rtp.AES_CM_128_HMAC_SHA1_80, listenHost(t))
	if err := e.Join(again.leg, other.leg); err != nil {
		t.Fatal(err)
	}
	other.say(again, "hello")
	if m := again.leg.Close(); m.Rejected != 0 || m.PacketsOut != 1 {
		t.Errorf("%+v", m)
	}
}

// Sockets that nobody has wanted for long are closed, and their port serves again.
func TestShelfIsTrimmed(t *testing.T) {
	e := newHostEngine(t, 24200, func(c *Config) { c.Ports.Last = c.Ports.First + 1 })
	old, err := e.Open("old")
	if err != nil {
		t.Fatal(err)
	}
	port := old.Local()
	old.Close()
	parked := time.Now()
	e.trim(parked.Add(parkFor)) // it has rested for a little less
	stray, err := net.Dial("udp", port.String())
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	if _, err := stray.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := stray.Write([]byte("x")); err != nil {
		t.Errorf("the port was closed too early: %v", err)
	}
	e.trim(parked.Add(parkFor + time.Minute))
	for err == nil { // the first is refused, the second says so
		_, err = stray.Write([]byte("x"))
	}
	if _, ok := e.ports.take(parked.Add(time.Hour)); !ok || e.shelf.len() > 0 {
		t.Errorf("the port of a closed pair does not serve again")
	}
}

// What finds the queue full is not lost silently: every datagram is either seen by the leg or counted as overrun, and the next leg on
// the same socket begins at zero.
func TestOverrunIsCounted(t *testing.T) {
	e := newHostEngine(t, 24000, func(c *Config) { c.Rest = time.Nanosecond })
	leg, err := e.Open("slow")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := net.Dial("udp", leg.Local().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	const sent = 5000
	junk := make([]byte, 1400)
	leg.in.mu.Lock() // the loop stands still
	for range sent {
		if _, err := sender.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	leg.in.mu.Unlock()
	for leg.Early()+leg.Stats().Overrun < sent {
		runtime.Gosched()
	}
	if m := leg.Stats(); m.Overrun == 0 || leg.Early()+m.Overrun != sent {
		t.Errorf("%d were seen and %d counted as overrun, of %d", leg.Early(), m.Overrun, sent)
	}
	port := leg.Local()
	if m := leg.Close(); m.Overrun == 0 {
		t.Error("the last numbers do not say it")
	}
	next, err := e.Open("next")
	if err != nil {
		t.Fatal(err)
	}
	if m := next.Stats(); next.Local() != port || m.Overrun != 0 {
		t.Errorf("the next leg begins at %s with %+v", next.Local(), m)
	}
}
