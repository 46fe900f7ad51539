package watch

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"

	"ringfence"
)

type dialogInfo struct {
	XMLName xml.Name     `xml:"urn:ietf:params:xml:ns:dialog-info dialog-info"`
	Version uint64       `xml:"version,attr"`
	State   string       `xml:"state,attr"`
	Entity  string       `xml:"entity,attr"`
	Dialogs []dialogElem `xml:"dialog"`
}

type dialogElem struct {
	ID        string      `xml:"id,attr"`
	Direction string      `xml:"direction,attr"`
	State     string      `xml:"state"`
	Remote    *remoteElem `xml:"remote,omitempty"`
}

type remoteElem struct {
	Identity string `xml:"identity"`
}

// body makes the document of a NOTIFY: always the full state, so that a lost one does no harm.
func (s *subscription) body() (contentType string, body []byte) {
	if s.pack == packMessages {
		return s.messages()
	}
	doc := dialogInfo{Version: s.version, State: "full", Entity: s.entity}
	s.version++
	for _, l := range s.w.cfg.Lines.Lines(s.target) {
		e := dialogElem{ID: l.ID, Direction: "initiator", State: l.State}
		if l.Receives {
			e.Direction = "recipient"
		}
		// Whom somebody else talks to is nobody's business: a lamp needs the state only.
		if s.owner.User == s.target && l.Remote != "" {
			e.Remote = &remoteElem{Identity: fmt.Sprintf("sip:%s@%s", l.Remote, s.w.cfg.Domain)}
		}
		doc.Dialogs = append(doc.Dialogs, e)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if err := xml.NewEncoder(&b).Encode(doc); err != nil {
		return "", nil
	}
	return "application/dialog-info+xml", b.Bytes()
}

func (s *subscription) messages() (string, []byte) {
	fresh, heard := s.w.cfg.Mailboxes.Messages(s.target)
	waiting := "no"
	if fresh > 0 {
		waiting = "yes"
	}
	return "application/simple-message-summary", []byte("Messages-Waiting: " + waiting + "\r\nMessage-Account: sip:" + string(s.target) + "@" + s.w.cfg.Domain +
		"\r\nVoice-Message: " + strconv.Itoa(fresh) + "/" + strconv.Itoa(heard) + "\r\n")
}

// NoMailboxes answers for a node without voicemail.
type NoMailboxes struct{}

// Messages implements Mailboxes.
func (NoMailboxes) Messages(ringfence.UserID) (fresh, heard int) { return 0, 0 }
