package cti

import (
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"ringfence"
)

// MaxMessage bounds a message, in bytes.
const MaxMessage = 64 << 10

// Namespace is that of all messages.
const Namespace = "http://schema.broadsoft.com/xsi"

const instance = "http://www.w3.org/2001/XMLSchema-instance"

// ReadMessage reads one message: its length in four bytes, the highest first, and as many bytes of XML.
func ReadMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxMessage {
		return nil, invalid(fmt.Sprintf("a message of %d bytes", n), "a message is preceded by its length in four bytes, and has 64 KiB at most")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// WriteMessage writes one message at once.
func WriteMessage(w io.Writer, b []byte) error {
	out := make([]byte, 4, 4+len(b))
	binary.BigEndian.PutUint32(out, uint32(len(b)))
	_, err := w.Write(append(out, b...))
	return err
}

func invalid(text, hint string) error {
	return &ringfence.Fault{Op: "cti", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

// received is any message of a client.
type received struct {
	XMLName        xml.Name
	ChannelID      string `xml:"channelId"`
	ChannelSetID   string `xml:"channelSetId"`
	ApplicationID  string `xml:"applicationId"`
	Expires        string `xml:"expires"`
	SubscriptionID string `xml:"subscriptionId"`
	SubscriberID   string `xml:"subscriberId"`
	ClientID       string `xml:"clientId"`
	TargetIDType   string `xml:"targetIdType"`
	TargetID       string `xml:"targetId"`
	Event          string `xml:"event"`
	EventID        string `xml:"eventID"`
	StatusCode     string `xml:"statusCode"`
	Reason         string `xml:"reason"`
}

// maxText bounds one value of a message, in bytes.
const maxText = 256

// parse reads a message of a client.
func parse(b []byte) (m received, err error) {
	d := xml.NewDecoder(strings.NewReader(string(b)))
	if err := d.Decode(&m); err != nil {
		return m, invalid("the message is no XML: "+err.Error(), "")
	}
	if _, err := d.Token(); err != io.EOF {
		return m, invalid("something follows the message within its length", "")
	}
	if m.XMLName.Space != Namespace {
		return m, invalid(fmt.Sprintf("the message is of the namespace %.80q", m.XMLName.Space), "it is "+Namespace)
	}
	for _, s := range []*string{&m.ChannelID, &m.ChannelSetID, &m.ApplicationID, &m.Expires, &m.SubscriptionID, &m.SubscriberID, &m.ClientID, &m.TargetIDType, &m.TargetID, &m.Event, &m.EventID, &m.StatusCode, &m.Reason} {
		*s = strings.TrimSpace(*s)
		if len(*s) > maxText {
			return m, invalid("a value has more than 256 bytes", "")
		}
	}
	return m, nil
}

// What is sent. The order of fields is that of the schema.
type (
	channelOut struct {
		XMLName      xml.Name `xml:"http://schema.broadsoft.com/xsi Channel"`
		ChannelID    string   `xml:"channelId"`
		ChannelSetID string   `xml:"channelSetId,omitempty"`
		Expires      int      `xml:"expires"`
	}
	subscriptionOut struct {
		XMLName        xml.Name `xml:"http://schema.broadsoft.com/xsi Subscription"`
		SubscriptionID string   `xml:"subscriptionId"`
		TargetIDType   string   `xml:"targetIdType"`
		TargetID       string   `xml:"targetId"`
		Event          string   `xml:"event"`
		Expires        int      `xml:"expires"`
		ChannelSetID   string   `xml:"channelSetId,omitempty"`
	}
	heartBeatOut struct {
		XMLName xml.Name `xml:"http://schema.broadsoft.com/xsi ChannelHeartBeat"`
	}
	errorOut struct {
		XMLName xml.Name `xml:"http://schema.broadsoft.com/xsi ErrorInfo"`
		Code    int      `xml:"errorCode"` // as of HTTP
		Summary string   `xml:"summary"`
		English string   `xml:"summaryEnglish"`
	}
	eventOut struct {
		XMLName        xml.Name `xml:"http://schema.broadsoft.com/xsi Event"`
		Instance       string   `xml:"xmlns:xsi,attr"`
		Type           string   `xml:"xsi:type,attr"`
		EventID        string   `xml:"eventID"`
		SequenceNumber int      `xml:"sequenceNumber"`
		ClientID       string   `xml:"clientId"`
		SubscriptionID string   `xml:"subscriptionId,omitempty"`
		ChannelID      string   `xml:"channelId"`
		TargetID       string   `xml:"targetId,omitempty"`
		Reason         string   `xml:"reason,omitempty"` // of an end
		Data           *dataOut `xml:"eventData,omitempty"`
	}
	dataOut struct {
		Type   string    `xml:"xsi:type,attr"`
		Calls  *callsOut `xml:"calls,omitempty"` // of the state at the beginning
		Call   *callOut  `xml:"call,omitempty"`
		Active *bool     `xml:"active,omitempty"` // of do-not-disturb
	}
	callsOut struct {
		Call []callOut `xml:"call"`
	}
	callOut struct {
		CallID      string    `xml:"callId"`
		Tracking    string    `xml:"extTrackingId"`
		Personality string    `xml:"personality"`
		State       string    `xml:"state"`
		Remote      remoteOut `xml:"remoteParty"`
		Start       int64     `xml:"startTime"` // milliseconds since 1970
		Answer      int64     `xml:"answerTime,omitempty"`
		Release     int64     `xml:"releaseTime,omitempty"`
	}
	remoteOut struct {
		Name    string `xml:"name,omitempty"`
		Address string `xml:"address,omitempty"` // tel:100
		UserID  string `xml:"userId,omitempty"`  // of our own people
		Type    string `xml:"callType"`          // Group: one of our own; Network: somebody outside
	}
)

func marshal(v any) []byte {
	b, err := xml.Marshal(v)
	if err != nil { // there is nothing in it that cannot be written
		return nil
	}
	return append([]byte(xml.Header), b...)
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
