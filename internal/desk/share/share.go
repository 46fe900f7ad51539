package share

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"ringfence"
)

// The ports are those that the firewall of a desk phone has open for this.
const (
	askPort  = 4051
	filePort = 6970
)

// Group is where phones ask. It is of a site (RFC 2365), and what is sent there stays on the link.
func Group() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 40, 51}), askPort)
}

// The flows.
const (
	flowHear   = "phone-share-hear"
	flowAsk    = "phone-share-ask"
	flowAnswer = "phone-share-answer"
	flowGive   = "phone-share-give"
	flowTake   = "phone-share-take"
)

// Flows declares how firmware is shared.
func Flows() []ringfence.Flow {
	const why = " It is in the clear, since the file is public and its signature is checked."
	f := func(name, purpose, transport string, d ringfence.Direction, port uint16) ringfence.Flow {
		return ringfence.Flow{Name: name, Purpose: purpose, Room: "desk/share", Direction: d, Transport: transport, Ports: ringfence.PortRange{First: port, Last: port}, Peers: "phones of the same link", TLS: ringfence.TLSNone}
	}
	hear := f(flowHear, "A phone hears which firmware other phones look for."+why, "udp", ringfence.Listens, askPort)
	hear.Addr = Group().Addr()
	return []ringfence.Flow{hear, f(flowAsk, "A phone asks other phones for firmware, and hears who has it."+why, "udp", ringfence.Listens, 0), f(flowAnswer, "A phone says that it has a firmware."+why, "udp", ringfence.Listens, 0),
		f(flowGive, "A phone gives its firmware to other phones."+why, "tcp", ringfence.Listens, filePort), f(flowTake, "A phone takes firmware from another phone."+why, "tcp", ringfence.Dials, filePort)}
}

// Opener opens the sockets.
type Opener interface {
	ringfence.Opener
	ListenMulticast(ctx context.Context, flow string, group netip.AddrPort) (net.PacketConn, error)
}

// Bounds.
const (
	maxAnswers  = 20 // a second
	maxGiving   = 4  // at a time, and one for a peer
	maxOffers   = 16
	maxTries    = 3
	hearing     = time.Second // for offers
	patience    = 5 * time.Second
	leastRate   = 256 << 10 // bytes a second, or a peer is given up
	firstAnswer = 3 * time.Second
)

// within is how long a file of a size may take.
func within(size int64) time.Duration { return patience + time.Duration(size/leastRate)*time.Second }

// Config describes a phone that gives a file. All but Say are needed.
type Config struct {
	Opener Opener
	Local  netip.Addr // of the link
	What   What
	File   []byte // whose signature was checked
	Say    func(format string, args ...any)
}

// Give answers the phones of the link, until ctx ends. over is closed when nobody is answered any more.
func Give(ctx context.Context, c Config) (over <-chan struct{}, err error) {
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	if len(c.File) == 0 || len(c.File) > MaxSize {
		return nil, &ringfence.Fault{Op: "share", Kind: ringfence.KindInvalid, Text: "there is no file to give"}
	}
	group, err := c.Opener.ListenMulticast(ctx, flowHear, Group())
	if err != nil {
		return nil, unavailable("the phones of the link cannot be heard", err)
	}
	answers, err := c.Opener.ListenUDP(ctx, flowAnswer, netip.AddrPortFrom(c.Local, 0))
	if err != nil {
		_ = group.Close()
		return nil, unavailable("the phones of the link cannot be answered", err)
	}
	ln, err := c.Opener.Listen(ctx, flowGive, netip.AddrPortFrom(c.Local, filePort))
	if err != nil {
		_ = group.Close()
		_ = answers.Close()
		return nil, unavailable("the phones of the link cannot fetch anything here", err)
	}
	context.AfterFunc(ctx, func() { _, _, _ = group.Close(), answers.Close(), ln.Close() })
	var all sync.WaitGroup
	all.Go(func() { c.answer(group, answers) })
	all.Go(func() { c.serve(ctx, ln, &all) })
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	return done, nil
}

func unavailable(text string, err error) error {
	return &ringfence.Fault{Op: "share", Kind: ringfence.KindUnavailable, Text: text, Err: err}
}

// answer tells who asks for our file that we have it.
func (c Config) answer(group, answers net.PacketConn) {
	b := make([]byte, maxMessage+1)
	var since time.Time
	said := 0
	for {
		n, from, err := group.ReadFrom(b)
		if err != nil {
			return
		}
		m, err := Parse(b[:n])
		if err != nil || m.Verb != Ask || m.What != c.What {
			continue
		}
		if now := time.Now(); now.Sub(since) > time.Second {
			since, said = now, 0
		}
		if said++; said > maxAnswers {
			continue
		}
		_, _ = answers.WriteTo([]byte(Message{Verb: Have, Nonce: m.Nonce, What: c.What, Size: int64(len(c.File))}.String()), from)
	}
}

// serve gives the file to who fetches it: to a few at a time, and to each peer once at a time.
func (c Config) serve(ctx context.Context, ln net.Listener, all *sync.WaitGroup) {
	var mu sync.Mutex
	giving := map[netip.Addr]bool{}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		at, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		peer := at.Addr().Unmap()
		mu.Lock()
		full := len(giving) >= maxGiving || giving[peer]
		if !full {
			giving[peer] = true
		}
		mu.Unlock()
		if full {
			_ = conn.Close()
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		all.Go(func() {
			defer func() {
				stop()
				_ = conn.Close()
				mu.Lock()
				delete(giving, peer)
				mu.Unlock()
			}()
			if c.give(conn) {
				c.Say("firmware %.12s was given to %s", c.What, peer)
			}
		})
	}
}

func (c Config) give(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(patience))
	line, err := bufio.NewReaderSize(conn, maxMessage).ReadSlice('\n')
	if err != nil {
		return false
	}
	if m, err := Parse(line); err != nil || m.Verb != Get || m.What != c.What {
		_, _ = io.WriteString(conn, Message{Verb: No}.String())
		return false
	}
	_ = conn.SetDeadline(time.Now().Add(within(int64(len(c.File)))))
	if _, err := io.WriteString(conn, Message{Verb: OK, Size: int64(len(c.File))}.String()); err != nil {
		return false
	}
	_, err = conn.Write(c.File)
	return err == nil
}

// Wanted is a file that a phone looks for.
type Wanted struct {
	Opener Opener
	Local  netip.Addr // of the link
	What   What
	Size   int64
	// Check says whether a file is the one that is wanted, and signed. Nothing of one that is not goes on.
	Check func(file []byte) error
	Say   func(format string, args ...any)
}

// Take asks the phones of the link for a file, and returns it with who gave it. The fault is KindNotFound if nobody has it, or nobody who has it gives it.
func Take(ctx context.Context, w Wanted) (file []byte, from netip.Addr, err error) {
	if w.Say == nil {
		w.Say = func(string, ...any) {}
	}
	if w.Size < 1 || w.Size > MaxSize {
		return nil, from, &ringfence.Fault{Op: "share", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("a file of %d bytes is not shared", w.Size)}
	}
	offers, err := w.offers(ctx)
	if err != nil {
		return nil, from, err
	}
	for i, peer := range offers {
		if i == maxTries || ctx.Err() != nil {
			break
		}
		b, err := w.fetch(ctx, peer)
		if err == nil {
			err = w.Check(b)
		}
		if err == nil {
			return b, peer, nil
		}
		w.Say("%s offers the firmware, and it is not taken: %v", peer, err)
	}
	if len(offers) > 0 {
		return nil, from, &ringfence.Fault{Op: "share", Kind: ringfence.KindNotFound, Text: "no phone of the link gave the firmware as it should be"}
	}
	return nil, from, &ringfence.Fault{Op: "share", Kind: ringfence.KindNotFound, Text: "no phone of the link has the firmware"}
}

// offers asks, and returns who answered, in the order in which they did.
func (w Wanted) offers(ctx context.Context) (peers []netip.Addr, err error) {
	// Port 4051, which the firewall of a phone has open; another one if somebody has it.
	pc, err := w.Opener.ListenUDP(ctx, flowAsk, netip.AddrPortFrom(w.Local, askPort))
	if err != nil {
		if pc, err = w.Opener.ListenUDP(ctx, flowAsk, netip.AddrPortFrom(w.Local, 0)); err != nil {
			return nil, unavailable("the phones of the link cannot be asked", err)
		}
	}
	defer func() { _ = pc.Close() }()
	defer context.AfterFunc(ctx, func() { _ = pc.Close() })()
	var raw [8]byte
	_, _ = rand.Read(raw[:])
	nonce := hex.EncodeToString(raw[:])
	if _, err := pc.WriteTo([]byte(Message{Verb: Ask, Nonce: nonce, What: w.What}.String()), net.UDPAddrFromAddrPort(Group())); err != nil {
		return nil, unavailable("the phones of the link cannot be asked", err)
	}
	_ = pc.SetReadDeadline(time.Now().Add(hearing))
	seen := map[netip.Addr]bool{}
	b := make([]byte, maxMessage+1)
	for len(peers) < maxOffers {
		n, addr, err := pc.ReadFrom(b)
		if err != nil {
			return peers, nil // the time is over
		}
		at, err := netip.ParseAddrPort(addr.String())
		peer := at.Addr().Unmap()
		if m, bad := Parse(b[:n]); err != nil || bad != nil || m.Verb != Have || m.Nonce != nonce || m.What != w.What || m.Size != w.Size || seen[peer] || !peer.IsValid() {
			continue
		}
		seen[peer] = true
		peers = append(peers, peer)
	}
	return peers, nil
}

// fetch takes the file from a peer.
func (w Wanted) fetch(ctx context.Context, peer netip.Addr) ([]byte, error) {
	dial, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	conn, err := w.Opener.Dial(dial, flowTake, netip.AddrPortFrom(peer, filePort))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(within(w.Size)))
	if _, err := io.WriteString(conn, Message{Verb: Get, What: w.What}.String()); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, 4096)
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	switch m, err := Parse([]byte(line)); {
	case err != nil:
		return nil, err
	case m.Verb != OK || m.Size != w.Size:
		return nil, errors.New("it does not give it after all")
	}
	file := make([]byte, w.Size)
	if _, err := io.ReadFull(r, file); err != nil {
		return nil, fmt.Errorf("it broke off: %w", err)
	}
	return file, nil
}

// readLine reads a line that is no longer than a message.
func readLine(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for b.Len() <= maxMessage {
		c, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		if b.WriteByte(c); c == '\n' {
			return b.String(), nil
		}
	}
	return "", errors.New("its answer is too long")
}
