package phone

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"

	"ringfence"
)

// Limits of a NOTIFY body that is read here.
const (
	maxSummary = 8 << 10
	maxInfo    = 64 << 10
	maxDialogs = 200
)

// Messages says what waits in a mailbox (RFC 3842).
type Messages struct {
	Waiting bool
	Account string // may be empty
	New     uint32 // voice messages
	Old     uint32
}

// ParseMessages reads an application/simple-message-summary body. The error is a KindInvalid fault.
func ParseMessages(body []byte) (Messages, error) {
	bad := func(text string) (Messages, error) {
		return Messages{}, &ringfence.Fault{Op: "phone.messages", Kind: ringfence.KindInvalid, Text: text}
	}
	if len(body) > maxSummary {
		return bad("the message summary is too long")
	}
	var out Messages
	told := false
	for line := range strings.SplitSeq(string(body), "\n") {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r"), ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "messages-waiting":
			told = true
			out.Waiting = strings.EqualFold(value, "yes")
		case "message-account":
			out.Account = value
		case "voice-message": // new/old (urgent new/urgent old)
			counts, _, _ := strings.Cut(value, "(")
			n, o, _ := strings.Cut(strings.TrimSpace(counts), "/")
			fresh, err1 := strconv.ParseUint(n, 10, 32)
			old, err2 := strconv.ParseUint(o, 10, 32)
			if err1 != nil || err2 != nil {
				return bad("the message summary counts in no numbers")
			}
			out.New, out.Old = uint32(fresh), uint32(old)
		}
	}
	if !told {
		return bad("the message summary does not say whether messages wait")
	}
	return out, nil
}

// DialogInfo is the state of somebody's calls (RFC 4235), for busy lamps.
type DialogInfo struct {
	Entity  string
	Version uint32
	Full    bool // the list is complete; otherwise it holds what changed
	Dialogs []DialogState
}

// DialogState is one call in a [DialogInfo].
type DialogState struct {
	ID        string
	State     string // "trying", "proceeding", "early", "confirmed" or "terminated"
	Direction string // "initiator", "recipient" or empty
	Remote    string // URI of the other side; may be empty
	Target    string // URI of the other side's device; may be empty
	CallID    string // these three name the dialog, as whom it is of has it; they may be empty
	LocalTag  string
	RemoteTag string
}

// Replaces returns what an INVITE to the other side must carry to take this call over while it rings (RFC 3891), and where it goes. ok is false if whoever told of the call did not say enough.
func (d DialogState) Replaces() (to, value string, ok bool) {
	if to = d.Target; to == "" {
		to = d.Remote
	}
	for _, v := range []string{d.CallID, d.LocalTag, d.RemoteTag} {
		if v == "" || len(v) > 256 || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`;,"\`, r) }) {
			return "", "", false
		}
	}
	if !strings.HasPrefix(to, "sip:") && !strings.HasPrefix(to, "sips:") {
		return "", "", false
	}
	return to, d.CallID + ";to-tag=" + d.RemoteTag + ";from-tag=" + d.LocalTag + ";early-only", true
}

// ParseDialogInfo reads an application/dialog-info+xml body. The error is a KindInvalid fault.
func ParseDialogInfo(body []byte) (DialogInfo, error) {
	bad := func(text string, err error) (DialogInfo, error) {
		return DialogInfo{}, &ringfence.Fault{Op: "phone.dialoginfo", Kind: ringfence.KindInvalid, Text: text, Err: err}
	}
	if len(body) > maxInfo {
		return bad("the dialog information is too long", nil)
	}
	if bytes.Contains(body, []byte("<!")) && bytes.Contains(body, []byte("DOCTYPE")) {
		return bad("the dialog information has a document type, which it must not", nil)
	}
	var doc struct {
		XMLName xml.Name `xml:"dialog-info"`
		Version uint32   `xml:"version,attr"`
		State   string   `xml:"state,attr"`
		Entity  string   `xml:"entity,attr"`
		Dialogs []struct {
			ID        string `xml:"id,attr"`
			CallID    string `xml:"call-id,attr"`
			LocalTag  string `xml:"local-tag,attr"`
			RemoteTag string `xml:"remote-tag,attr"`
			Direction string `xml:"direction,attr"`
			State     string `xml:"state"`
			Remote    struct {
				Identity string `xml:"identity"`
				Target   struct {
					URI string `xml:"uri,attr"`
				} `xml:"target"`
			} `xml:"remote"`
		} `xml:"dialog"`
	}
	if err := xml.Unmarshal(body, &doc); err != nil {
		return bad("the dialog information cannot be read", err)
	}
	if len(doc.Dialogs) > maxDialogs {
		return bad(fmt.Sprintf("the dialog information lists more than %d calls", maxDialogs), nil)
	}
	out := DialogInfo{Entity: doc.Entity, Version: doc.Version, Full: doc.State == "full"}
	for _, d := range doc.Dialogs {
		out.Dialogs = append(out.Dialogs, DialogState{ID: d.ID, State: strings.ToLower(strings.TrimSpace(d.State)), Direction: d.Direction, Remote: strings.TrimSpace(d.Remote.Identity),
			Target: strings.TrimSpace(d.Remote.Target.URI), CallID: d.CallID, LocalTag: d.LocalTag, RemoteTag: d.RemoteTag})
	}
	return out, nil
}
