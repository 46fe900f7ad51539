package resync

import (
	"fmt"
	"strings"
	"time"

	"ringfence/internal/desk/profilerule"
)

// Priorities of messages: facility local0, notice and error (RFC 3164 section 4.1.1).
const (
	priorityNotice = 16*8 + 5
	priorityError  = 16*8 + 3
	maxMessage     = 1024 // bytes (RFC 3164 section 4.1)
)

// Line writes a message as RFC 3164 section 4.1 says, which is the form that desk phones send.
func Line(priority int, at time.Time, host, text string) []byte {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	b := fmt.Appendf(nil, "<%d>%s %s resync: %s", priority, at.Format(time.Stamp), clean(host, "-"), text)
	return b[:min(len(b), maxMessage)]
}

// log tells of a resync with the message of a parameter; an empty one means none.
func (p *Phone) log(parameter string, priority int, c *circumstances) {
	text, _ := profilerule.Expand(c.set.Text(parameter), c.value)
	if text == "" {
		return
	}
	id := ""
	switch name := c.set.Text("Syslog_Identifier"); name {
	case "$MA", "$MAU", "$MAC", "$SN":
		v, _ := c.value(name[1:])
		id = v + " "
	}
	p.said = append(p.said, id+text)
	to := c.set.Text("Syslog_Server")
	if to == "" || p.Send == nil {
		return
	}
	host := "-"
	if p.Device.IP.IsValid() {
		host = p.Device.IP.String()
	}
	p.Send(to, Line(priority, p.Now(), host, id+text))
}
