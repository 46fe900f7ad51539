package phone

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
	"ringfence/internal/sip/mediasec"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// The names of the flows that a phone uses unless its Config names others.
const (
	FlowSIP   = "phone-sip"
	FlowMedia = "phone-media"
)

// Flows declares what a phone needs of the network: one TLS connection to its server, and datagrams on the media ports.
func Flows(server, media ringfence.PortRange) []ringfence.Flow {
	return []ringfence.Flow{
		{Name: FlowSIP, Purpose: "A phone registers and calls over one TLS connection that it opens.", Room: "service/phone",
			Direction: ringfence.Dials, Transport: "tcp", Ports: server, Peers: "the SIP server", DSCP: 24, TLS: ringfence.TLSMutual},
		{Name: FlowMedia, Purpose: "A phone sends and hears voice as SRTP.", Room: "service/phone",
			Direction: ringfence.Listens, Transport: "udp", Ports: media, Peers: "the media relay", DSCP: 46, TLS: ringfence.MediaSRTP},
	}
}

// PlainFlow declares how a phone signals in the clear: the connection that it opens over TCP, or the port at which it hears UDP.
func PlainFlow(name, network string, ports ringfence.PortRange) ringfence.Flow {
	f := ringfence.Flow{Name: name, Purpose: "A phone signals in the clear, since its profile says so.", Room: "service/phone", Direction: ringfence.Dials, Transport: "tcp", Ports: ports, Peers: "the SIP server", DSCP: 24, TLS: ringfence.TLSNone}
	if network == "UDP" {
		f.Direction, f.Transport = ringfence.Listens, "udp"
	}
	return f
}

// StackConfig holds what phones share. Only Opener is required.
type StackConfig struct {
	Opener         ringfence.Opener
	Log            *slog.Logger
	UserAgent      string
	Shards         int                // of the transaction layer; 0 means 1
	Timers         transaction.Timers // zero means those of RFC 3261
	SessionExpires time.Duration      // RFC 4028; 0 means 30 min
	// Trace, if set, hears every SIP message. It shows keys of media: use it for tests only.
	Trace func(c *transport.Conn, msg []byte, sent bool)
}

// Servers finds the servers of a phone, e.g. by DNS.
type Servers interface {
	// Find returns where to connect to, best first. It is called on a goroutine of its own, at each connection.
	Find(ctx context.Context) ([]netip.AddrPort, error)
	// Avoid makes a server the last choice for a while: it could not be reached, or has no time for us (RFC 3263 section 4.3).
	Avoid(server netip.AddrPort, wait time.Duration)
}

// NamedServers are servers that are not all known by the same name.
type NamedServers interface {
	Servers
	// NameOf returns the name that the certificate of a server must have.
	NameOf(server netip.AddrPort) string
}

// Config describes one phone. Server or Servers, ServerName, TLS, User, Domain and MediaAddr are required.
type Config struct {
	Opener    ringfence.Opener // for [Open]; a phone of a [Stack] uses the stack's
	Flow      string           // flow of its connection; empty means [FlowSIP]
	MediaFlow string           // flow of its media sockets; empty means [FlowMedia]

	Server     netip.AddrPort
	Servers    Servers     // if Server is not set
	ServerName string      // the name that the server's certificate must have, however its address was found
	TLS        *tls.Config // holds the trust anchors and the phone's own certificate; ServerName is set here

	// Plain, "TCP" or "UDP", makes the phone signal in the clear, with the keys of its media in it: for who was told to by name, such as a desk phone by its
	// profile. TLS is not used then, and nothing is called sealed. UDP is heard at SIPPort of MediaAddr, or any port if that is 0.
	Plain   string
	SIPPort uint16
	// AnyName takes any server whose certificate TLS believes, whatever its name. Nothing is sent that names the server (SNI).
	AnyName bool
	// InviteRealm, if set, makes the phone challenge each first INVITE in this realm: who sends it must know AuthUser and Password.
	// It offers SHA-256, and MD5 behind it with AllowMD5; with InviteMD5 MD5 alone, for servers that stumble over anything else.
	InviteRealm string
	InviteMD5   bool
	// PageRealm, if set, makes the phone challenge pages, which are answered by themselves, in this realm: who pages must know AuthUser and PagePassword.
	PageRealm    string
	PagePassword string
	// Orders are event packages by which a server tells the phone to do something, such as resync. A NOTIFY of one of them becomes an event of kind [Ordered]. With
	// OrderRealm it is challenged as an INVITE is; without, whoever can send it a NOTIFY is obeyed.
	Orders     []string
	OrderRealm string

	User     string // user part of the address-of-record, e.g. "alice"
	Domain   string // its domain
	Display  string // display name; may be empty
	AuthUser string // user name for digest; empty means User
	// Password is for a device without a certificate: it answers digest challenges over TLS. SHA-256 or better, and MD5 only
	// with AllowMD5.
	Password string
	AllowMD5 bool
	// Tokens is for a phone in which somebody signed in: each REGISTER carries an access token (RFC 8898). It excludes Password.
	Tokens   Tokens
	Instance string // "urn:uuid:…" of the device (RFC 5626 section 4.1); empty means a random one

	// MediaSec says who begins to agree on how media is sealed; nobody, unless it is set. Media is sealed in any case.
	MediaSec mediasec.Who

	MediaAddr  netip.Addr          // where its media sockets are bound, and what it tells its peers
	MediaPorts ringfence.PortRange // zero: any port
	Suites     []rtp.Suite         // SRTP suites offered and accepted, empty means all
	Codecs     []codec.Name        // best first; empty means PCMU, PCMA, G722, Opus
	AnswerAll  bool                // an answer lists every codec that both sides have, not only the one that is chosen
	OpusType   uint8               // the payload type of Opus in offers, 96 to 127; 0 means 111. 101 and 110 are taken.

	MaxCalls     int  // further callers hear 486; 0 means 8
	DoNotDisturb bool // every caller hears 486; see also [Phone.SetDoNotDisturb]
	// Auto, if set, is run in a goroutine of its own for each incoming call, which is then not put into [Phone.Incoming]. ctx
	// ends with the phone.
	Auto func(ctx context.Context, c *Call)
	// Screen, if set, is asked before a call rings. A status other than 0 refuses it, and with an address to, a 302, sends the caller there. It must not block.
	Screen func(from Peer) (status int, to string)
	// Audio gives an incoming or transferred call its source and sink; nil means silence and [Discard].
	Audio func(c *Call) (Source, Sink)
	// RefuseTransfer makes the phone refuse to be told to call somebody (REFER).
	RefuseTransfer bool

	Expires   time.Duration // of the registration; 0 means 1 h
	KeepAlive time.Duration // between keep-alives, jittered; 0 means 25 s, or less if the server says so (Flow-Timer)
	RetryMin  time.Duration // back-off after a loss: first wait, 0 means 2 s
	RetryMax  time.Duration // its limit, 0 means 5 min

	Log       *slog.Logger
	UserAgent string // for [Open]
	// Trace, if set, hears every SIP message of a phone that [Open] made. It shows keys of media: use it for tests only.
	Trace func(c *transport.Conn, msg []byte, sent bool)
}

// Validate reports the first thing that is missing or unsafe in c, as a KindInvalid or KindInsecure fault.
func (c *Config) Validate() error {
	bad := func(kind ringfence.Kind, text, hint string) error {
		return &ringfence.Fault{Op: "phone.config", Kind: kind, Text: text, Hint: hint}
	}
	switch {
	case !c.Server.IsValid() && c.Servers == nil || c.ServerName == "":
		return bad(ringfence.KindInvalid, "the phone needs the address and the name of its server", "")
	case c.Plain != "" && c.Plain != "TCP" && c.Plain != "UDP":
		return bad(ringfence.KindInvalid, "the phone signals over TLS, or in the clear over TCP or UDP", "")
	case c.Plain != "" && c.Tokens != nil:
		return bad(ringfence.KindInsecure, "an access token does not go over a connection in the clear (RFC 8898)", "use TLS")
	case (c.InviteRealm != "" || len(c.Orders) > 0 && c.OrderRealm != "") && c.Password == "":
		return bad(ringfence.KindInvalid, "the phone challenges callers or its server, and has no password that they could know", "")
	case c.PageRealm != "" && c.PagePassword == "":
		return bad(ringfence.KindInvalid, "the phone challenges pages, and has no password that who pages could know", "")
	case c.Plain != "":
	case c.TLS == nil:
		return bad(ringfence.KindInsecure, "the phone has no TLS configuration, and plain SIP is not offered", "enroll the phone first")
	case c.TLS.InsecureSkipVerify && c.TLS.VerifyConnection == nil:
		return bad(ringfence.KindInsecure, "the TLS configuration does not check the server's certificate", "set its trust anchors")
	}
	switch {
	case c.User == "" || c.Domain == "":
		return bad(ringfence.KindInvalid, "the phone needs a user and a domain", "")
	case strings.ContainsAny(c.User+c.Domain, " \r\n<>\"@"):
		return bad(ringfence.KindInvalid, "the user or the domain holds a character that cannot be in a SIP address", "")
	case !c.MediaAddr.IsValid() || c.MediaAddr.IsUnspecified():
		return bad(ringfence.KindInvalid, "the phone needs an address for its media", "")
	case c.Password != "" && c.Tokens != nil:
		return bad(ringfence.KindInvalid, "the phone has a password and tokens", "give it one of them")
	case c.OpusType != 0 && (c.OpusType < 96 || c.OpusType > 127 || c.OpusType == eventType || c.OpusType == wideEventType):
		return bad(ringfence.KindInvalid, fmt.Sprintf("%d cannot be the payload type of Opus", c.OpusType), "use 96 to 127, and neither 101 nor 110")
	case c.MediaPorts.First > c.MediaPorts.Last:
		return bad(ringfence.KindInvalid, "the media port range is inverted", "")
	}
	for _, s := range c.Suites {
		if !s.Known() {
			return bad(ringfence.KindUnsupported, "the SRTP suite "+string(s)+" is not known", "")
		}
	}
	for _, name := range c.Codecs {
		if _, err := codec.New(name); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) defaults() {
	if c.Flow == "" {
		c.Flow = FlowSIP
	}
	if c.MediaFlow == "" {
		c.MediaFlow = FlowMedia
	}
	if len(c.Suites) == 0 {
		c.Suites = rtp.Suites()
	}
	if len(c.Codecs) == 0 {
		c.Codecs = []codec.Name{codec.PCMU, codec.PCMA, codec.G722, codec.Opus}
	}
	c.Suites, c.Codecs = slices.Clone(c.Suites), slices.Clone(c.Codecs)
	if c.OpusType == 0 {
		c.OpusType = opusType
	}
	if c.AuthUser == "" {
		c.AuthUser = c.User
	}
	if c.MaxCalls == 0 {
		c.MaxCalls = 8
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	wait(&c.Expires, time.Hour)
	wait(&c.KeepAlive, 25*time.Second)
	wait(&c.RetryMin, 2*time.Second)
	wait(&c.RetryMax, 5*time.Minute)
	if c.Instance == "" {
		c.Instance = newInstance()
	}
}
