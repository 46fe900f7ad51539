package acme

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/mail"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"ringfence"
)

const maxContacts = 5

type accountObject struct {
	Status  Status   `json:"status"`
	Contact []string `json:"contact,omitempty"`
	Orders  string   `json:"orders"`
}

func (s *Server) accountReply(a Account, status int) *reply {
	at := s.c.Base + pathAccount + a.ID
	return &reply{status: status, location: at, body: accountObject{Status: a.Status, Contact: a.Contact, Orders: at + "/orders"}}
}

// newAccount makes an account or finds the one of the key (RFC 8555 section 7.3).
func (s *Server) newAccount(q *request) (*reply, error) {
	var ask struct {
		Contact  []string        `json:"contact"`
		Existing bool            `json:"onlyReturnExisting"`
		Binding  json.RawMessage `json:"externalAccountBinding"`
	}
	if err := readPayload(q.payload, &ask); err != nil {
		return nil, err
	}
	ctx := q.Context()
	a, err := s.c.State.AccountByKey(ctx, q.thumb)
	switch {
	case err == nil:
		q.account = a
		if err := s.mayAct(q); err != nil {
			return nil, err
		}
		return s.accountReply(a, http.StatusOK), nil
	case ringfence.KindOf(err) != ringfence.KindNotFound:
		return nil, err
	case ask.Existing:
		return nil, refuse("accountDoesNotExist", "there is no account of this key")
	case ask.Binding == nil:
		return nil, refuse("externalAccountRequired", "a key id and a MAC key of an administrator are needed to make an account")
	}
	if err := checkContact(ask.Contact); err != nil {
		return nil, err
	}
	b, err := s.bound(ctx, ask.Binding, q)
	if err != nil {
		return nil, err
	}
	key, err := q.key.MarshalJSON()
	if err != nil {
		return nil, err
	}
	a = Account{ID: newID(), Status: StatusValid, Key: key, Thumbprint: q.thumb, Contact: ask.Contact, Binding: b.ID, Created: s.c.Now()}
	if err := s.c.Audit(ctx, "acme.account", a.ID, "made with the binding "+b.ID); err != nil {
		return nil, err
	}
	if err := s.c.State.CreateAccount(ctx, a); err != nil {
		if ringfence.KindOf(err) == ringfence.KindConflict {
			if other, err := s.c.State.AccountByKey(ctx, q.thumb); err == nil { // the same request, a moment earlier
				return s.accountReply(other, http.StatusOK), nil
			}
			return nil, refuse("unauthorized", "another account was made with this key id; ask an administrator for another one")
		}
		return nil, err
	}
	return s.accountReply(a, http.StatusCreated), nil
}

// bound checks an external account binding (section 7.3.4). An unknown key id and a wrong MAC get the same answer.
func (s *Server) bound(ctx context.Context, text []byte, q *request) (Binding, error) {
	m, err := openJWS(text, []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512})
	if err != nil {
		return Binding{}, err
	}
	wrong := refuse("unauthorized", "the external account binding is wrong, was withdrawn or has expired")
	switch {
	case m.key != nil || m.nonce != "":
		return Binding{}, refuse("malformed", "the external account binding has a kid and no nonce")
	case m.url != s.c.Base+q.URL.RequestURI():
		return Binding{}, refuse("malformed", "the url of the external account binding is not that of the request")
	case len(m.kid) > 128:
		return Binding{}, wrong
	}
	b, err := s.c.Bindings.Binding(ctx, m.kid)
	unknown := err != nil
	if unknown && ringfence.KindOf(err) != ringfence.KindNotFound {
		return Binding{}, err
	}
	if len(b.Key) < 16 { // also of one that is unknown: the MAC is checked all the same, and fails
		unknown = true
		b.Key = make([]byte, 32)
		rand.Read(b.Key)
	}
	if err := m.verify(b.Key); err != nil || unknown || b.Revoked || !b.Expires.IsZero() && !s.c.Now().Before(b.Expires) {
		s.c.Log.Warn("an ACME account was refused", "key_id", clip(m.kid, 64), "from", q.RemoteAddr)
		return Binding{}, wrong
	}
	k, err := readKey(m.body)
	if err != nil {
		return Binding{}, err
	}
	if thumb, err := thumbprint(k); err != nil || thumb != q.thumb {
		return Binding{}, refuse("malformed", "the external account binding is for another key")
	}
	return b, nil
}

// checkContact takes mailto URIs with one address each (section 7.3).
func checkContact(list []string) error {
	if len(list) > maxContacts {
		return refuse("invalidContact", "an account has "+strconv.Itoa(maxContacts)+" contacts at most")
	}
	for _, c := range list {
		u, err := url.Parse(c)
		switch {
		case err != nil || len(c) > 320:
			return refuse("invalidContact", "a contact is no URI")
		case u.Scheme != "mailto":
			return refuse("unsupportedContact", "contacts are of the form mailto:name@example.org")
		}
		a, err := mail.ParseAddress(u.Opaque)
		if err != nil || a.Name != "" || a.Address != u.Opaque || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Opaque, "%") {
			return refuse("invalidContact", "a contact must be one plain address")
		}
	}
	return nil
}

// own refuses what is another account's.
func (q *request) own(account string) error {
	if account != q.account.ID {
		return refuse("unauthorized", "this belongs to another account")
	}
	return nil
}

// account reads, changes or deactivates an account (sections 7.3.2 and 7.3.6).
func (s *Server) account(q *request) (*reply, error) {
	if err := q.own(q.PathValue("id")); err != nil {
		return nil, err
	}
	if len(q.payload) == 0 {
		return s.accountReply(q.account, 0), nil
	}
	var ask struct {
		Contact *[]string `json:"contact"`
		Status  Status    `json:"status"`
	}
	if err := readPayload(q.payload, &ask); err != nil {
		return nil, err
	}
	a := q.account
	switch ask.Status {
	case "", StatusValid:
	case StatusDeactivated:
		a.Status = StatusDeactivated
		if err := s.c.Audit(q.Context(), "acme.account", a.ID, "deactivated by its holder"); err != nil {
			return nil, err
		}
	default:
		return nil, refuse("malformed", "the only status to ask for is deactivated")
	}
	if ask.Contact != nil {
		if err := checkContact(*ask.Contact); err != nil {
			return nil, err
		}
		a.Contact = *ask.Contact
	}
	if err := s.c.State.UpdateAccount(q.Context(), a); err != nil {
		return nil, err
	}
	return s.accountReply(a, 0), nil
}

// ordersPage is how many orders one answer lists.
const ordersPage = 100

// listOrders lists the orders of an account (section 7.1.2.1).
func (s *Server) listOrders(q *request) (*reply, error) {
	if err := q.own(q.PathValue("id")); err != nil {
		return nil, err
	}
	if err := q.reads(); err != nil {
		return nil, err
	}
	after := q.URL.Query().Get("after")
	if after != "" && !isID(after) {
		return nil, refuse("malformed", "there is no such page of orders")
	}
	ids, err := s.c.State.Orders(q.Context(), q.account.ID, after, ordersPage+1)
	if err != nil {
		return nil, err
	}
	out := &reply{}
	if len(ids) > ordersPage {
		ids = ids[:ordersPage]
		out.links = append(out.links, "<"+s.c.Base+pathAccount+q.account.ID+"/orders?after="+ids[ordersPage-1]+`>;rel="next"`)
	}
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, s.c.Base+pathOrder+id)
	}
	out.body = map[string][]string{"orders": list}
	return out, nil
}

// reads refuses a payload where something is only read (section 6.3).
func (q *request) reads() error {
	if len(q.payload) > 0 {
		return refuse("malformed", "to read, send an empty payload (RFC 8555 section 6.3)")
	}
	return nil
}

// keyChange gives an account another key (section 7.3.5).
func (s *Server) keyChange(q *request) (*reply, error) {
	m, err := openJWS(q.payload, algorithms())
	if err != nil {
		return nil, err
	}
	switch {
	case m.key == nil:
		return nil, refuse("malformed", "the inner message is signed with the new key itself (jwk)")
	case m.url != s.c.Base+q.URL.RequestURI():
		return nil, refuse("malformed", "the inner and the outer message are for different URLs")
	case m.nonce != "":
		return nil, refuse("malformed", "the inner message must not have a nonce")
	}
	if err := m.verify(m.key); err != nil {
		return nil, err
	}
	var ask struct {
		Account string          `json:"account"`
		OldKey  json.RawMessage `json:"oldKey"`
	}
	if err := readPayload(m.body, &ask); err != nil {
		return nil, err
	}
	old, err := readKey(ask.OldKey)
	if err != nil {
		return nil, err
	}
	oldThumb, err := thumbprint(old)
	if err != nil {
		return nil, err
	}
	a := q.account
	if ask.Account != s.c.Base+pathAccount+a.ID || oldThumb != a.Thumbprint {
		return nil, refuse("malformed", "the inner message is for another account or another old key")
	}
	fresh, err := thumbprint(m.key)
	if err != nil {
		return nil, err
	}
	taken := func() error {
		other, err := s.c.State.AccountByKey(q.Context(), fresh)
		if err != nil {
			return err
		}
		p := refuse("malformed", "the new key is that of an account already").with(http.StatusConflict)
		p.location = s.c.Base + pathAccount + other.ID
		return p
	}
	if err := taken(); ringfence.KindOf(err) != ringfence.KindNotFound {
		return nil, err
	}
	if a.Key, err = m.key.MarshalJSON(); err != nil {
		return nil, err
	}
	a.Thumbprint = fresh
	if err := s.c.Audit(q.Context(), "acme.account", a.ID, "another key"); err != nil {
		return nil, err
	}
	if err := s.c.State.UpdateAccount(q.Context(), a); err != nil {
		return nil, err
	}
	return s.accountReply(a, 0), nil
}

// keyAuthorization is what a challenge has to show (section 8.1).
func keyAuthorization(token, thumb string) string { return token + "." + thumb }
