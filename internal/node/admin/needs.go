package admin

import (
	"context"
	"crypto/ed25519"
	"net/netip"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/roster"
	"ringfence/internal/call/trunk"
	"ringfence/internal/network/need"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
	"ringfence/internal/node/observe/ladder"
	"ringfence/internal/node/observe/outbox"
	"ringfence/internal/service/cti"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/keyring"
	"ringfence/internal/trust/profile"
	"ringfence/internal/trust/publish"
	"ringfence/internal/trust/tlspolicy"
)

// Store keeps the facts; *store.Store is one.
type Store interface {
	People
	Access
	Records
	Certificates
	Orders
	Kept
}

// Kept are records of a kind that only the API knows.
type Kept interface {
	CreateDocuments(ctx context.Context, all ...store.Document) error
	Document(ctx context.Context, kind, id string) (store.Document, error)
	Documents(ctx context.Context, kind, owner, tag, state, after string, limit int) ([]store.Document, error)
	ForgetDocuments(ctx context.Context, kind string, before time.Time) (int, error)
	DeleteDocument(ctx context.Context, kind, id string) error
}

// People are users and their devices, as the store keeps them.
type People interface {
	CreateUser(ctx context.Context, u store.User) error
	UpdateUser(ctx context.Context, u store.User) error
	DeleteUser(ctx context.Context, id ringfence.UserID) error
	User(ctx context.Context, id ringfence.UserID) (store.User, error)
	Users(ctx context.Context, after ringfence.UserID, limit int) ([]store.User, error)

	CreateDevice(ctx context.Context, d store.Device) error
	UpdateDevice(ctx context.Context, d store.Device) error
	DeleteDevice(ctx context.Context, id ringfence.DeviceID) error
	Device(ctx context.Context, id ringfence.DeviceID) (store.Device, error)
	Devices(ctx context.Context, after ringfence.DeviceID, limit int) ([]store.Device, error)
	DevicesOf(ctx context.Context, u ringfence.UserID) ([]store.Device, error)
	CertificatesOf(ctx context.Context, id ringfence.DeviceID) ([]store.Certificate, error)
	DeleteException(ctx context.Context, subject string) error
	Grants(ctx context.Context, device ringfence.DeviceID) ([]store.Grant, error)
}

// Access keeps tokens and the administrator code.
type Access interface {
	Tx(ctx context.Context, fn func(*store.Tx) error) error
	Setting(ctx context.Context, name string) (string, error)
	PutSetting(ctx context.Context, name, value string) error
	CreateToken(ctx context.Context, t store.Token) error
	TokenByHash(ctx context.Context, hash string, now time.Time) (store.Token, error)
	Tokens(ctx context.Context) ([]store.Token, error)
	DeleteToken(ctx context.Context, id string) error
}

// Records are call records and the audit.
type Records interface {
	CDRs(ctx context.Context, from, to time.Time, limit int) ([]store.CDR, error)
	CDR(ctx context.Context, id ringfence.CallID) (store.CDR, error)
	AppendAudit(ctx context.Context, a store.AuditEntry) error
	Audit(ctx context.Context, before int64, limit int) ([]store.AuditEntry, error)
}

// Roster knows users and devices in memory; *roster.Roster is one.
type Roster interface {
	Reload(ctx context.Context) error
	Refresh(ctx context.Context, user ringfence.UserID) error
	Counts() (users, devices int)
	Exceptions(now time.Time) []roster.Exception
	User(id ringfence.UserID) *store.User
}

// Registrar knows who is where; *registrar.Registrar is one.
type Registrar interface {
	All() []registrar.Contact
	Known(c *transport.Conn) (registrar.Identity, bool)
	Forget(device ringfence.DeviceID)
	Drop(ctx context.Context, device ringfence.DeviceID, cause error) (int, error)
	Stats() registrar.Stats
	AOR(user ringfence.UserID) string
}

// Calls owns the calls; *control.Control is one.
type Calls interface {
	List() []control.View
	Show(id ringfence.CallID) (control.View, bool)
	Hangup(id ringfence.CallID, by string) bool
	Originate(from ringfence.UserID, to string) (ringfence.CallID, error)
	Explain(from ringfence.UserID, dialled string) dialplan.Decision
	Count() int
	Refused() uint64
	Draining() bool
}

// Ladder remembers the messages of the last calls; *ladder.Recorder is one.
type Ladder interface {
	Messages(id ringfence.CallID) (messages []ladder.Message, omitted int, ok bool)
}

// Wires owns the SIP connections; *transport.Layer is one.
type Wires interface {
	Conns() []*transport.Conn
	Stats() transport.Stats
	Refusals() []transport.Refusal
}

// Codes makes activation codes; *enroll.Service is one.
type Codes interface {
	NewCode(ctx context.Context, id ringfence.DeviceID) (code string, expires time.Time, err error)
}

// SignIns ends what the authorization server granted and rotates its keys; *token.Server is one.
type SignIns interface {
	Issuer() string
	Revoke(ctx context.Context, id, why string) error
	Rotate(ctx context.Context, from time.Time) error
	Keys() (ids []string, signer string)
}

// Keyring keeps the anchors and identities that an administrator brings, and puts each change into force.
type Keyring interface {
	Anchors() []keyring.Anchor
	AddAnchors(ctx context.Context, alias string, file []byte) ([]keyring.Anchor, error)
	RemoveAnchor(ctx context.Context, alias string) error
	Identities() []keyring.Identity
	AddIdentity(ctx context.Context, alias string, chain, key []byte, replace bool) (keyring.Identity, []string, error)
	RemoveIdentity(ctx context.Context, alias string) error
}

// Lists publishes the trust lists of enterprise phones; *publish.Publisher is one.
type Lists interface {
	Published() (l store.TrustList, waiting string)
	Holders(ctx context.Context) ([]store.ListHolder, error)
	Plan(ctx context.Context, slot string) (publish.Proposal, error)
	Publish(ctx context.Context, force bool) (publish.Proposal, error)
	Rotate(ctx context.Context, slot string, force bool) (publish.Proposal, error)
}

// Settings owns the configuration; *config.Keeper is one.
type Settings interface {
	Text() string
	Whole() ([]byte, error)
	Waiting() []string
	Plan(text, name string) (config.Plan, error)
	Apply(ctx context.Context, text, name, author, note string) (config.Plan, error)
	EditTLS(ctx context.Context, author, note string, force bool, change func(tlspolicy.Tree) (tlspolicy.Tree, error)) (config.Plan, error)
	Undo(ctx context.Context, to int64, author string) (config.Plan, error)
	List(ctx context.Context, limit int) ([]store.ConfigVersion, error)
}

// Feeds signs requirement sets; *feed.Keeper is one.
type Feeds interface {
	Feed(ctx context.Context, s *need.Set) ([]byte, error)
	Key(ctx context.Context) (ed25519.PublicKey, error)
}

// Host tells what only the node as a whole knows; *node.Node is one.
type Host interface {
	Flows() []ringfence.Flow
	SIPAddr() netip.AddrPort
	HTTPSAddr() netip.AddrPort
	// Reach returns the name or address that a phone should be told.
	Reach() string
	// Cut ends everything of a device that the store says may not be used any more.
	Cut(ctx context.Context, id ringfence.DeviceID, reason string) (api.Ended, error)
	// What those who watch the calls have counted: the event bus, the ladder, and collectors outside by the name of their flow.
	BusStats() bus.Stats
	LadderStats() ladder.Stats
	Watching() map[string]outbox.Stats
	// Endpoints are those that speak TLS, and Policy is what they go by.
	Endpoints() []tlspolicy.Endpoint
	Policy() tlspolicy.Tree
	// Security is how securely phones and trunks must speak, and Trunks are the other telephone systems as they are now.
	Security() profile.Security
	TrunkStates() []trunk.State
	// CTIState returns the systems that follow calls, and how many were turned away.
	CTIState() ([]cti.Session, uint64)
	// Manufacturers returns the aliases of the anchors whose certificates in phones count as a proof towards CAPF.
	Manufacturers() []string
	// RenewIdentity gives the node itself a new certificate. Connections that are up keep what they have.
	RenewIdentity(ctx context.Context) error
	// AuthorityChanged gives the node a certificate by what signs now, and has everybody believe what is to be believed now.
	AuthorityChanged(ctx context.Context) error
	// RevokeSerial revokes a certificate and closes the connections that were made with it.
	RevokeSerial(ctx context.Context, serial, reason string) (api.Ended, error)
}
