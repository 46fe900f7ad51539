package proxy

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4" //lint:ignore SA1019 MS-NLMP section 3.3.2 keeps passwords so; nothing else here trusts it

	"ringfence"
)

// Flags of MS-NLMP section 2.2.2.5.
const (
	ntlmUnicode     = 1 << 0
	ntlmTarget      = 1 << 2
	ntlmNTLM        = 1 << 9
	ntlmAlwaysSign  = 1 << 15
	ntlmExtended    = 1 << 19
	ntlmTargetInfo  = 1 << 23
	ntlmVersion     = 1 << 25
	ntlm128         = 1 << 29
	ntlm56          = 1 << 31
	ntlmMaxInfo     = 8 << 10
	ntlmAuthHeader  = 88 // with version and MIC
	ntlmInfoEnd     = 0
	ntlmInfoFlags   = 6
	ntlmInfoTime    = 7
	ntlmInfoMIC     = 2 // a bit of the value of ntlmInfoFlags
	ntlmSignature   = "NTLMSSP\x00"
	ntlmUnixToEpoch = 116444736000000000 // between 1601 and 1970, in 100 ns
)

// The version of MS-NLMP section 2.2.2.10: nobody looks at the numbers, and the last one says that it is NTLMSSP revision 15.
func ntlmVersionBytes() []byte { return []byte{10, 0, 0, 0, 0, 0, 0, 15} }

// ntlmNegotiate is the first message (MS-NLMP section 2.2.1.1); it says nothing of who asks.
func ntlmNegotiate() []byte {
	b := append([]byte(ntlmSignature), 1, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, ntlmUnicode|ntlmTarget|ntlmNTLM|ntlmAlwaysSign|ntlmExtended|ntlmTargetInfo|ntlmVersion|ntlm128|ntlm56)
	b = append(b, make([]byte, 16)...) // no domain, no workstation
	return append(b, ntlmVersionBytes()...)
}

// NTLMChallenge is the second message, of the proxy (MS-NLMP section 2.2.1.2).
type NTLMChallenge struct {
	Flags  uint32
	Nonce  [8]byte
	Target string
	Info   []byte // AV_PAIRs, up to and without their end
	Time   uint64 // 100 ns since 1601; 0: not told
}

// ParseNTLMChallenge reads the second message.
func ParseNTLMChallenge(b []byte) (c NTLMChallenge, err error) {
	bad := func(text string) (NTLMChallenge, error) {
		return NTLMChallenge{}, &ringfence.Fault{Op: "proxy.ntlm", Kind: ringfence.KindInvalid, Text: "the proxy's NTLM message is broken: " + text}
	}
	if len(b) < 32 || len(b) > maxValue || string(b[:8]) != ntlmSignature || binary.LittleEndian.Uint32(b[8:]) != 2 {
		return bad("it is no challenge")
	}
	c.Flags = binary.LittleEndian.Uint32(b[20:])
	copy(c.Nonce[:], b[24:32])
	field := func(at int) ([]byte, bool) {
		n, off := int(binary.LittleEndian.Uint16(b[at:])), int64(binary.LittleEndian.Uint32(b[at+4:]))
		if n == 0 {
			return nil, true
		}
		if off+int64(n) > int64(len(b)) {
			return nil, false
		}
		return b[off : off+int64(n)], true
	}
	target, _ := field(12) // only for people; Squid's helper for tests names one that is not there
	if c.Target = string(target); c.Flags&ntlmUnicode != 0 {
		c.Target = fromUTF16(target)
	}
	if c.Flags&ntlmTargetInfo == 0 || len(b) < 48 {
		return c, nil
	}
	info, ok := field(40)
	if !ok { // servers that have none and say that they have, such as Squid's helper, begin their payload here
		return c, nil
	}
	if len(info) > ntlmMaxInfo {
		return bad("its target information is too long")
	}
	for rest := info; len(rest) > 0; {
		if len(rest) < 4 {
			return bad("its target information is cut short")
		}
		id, n := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if id == ntlmInfoEnd {
			break
		}
		if n > len(rest)-4 || id == ntlmInfoTime && n != 8 {
			return bad("its target information is cut short")
		}
		if id == ntlmInfoTime {
			c.Time = binary.LittleEndian.Uint64(rest[4:])
		}
		if id != ntlmInfoFlags { // ours is put there
			c.Info = append(c.Info, rest[:4+n]...)
		}
		rest = rest[4+n:]
	}
	return c, nil
}

func toUTF16(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func fromUTF16(b []byte) string {
	u := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(u))
}

func hmacMD5(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// ntowf is NTOWFv2 (MS-NLMP section 3.3.2).
func ntowf(user, password, domain string) []byte {
	h := md4.New()
	h.Write(toUTF16(password))
	return hmacMD5(h.Sum(nil), toUTF16(strings.ToUpper(user)+domain))
}

// ntlmv2 is the response to a challenge, and the session key that comes of it.
func ntlmv2(key []byte, challenge, client [8]byte, when uint64, info []byte) (response, session []byte) {
	temp := []byte{1, 1, 0, 0, 0, 0, 0, 0}
	temp = binary.LittleEndian.AppendUint64(temp, when)
	temp = append(temp, client[:]...)
	temp = append(temp, 0, 0, 0, 0)
	temp = append(temp, info...)
	temp = append(temp, 0, 0, 0, 0, 0, 0, 0, 0) // the end of the list, and four bytes that nobody names
	proof := hmacMD5(key, challenge[:], temp)
	return append(bytes.Clone(proof), temp...), hmacMD5(key, proof)
}

// ntlmAuthenticate is the third message (MS-NLMP section 2.2.1.3), with a MIC if the proxy tells its time.
func ntlmAuthenticate(first, second []byte, c NTLMChallenge, user, password, domain, workstation string, client [8]byte, now time.Time) []byte {
	key := ntowf(user, password, domain)
	info, when, lm := bytes.Clone(c.Info), c.Time, make([]byte, 24)
	if c.Time != 0 {
		info = append(info, ntlmInfoFlags, 0, 4, 0, ntlmInfoMIC, 0, 0, 0)
	} else {
		when = uint64(now.Unix()*1e7 + int64(now.Nanosecond())/100 + ntlmUnixToEpoch)
		lm = append(hmacMD5(key, c.Nonce[:], client[:]), client[:]...)
	}
	nt, session := ntlmv2(key, c.Nonce, client, when, info)
	text := func(s string) []byte {
		if c.Flags&ntlmUnicode != 0 {
			return toUTF16(s)
		}
		return []byte(strings.ToUpper(s))
	}
	b := append([]byte(ntlmSignature), 3, 0, 0, 0)
	var payload []byte
	for _, f := range [][]byte{lm, nt, text(domain), text(user), text(workstation), nil} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(f)))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(f)))
		b = binary.LittleEndian.AppendUint32(b, uint32(ntlmAuthHeader+len(payload)))
		payload = append(payload, f...)
	}
	b = binary.LittleEndian.AppendUint32(b, c.Flags&(ntlmUnicode|ntlmTarget|ntlmNTLM|ntlmAlwaysSign|ntlmExtended|ntlmTargetInfo|ntlm128|ntlm56)|ntlmVersion)
	b = append(b, ntlmVersionBytes()...)
	mic := len(b)
	b = append(b, make([]byte, 16)...)
	b = append(b, payload...)
	if c.Time != 0 {
		copy(b[mic:], hmacMD5(session, first, second, b))
	}
	return b
}
