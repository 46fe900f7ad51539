package control

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
)

// nodeRole is the role of another node of the same database, at the other end of a connection.
const nodeRole = "node"

// locate finds the phones of some users, wherever they are connected, and hands them to then, on the shard. A user's phones at other nodes are asked for off the shard; an
// emergency call does not wait for that while there is a phone here.
func (call *Call) locate(users []ringfence.UserID, then func([]contact)) {
	c := call.ctl
	here := make([][]contact, len(users))
	for i, u := range users {
		here[i] = c.cfg.Registrar.Locate(u)
	}
	all := slices.Concat(here...)
	if c.cfg.Elsewhere == nil || len(users) == 0 || call.emergency && len(all) > 0 {
		then(all)
		return
	}
	go func() {
		found := make([][]contact, len(users))
		var wg sync.WaitGroup // a node that does not answer is waited for once
		for i, u := range users {
			wg.Go(func() { found[i] = c.cfg.Elsewhere(u, here[i]) })
		}
		wg.Wait()
		all := slices.Concat(found...)
		c.cfg.Shard.Post(func() {
			if !call.over { // the caller may have hung up meanwhile
				then(all)
			}
		})
	}()
}

// FromNode handles an INVITE that another node sends for a phone that is connected here, on a connection whose peer has proved to be a node. That node has asked the dial plan
// and the user's settings; here one phone rings, and nothing is sent on, so that a call cannot go in circles.
func (c *Control) FromNode(tx *transaction.Server) {
	help := sip.EqualFold(tx.Request.Get(sip.HeaderPriority), emergency) // the other node has asked the dial plan whether it is
	switch {
	case help:
	case c.draining.Load():
		tx.Reply(480, "The Node Is Stopping", nil)
		return
	case len(c.calls) >= c.cfg.MaxCalls:
		tx.Reply(503, "", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, uint64(5+rand.IntN(10))) })
		return
	}
	if !acceptable(tx) {
		return
	}
	at, ok := c.here(tx.Request)
	if !ok {
		tx.Reply(430, "", nil) // its flow failed (RFC 5626 section 11.6)
		return
	}
	call := c.newCall()
	call.spent, _ = spent(tx.Request)
	call.relayed, call.private, call.emergency = true, wantsPrivacy(tx.Request), help
	var owner ringfence.UserID
	if a, err := sip.ParseNameAddr(tx.Request.Get(sip.HeaderPAssertedIdentity)); err == nil && a.URI.IsSIP() {
		call.From, call.fromName = callerOf(tx.Request)
		if strings.EqualFold(string(a.URI.Host), c.cfg.Domain) {
			owner, _ = c.Owner(ringfence.Number(call.From))
			if u := c.cfg.Roster.User(owner); u != nil {
				call.fromName = u.Name
			}
		} else { // it comes by a trunk of the other node, and is nobody of ours
			call.fromHost = string(a.URI.Host)
		}
	}
	leg := call.newLeg("caller", "", owner)
	who := call.from()
	leg.auth, leg.who = ringfence.AuthCertificate, &who
	user := c.cfg.Roster.Device(at.Device).User
	call.Dialled, call.To = string(user), string(user)
	if u := c.cfg.Roster.User(user); u != nil && len(u.Numbers) > 0 {
		call.Dialled, call.To = string(u.Numbers[0]), string(u.Numbers[0])
	}
	for line := range tx.Request.All(sip.HeaderDiversion) {
		call.diversion = append(call.diversion, string(line))
	}
	leg.session = c.cfg.Dialogs.Accept(tx, c.contact(tx.Conn), leg)
	call.caller = leg
	call.because("%s asks for the phone %s, which is connected here", tx.Conn.Peer.Name, at.Device)
	leg.opened()
	if err := leg.hear(tx.Request.Body()); err != nil {
		call.refuse(err)
		return
	}
	if c.busy(user) >= maxCallsPerUser && !help {
		call.failed(dialog.End{Status: 486, Reason: dialog.Reason(17, "busy")})
		return
	}
	call.ringAll([]contact{at}, "", c.cfg.RingTime, call.failed)
}

// here finds the phone that another node asks for: To is its address-of-record, and the Request-URI what it registered.
func (c *Control) here(m *sip.Message) (at contact, ok bool) {
	to, err := sip.ParseNameAddr(m.Get(sip.HeaderTo))
	if err != nil || !to.URI.IsSIP() || !strings.EqualFold(string(to.URI.Host), c.cfg.Domain) {
		return at, false
	}
	uri := string(m.RequestURI())
	for _, x := range c.cfg.Registrar.Locate(ringfence.UserID(sip.Unescape(to.URI.User))) {
		flows := append([]contact{x}, x.Others...)
		i := slices.IndexFunc(flows, func(f contact) bool { return f.Contact == uri })
		if i < 0 {
			continue
		}
		at = flows[i]
		at.Others = slices.Delete(flows, i, i+1) // if the one that was asked for is silent
		return at, c.cfg.Roster.Device(at.Device) != nil
	}
	return at, false
}
