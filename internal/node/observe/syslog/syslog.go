package syslog

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ringfence/internal/node/observe/outbox"
)

// maxMessage bounds one message, in bytes; RFC 5425 section 4.3.1 asks receivers to take 8,192.
const maxMessage = 8192

// element is the SD-ID of the attributes of a record (RFC 5424 section 7.2.2). 32473 is the enterprise number for examples
// (RFC 5612); it stands here because none is assigned to this product.
const element = "attrs@32473"

// facility 3 is "system daemons" (RFC 5424 section 6.2.1).
const facility = 3

// Config says where records go and what they say about their origin.
type Config struct {
	Dial func(ctx context.Context) (io.WriteCloser, error)
	// Datagrams: each record is one datagram, as a host's own syslog socket wants it. Otherwise records are framed by octet
	// counting (RFC 5425 section 4.3).
	Datagrams bool
	Host      string       // HOSTNAME
	App       string       // APP-NAME
	PID       int          // PROCID
	Level     slog.Leveler // the least that is sent; nil: everything
	Log       *slog.Logger // hears about the connection; must not lead back here
}

// Handler is a slog.Handler.
type Handler struct {
	cfg    Config
	out    *outbox.Outbox[string]
	prefix string // groups, each followed by "."
	attrs  string // rendered SD-PARAMs of WithAttrs
}

var _ slog.Handler = (*Handler)(nil)

// New returns a handler that connects when there is something to send.
func New(cfg Config) *Handler {
	encode := func(dst []byte, text string) []byte {
		if !cfg.Datagrams {
			dst = append(strconv.AppendInt(dst, int64(len(text)), 10), ' ')
		}
		return append(dst, text...)
	}
	h := &Handler{cfg: cfg}
	h.out = outbox.New(outbox.Config[string]{Name: "syslog", Dial: cfg.Dial, Encode: encode, Datagrams: cfg.Datagrams, Log: cfg.Log,
		Lost: func(dst []byte, n uint64) []byte {
			text := h.format(time.Now(), slog.LevelWarn, "log records were lost while the collector was away", param("lost", strconv.FormatUint(n, 10)))
			return encode(dst, text)
		}})
	return h
}

// Stats returns the counters.
func (h *Handler) Stats() outbox.Stats { return h.out.Stats() }

// Close sends what waits, and stops. Records that come later are lost.
func (h *Handler) Close() { h.out.Close() }

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool {
	return h.cfg.Level == nil || l >= h.cfg.Level.Level()
}

// Handle implements slog.Handler. It never waits.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		render(&b, h.prefix, a)
		return true
	})
	h.out.Put(h.format(r.Time, r.Level, r.Message, b.String()))
	return nil
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		render(&b, h.prefix, a)
	}
	n := *h
	n.attrs = b.String()
	return &n
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	n := *h
	if name != "" {
		n.prefix += name + "."
	}
	return &n
}

// format writes a message by the grammar of RFC 5424 section 6.
func (h *Handler) format(at time.Time, level slog.Level, msg, params string) string {
	var b strings.Builder
	b.WriteByte('<')
	b.WriteString(strconv.Itoa(facility*8 + severity(level)))
	b.WriteString(">1 ")
	if at.IsZero() {
		b.WriteByte('-')
	} else {
		b.WriteString(at.Format("2006-01-02T15:04:05.000000Z07:00")) // at most six digits of a second
	}
	b.WriteString(" " + name(h.cfg.Host, 255) + " " + name(h.cfg.App, 48) + " " + strconv.Itoa(h.cfg.PID) + " - ")
	if params == "" {
		b.WriteByte('-')
	} else {
		b.WriteString("[" + element + params + "]")
	}
	b.WriteString(" \ufeff") // MSG is UTF-8
	room := max(maxMessage-b.Len(), 0)
	b.WriteString(cut(text(msg), room))
	return b.String()
}

// severity maps levels to RFC 5424 section 6.2.1: 7 debug, 6 informational, 4 warning, 3 error.
func severity(l slog.Level) int {
	switch {
	case l < slog.LevelInfo:
		return 7
	case l < slog.LevelWarn:
		return 6
	case l < slog.LevelError:
		return 4
	}
	return 3
}

// render appends an attribute as SD-PARAM, groups as dotted names. Attributes that would make the message too long are cut.
func render(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, x := range v.Group() {
			render(b, prefix, x)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	var s string
	switch v.Kind() {
	case slog.KindTime:
		s = v.Time().Format(time.RFC3339Nano)
	default:
		s = v.String()
	}
	p := param(prefix+a.Key, cut(text(s), 1024))
	if b.Len()+len(p) <= maxMessage/2 {
		b.WriteString(p)
	}
}

// param writes ` name="value"` with the escapes of RFC 5424 section 6.3.3.
func param(key, value string) string {
	return " " + name(key, 32) + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(value) + `"`
}

// name makes a PRINTUSASCII name without the signs that structure the message; an empty one is "-".
func name(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '=' || r == ']' || r == '"' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}

// text keeps a message on one line, so that nobody can forge another one, and valid UTF-8.
func text(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// cut shortens to n bytes at most, without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
