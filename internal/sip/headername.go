package sip

// String returns the field's name as the RFCs spell it, or "" for HeaderOther.
func (id HeaderID) String() string {
	switch id {
	case HeaderAccept:
		return "Accept"
	case HeaderAllow:
		return "Allow"
	case HeaderAllowEvents:
		return "Allow-Events"
	case HeaderAuthenticationInfo:
		return "Authentication-Info"
	case HeaderAuthorization:
		return "Authorization"
	case HeaderCallID:
		return "Call-ID"
	case HeaderCallInfo:
		return "Call-Info"
	case HeaderContact:
		return "Contact"
	case HeaderContentEncoding:
		return "Content-Encoding"
	case HeaderContentLength:
		return "Content-Length"
	case HeaderContentType:
		return "Content-Type"
	case HeaderCSeq:
		return "CSeq"
	case HeaderDate:
		return "Date"
	case HeaderDiversion:
		return "Diversion"
	case HeaderEvent:
		return "Event"
	case HeaderExpires:
		return "Expires"
	case HeaderFlowTimer:
		return "Flow-Timer"
	case HeaderFrom:
		return "From"
	case HeaderHistoryInfo:
		return "History-Info"
	case HeaderIdentity:
		return "Identity"
	case HeaderInReplyTo:
		return "In-Reply-To"
	case HeaderMaxForwards:
		return "Max-Forwards"
	case HeaderMIMEVersion:
		return "MIME-Version"
	case HeaderMinExpires:
		return "Min-Expires"
	case HeaderMinSE:
		return "Min-SE"
	case HeaderPAssertedIdentity:
		return "P-Asserted-Identity"
	case HeaderPath:
		return "Path"
	case HeaderPPreferredIdentity:
		return "P-Preferred-Identity"
	case HeaderPrivacy:
		return "Privacy"
	case HeaderProxyAuthenticate:
		return "Proxy-Authenticate"
	case HeaderProxyAuthorization:
		return "Proxy-Authorization"
	case HeaderProxyRequire:
		return "Proxy-Require"
	case HeaderRAck:
		return "RAck"
	case HeaderReason:
		return "Reason"
	case HeaderRecordRoute:
		return "Record-Route"
	case HeaderReferTo:
		return "Refer-To"
	case HeaderReferredBy:
		return "Referred-By"
	case HeaderReplaces:
		return "Replaces"
	case HeaderRequire:
		return "Require"
	case HeaderRetryAfter:
		return "Retry-After"
	case HeaderRoute:
		return "Route"
	case HeaderRSeq:
		return "RSeq"
	case HeaderServer:
		return "Server"
	case HeaderServiceRoute:
		return "Service-Route"
	case HeaderSessionExpires:
		return "Session-Expires"
	case HeaderSubject:
		return "Subject"
	case HeaderSubscriptionState:
		return "Subscription-State"
	case HeaderSupported:
		return "Supported"
	case HeaderTargetDialog:
		return "Target-Dialog"
	case HeaderTimestamp:
		return "Timestamp"
	case HeaderTo:
		return "To"
	case HeaderUnsupported:
		return "Unsupported"
	case HeaderUserAgent:
		return "User-Agent"
	case HeaderVia:
		return "Via"
	case HeaderWarning:
		return "Warning"
	case HeaderWWWAuthenticate:
		return "WWW-Authenticate"
	}
	return ""
}

// headerCandidates lists the fields whose name has this length and first letter, padded with HeaderOther.
func headerCandidates(length int, first byte) [2]HeaderID {
	switch uint16(length)<<8 | uint16(first) {
	case 2<<8 | 't':
		return [2]HeaderID{HeaderTo}
	case 3<<8 | 'v':
		return [2]HeaderID{HeaderVia}
	case 4<<8 | 'c':
		return [2]HeaderID{HeaderCSeq}
	case 4<<8 | 'd':
		return [2]HeaderID{HeaderDate}
	case 4<<8 | 'f':
		return [2]HeaderID{HeaderFrom}
	case 4<<8 | 'p':
		return [2]HeaderID{HeaderPath}
	case 4<<8 | 'r':
		return [2]HeaderID{HeaderRAck, HeaderRSeq}
	case 5<<8 | 'a':
		return [2]HeaderID{HeaderAllow}
	case 5<<8 | 'e':
		return [2]HeaderID{HeaderEvent}
	case 5<<8 | 'r':
		return [2]HeaderID{HeaderRoute}
	case 6<<8 | 'a':
		return [2]HeaderID{HeaderAccept}
	case 6<<8 | 'm':
		return [2]HeaderID{HeaderMinSE}
	case 6<<8 | 'r':
		return [2]HeaderID{HeaderReason}
	case 6<<8 | 's':
		return [2]HeaderID{HeaderServer}
	case 7<<8 | 'c':
		return [2]HeaderID{HeaderCallID, HeaderContact}
	case 7<<8 | 'e':
		return [2]HeaderID{HeaderExpires}
	case 7<<8 | 'p':
		return [2]HeaderID{HeaderPrivacy}
	case 7<<8 | 'r':
		return [2]HeaderID{HeaderRequire}
	case 7<<8 | 's':
		return [2]HeaderID{HeaderSubject}
	case 7<<8 | 'w':
		return [2]HeaderID{HeaderWarning}
	case 8<<8 | 'i':
		return [2]HeaderID{HeaderIdentity}
	case 8<<8 | 'r':
		return [2]HeaderID{HeaderReferTo, HeaderReplaces}
	case 9<<8 | 'c':
		return [2]HeaderID{HeaderCallInfo}
	case 9<<8 | 'd':
		return [2]HeaderID{HeaderDiversion}
	case 9<<8 | 's':
		return [2]HeaderID{HeaderSupported}
	case 9<<8 | 't':
		return [2]HeaderID{HeaderTimestamp}
	case 10<<8 | 'f':
		return [2]HeaderID{HeaderFlowTimer}
	case 10<<8 | 'u':
		return [2]HeaderID{HeaderUserAgent}
	case 11<<8 | 'i':
		return [2]HeaderID{HeaderInReplyTo}
	case 11<<8 | 'm':
		return [2]HeaderID{HeaderMinExpires}
	case 11<<8 | 'r':
		return [2]HeaderID{HeaderReferredBy, HeaderRetryAfter}
	case 11<<8 | 'u':
		return [2]HeaderID{HeaderUnsupported}
	case 12<<8 | 'a':
		return [2]HeaderID{HeaderAllowEvents}
	case 12<<8 | 'c':
		return [2]HeaderID{HeaderContentType}
	case 12<<8 | 'h':
		return [2]HeaderID{HeaderHistoryInfo}
	case 12<<8 | 'm':
		return [2]HeaderID{HeaderMaxForwards, HeaderMIMEVersion}
	case 12<<8 | 'r':
		return [2]HeaderID{HeaderRecordRoute}
	case 13<<8 | 'a':
		return [2]HeaderID{HeaderAuthorization}
	case 13<<8 | 'p':
		return [2]HeaderID{HeaderProxyRequire}
	case 13<<8 | 's':
		return [2]HeaderID{HeaderServiceRoute}
	case 13<<8 | 't':
		return [2]HeaderID{HeaderTargetDialog}
	case 14<<8 | 'c':
		return [2]HeaderID{HeaderContentLength}
	case 15<<8 | 's':
		return [2]HeaderID{HeaderSessionExpires}
	case 16<<8 | 'c':
		return [2]HeaderID{HeaderContentEncoding}
	case 16<<8 | 'w':
		return [2]HeaderID{HeaderWWWAuthenticate}
	case 18<<8 | 'p':
		return [2]HeaderID{HeaderProxyAuthenticate}
	case 18<<8 | 's':
		return [2]HeaderID{HeaderSubscriptionState}
	case 19<<8 | 'a':
		return [2]HeaderID{HeaderAuthenticationInfo}
	case 19<<8 | 'p':
		return [2]HeaderID{HeaderPAssertedIdentity, HeaderProxyAuthorization}
	case 20<<8 | 'p':
		return [2]HeaderID{HeaderPPreferredIdentity}
	}
	return [2]HeaderID{}
}
