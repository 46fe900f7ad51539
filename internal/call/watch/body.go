package watch

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"mime/multipart"
	"net/textproto"
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
	version := s.version
	s.version++
	if s.group != "" {
		return s.list(version)
	}
	return dialogType, s.dialogs(s.target, s.entity, version)
}

const (
	dialogType = "application/dialog-info+xml"
	listType   = "application/rlmi+xml"
)

// dialogs makes the document of one user's calls.
func (s *subscription) dialogs(user ringfence.UserID, entity string, version uint64) []byte {
	doc := dialogInfo{Version: version, State: "full", Entity: entity}
	for i, l := range s.w.cfg.Lines.Lines(user) {
		if s.group != "" && i == maxCalls {
			break
		}
		e := dialogElem{ID: l.ID, Direction: "initiator", State: l.State}
		if l.Receives {
			e.Direction = "recipient"
		}
		// Whom somebody else talks to is nobody's business: a lamp needs the state only.
		if s.owner.User == user && l.Remote != "" {
			e.Remote = &remoteElem{Identity: fmt.Sprintf("sip:%s@%s", l.Remote, s.w.cfg.Domain)}
		}
		doc.Dialogs = append(doc.Dialogs, e)
	}
	return document(doc)
}

func document(doc any) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	if err := xml.NewEncoder(&b).Encode(doc); err != nil {
		return nil
	}
	return b.Bytes()
}

type rlmiList struct {
	XMLName   xml.Name       `xml:"urn:ietf:params:xml:ns:rlmi list"`
	URI       string         `xml:"uri,attr"`
	Version   uint64         `xml:"version,attr"`
	Full      bool           `xml:"fullState,attr"`
	Resources []rlmiResource `xml:"resource"`
}

type rlmiResource struct {
	URI      string       `xml:"uri,attr"`
	Name     string       `xml:"name"`
	Instance rlmiInstance `xml:"instance"`
}

type rlmiInstance struct {
	ID    string `xml:"id,attr"`
	State string `xml:"state,attr"`
	CID   string `xml:"cid,attr"`
}

// list makes the body of a list (RFC 4662 section 5): the list, and the calls of each member.
func (s *subscription) list(version uint64) (contentType string, body []byte) {
	list := rlmiList{URI: s.entity, Version: version, Full: true}
	for i, user := range s.members {
		list.Resources = append(list.Resources, rlmiResource{URI: s.address(user), Name: string(user), Instance: rlmiInstance{ID: string(user), State: "active", CID: s.cid(i)}})
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part := func(kind, id string, content []byte) {
		p, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}, "Content-Id": {"<" + id + ">"}, "Content-Transfer-Encoding": {"binary"}})
		if err == nil {
			_, _ = p.Write(content) // a buffer takes everything
		}
	}
	root := "list@" + s.w.cfg.Domain
	part(listType+`;charset="UTF-8"`, root, document(list))
	for i, user := range s.members {
		part(dialogType, s.cid(i), s.dialogs(user, s.address(user), version))
	}
	_ = w.Close()
	return `multipart/related;type="` + listType + `";start="<` + root + `>";boundary="` + w.Boundary() + `"`, b.Bytes()
}

func (s *subscription) address(user ringfence.UserID) string {
	return "sip:" + string(user) + "@" + s.w.cfg.Domain
}

func (s *subscription) cid(i int) string { return strconv.Itoa(i) + "@" + s.w.cfg.Domain }

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
