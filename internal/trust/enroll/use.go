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
	const op = "enroll.use"
	if !s.limit.allow(remote) {
		return "", fault(op, ringfence.KindOverload, "too many tries from this address", "wait a minute", nil)
	}
	code, err := ParseCode(text)
	if err != nil {
		return "", err
	}
	st, err := s.begin(ctx, code[:lookupDigits], nil, nil)
	if err != nil {
		return "", err
	}
	left := false
	if st.known {
		if left, err = s.c.Codes.SpendAttempt(ctx, st.act.Lookup); err != nil {
			return "", err
		}
	}
	right := hmac.Equal(verifier(code, st.act.Salt, st.cost), st.act.Verifier)
	wrong := fault(op, ringfence.KindUnauthenticated, "the activation code is wrong, was used or has expired", "check it, or ask for a new one", nil)
	switch now := s.clock.read(); {
	case !st.known:
		return "", wrong
	case !right || !left || !st.act.UsedAt.IsZero() || !now.Before(st.act.Expires):
		return "", firstOf(s.audit(ctx, op, string(st.act.Device), "wrong, used or expired code"), wrong)
	default:
		d, err := s.c.Codes.Device(ctx, st.act.Device)
		if err != nil {
			return "", err
		}
		if d.State != store.DeviceActive {
			return "", fault(op, ringfence.KindDenied, "the device "+string(d.ID)+" is revoked", "ask your administrator", nil)
		}
		if err := s.c.Codes.UseActivation(ctx, st.act.Lookup, d.ID, now); err != nil {
			return "", err
		}
		return d.ID, s.audit(context.WithoutCancel(ctx), op, string(d.ID), "done")
	}
}
