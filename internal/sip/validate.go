package sip

import "bytes"

// Validate makes the checks of RFC 3261 sections 8.1.1, 8.2 and 16.3 that do not depend on who we are: the mandatory
// fields are there once and well formed, the method agrees with CSeq, and the known fields follow their grammar. It
// returns a [*ParseError] whose Status is the response to send (RFC 4475); a response that fails is to be dropped.
//
// It allows what RFC 2543 clients leave out (tags, branch, Max-Forwards). What an element must decide is left to it:
// methods (501, 405), extensions (420), body types (415), loops (482), hops (483) and dialogs (481).
func (m *Message) Validate() error {
	if m.valid {
		return nil
	}
	if m.again != 0 {
		for _, id := range [...]HeaderID{HeaderFrom, HeaderTo, HeaderCallID, HeaderCSeq, HeaderMaxForwards, HeaderContentType} {
			if m.repeated(id) {
				return m.fieldError(id, "Repeated ")
			}
		}
	}
	for _, id := range [...]HeaderID{HeaderVia, HeaderFrom, HeaderTo, HeaderCallID, HeaderCSeq} {
		if !m.Has(id) {
			return bad(0, "Missing "+id.String())
		}
	}
	if err := m.validateVias(); err != nil {
		return err
	}
	if err := m.validateDialogFields(); err != nil {
		return err
	}
	if m.request {
		if err := m.validateRequestURI(); err != nil {
			return err
		}
	}
	if v := m.Get(HeaderMaxForwards); v != nil {
		if _, ok := parseUint(v, 255); !ok {
			return m.fieldError(HeaderMaxForwards, "Bad ")
		}
	}
	if err := m.validateAddresses(); err != nil {
		return err
	}
	if err := m.validateLists(); err != nil {
		return err
	}
	if err := m.validateBody(); err != nil {
		return err
	}
	m.valid = true
	return nil
}

// repeated reports whether there is more than one field with this id.
func (m *Message) repeated(id HeaderID) bool { return m.again>>id&1 == 1 }

func (m *Message) fieldError(id HeaderID, what string) *ParseError {
	offset := 0
	if i := m.first[id]; i > 0 {
		offset = int(m.fields[i-1].name.start)
	}
	return bad(offset, what+id.String())
}

// validateVias reads every Via: responses go where they say. The branch of the top one, if it has one (RFC 2543), is there once
// and is a token with something after the cookie.
func (m *Message) validateVias() error {
	top := true
	for line := range m.All(HeaderVia) {
		for v, rest := nextValue(line); v != nil; v, rest = nextValue(rest) {
			via, err := ParseVia(v)
			if err != nil {
				return m.fieldError(HeaderVia, "Bad ")
			}
			branch, good, ok := via.Params.check("branch")
			if !ok || top && (!good || string(branch) == MagicCookie) {
				return m.fieldError(HeaderVia, "Bad Parameter In ")
			}
			if top {
				m.keepVia(&via, branch)
			}
			top = false
		}
	}
	if top {
		return m.fieldError(HeaderVia, "Empty ")
	}
	return nil
}

func (m *Message) keepVia(v *Via, branch []byte) {
	k, whole := &m.kept, m.fields[m.first[HeaderVia]-1].value
	var transport, host, params, found bool
	k.transport, transport = m.spanIn(whole, v.Transport)
	k.host, host = m.spanIn(whole, v.Host)
	k.params, params = m.spanIn(whole, v.Params)
	k.branch, found = m.spanIn(whole, branch)
	k.port, k.top = v.Port, transport && host && params && found
}

func (m *Message) validateDialogFields() error {
	var a NameAddr
	for _, id := range [...]HeaderID{HeaderFrom, HeaderTo} {
		if a.parse(m.Get(id)) != nil {
			return m.fieldError(id, "Bad ")
		}
		tag, good, ok := a.Params.check("tag")
		if !ok {
			return m.fieldError(id, "Bad ")
		}
		if !good {
			return m.fieldError(id, "Bad Tag In ")
		}
		at, _ := m.spanIn(m.fields[m.first[id]-1].value, tag) // no part of a parameter is a copy
		if id == HeaderFrom {
			m.kept.fromTag = at
		} else {
			m.kept.toTag = at
		}
	}
	if !isCallID(m.CallID()) {
		return m.fieldError(HeaderCallID, "Bad ")
	}
	seq, method, ok := m.readCSeq()
	if !ok {
		return m.fieldError(HeaderCSeq, "Bad ")
	}
	m.kept.seq, m.kept.method = seq, method
	if !m.request {
		return nil
	}
	v := m.Get(HeaderCSeq)
	if method != m.method || !bytes.HasSuffix(v, m.MethodText()) || !isBlank(v[len(v)-len(m.MethodText())-1]) {
		return m.fieldError(HeaderCSeq, "Method Mismatch In ")
	}
	return nil
}

// isCallID reports whether b is word ["@" word] (RFC 3261 section 25.1).
func isCallID(b []byte) bool {
	at := 0
	for i, c := range b {
		if chars[c]&inWord != 0 {
			continue
		}
		if at++; c != '@' || at > 1 || i == 0 || i == len(b)-1 {
			return false
		}
	}
	return len(b) > 0
}

// validateRequestURI: 416 for a scheme that is not for SIP (section 8.2.2.1), 400 for header parameters, which a
// Request-URI may not have (section 19.1.1).
func (m *Message) validateRequestURI() error {
	var u URI
	if n, err := u.parse(m.RequestURI()); err != nil || n != len(m.RequestURI()) {
		return bad(int(m.uri.start), "Bad Request-URI")
	}
	if !u.IsSIP() && !EqualFold(u.Scheme, "tel") {
		return &ParseError{Status: 416, Reason: "Unsupported URI Scheme", Offset: int(m.uri.start)}
	}
	if u.HasHeaders {
		return bad(int(m.uri.start), "Headers In Request-URI")
	}
	return nil
}

// validateAddresses reads the fields that hold addresses. Contact may be "*"; routes need brackets (section 20.34).
func (m *Message) validateAddresses() error {
	var a NameAddr
	for _, id := range [...]HeaderID{HeaderContact, HeaderRoute, HeaderRecordRoute, HeaderPath, HeaderServiceRoute, HeaderReferTo,
		HeaderReferredBy, HeaderPAssertedIdentity, HeaderPPreferredIdentity} {
		if !m.Has(id) {
			continue
		}
		for line := range m.All(id) {
			if id == HeaderContact && string(line) == "*" {
				if m.repeated(id) {
					return m.fieldError(id, "Bad ")
				}
				continue
			}
			for v, rest := nextValue(line); v != nil; v, rest = nextValue(rest) {
				if a.parse(v) != nil || needsBrackets(id) && bytes.IndexByte(v, '<') < 0 {
					return m.fieldError(id, "Bad ")
				}
				if _, _, ok := a.Params.check(""); !ok {
					return m.fieldError(id, "Bad ")
				}
			}
		}
	}
	return nil
}

func needsBrackets(id HeaderID) bool {
	return id == HeaderRoute || id == HeaderRecordRoute || id == HeaderPath || id == HeaderServiceRoute
}

// validateLists reads the fields that hold lists of option tags or methods.
func (m *Message) validateLists() error {
	for _, id := range [...]HeaderID{HeaderRequire, HeaderProxyRequire, HeaderSupported, HeaderUnsupported, HeaderAllow} {
		if !m.Has(id) {
			continue
		}
		for line := range m.All(id) {
			for v := range Values(line) {
				if !isToken(v) {
					return m.fieldError(id, "Bad ")
				}
			}
		}
	}
	if m.Has(HeaderEvent) {
		name, _ := cut(m.Get(HeaderEvent), ';')
		if !isToken(trim(name)) {
			return m.fieldError(HeaderEvent, "Bad ")
		}
	}
	return nil
}

// validateBody: a body has a type (section 20.15).
func (m *Message) validateBody() error {
	v := m.Get(HeaderContentType)
	if v == nil {
		if len(m.Body()) > 0 {
			return bad(int(m.body.start), "Missing Content-Type")
		}
		return nil
	}
	kind, _ := cut(v, ';')
	main, sub := cut(kind, '/')
	if !isToken(trim(main)) || !isToken(trim(sub)) {
		return m.fieldError(HeaderContentType, "Bad ")
	}
	return nil
}
