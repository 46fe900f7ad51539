package sip

import "bytes"

// Frame finds the first message in the bytes of a stream (RFC 3261 section 18.3). It returns the offset at which the
// message starts (after any CRLFs, which keep a connection alive, RFC 5626 section 4.4.1) and its length, or n == 0 if
// more bytes are needed. Limits are checked on what has arrived, so a slow sender cannot make the buffer grow past them.
// On a stream Content-Length is required. pings counts the double CRLFs skipped, each of which asks for a CRLF answer.
func Frame(b []byte, lim Limits) (start, n, pings int, err error) {
	lim = lim.orDefault()
	crlfs := 0
	for start+1 < len(b) && b[start] == '\r' && b[start+1] == '\n' {
		start += 2
		crlfs++
	}
	pings = crlfs / 2
	if crlfs%2 == 1 && start == len(b) {
		start -= 2 // the second CRLF of a ping may still be on its way
		return start, 0, pings, nil
	}
	rest := b[start:]
	head := bytes.Index(rest, []byte("\r\n\r\n"))
	if head < 0 {
		if len(rest) >= lim.Message {
			return start, 0, pings, &ParseError{Status: 513, Reason: "Message Too Large", Offset: lim.Message}
		}
		return start, 0, pings, nil
	}
	length, err := frameLength(rest[:head+2])
	if err != nil {
		return start, 0, pings, err
	}
	if length > lim.Body || head+4+length > lim.Message {
		return start, 0, pings, &ParseError{Status: 513, Reason: "Message Too Large", Offset: head}
	}
	if len(rest) < head+4+length {
		return start, 0, pings, nil
	}
	return start, head + 4 + length, pings, nil
}

// frameLength reads Content-Length (or its compact form) from the header lines without parsing the rest.
func frameLength(head []byte) (int, error) {
	found := -1
	for start, at := 0, 0; at < len(head); {
		i := bytes.IndexByte(head[at:], '\n')
		if i < 0 {
			break
		}
		end := at + i
		at = end + 1
		if end == start || head[end-1] != '\r' { // only CRLF ends a line
			continue
		}
		line := head[start : end-1]
		start = at
		if len(line) == 0 || line[0]|0x20 != 'c' && line[0]|0x20 != 'l' {
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			continue
		}
		if name := trim(line[:colon]); LookupHeader(name) != HeaderContentLength {
			continue
		}
		n, ok := parseUint(trim(line[colon+1:]), 1<<31-1)
		if !ok || found >= 0 && int(n) != found {
			return 0, bad(0, "Bad Content-Length")
		}
		found = int(n)
	}
	if found < 0 {
		return 0, bad(0, "Missing Content-Length On Stream")
	}
	return found, nil
}
