package sip

// Validate makes the checks that need more than the grammar of single lines (RFC 3261 sections 8.1.1 and 8.2).
func (m *Message) Validate() error {
	for _, id := range [...]HeaderID{HeaderVia, HeaderFrom, HeaderTo, HeaderCallID, HeaderCSeq} {
		if len(m.Get(id)) == 0 {
			return bad(0, "Missing "+id.String())
		}
	}
	_, method, ok := m.CSeq()
	if !ok || m.request && method != m.method {
		return bad(0, "Bad CSeq")
	}
	return nil
}
