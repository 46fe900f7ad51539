package posture

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/trust/cipherlist"
)

// Config says whom to ask.
type Config struct {
	Dial    func(ctx context.Context) (net.Conn, error)
	Name    string                   // server name; empty: none is sent
	Timeout time.Duration            // 5 s for each connection
	Asked   func(done, about string) // hears of the progress; nil: nobody does
}

// Accepted is what a server accepts of one version.
type Accepted struct {
	Version string   `json:"version"`
	Suites  []string `json:"suites"`           // in the server's order if it has one, else in ours
	Order   string   `json:"order,omitempty"`  // server or client: whose order decides; empty: there is one suite only
	Groups  []string `json:"groups,omitempty"` // of TLS 1.3
}

// Report is what a server accepts.
type Report struct {
	Versions []Accepted `json:"versions"`
	Refused  []string   `json:"refused"` // versions
	Asked    int        `json:"connections"`
}

// groups are the groups that are asked for, with their names in the registry.
func groups() []struct {
	code uint16
	name string
} {
	return []struct {
		code uint16
		name string
	}{{0x11ec, "X25519MLKEM768"}, {0x11eb, "SecP256r1MLKEM768"}, {0x11ed, "SecP384r1MLKEM1024"}, {29, "x25519"}, {23, "secp256r1"}, {24, "secp384r1"}, {25, "secp521r1"}, {30, "x448"},
		{0x0100, "ffdhe2048"}, {0x0101, "ffdhe3072"}, {0x0102, "ffdhe4096"}, {0x0103, "ffdhe6144"}, {0x0104, "ffdhe8192"},
		{31, "brainpoolP256r1tls13"}, {32, "brainpoolP384r1tls13"}, {33, "brainpoolP512r1tls13"}}
}

func groupCodes() (out []uint16) {
	for _, g := range groups() {
		out = append(out, g.code)
	}
	return out
}

// catalogue returns all suites that are asked for, of TLS 1.3 and of before, with their names.
func catalogue() (new13, before []uint16, names map[uint16]string, err error) {
	all, err := cipherlist.Parse("ALL:COMPLEMENTOFALL")
	if err != nil {
		return nil, nil, nil, err
	}
	names = map[uint16]string{}
	for _, s := range all.Suites {
		before = append(before, s.Code)
		names[s.Code] = s.Name
	}
	for _, s := range append(all.TLS13, cipherlist.Suite{Code: 0x1304, Name: "TLS_AES_128_CCM_SHA256"}, cipherlist.Suite{Code: 0x1305, Name: "TLS_AES_128_CCM_8_SHA256"}) {
		if names[s.Code] == "" {
			new13 = append(new13, s.Code)
			names[s.Code] = s.Name
		}
	}
	return new13, before, names, nil
}

// most bounds the connections of one probe: a server that always takes something else shall not hold us for ever.
const most = 400

// Probe asks a server, one connection after another, until it has refused what is left. A server that does not answer at all is an error; one that refuses everything is not.
func Probe(ctx context.Context, c Config) (Report, error) {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Asked == nil {
		c.Asked = func(string, string) {}
	}
	new13, before, names, err := catalogue()
	if err != nil {
		return Report{}, err
	}
	p := &prober{c: c, names: names}
	out := Report{Versions: []Accepted{}, Refused: []string{}}
	for _, v := range []Version{TLS13, TLS12, TLS11, TLS10} {
		candidates := before
		if v == TLS13 {
			candidates = new13
		}
		a, err := p.version(ctx, v, candidates)
		if err != nil {
			return Report{}, err
		}
		if len(a.Suites) == 0 {
			out.Refused = append(out.Refused, v.String())
			continue
		}
		out.Versions = append(out.Versions, a)
	}
	out.Asked = p.asked
	return out, nil
}

type prober struct {
	c     Config
	names map[uint16]string
	asked int
}

// version finds what a server accepts of one version.
func (p *prober) version(ctx context.Context, v Version, candidates []uint16) (Accepted, error) {
	out := Accepted{Version: v.String()}
	var found []uint16
	for left := slices.Clone(candidates); len(left) > 0; {
		a, err := p.ask(ctx, hello{v, left, groupCodes(), p.c.Name})
		if err != nil {
			return out, err
		}
		i := slices.Index(left, a.suite)
		if a.alert != 0 || a.version != v || i < 0 { // refused, of another version, or what nobody offered
			break
		}
		found = append(found, a.suite)
		left = slices.Delete(left, i, i+1)
	}
	for _, s := range found {
		out.Suites = append(out.Suites, p.names[s])
	}
	if len(found) > 1 { // does it insist?
		turned := slices.Clone(found)
		slices.Reverse(turned)
		a, err := p.ask(ctx, hello{v, turned, groupCodes(), p.c.Name})
		if err != nil {
			return out, err
		}
		out.Order = "client"
		if a.alert == 0 && a.suite == found[0] {
			out.Order = "server"
		}
	}
	if v != TLS13 || len(found) == 0 {
		return out, nil
	}
	for left := groupCodes(); len(left) > 0; {
		a, err := p.ask(ctx, hello{v, found, left, p.c.Name})
		if err != nil {
			return out, err
		}
		i := slices.Index(left, a.group)
		if a.alert != 0 || i < 0 {
			break
		}
		left = slices.Delete(left, i, i+1)
		for _, g := range groups() {
			if g.code == a.group {
				out.Groups = append(out.Groups, g.name)
			}
		}
	}
	return out, nil
}

// ask opens a connection, says hello, and reads what comes back. A server that closes without a word has refused.
func (p *prober) ask(ctx context.Context, h hello) (answer, error) {
	if p.asked++; p.asked > most {
		return answer{}, &ringfence.Fault{Op: "posture.probe", Kind: ringfence.KindOverload, Text: fmt.Sprintf("the server has not come to an end after %d connections", most)}
	}
	p.c.Asked(fmt.Sprint(p.asked), h.version.String())
	ctx, cancel := context.WithTimeout(ctx, p.c.Timeout)
	defer cancel()
	conn, err := p.c.Dial(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	if _, err := conn.Write(h.record()); err != nil {
		return answer{alert: -1}, nil
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			return answer{}, &ringfence.Fault{Op: "posture.probe", Kind: ringfence.KindTimeout, Text: "the server says nothing to a ClientHello of " + h.version.String(), Hint: "does it speak TLS at once, without a STARTTLS?"}
		}
		return answer{alert: -1}, nil
	}
	n := int(binary.BigEndian.Uint16(head[3:]))
	if n > maxRecord || head[1] != 3 {
		return answer{}, &ringfence.Fault{Op: "posture.probe", Kind: ringfence.KindInvalid, Text: "what answers there does not speak TLS", Hint: "is that the right port?"}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(conn, body); err != nil {
		return answer{alert: -1}, nil
	}
	return parseAnswer(head[0], body)
}
