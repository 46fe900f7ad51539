package admin

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

func (s *Server) routesState() {
	look(s, op("status", http.MethodGet, "/status", "The state of the node on one page"), func(context.Context, *none) (*body[api.Status], error) {
		return answer(s.status()), nil
	})
	look(s, op("version", http.MethodGet, "/version", "What runs"), func(context.Context, *none) (*body[api.Version], error) {
		return answer(s.c.Version), nil
	})
	look(s, op("registration.list", http.MethodGet, "/registrations", "List where users can be reached, by address-of-record"), func(context.Context, *none) (*body[[]api.Registration], error) {
		return answer(s.registrations()), nil
	})
	look(s, op("connection.list", http.MethodGet, "/connections", "The SIP connections and their counters"), func(context.Context, *none) (*body[api.Connections], error) {
		return answer(s.connections()), nil
	})
	look(s, op("flow.list", http.MethodGet, "/flows", "The flow table as it runs: everything that listens or dials"), func(context.Context, *none) (*body[[]ringfence.Flow], error) {
		return answer(s.c.Host.Flows()), nil
	})
	act(s, op("trust.revoke", http.MethodPost, "/trust/revoke", "Revoke a certificate by its serial number, or all of a name"), api.ScopeAdmin, func(in *body[api.RevokeSerial]) string { return in.Body.Serial + in.Body.Name }, s.revoke)
	anchor := op("trust.anchor", http.MethodGet, "/trust/anchor", "The trust anchor as PEM, for phones and programs; also at /anchor.pem, where it needs no token")
	type pemFile struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
	look(s, anchor, func(context.Context, *none) (*pemFile, error) {
		return &pemFile{ContentType: "application/x-pem-file", Body: s.c.Anchor()}, nil
	})
}

func (s *Server) status() api.Status {
	now, v := s.c.Now(), s.c.Version
	st := api.Status{Node: s.c.Node, Domain: s.c.Domain, Version: v.Version, Go: v.Go, FIPS: v.FIPS, FIPSModule: v.FIPSModule, Started: s.started.UTC(), Uptime: now.Sub(s.started).Round(1e6).Seconds(),
		Store: s.c.StoreKind, Draining: s.c.Calls.Draining(), Restart: s.c.Settings.Waiting(), Counts: s.counts(), Refused: s.refusals()}
	if st.Restart == nil {
		st.Restart = []string{}
	}
	for _, f := range s.c.Host.Flows() {
		if f.Direction != ringfence.Listens {
			continue
		}
		addr := f.Path
		if f.Transport != "unix" {
			addr = netip.AddrPortFrom(f.Addr, f.Ports.First).String()
			if f.Ports.First != f.Ports.Last {
				addr += "-" + strconv.Itoa(int(f.Ports.Last))
			}
			addr = f.Transport + " " + addr
		}
		st.Listeners = append(st.Listeners, api.Listener{Flow: f.Name, Addr: addr, TLS: f.TLS})
	}
	st.Exceptions = s.exceptions()
	return st
}

func (s *Server) counts() (c api.Counts) {
	c.Users, c.Devices = s.c.Roster.Counts()
	for _, r := range s.c.Registrar.All() {
		c.Registrations++
		if r.Live() {
			c.Reachable++
		}
	}
	c.Connections, c.Calls = len(s.c.Wires.Conns()), s.c.Calls.Count()
	return c
}

func (s *Server) refusals() api.Refusals {
	w := s.c.Wires.Stats()
	return api.Refusals{Calls: s.c.Calls.Refused(), Requests: s.c.Registrar.Stats().Refused, Handshakes: w.ServerHandshakes + w.ClientHandshakes, Connections: w.Refused, API: s.refused.Load()}
}

func (s *Server) registrations() []api.Registration {
	out := []api.Registration{}
	for _, c := range s.c.Registrar.All() {
		r := api.Registration{AOR: c.AOR, Device: c.Device, Contact: c.Contact, Live: c.Live(), Expires: c.Expires.UTC(), Updated: c.Updated.UTC(),
			UserAgent: c.UserAgent, Verdict: c.Proof.Verdict, Auth: c.Proof.Auth, TLS: c.Proof.TLS}
		if a, err := ringfenceUser(c.AOR); err == nil {
			r.User = a
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b api.Registration) int {
		return cmp.Or(cmp.Compare(a.AOR, b.AOR), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Contact, b.Contact))
	})
	return out
}

func (s *Server) connections() api.Connections {
	st := s.c.Wires.Stats()
	out := api.Connections{Connections: []api.Connection{}, Listeners: []string{}, Counters: api.ConnectionCounters{Accepted: st.Accepted, Dialled: st.Dialled, SendFailures: st.SendFailures,
		RemoteClosures: st.RemoteClosures, ConnFailures: st.ConnFailures, InactiveAgeouts: st.InactiveAgeouts, MaxQueueBytes: st.MaxQueue, MaxQueuePeer: st.MaxQueueRecorded,
		ClientHandshakeFailures: st.ClientHandshakes, ServerHandshakeFailures: st.ServerHandshakes, Refused: st.Refused, Garbage: st.Garbage}}
	for _, c := range s.c.Wires.Conns() {
		v := api.Connection{ID: c.ID, Flow: c.Flow, Network: c.Network, State: c.State(), Local: c.Local.String(), Remote: c.Remote.String(), Dialled: c.Dialled,
			Queued: c.Queued(), Messages: c.Messages(), Since: c.Since.UTC(), LastRead: c.LastRead().UTC(), TLS: c.TLS}
		if who, ok := s.c.Registrar.Known(c); ok {
			v.Peer = "device " + string(who.Device)
		} else if c.Peer.Role != "" {
			v.Peer = c.Peer.Role + " " + c.Peer.Name
		}
		out.Connections = append(out.Connections, v)
	}
	slices.SortFunc(out.Connections, func(a, b api.Connection) int { return cmp.Compare(a.ID, b.ID) })
	out.Counters.Active = len(out.Connections)
	for _, f := range s.c.Host.Flows() {
		if f.Room == "sip/transport" && f.Direction == ringfence.Listens {
			out.Listeners = append(out.Listeners, netip.AddrPortFrom(f.Addr, f.Ports.First).String())
		}
	}
	return out
}
