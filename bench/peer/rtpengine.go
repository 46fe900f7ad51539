package peer

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"ringfence/bench/load"
	"ringfence/bench/proc"
)

// Rtpengine is an rtpengine that relays in user space, told by its ng protocol.
type Rtpengine struct {
	*Server
	ng net.Conn
	n  int
}

// StartRtpengine starts rtpengine with one worker thread.
func StartRtpengine(s Setup) (*Rtpengine, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(s.Core, "rtpengine", "-f", "-E", "-L", "3", "--table=-1", "--interface=127.0.0.1", fmt.Sprintf("--listen-ng=127.0.0.1:%d", port),
		"--num-threads=1", "-m", "30000", "-M", "39999", "--pidfile="+filepath.Join(s.Dir, "pid"))
	if err != nil {
		return nil, err
	}
	r := &Rtpengine{Server: &Server{Proc: p, Name: "rtpengine"}}
	if r.ng, err = net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		p.Stop()
		return nil, err
	}
	for range 50 {
		if _, err = r.ask("command", "ping"); err == nil {
			return r, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.Stop()
	return nil, fmt.Errorf("rtpengine did not start: %s", p.Tail())
}

// ask sends one command as a flat dictionary, its keys in order, and returns the answer.
func (r *Rtpengine) ask(pairs ...string) ([]byte, error) {
	r.n++
	cookie := "c" + strconv.Itoa(r.n) + " "
	b := append([]byte(cookie), 'd')
	for _, s := range pairs {
		b = fmt.Appendf(b, "%d:%s", len(s), s)
	}
	b = append(b, 'e')
	if _, err := r.ng.Write(b); err != nil {
		return nil, err
	}
	in := make([]byte, 65536)
	_ = r.ng.SetReadDeadline(time.Now().Add(2 * time.Second))
	for {
		n, err := r.ng.Read(in)
		if err != nil {
			return nil, err
		}
		if rest, ok := bytes.CutPrefix(in[:n], []byte(cookie)); ok {
			return rest, nil
		}
	}
}

// Connect sets up a relayed call for two legs. rtpengine would hand the caller's key through if it could, and relay without opening
// a packet; the legs must have different suites so that it seals anew.
func (r *Rtpengine) Connect(call string, a, b *load.Leg) error {
	offered, err := r.description("ICE", "remove", "call-id", call, "command", "offer", "from-tag", "a", "sdp", string(a.SDP(1)), "transport-protocol", "RTP/SAVP")
	if err != nil {
		return err
	}
	tag, err := b.Heard(offered)
	if err != nil {
		return err
	}
	answered, err := r.description("ICE", "remove", "call-id", call, "command", "answer", "from-tag", "a", "sdp", string(b.SDP(tag)), "to-tag", "b", "transport-protocol", "RTP/SAVP")
	if err != nil {
		return err
	}
	_, err = a.Heard(answered)
	return err
}

func (r *Rtpengine) description(pairs ...string) ([]byte, error) {
	answer, err := r.ask(pairs...)
	if err != nil {
		return nil, err
	}
	_, rest, ok := bytes.Cut(answer, []byte("3:sdp"))
	size, body, ok2 := bytes.Cut(rest, []byte(":"))
	n, err := strconv.Atoi(string(size))
	if !ok || !ok2 || err != nil || n > len(body) {
		return nil, errors.New("rtpengine gave no description: " + string(answer))
	}
	return body[:n], nil
}
