package token

import (
	"crypto/rand"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/quota"
)

const (
	// userAlphabet has no vowels, so that no words come about, and no letters that look alike (RFC 8628 section 6.1).
	userAlphabet = "BCDFGHJKLMNPQRSTVWXZ"
	userLetters  = 8
	// The devices that wait to be approved, in all and from one source.
	maxPairings  = 4096
	maxPerSource = 16
)

// pairing is a device that waits until somebody with a browser approves it.
type pairing struct {
	client   string
	source   string
	userCode string
	expires  time.Time
	device   ringfence.DeviceID // empty: not approved yet
	asked    time.Time
	wait     time.Duration
}

// begin is the device authorization endpoint (RFC 8628 section 3.1).
func (s *Server) begin(w http.ResponseWriter, r *http.Request) {
	v, err := form(r)
	switch {
	case err != nil:
	case !s.known(v.Get("client_id")):
		err = bad("invalid_client", "this program is not known here; an administrator lists programs under oauth.clients")
	case v.Get("scope") != "" && v.Get("scope") != Scope:
		err = bad("invalid_scope", "the only scope is "+Scope)
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	user, err := userCode()
	if err != nil {
		s.refuse(w, err)
		return
	}
	now := s.c.Now()
	s.forget(now)
	code := randomText(32)
	p := &pairing{client: v.Get("client_id"), source: quota.Source(r.RemoteAddr), userCode: user, expires: now.Add(deviceLife), wait: interval}
	if !s.add(store.HashToken(code), p) {
		s.refuse(w, fault("token.device", ringfence.KindOverload, "too many devices wait to be approved", "wait a few minutes", nil))
		return
	}
	shown := user[:4] + "-" + user[4:]
	at := s.c.Issuer() + pathDevice
	writeJSON(w, http.StatusOK, map[string]any{"device_code": code, "user_code": shown, "verification_uri": at,
		"verification_uri_complete": at + "?user_code=" + shown, "expires_in": int(deviceLife / time.Second), "interval": int(interval / time.Second)})
}

func (s *Server) add(hash string, p *pairing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for _, o := range s.devices {
		if o.source == p.source {
			same++
		}
	}
	if len(s.devices) >= maxPairings || same >= maxPerSource || s.byUser[p.userCode] != nil {
		return false
	}
	s.devices[hash], s.byUser[p.userCode] = p, p
	return true
}

func userCode() (string, error) {
	b := make([]byte, userLetters)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(userAlphabet))))
		if err != nil {
			return "", err
		}
		b[i] = userAlphabet[n.Int64()]
	}
	return string(b), nil
}

// readUserCode undoes what people do to a code when they type it; it is empty if that is none.
func readUserCode(s string) string {
	if len(s) > 40 {
		return ""
	}
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(userAlphabet, r) {
			return r
		}
		return -1
	}, strings.ToUpper(s))
	if len(s) != userLetters {
		return ""
	}
	return s
}

// askDevice shows the page on which somebody approves a device.
func (s *Server) askDevice(w http.ResponseWriter, r *http.Request) {
	s.page(w, http.StatusOK, view{Title: "Approve a device", Action: pathDevice, Pair: true, UserCode: clip(r.URL.Query().Get("user_code"))})
}

// approve takes the code that the device shows and the activation code of whom it is for.
func (s *Server) approve(w http.ResponseWriter, r *http.Request) {
	v, err := form(r)
	if err != nil {
		s.page(w, http.StatusBadRequest, view{Title: "This cannot be done", Error: pageProblem(err).Text})
		return
	}
	again := view{Title: "Approve a device", Action: pathDevice, Pair: true, UserCode: clip(v.Get("user_code"))}
	user := readUserCode(v.Get("user_code"))
	if s.waiting(user) == nil { // before the activation code is used up
		again.Error = noDevice
		s.page(w, http.StatusForbidden, again)
		return
	}
	device, err := s.proved(r)
	if err != nil {
		again.Error = pageProblem(err).Text
		s.page(w, http.StatusForbidden, again)
		return
	}
	s.pair(w, user, device)
}

// waiting returns the device that waits with a user code, or nil.
func (s *Server) waiting(user string) *pairing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits(user)
}

// waits is waiting for somebody who holds s.mu.
func (s *Server) waits(user string) *pairing {
	if p := s.byUser[user]; p != nil && p.device == "" && s.c.Now().Before(p.expires) {
		return p
	}
	return nil
}

// pair approves the device that waits with a user code.
func (s *Server) pair(w http.ResponseWriter, user string, device ringfence.DeviceID) {
	s.mu.Lock()
	p := s.waits(user)
	if p != nil {
		p.device = device
	}
	s.mu.Unlock()
	if p == nil { // somebody else was faster, or it was too late
		s.page(w, http.StatusForbidden, view{Title: "This cannot be done", Error: noDevice})
		return
	}
	s.page(w, http.StatusOK, view{Title: "Done", Done: "The device is approved as " + string(device) + ". It goes on by itself within a few seconds."})
}

// poll answers a device that asks whether it was approved (RFC 8628 section 3.4).
func (s *Server) poll(r *http.Request, v url.Values) (answer, error) {
	now := s.c.Now()
	hash := store.HashToken(v.Get("device_code"))
	s.mu.Lock()
	p := s.devices[hash]
	var err error
	switch {
	case p == nil || p.client != v.Get("client_id"):
		err = bad("invalid_grant", "the device code is unknown or was used")
	case !now.Before(p.expires):
		err = bad("expired_token", "nobody approved the device in time: begin again")
	case p.device == "" && !p.asked.IsZero() && now.Sub(p.asked) < p.wait-time.Second/2:
		p.wait += interval
		err = bad("slow_down", "ask less often")
	case p.device == "":
		err = bad("authorization_pending", "nobody has approved the device yet")
	default: // good for one answer
		delete(s.devices, hash)
		delete(s.byUser, p.userCode)
	}
	if p != nil {
		p.asked = now
	}
	s.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	return s.grant(r.Context(), p.device, p.client)
}
