package ladder

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

// Message is one message of a call, as people and programs may see it: it holds no key and no credential.
type Message struct {
	At      time.Time        `json:"at"`
	Call    ringfence.CallID `json:"call"`
	Leg     ringfence.LegID  `json:"leg"`
	From    string           `json:"from"` // who sent it: a device, or this node
	To      string           `json:"to"`
	Remote  string           `json:"remote"`         // address and port of the other end
	Seal    string           `json:"seal,omitempty"` // how it was protected on its way, e.g. "TLS 1.3"; empty if it was not
	Start   string           `json:"start"`          // request or status line
	CSeq    string           `json:"cseq"`
	Fields  []string         `json:"fields"`          // telling header fields, "Name: value"
	SDP     []string         `json:"sdp,omitempty"`   // lines of the session description, keys masked
	Media   *Media           `json:"media,omitempty"` // what the session description says about sound
	Request bool             `json:"request"`
	Sent    bool             `json:"sent"` // by this node
}

// Media is what a session description says about its first sound stream.
type Media struct {
	Profile string   `json:"profile"`          // "RTP/SAVP" is sealed, "RTP/AVP" is not (RFC 3711, RFC 3551)
	Suites  []string `json:"suites,omitempty"` // SRTP suites offered, or the one that was chosen (RFC 4568)
	Way     string   `json:"way"`              // "sendrecv", "sendonly", "recvonly" or "inactive"
}

// Sealed reports whether the description demands SRTP.
func (m *Media) Sealed() bool { return strings.Contains(m.Profile, "SAVP") }

// Messages returns what is remembered of a call in the order of time, and how many messages were left out. ok is false if
// nothing is remembered.
func (r *Recorder) Messages(id ringfence.CallID) (out []Message, omitted int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.calls[id]
	if c == nil {
		return nil, 0, false
	}
	for _, t := range c.tracks {
		for _, e := range t.entries {
			m := read(e.text)
			m.At, m.Call, m.Leg, m.Seal, m.Sent = e.at, id, t.leg, e.seal, e.sent
			m.From, m.To = t.name, r.cfg.Node
			if e.sent {
				m.From, m.To = m.To, m.From
			}
			if e.remote.IsValid() {
				m.Remote = e.remote.String()
			}
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Message) int { return a.At.Compare(b.At) })
	return out, c.omitted, true
}

// read takes a kept text apart.
func read(text []byte) Message {
	fields, body := head(text)
	if i := bytes.Index(text, []byte("\r\n\r\n")); i < 0 {
		fields = text
	}
	var m Message
	for line := range bytes.Lines(fields) {
		s := printable(bytes.TrimRight(line, "\r\n"))
		switch {
		case m.Start == "":
			m.Start = s
			m.Request = !strings.HasPrefix(s, "SIP/")
		case line[0] == ' ' || line[0] == '\t':
			if n := len(m.Fields); n > 0 {
				m.Fields[n-1] += " " + strings.TrimSpace(s)
			}
		default:
			if name, value, ok := split(line); ok && bytes.EqualFold(name, []byte("CSeq")) {
				m.CSeq = printable(value)
			}
			m.Fields = append(m.Fields, s)
		}
	}
	for line := range bytes.Lines(body) {
		m.SDP = append(m.SDP, printable(bytes.TrimRight(line, "\r\n")))
	}
	m.Media = media(m.SDP)
	return m
}

// media reads the first sound stream of a session description.
func media(lines []string) *Media {
	var m *Media
	way := "sendrecv"
	for _, l := range lines {
		if strings.HasPrefix(l, "m=") {
			if m != nil {
				break
			}
			if f := strings.Fields(l[2:]); len(f) >= 3 && f[0] == "audio" {
				m = &Media{Profile: f[2]}
			}
			continue
		}
		switch l {
		case "a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive":
			way = l[2:]
		}
		if f := strings.Fields(l); m != nil && strings.HasPrefix(l, "a=crypto:") && len(f) >= 2 {
			m.Suites = append(m.Suites, f[1])
		}
	}
	if m != nil {
		m.Way = way
	}
	return m
}

// printable replaces what could confuse a terminal: only printable ASCII stays.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(b))
}

// label is what stands on the arrow: the method, or the status and the method it answers.
func (m *Message) label() string {
	if m.Request {
		method, _, _ := strings.Cut(m.Start, " ")
		return method
	}
	_, rest, _ := strings.Cut(m.Start, " ")
	code, phrase, _ := strings.Cut(rest, " ")
	if n, err := strconv.Atoi(code); err != nil || n < 100 || n > 699 {
		return rest
	}
	_, method, _ := strings.Cut(m.CSeq, " ")
	label := code + " " + phrase
	if method = strings.TrimSpace(method); method != "INVITE" && method != "" {
		label += " (" + method + ")"
	}
	return label
}

// notes is what stands below the arrow: how the media is sealed, and why something ended or was refused.
func (m *Message) notes() (out []string) {
	switch {
	case m.Media == nil:
	case m.Media.Sealed() && len(m.Media.Suites) > 0:
		note := "SRTP " + m.Media.Suites[0]
		if n := len(m.Media.Suites) - 1; n > 0 {
			note += " +" + strconv.Itoa(n)
		}
		out = append(out, note)
	case m.Media.Sealed():
		out = append(out, "SRTP without a key")
	default:
		out = append(out, "RTP IN CLEAR: "+m.Media.Profile)
	}
	if m.Media != nil && m.Media.Way != "sendrecv" {
		out = append(out, "hold: "+m.Media.Way)
	}
	for _, f := range m.Fields {
		name, value, _ := strings.Cut(f, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "reason", "warning":
			out = append(out, strings.TrimSpace(value))
		case "refer-to", "r":
			out = append(out, "to "+strings.TrimSpace(value))
		}
	}
	return out
}
