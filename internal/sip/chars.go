package sip

// What a byte may be, as the bits of its entry in chars.
const (
	inToken    = 1 << iota // of a token (RFC 3261 section 25.1)
	inWord                 // of a word (section 25.1), of which a Call-ID is made
	inHost                 // of a host name or an IPv4 address; real networks use the underscore
	notInURI               // of no URI: controls, space, angle brackets and quotes
	marksURI               // of a URI, where it divides it or escapes a byte
	notInValue             // not of a parameter's value without quotes: it ends the value, or makes it malformed
)

// isToken reports whether b is a token (RFC 3261 section 25.1).
func isToken(b []byte) bool {
	for _, c := range b {
		if chars[c]&inToken == 0 {
			return false
		}
	}
	return len(b) > 0
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

const (
	alphanumeric = inToken | inWord | inHost
	punctuation  = inToken | inWord
	control      = notInURI
)

// chars is never written. One table for all questions is in the cache when the next one is asked.
var chars = [256]uint8{
	0: control, 1: control, 2: control, 3: control, 4: control, 5: control, 6: control, 7: control, 8: control,
	'\t': control | notInValue, 10: control, 11: control, 12: control, 13: control, 14: control, 15: control,
	16: control, 17: control, 18: control, 19: control, 20: control, 21: control, 22: control, 23: control,
	24: control, 25: control, 26: control, 27: control, 28: control, 29: control, 30: control, 31: control, 0x7f: control,
	' ': notInURI | notInValue, '"': notInURI | inWord | notInValue, '<': notInURI | inWord | notInValue, '>': notInURI | inWord | notInValue,
	'(': inWord | notInValue, ')': inWord | notInValue, '\\': inWord | notInValue, ';': notInValue,
	'/': inWord, '[': inWord, ']': inWord, '?': inWord, '{': inWord, '}': inWord, ':': inWord | marksURI, '@': marksURI,
	'%': punctuation | marksURI, '!': punctuation, '\'': punctuation, '*': punctuation, '+': punctuation, '`': punctuation, '~': punctuation,
	'-': alphanumeric, '.': alphanumeric, '_': alphanumeric,
	'0': alphanumeric, '1': alphanumeric, '2': alphanumeric, '3': alphanumeric, '4': alphanumeric,
	'5': alphanumeric, '6': alphanumeric, '7': alphanumeric, '8': alphanumeric, '9': alphanumeric,
	'A': alphanumeric, 'B': alphanumeric, 'C': alphanumeric, 'D': alphanumeric, 'E': alphanumeric, 'F': alphanumeric, 'G': alphanumeric,
	'H': alphanumeric, 'I': alphanumeric, 'J': alphanumeric, 'K': alphanumeric, 'L': alphanumeric, 'M': alphanumeric, 'N': alphanumeric,
	'O': alphanumeric, 'P': alphanumeric, 'Q': alphanumeric, 'R': alphanumeric, 'S': alphanumeric, 'T': alphanumeric, 'U': alphanumeric,
	'V': alphanumeric, 'W': alphanumeric, 'X': alphanumeric, 'Y': alphanumeric, 'Z': alphanumeric,
	'a': alphanumeric, 'b': alphanumeric, 'c': alphanumeric, 'd': alphanumeric, 'e': alphanumeric, 'f': alphanumeric, 'g': alphanumeric,
	'h': alphanumeric, 'i': alphanumeric, 'j': alphanumeric, 'k': alphanumeric, 'l': alphanumeric, 'm': alphanumeric, 'n': alphanumeric,
	'o': alphanumeric, 'p': alphanumeric, 'q': alphanumeric, 'r': alphanumeric, 's': alphanumeric, 't': alphanumeric, 'u': alphanumeric,
	'v': alphanumeric, 'w': alphanumeric, 'x': alphanumeric, 'y': alphanumeric, 'z': alphanumeric,
}
