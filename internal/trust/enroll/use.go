package enroll

import (
	"context"
	"crypto/hmac"

	"ringfence"
	"ringfence/internal/state/store"
)

// UseCode uses up a code that somebody at a remote address typed into a page of this node, and returns the device that it was for. Wrong
// tries count as they do in enrolment, and known and unknown codes cost the same.
func (s *Service) UseCode(ctx context.Context, remote, text string) (ringfence.DeviceID, error) {
	id, _, err := s.HoldCode(ctx, remote, text)
	return id, err
}

// HoldCode is UseCode for something that may still fail: giveBack makes the code good again, as if it had not been used. Nobody else can use it meanwhile.
func (s *Service) HoldCode(ctx context.Context, remote, text string) (id ringfence.DeviceID, giveBack func(context.Context) error, err error) {
	const op = "enroll.use"
	if !s.limit.allow(remote) {
		return "", nil, fault(op, ringfence.KindOverload, "too many tries from this address", "wait a minute", nil)
	}
	code, err := ParseCode(text)
	if err != nil {
		return "", nil, err
	}
	st, err := s.begin(ctx, code[:lookupDigits], nil, nil)
	if err != nil {
		return "", nil, err
	}
	left := false
	if st.known {
		if left, err = s.c.Codes.SpendAttempt(ctx, st.act.Lookup); err != nil {
			return "", nil, err
		}
	}
	right := hmac.Equal(verifier(code, st.act.Salt, st.cost), st.act.Verifier)
	wrong := fault(op, ringfence.KindUnauthenticated, "the activation code is wrong, was used or has expired", "check it, or ask for a new one", nil)
	switch now := s.clock.read(); {
	case !st.known:
		return "", nil, wrong
	case !right || !left || !st.act.UsedAt.IsZero() || !now.Before(st.act.Expires):
		return "", nil, firstOf(s.audit(ctx, op, string(st.act.Device), "wrong, used or expired code"), wrong)
	default:
		d, err := s.c.Codes.Device(ctx, st.act.Device)
		if err != nil {
			return "", nil, err
		}
		if d.State != store.DeviceActive {
			return "", nil, fault(op, ringfence.KindDenied, "the device "+string(d.ID)+" is revoked", "ask your administrator", nil)
		}
		if err := s.c.Codes.UseActivation(ctx, st.act.Lookup, d.ID, now); err != nil {
			return "", nil, err
		}
		return d.ID, func(ctx context.Context) error { return s.c.Codes.ReleaseActivation(ctx, st.act.Lookup, d.ID, now) }, s.audit(context.WithoutCancel(ctx), op, string(d.ID), "done")
	}
}
