package dhcp

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// Bounds of what is kept of an answer.
const (
	maxMessage   = 1500 // bytes of a datagram
	maxText      = 1024 // bytes of a text, e.g. an address of a profile
	maxAddresses = 8    // of one option
	maxOptions   = 128  // of one message
)

// words reads a text. Servers end it with a zero or a line end, as the first clients wanted it; what does not belong in one makes it none.
func words(b []byte) (string, string) {
	s := strings.TrimRight(string(b), "\x00\r\n ")
	switch {
	case s == "":
		return "", "it is empty"
	case len(s) > maxText:
		return "", "it is longer than " + strconv.Itoa(maxText) + " bytes"
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }):
		return "", "it is no text: " + short(b)
	}
	return s, ""
}

// word is a text without blanks.
func word(b []byte) (string, string) {
	s, why := words(b)
	if strings.Contains(s, " ") {
		return "", "there are blanks in it"
	}
	return s, why
}

// name reads the name of a host or a domain.
func name(b []byte) (string, string) {
	s, why := word(b)
	if why != "" {
		return "", why
	}
	s = strings.TrimSuffix(strings.ToLower(s), ".")
	if !isName(s) {
		return "", "it is no name of DNS"
	}
	return s, ""
}

func isName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// addresses reads IPv4 or IPv6 addresses, those of hosts alone.
func addresses(b []byte, size int) (out []netip.Addr, why string) {
	if len(b) == 0 || len(b)%size != 0 {
		return nil, "its length is no multiple of " + strconv.Itoa(size)
	}
	for ; len(b) > 0 && len(out) < maxAddresses; b = b[size:] {
		a, _ := netip.AddrFromSlice(b[:size])
		if !usable(a) && !a.IsLinkLocalUnicast() {
			return nil, a.String() + " is no address of a host"
		}
		out = append(out, a)
	}
	return out, ""
}

// names reads names as DNS writes them (RFC 1035 section 3.1), without compression (RFC 8415 section 10).
func names(b []byte) (out []string, why string) {
	for len(b) > 0 {
		var labels []string
		for {
			if len(b) == 0 || b[0] > 63 || len(b) < 1+int(b[0]) {
				return nil, "a name in it is cut short"
			}
			n := int(b[0])
			label := string(b[1 : 1+n])
			if b = b[1+n:]; n == 0 {
				break
			}
			labels = append(labels, strings.ToLower(label))
		}
		s := strings.Join(labels, ".")
		if !isName(s) {
			return nil, "it is no list of names of DNS"
		}
		if len(out) < maxAddresses {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, "it is empty"
	}
	return out, ""
}

// short shows bytes that are no text.
func short(b []byte) string {
	if len(b) > 32 {
		return hex.EncodeToString(b[:32]) + "…"
	}
	return hex.EncodeToString(b)
}

// suboptions takes an option apart: codes and lengths of one byte, or of two.
func suboptions(b []byte, wide bool) (map[uint16][]byte, string) {
	out := map[uint16][]byte{}
	for len(b) > 0 && len(out) < maxOptions {
		var code uint16
		var n, head int
		switch {
		case !wide && b[0] == 0:
			b = b[1:]
			continue
		case !wide && b[0] == 255:
			return out, ""
		case !wide && len(b) >= 2:
			code, n, head = uint16(b[0]), int(b[1]), 2
		case wide && len(b) >= 4:
			code, n, head = binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:])), 4
		default:
			return nil, "an option within it is cut short"
		}
		if len(b) < head+n {
			return nil, "an option within it is cut short"
		}
		out[code] = append(out[code], b[head:head+n]...)
		b = b[head+n:]
	}
	return out, ""
}

func join[T any](of []T, text func(T) string) string {
	var out []string
	for _, x := range of {
		out = append(out, text(x))
	}
	return strings.Join(out, ", ")
}
