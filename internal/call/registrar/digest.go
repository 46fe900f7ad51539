package registrar

import "ringfence/internal/sip/transaction"

type authenticator struct{}

func (a *authenticator) init() {}

// digest refuses devices without a certificate.
func (r *Registrar) digest(tx *transaction.Server) (Identity, bool) {
	r.count(&r.stats.Refused)
	tx.Reply(403, "Client Certificate Required", nil)
	return Identity{}, false
}
