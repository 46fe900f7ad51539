package sip

// HeaderID names a header field that this package knows. Unknown fields have HeaderOther and are found by name.
type HeaderID uint8

// The known header fields (RFC 3261 section 20 and the extensions that the product speaks).
const (
	HeaderOther HeaderID = iota
	HeaderAccept
	HeaderAllow
	HeaderAllowEvents
	HeaderAuthenticationInfo
	HeaderAuthorization
	HeaderCallID
	HeaderCallInfo
	HeaderContact
	HeaderContentEncoding
	HeaderContentLength
	HeaderContentType
	HeaderCSeq
	HeaderDate
	HeaderDiversion
	HeaderEvent
	HeaderExpires
	HeaderFlowTimer
	HeaderFrom
	HeaderHistoryInfo
	HeaderIdentity
	HeaderInReplyTo
	HeaderMaxForwards
	HeaderMIMEVersion
	HeaderMinExpires
	HeaderMinSE
	HeaderPAssertedIdentity
	HeaderPath
	HeaderPPreferredIdentity
	HeaderPriority
	HeaderPrivacy
	HeaderProxyAuthenticate
	HeaderProxyAuthorization
	HeaderProxyRequire
	HeaderRAck
	HeaderReason
	HeaderRecordRoute
	HeaderReferTo
	HeaderReferredBy
	HeaderReplaces
	HeaderRequire
	HeaderRetryAfter
	HeaderRoute
	HeaderRSeq
	HeaderServer
	HeaderServiceRoute
	HeaderSessionExpires
	HeaderSubject
	HeaderSubscriptionState
	HeaderSupported
	HeaderTargetDialog
	HeaderTimestamp
	HeaderTo
	HeaderUnsupported
	HeaderUserAgent
	HeaderVia
	HeaderWarning
	HeaderWWWAuthenticate
	numHeaders
)

// LookupHeader returns the id of a header field name, in any case and in its compact form (RFC 3261 section 7.3.3).
func LookupHeader(name []byte) HeaderID {
	if len(name) == 1 {
		return compactHeader(name[0] | 0x20)
	}
	// The length and first letter leave at most two candidates, so that most names cost one comparison.
	if len(name) == 0 || len(name) >= len(headerIndex) {
		return HeaderOther
	}
	letter := (name[0] | 0x20) - 'a'
	if letter >= 26 {
		return HeaderOther
	}
	for _, id := range headerIndex[len(name)][letter] {
		if id == HeaderOther {
			break
		}
		if want := headerNames[id][:len(name)]; string(name) == want || EqualFold(name, want) {
			return id
		}
	}
	return HeaderOther
}

func compactHeader(c byte) HeaderID {
	switch c {
	case 'a':
		return HeaderOther // Accept-Contact, not used
	case 'b':
		return HeaderReferredBy
	case 'c':
		return HeaderContentType
	case 'e':
		return HeaderContentEncoding
	case 'f':
		return HeaderFrom
	case 'i':
		return HeaderCallID
	case 'k':
		return HeaderSupported
	case 'l':
		return HeaderContentLength
	case 'm':
		return HeaderContact
	case 'o':
		return HeaderEvent
	case 'r':
		return HeaderReferTo
	case 's':
		return HeaderSubject
	case 't':
		return HeaderTo
	case 'u':
		return HeaderAllowEvents
	case 'v':
		return HeaderVia
	case 'x':
		return HeaderSessionExpires
	case 'y':
		return HeaderIdentity
	}
	return HeaderOther
}

// EqualFold reports whether b equals s, ignoring the case of ASCII letters. It does not allocate.
func EqualFold[T, U []byte | string](b T, s U) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
