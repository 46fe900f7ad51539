package sip

// String returns the field's name as the RFCs spell it, or "" for HeaderOther.
func (h HeaderID) String() string {
	if h == HeaderOther || h >= numHeaders {
		return ""
	}
	return headerNames[h][:len(headerNames[h])-len(": ")]
}

// headerNames has the names as they begin a field. It is never written.
var headerNames = [numHeaders]string{
	HeaderOther:              ": ",
	HeaderAccept:             "Accept: ",
	HeaderAllow:              "Allow: ",
	HeaderAllowEvents:        "Allow-Events: ",
	HeaderAuthenticationInfo: "Authentication-Info: ",
	HeaderAuthorization:      "Authorization: ",
	HeaderCallID:             "Call-ID: ",
	HeaderCallInfo:           "Call-Info: ",
	HeaderContact:            "Contact: ",
	HeaderContentEncoding:    "Content-Encoding: ",
	HeaderContentLength:      "Content-Length: ",
	HeaderContentType:        "Content-Type: ",
	HeaderCSeq:               "CSeq: ",
	HeaderDate:               "Date: ",
	HeaderDiversion:          "Diversion: ",
	HeaderEvent:              "Event: ",
	HeaderExpires:            "Expires: ",
	HeaderFlowTimer:          "Flow-Timer: ",
	HeaderFrom:               "From: ",
	HeaderHistoryInfo:        "History-Info: ",
	HeaderIdentity:           "Identity: ",
	HeaderInReplyTo:          "In-Reply-To: ",
	HeaderMaxForwards:        "Max-Forwards: ",
	HeaderMIMEVersion:        "MIME-Version: ",
	HeaderMinExpires:         "Min-Expires: ",
	HeaderMinSE:              "Min-SE: ",
	HeaderPAssertedIdentity:  "P-Asserted-Identity: ",
	HeaderPath:               "Path: ",
	HeaderPPreferredIdentity: "P-Preferred-Identity: ",
	HeaderPriority:           "Priority: ",
	HeaderPrivacy:            "Privacy: ",
	HeaderProxyAuthenticate:  "Proxy-Authenticate: ",
	HeaderProxyAuthorization: "Proxy-Authorization: ",
	HeaderProxyRequire:       "Proxy-Require: ",
	HeaderRAck:               "RAck: ",
	HeaderReason:             "Reason: ",
	HeaderRecordRoute:        "Record-Route: ",
	HeaderReferTo:            "Refer-To: ",
	HeaderReferredBy:         "Referred-By: ",
	HeaderReplaces:           "Replaces: ",
	HeaderRequire:            "Require: ",
	HeaderRetryAfter:         "Retry-After: ",
	HeaderRoute:              "Route: ",
	HeaderRSeq:               "RSeq: ",
	HeaderServer:             "Server: ",
	HeaderServiceRoute:       "Service-Route: ",
	HeaderSessionExpires:     "Session-Expires: ",
	HeaderSubject:            "Subject: ",
	HeaderSubscriptionState:  "Subscription-State: ",
	HeaderSupported:          "Supported: ",
	HeaderTargetDialog:       "Target-Dialog: ",
	HeaderTimestamp:          "Timestamp: ",
	HeaderTo:                 "To: ",
	HeaderUnsupported:        "Unsupported: ",
	HeaderUserAgent:          "User-Agent: ",
	HeaderVia:                "Via: ",
	HeaderWarning:            "Warning: ",
	HeaderWWWAuthenticate:    "WWW-Authenticate: ",
}

//lint:file-ignore SA4000 'a' - 'a' keeps the rows of headerIndex alike

// headerIndex lists the fields by the length and first letter of their name, padded with HeaderOther. It is never written.
var headerIndex = [21][26][2]HeaderID{
	2:  {'t' - 'a': {HeaderTo}},
	3:  {'v' - 'a': {HeaderVia}},
	4:  {'c' - 'a': {HeaderCSeq}, 'd' - 'a': {HeaderDate}, 'f' - 'a': {HeaderFrom}, 'p' - 'a': {HeaderPath}, 'r' - 'a': {HeaderRAck, HeaderRSeq}},
	5:  {'a' - 'a': {HeaderAllow}, 'e' - 'a': {HeaderEvent}, 'r' - 'a': {HeaderRoute}},
	6:  {'a' - 'a': {HeaderAccept}, 'm' - 'a': {HeaderMinSE}, 'r' - 'a': {HeaderReason}, 's' - 'a': {HeaderServer}},
	7:  {'c' - 'a': {HeaderCallID, HeaderContact}, 'e' - 'a': {HeaderExpires}, 'p' - 'a': {HeaderPrivacy}, 'r' - 'a': {HeaderRequire}, 's' - 'a': {HeaderSubject}, 'w' - 'a': {HeaderWarning}},
	8:  {'i' - 'a': {HeaderIdentity}, 'p' - 'a': {HeaderPriority}, 'r' - 'a': {HeaderReferTo, HeaderReplaces}},
	9:  {'c' - 'a': {HeaderCallInfo}, 'd' - 'a': {HeaderDiversion}, 's' - 'a': {HeaderSupported}, 't' - 'a': {HeaderTimestamp}},
	10: {'f' - 'a': {HeaderFlowTimer}, 'u' - 'a': {HeaderUserAgent}},
	11: {'i' - 'a': {HeaderInReplyTo}, 'm' - 'a': {HeaderMinExpires}, 'r' - 'a': {HeaderReferredBy, HeaderRetryAfter}, 'u' - 'a': {HeaderUnsupported}},
	12: {'a' - 'a': {HeaderAllowEvents}, 'c' - 'a': {HeaderContentType}, 'h' - 'a': {HeaderHistoryInfo}, 'm' - 'a': {HeaderMaxForwards, HeaderMIMEVersion}, 'r' - 'a': {HeaderRecordRoute}},
	13: {'a' - 'a': {HeaderAuthorization}, 'p' - 'a': {HeaderProxyRequire}, 's' - 'a': {HeaderServiceRoute}, 't' - 'a': {HeaderTargetDialog}},
	14: {'c' - 'a': {HeaderContentLength}},
	15: {'s' - 'a': {HeaderSessionExpires}},
	16: {'c' - 'a': {HeaderContentEncoding}, 'w' - 'a': {HeaderWWWAuthenticate}},
	18: {'p' - 'a': {HeaderProxyAuthenticate}, 's' - 'a': {HeaderSubscriptionState}},
	19: {'a' - 'a': {HeaderAuthenticationInfo}, 'p' - 'a': {HeaderPAssertedIdentity, HeaderProxyAuthorization}},
	20: {'p' - 'a': {HeaderPPreferredIdentity}},
}
