package cipherlist

import (
	"slices"
	"strings"

	"ringfence"
)

// The limits of a list.
const (
	MaxSize = 4096 // bytes
	maxWord = 64
)

// suite is one cipher suite with what it is selected by.
type suite struct {
	code               uint16
	name, openssl      string
	min                uint16
	kx, auth, enc, mac uint32
	class              uint32
}

func (s *suite) bits() int {
	switch s.enc {
	case eNULL:
		return 0
	case e3DES:
		return 112
	case eRC4, eIDEA, eSEED, eRC2, eAES128, eAES128GCM, eAES128CCM, eAES128CCM8, eCAMELLIA128, eARIA128GCM:
		return 128
	}
	return 256
}

// node is a suite in the list that is being made. One that is not active may become so.
type node struct {
	suite
	active bool
}

// order is the list while it is being made: all suites, of which some are active. Operations keep the order of the others.
type order []*node

// op is what a rule does with the suites it selects.
type op byte

const (
	add  op = 'a' // make active, at the end
	del  op = '-' // make inactive; it can be added again
	kill op = '!' // take out for good
	tail op = '+' // move to the end, if it is active
	bump op = 'b' // move to the front, if it is active
	call op = '@' // a command follows
)

// operation returns what a character before a word stands for.
func operation(c byte) op {
	switch c {
	case '-':
		return del
	case '+':
		return tail
	case '!':
		return kill
	}
	return call
}

// takes reports whether a selector takes a suite.
func (x selector) takes(s *suite) bool {
	switch {
	case x.code != 0 && x.code != s.code,
		x.kx != 0 && x.kx&s.kx == 0,
		x.auth != 0 && x.auth&s.auth == 0,
		x.enc != 0 && x.enc&s.enc == 0,
		x.mac != 0 && x.mac&s.mac == 0,
		x.min != 0 && x.min != s.min,
		x.class&strengths != 0 && x.class&strengths&s.class == 0,
		x.class&notDefault != 0 && s.class&notDefault == 0:
		return false
	}
	return true
}

// apply does op with every suite that takes selects, and returns how many those were.
func (o *order) apply(op op, takes func(*suite) bool) (n int) {
	var moved, rest order
	for _, s := range *o {
		if !takes(&s.suite) {
			rest = append(rest, s)
			continue
		}
		n++
		switch {
		case op == kill:
		case op == add && !s.active, op == tail && s.active, op == del && s.active, op == bump && s.active:
			moved = append(moved, s)
			s.active = op != del
		default:
			rest = append(rest, s)
		}
	}
	if op == add || op == tail {
		*o = append(rest, moved...)
	} else { // what was taken out last comes back first
		*o = append(moved, rest...)
	}
	return n
}

func (o *order) strengthSort() {
	var all []int
	for _, s := range *o {
		if s.active && !slices.Contains(all, s.bits()) {
			all = append(all, s.bits())
		}
	}
	slices.Sort(all)
	for _, bits := range slices.Backward(all) {
		o.apply(tail, func(s *suite) bool { return s.bits() == bits })
	}
}

// start is the order that OpenSSL begins with: nothing is active, and what is added comes best first.
func start() order {
	var o order
	for _, s := range slices.Backward(suites()) {
		o = append(o, &node{suite: s})
	}
	do := func(op op, x selector) { o.apply(op, x.takes) }
	do(add, selector{kx: kECDHE, auth: aECDSA})
	do(add, selector{kx: kECDHE})
	do(del, selector{kx: kECDHE})
	do(add, selector{enc: eAESGCM})
	do(add, selector{enc: eCHACHA20})
	do(add, selector{enc: eAES &^ eAESGCM})
	do(add, selector{})
	do(tail, selector{mac: mMD5})
	do(tail, selector{auth: aNULL})
	do(tail, selector{kx: kRSA})
	do(tail, selector{kx: kPSK})
	do(tail, selector{enc: eRC4})
	o.strengthSort()
	do(bump, selector{min: tls12})
	do(bump, selector{mac: mAEAD})
	do(bump, selector{kx: kDHE | kECDHE})
	do(bump, selector{kx: kDHE | kECDHE, mac: mAEAD})
	do(del, selector{})
	return o
}

// separator reports whether c stands between words.
func separator(c byte) bool { return c == ':' || c == ' ' || c == ';' || c == ',' }

func wordByte(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '='
}

// reader applies a list to an order.
type reader struct {
	order
	known    map[string]selector
	level    int // of @SECLEVEL; -1 if there is none
	warnings []string
}

func (r *reader) warn(text string) {
	if !slices.Contains(r.warnings, text) {
		r.warnings = append(r.warnings, text)
	}
}

func invalid(text, hint string) error {
	return &ringfence.Fault{Op: "cipherlist.parse", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

// rules applies a list word by word, as ssl_create_cipher_list of OpenSSL does.
func (r *reader) rules(list string) error {
	for i := 0; i < len(list); {
		op := add
		first := list[i]
		switch first {
		case '-', '+', '!', '@':
			op = operation(first)
			i++
		}
		if separator(first) {
			i++
			continue
		}
		start := i
		x, found, special, next, err := r.word(list, i, op == call)
		if err != nil {
			return err
		}
		i = next
		switch {
		case op == call:
			if err := r.special(special); err != nil {
				return err
			}
			for i < len(list) && !separator(list[i]) {
				i++
			}
		case found:
			if n := r.apply(op, x.takes); n == 0 && op == add {
				r.warn(quote(list[start:i]) + " matches no cipher suite")
			}
		default:
			for i < len(list) && !separator(list[i]) {
				i++
			}
			r.unknown(list[start:i])
		}
	}
	return nil
}

// word reads words joined by "+". found tells that there are suites that all of them could mean.
func (r *reader) word(list string, i int, special bool) (x selector, found bool, name string, next int, err error) {
	for {
		from := i
		for i < len(list) && wordByte(list[i]) {
			i++
		}
		name = list[from:i]
		if name == "" {
			return x, false, "", i, invalid("a cipher list has a character where a word should be: "+quote(list[from:min(from+8, len(list))]), "words are letters, digits, - and ., between colons; before one may be ! - or +")
		}
		if special {
			return x, false, name, i, nil
		}
		joined := i < len(list) && list[i] == '+'
		if joined {
			i++
		}
		w, ok := r.known[name]
		if !ok || !x.narrow(w) {
			return x, false, name, i, nil
		}
		if !joined {
			return x, true, name, i, nil
		}
	}
}

// narrow adds a word to a selector; it fails if no suite can be both.
func (x *selector) narrow(w selector) bool {
	and := func(to *uint32, with uint32) bool {
		if with == 0 {
			return true
		}
		if *to == 0 {
			*to = with
			return true
		}
		*to &= with
		return *to != 0
	}
	if !and(&x.kx, w.kx) || !and(&x.auth, w.auth) || !and(&x.enc, w.enc) || !and(&x.mac, w.mac) {
		return false
	}
	if s := w.class & strengths; s != 0 {
		if have := x.class & strengths; have != 0 {
			if x.class &= s | ^strengths; x.class&strengths == 0 {
				return false
			}
		} else {
			x.class = s // "COMPLEMENTOFDEFAULT" before it is forgotten, by OpenSSL too
		}
	}
	x.class |= w.class & notDefault
	switch {
	case w.code != 0: // the protocol of a suite that is named does not count
		x.code = w.code
	case w.min != 0 && x.min != 0 && x.min != w.min:
		return false
	case w.min != 0:
		x.min = w.min
	}
	return true
}

// special does what stands behind an @.
func (r *reader) special(name string) error {
	level, isLevel := strings.CutPrefix(name, "SECLEVEL=")
	switch {
	case name == "STRENGTH":
		r.strengthSort()
	case isLevel && len(level) == 1 && level[0] >= '0' && level[0] <= '5':
		r.level = int(level[0] - '0')
	default:
		return invalid("@"+quote(name)+" is no command of a cipher list", "there are @STRENGTH and @SECLEVEL=0 to 5")
	}
	return nil
}

func quote(s string) string {
	if len(s) > maxWord {
		s = s[:maxWord] + "…"
	}
	return `"` + strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '"' {
			return '?'
		}
		return c
	}, s) + `"`
}

// unknown says what OpenSSL does not: that it passes over a word.
func (r *reader) unknown(word string) {
	word = strings.TrimSuffix(word, "+")
	for name := range r.known {
		if strings.EqualFold(name, word) && name != word {
			r.warn(quote(word) + " is not known and passed over in silence; upper and lower case count: did you mean " + name + "?")
			return
		}
	}
	if word == "DEFAULT" {
		r.warn(quote(word) + " counts only at the very beginning; here it is passed over in silence")
		return
	}
	r.warn(quote(word) + " is not known, or its parts exclude each other; it is passed over in silence")
}

// suiteB returns the list that a Suite B word at the beginning stands for (RFC 6460), whatever follows it.
func suiteB(list string) (string, bool) {
	const small, large = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
	switch {
	case strings.HasPrefix(list, "SUITEB128ONLY"):
		return small, true
	case strings.HasPrefix(list, "SUITEB128C2"):
		return large, true
	case strings.HasPrefix(list, "SUITEB128"):
		return small + ":" + large, true
	case strings.HasPrefix(list, "SUITEB192"):
		return large, true
	}
	return "", false
}

// read makes the list.
func read(list string) (*reader, error) {
	if len(list) > MaxSize {
		return nil, invalid("a cipher list has 4096 bytes at most", "")
	}
	r := &reader{order: start(), known: words(), level: -1}
	for _, s := range r.order {
		r.known[s.openssl] = selector{kx: s.kx, auth: s.auth, enc: s.enc, mac: s.mac, class: s.class, code: s.code}
	}
	rest := list
	if b, ok := suiteB(list); ok {
		rest = b
	}
	if after, ok := strings.CutPrefix(rest, "DEFAULT"); ok {
		if err := r.rules("ALL:!COMPLEMENTOFDEFAULT:!eNULL"); err != nil {
			return nil, err
		}
		rest = strings.TrimPrefix(after, ":")
	}
	return r, r.rules(rest)
}
