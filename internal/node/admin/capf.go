package admin

import (
	"context"
	"crypto/rand"
	"math/big"
	"net/http"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/capf"
)

// Orders keeps what is ordered of devices by CAPF; *store.Store is one.
type Orders interface {
	AddCAPFOrder(ctx context.Context, o store.CAPFOrder, now time.Time) error
	CAPFOrders(ctx context.Context, device ringfence.DeviceID, limit int) ([]store.CAPFOrder, error)
	OpenCAPFOrder(ctx context.Context, device ringfence.DeviceID) (store.CAPFOrder, error)
	RefuseCAPFOrder(ctx context.Context, id string, o store.CAPFOutcome, open bool) error
}

// OrderCheck says whether an order can be carried out at all; *capf.Server is one.
type OrderCheck interface {
	Check(o capf.Order) error
}

type (
	newOrderIn struct {
		ID   string `path:"id" maxLength:"64" doc:"id of the device"`
		Body api.NewCAPFOrder
	}
	orderedIn struct {
		ID string `path:"id" maxLength:"64" doc:"id of the device"`
	}
	ordersIn struct {
		Device string `query:"device" maxLength:"64" doc:"only of this device"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
)

// attemptsOfOrder is how often a device may fail to prove itself before the order is locked.
const attemptsOfOrder = 5

func (s *Server) routesCAPF() {
	add := op("capf.order", http.MethodPost, "/devices/{id}/capf", "Order a certificate operation of an enterprise phone; the authentication string is shown once")
	add.DefaultStatus = http.StatusCreated
	act(s, add, api.ScopeWrite, func(in *newOrderIn) string { return in.ID + " " + in.Body.Operation }, s.orderCAPF)
	act(s, op("capf.cancel", http.MethodDelete, "/devices/{id}/capf", "Cancel the open order of a device"), api.ScopeWrite, func(in *orderedIn) string { return in.ID }, func(ctx context.Context, in *orderedIn) (*none, error) {
		o, err := s.c.Store.OpenCAPFOrder(ctx, ringfence.DeviceID(in.ID))
		if err != nil {
			return nil, err
		}
		return nil, s.c.Store.RefuseCAPFOrder(ctx, o.ID, store.CAPFOutcome{Status: string(failed(capf.Operation(o.Operation))), Reason: "cancelled by an administrator", At: s.c.Now()}, false)
	})
	look(s, op("capf.list", http.MethodGet, "/capf", "List what was ordered, the latest first"), func(ctx context.Context, in *ordersIn) (*body[[]api.CAPFOrder], error) {
		all, err := s.c.Store.CAPFOrders(ctx, ringfence.DeviceID(in.Device), in.Limit)
		out := make([]api.CAPFOrder, 0, len(all))
		for _, o := range all {
			out = append(out, orderOut(o))
		}
		return answer(out), err
	})
}

func failed(o capf.Operation) capf.Status {
	switch o {
	case capf.Delete:
		return capf.DeleteFailed
	case capf.Troubleshoot:
		return capf.TroubleshootFailed
	}
	return capf.UpgradeFailed
}

func orderOut(o store.CAPFOrder) api.CAPFOrder {
	return api.CAPFOrder{ID: o.ID, Device: string(o.Device), Operation: o.Operation, Auth: o.Auth, Key: o.Key, CompletesBy: o.CompletesBy.UTC(), Created: o.Created.UTC(), Open: o.Open, Status: o.Status, Reason: o.Reason, At: utc(o.At),
		Source: o.Source, Serial: o.Serial, Certificate: o.Certificate, Attempts: o.Attempts}
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

func (s *Server) orderCAPF(ctx context.Context, in *newOrderIn) (*body[api.CAPFOrder], error) {
	if s.c.OrderCheck == nil {
		return nil, fault("admin.capf", ringfence.KindNotFound, "phones get no certificates by CAPF here", "set enterprise.capf in the configuration, and start the node again")
	}
	d, err := s.c.Store.Device(ctx, ringfence.DeviceID(in.ID))
	if err != nil {
		return nil, unknown(err, "device", in.ID)
	}
	if !d.Certifiable() {
		return nil, fault("admin.capf", ringfence.KindDenied, "the device "+in.ID+" is revoked, or proves itself in another way than by certificate", "see `ringfence device show "+in.ID+"`")
	}
	b, now := in.Body, s.c.Now()
	o := capf.Order{ID: "capf-" + randomText(12), Device: d.ID, Operation: capf.Operation(b.Operation), Old: b.Old, CompletesBy: b.CompletesBy}
	if o.CompletesBy.IsZero() {
		o.CompletesBy = now.Add(7 * 24 * time.Hour)
	}
	if !o.CompletesBy.After(now) {
		return nil, fault("admin.capf", ringfence.KindInvalid, "the time until which it is to be completed is over", "give one that is to come")
	}
	if o.Operation == capf.InstallUpgrade {
		o.Key = capf.Key(b.Key)
		if o.Key == "" {
			o.Key = capf.ECP256
		}
	}
	switch b.Auth {
	case "", "string":
		o.Auth, o.String = capf.ByString, b.String
		if o.String == "" {
			if o.String, err = randomDigits(8); err != nil {
				return nil, err
			}
		}
	case "lsc":
		o.Auth = capf.ByLSC
	case "mic":
		o.Auth = capf.ByMIC
	default:
		o.Auth = capf.ByNull
		for _, e := range s.c.Roster.Exceptions(now) {
			if e.Device == d.ID {
				o.Exception = e.String()
			}
		}
	}
	if err := s.c.OrderCheck.Check(o); err != nil {
		return nil, err
	}
	kept := store.CAPFOrder{ID: o.ID, Device: o.Device, Operation: string(o.Operation), Auth: string(o.Auth), String: o.String, Exception: o.Exception, Old: o.Old, Key: string(o.Key), CompletesBy: o.CompletesBy, Attempts: attemptsOfOrder,
		CAPFOutcome: store.CAPFOutcome{Status: string(capf.OperationPending)}}
	if err := s.c.Store.AddCAPFOrder(ctx, kept, now); err != nil {
		return nil, err
	}
	kept.Open, kept.Created = true, now
	out := orderOut(kept)
	out.String = o.String
	return answer(out), nil
}

// randomDigits returns n digits, each as likely as any other.
func randomDigits(n int) (string, error) {
	var out []byte
	for range n {
		d, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			return "", fault("admin.capf", ringfence.KindInternal, "there are no random numbers", "")
		}
		out = append(out, byte('0'+d.Int64()))
	}
	return string(out), nil
}
