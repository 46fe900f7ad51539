package share

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"ringfence"
)

// What is the SHA-256 of the signed header of a file.
type What [32]byte

// String returns it in hexadecimal.
func (w What) String() string { return hex.EncodeToString(w[:]) }

// Verb is what a message is.
type Verb string

// The verbs: who has it; I have it; give it to me; here it is; no.
const (
	Ask  Verb = "ASK"  // nonce, what; to the group
	Have Verb = "HAVE" // nonce, what, size; to who asked
	Get  Verb = "GET"  // what; on a stream
	OK   Verb = "OK"   // size, and the bytes behind it
	No   Verb = "NO"
)

// Message is one line of the protocol.
type Message struct {
	Verb  Verb
	Nonce string // 16 letters of hexadecimal
	What  What
	Size  int64
}

const (
	version    = "RINGFENCE-FIRMWARE/1"
	maxMessage = 160 // bytes, with the end of the line
	// MaxSize is the most that a file may have.
	MaxSize = 8<<20 + 0xffff
)

// fields says what stands behind each verb.
func fields(v Verb) (names string, ok bool) {
	names, ok = map[Verb]string{Ask: "nw", Have: "nws", Get: "w", OK: "s", No: ""}[v]
	return names, ok
}

// String returns the line, with its end.
func (m Message) String() string {
	var b strings.Builder
	b.WriteString(version + " " + string(m.Verb))
	names, _ := fields(m.Verb)
	for _, f := range names {
		switch f {
		case 'n':
			b.WriteString(" " + m.Nonce)
		case 'w':
			b.WriteString(" " + m.What.String())
		case 's':
			b.WriteString(" " + strconv.FormatInt(m.Size, 10))
		}
	}
	return b.String() + "\n"
}

// Parse reads a line.
func Parse(b []byte) (m Message, err error) {
	bad := func(text string, args ...any) (Message, error) {
		return Message{}, &ringfence.Fault{Op: "share.message", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(text, args...)}
	}
	if len(b) > maxMessage {
		return bad("a message has %d bytes at most", maxMessage)
	}
	line, ended := strings.CutSuffix(string(b), "\n")
	parts := strings.Split(line, " ")
	if !ended || len(parts) < 2 || parts[0] != version {
		return bad("this is no message")
	}
	m.Verb = Verb(parts[1])
	names, ok := fields(m.Verb)
	if !ok || len(parts) != 2+len(names) {
		return bad("there is no such message")
	}
	for i, f := range names {
		text := parts[2+i]
		switch f {
		case 'n':
			if m.Nonce = text; len(text) != 16 || strings.Trim(text, "0123456789abcdef") != "" {
				return bad("this is no nonce")
			}
		case 'w':
			w, err := hex.DecodeString(text)
			if err != nil || len(w) != len(m.What) || strings.ToLower(text) != text {
				return bad("this is no digest")
			}
			copy(m.What[:], w)
		case 's':
			if m.Size, err = strconv.ParseInt(text, 10, 64); err != nil || m.Size < 1 || m.Size > MaxSize || strconv.FormatInt(m.Size, 10) != text {
				return bad("this is no size")
			}
		}
	}
	return m, nil
}
