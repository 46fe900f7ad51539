package registrar

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/state/store"
)

// Register answers a REGISTER of an identified device, after its bindings are on disk.
func (r *Registrar) Register(tx *transaction.Server, id Identity) {
	m := tx.Request
	if err := r.checkTarget(m, id); err != nil {
		kind := ringfence.KindOf(err)
		code, _ := kind.SIP()
		r.count(&r.stats.Refused)
		tx.Reply(code, err.Error(), nil)
		return
	}
	if tag := unsupported(m); tag != "" {
		tx.Reply(420, "", func(w *sip.Writer) { w.Header(sip.HeaderUnsupported, tag) })
		return
	}
	ch, err := r.plan(tx, id)
	var brief errBrief
	switch {
	case errors.As(err, &brief):
		tx.Reply(423, "", func(w *sip.Writer) { w.Uint(sip.HeaderMinExpires, uint64(r.cfg.Min/time.Second)) })
		return
	case err != nil:
		code, _ := ringfence.KindOf(err).SIP()
		tx.Reply(code, err.Error(), nil)
		return
	}
	if len(ch.put)+len(ch.remove) == 0 { // a question only
		r.reply(tx, id)
		return
	}
	kept := func(err error) {
		if err != nil {
			r.cfg.Log.Error("a registration could not be kept", "device", id.Device, "err", err, "hint", ringfence.HintOf(err))
			tx.Reply(503, "Registration Could Not Be Kept", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, 10) })
			return
		}
		r.adopt(tx, id, ch)
		r.reply(tx, id)
	}
	if r.cfg.Quick {
		tx.Aside(func() error { return r.cfg.Ledger.ApplyBindings(context.Background(), ch.put, ch.remove) }, kept)
		return
	}
	tx.Keep()
	ch.done = func(err error) { tx.Shard.Post(func() { kept(err) }) }
	r.commit.add(ch)
}

func (r *Registrar) checkTarget(m *sip.Message, id Identity) error {
	to, err := m.To()
	if err != nil || !to.URI.IsSIP() {
		return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "Bad Address-Of-Record"}
	}
	if user := ringfence.UserID(sip.Unescape(to.URI.User)); user != id.User || !sip.EqualFold(to.URI.Host, r.cfg.Domain) {
		return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "Not Your Address-Of-Record"}
	}
	return nil
}

// unsupported returns the first required option that a registrar here does not know (RFC 3261 section 8.2.2.3).
func unsupported(m *sip.Message) string {
	for line := range m.All(sip.HeaderRequire) {
		for v := range sip.Values(line) {
			switch strings.ToLower(string(v)) {
			case "path", "outbound", "gruu":
			default:
				return string(v)
			}
		}
	}
	return ""
}

type errBrief struct{}

func (errBrief) Error() string { return "Interval Too Brief" }

// plan reads the contacts of a REGISTER into a change, without making it (RFC 3261 section 10.3).
func (r *Registrar) plan(tx *transaction.Server, id Identity) (change, error) {
	m := tx.Request
	var ch change
	seq, _, _ := m.CSeq()
	fallback, hasExpires := m.Uint(sip.HeaderExpires, 1<<32-1)
	if !hasExpires {
		fallback = uint64(r.cfg.Max / time.Second)
	}
	now := time.Now()
	contacts, all := 0, false
	for line := range m.All(sip.HeaderContact) {
		for v := range sip.Values(line) {
			contacts++
			if string(v) == "*" {
				all = true
				continue
			}
			if all {
				break
			}
			addr, err := sip.ParseNameAddr(v)
			if err != nil || !addr.URI.IsSIP() {
				return ch, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "Bad Contact"}
			}
			b, err := r.binding(tx, id, &addr, now)
			if err != nil {
				return ch, err
			}
			if old := r.find(id.User, &b); old != nil && old.CallID == b.CallID && old.CSeq >= seq {
				return ch, &ringfence.Fault{Kind: ringfence.KindInternal, Text: "CSeq Out Of Order"}
			}
			seconds := fallback
			if e, ok := addr.Params.Get("expires"); ok {
				if n, err := strconv.ParseUint(string(e), 10, 32); err == nil {
					seconds = n
				}
			}
			if seconds == 0 {
				ch.remove = append(ch.remove, b.Key())
				continue
			}
			d := min(time.Duration(seconds)*time.Second, r.cfg.Max)
			if !id.Until.IsZero() { // a registration does not outlive the token that it was made with
				d = min(d, id.Until.Sub(now).Truncate(time.Second))
			}
			if d < r.cfg.Min {
				return ch, errBrief{}
			}
			if !tx.Conn.Reliable() {
				d = min(d, longestPlain)
			}
			b.Expires = now.Add(d)
			ch.put = append(ch.put, b)
		}
	}
	if all {
		if contacts > 1 || !hasExpires || fallback != 0 {
			return ch, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "Contact * Needs Expires 0 And Stands Alone"}
		}
		var late bool
		if ch.remove, late = r.keysOf(id, string(m.CallID()), seq); late {
			return ch, &ringfence.Fault{Kind: ringfence.KindInternal, Text: "CSeq Out Of Order"}
		}
	}
	if r.tooMany(id.User, ch.put) {
		return ch, &ringfence.Fault{Kind: ringfence.KindDenied, Text: "Too Many Contacts"}
	}
	return ch, nil
}

func (r *Registrar) binding(tx *transaction.Server, id Identity, addr *sip.NameAddr, now time.Time) (store.Binding, error) {
	m := tx.Request
	seq, _, _ := m.CSeq()
	token := strconv.FormatUint(tx.Conn.ID, 10)
	if r.cfg.Node != "" {
		token = r.cfg.Node + "/" + token
	}
	b := store.Binding{AOR: r.AOR(id.User), Device: id.Device, Contact: addr.URI.String(), CallID: string(m.CallID()), CSeq: seq,
		UserAgent: string(m.Get(sip.HeaderUserAgent)), Updated: now, FlowToken: token,
		Proof: r.proofOf(tx, id, now)}
	if inst, ok := addr.Params.Get("+sip.instance"); ok {
		b.Instance = string(bytes.Trim(inst, "<>"))
	}
	if reg, ok := addr.Params.Get("reg-id"); ok {
		n, err := strconv.ParseUint(string(reg), 10, 31)
		if err != nil || n == 0 {
			return b, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "Bad reg-id"}
		}
		b.RegID = int(n)
	}
	for line := range m.All(sip.HeaderPath) {
		for v := range sip.Values(line) {
			b.Path = append(b.Path, string(v))
		}
	}
	if tx.Conn.Peer.Role == proxyRole {
		if err := ownPath(tx.Conn, b.Path); err != nil {
			return b, err
		}
	}
	if isURN(b.Instance) && m.HasOption(sip.HeaderSupported, "gruu") {
		b.GRUU = "sip:" + string(id.User) + "@" + r.cfg.Domain + ";gr=" + b.Instance
	}
	return b, nil
}

// isURN reports whether an instance id can stand in a URI parameter as it is (RFC 5626 section 4.1 wants a URN).
func isURN(id string) bool {
	if len(id) < 5 || len(id) > 128 || !strings.EqualFold(id[:4], "urn:") {
		return false
	}
	return !strings.ContainsFunc(id, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-.:_", c))
	})
}

// find returns the contact that b would replace, or nil.
func (r *Registrar) find(user ringfence.UserID, b *store.Binding) *Contact {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byUser[user] {
		if c.SameKey(b) {
			return c
		}
	}
	return nil
}

// keysOf returns the keys of a device's bindings; "*" removes only one's own, not those of the user's other devices. late tells that
// one of them was made by a later request of the same registration (RFC 3261 section 10.3, step 6).
func (r *Registrar) keysOf(id Identity, callID string, seq uint32) (keys []store.BindingKey, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byUser[id.User] {
		if c.Device == id.Device {
			keys = append(keys, c.Key())
			late = late || c.CallID == callID && c.CSeq >= seq
		}
	}
	return keys, late
}

func (r *Registrar) tooMany(user ringfence.UserID, put []store.Binding) bool {
	fresh := 0
	for i := range put {
		if r.find(user, &put[i]) == nil {
			fresh++
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byUser[user])+fresh > r.cfg.MaxPerUser
}

// adopt puts a change that is on disk into memory.
func (r *Registrar) adopt(tx *transaction.Server, id Identity, ch change) {
	var changes []Change
	defer func() { r.tell(changes) }() // without the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.byUser[id.User]
	for _, k := range ch.remove {
		list = slices.DeleteFunc(list, func(c *Contact) bool {
			gone := c.Key() == k
			if gone {
				changes = append(changes, Change{User: id.User, Device: c.Device, Contact: c.Contact, Why: "unregistered"})
			}
			return gone
		})
		r.stats.Unregistered++
	}
	for i := range ch.put {
		b := &ch.put[i]
		c := &Contact{Binding: *b, Conn: tx.Conn}
		at := slices.IndexFunc(list, func(o *Contact) bool { return o.SameKey(b) })
		if at < 0 { // a refresh is no news
			changes = append(changes, Change{User: id.User, Device: id.Device, Contact: b.Contact, Bound: true, Why: "registered"})
			list = append(list, nil)
			at = len(list) - 1
		}
		copy(list[1:at+1], list[:at]) // the latest is the first
		list[0] = c
		r.byConn[tx.Conn.ID] = append(r.onlyLive(r.byConn[tx.Conn.ID], c), c)
		r.stats.Registered++
	}
	r.set(id.User, list)
}

// onlyLive drops contacts that c replaces, so that a refresh does not make the list grow.
func (r *Registrar) onlyLive(list []*Contact, c *Contact) []*Contact {
	kept := list[:0]
	for _, o := range list {
		if !o.SameKey(&c.Binding) {
			kept = append(kept, o)
		}
	}
	return kept
}

func (r *Registrar) reply(tx *transaction.Server, id Identity) {
	m := tx.Request
	w := tx.Respond(200, "")
	now := time.Now()
	r.mu.Lock()
	outbound := false
	var space [512]byte
	for _, c := range r.byUser[id.User] {
		left := int(c.Expires.Sub(now).Round(time.Second) / time.Second)
		if left <= 0 {
			continue
		}
		v := append(append(append(space[:0], '<'), c.Contact...), ">;expires="...)
		v = strconv.AppendInt(v, int64(left), 10)
		if c.Instance != "" {
			v = append(append(append(v, `;+sip.instance="<`...), c.Instance...), `>"`...)
		}
		if c.RegID > 0 {
			v = strconv.AppendInt(append(v, ";reg-id="...), int64(c.RegID), 10)
			outbound = outbound || c.Conn == tx.Conn && hopsKnowOutbound(m)
		}
		if c.GRUU != "" {
			v = append(append(append(v, `;pub-gruu="`...), c.GRUU...), '"')
		}
		w.Value(sip.HeaderContact, v)
	}
	r.mu.Unlock()
	w.Copy(m, sip.HeaderPath)
	w.Header(sip.HeaderSupported, "path, outbound, gruu")
	if outbound {
		w.Header(sip.HeaderRequire, "outbound")
		w.Uint(sip.HeaderFlowTimer, uint64(r.cfg.FlowTimer/time.Second))
	}
	w.Value(sip.HeaderDate, now.UTC().AppendFormat(space[:0], "Mon, 02 Jan 2006 15:04:05 GMT"))
	w.Body("", nil)
	tx.Send(200, w)
}
