package token

import (
	"context"
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/quota"
)

const (
	pathOutside = "/oauth/provider"
	pathReturn  = "/oauth/provider/callback"
	pathChoose  = "/oauth/provider/grant"

	visitLife = 10 * time.Minute
	// Those who are at the provider now, in all and from one source.
	maxVisits          = 4096
	maxVisitsPerSource = 128
	// cookiePrefix makes browsers keep the cookie to this host, over TLS (RFC 6265bis section 4.1.3.2).
	cookiePrefix = "__Host-signin-"
)

// Outside proves who people are at a provider outside.
type Outside interface {
	// Name is what people know it by.
	Name() string
	// Begin returns where to send a browser, the state that comes back with it, and what makes of the answer a user, who may not be there,
	// and the provider's own name for them.
	Begin(ctx context.Context) (at, state string, finish Finish, err error)
}

// Finish says who somebody is who came back from a provider.
type Finish func(ctx context.Context, answer url.Values) (user ringfence.UserID, subject string, err error)

// visit is somebody who was sent to the provider. It is found by its state, and belongs to the browser that has its cookie.
type visit struct {
	cookie   string // hash
	source   string
	ask      *ask   // the program that wants to be signed in; nil: a device waits
	userCode string // of that
	expires  time.Time
	finish   Finish           // nil: they are back
	user     ringfence.UserID // who they are
}

// ReturnPath is where the provider sends browsers back, below the issuer.
const ReturnPath = pathReturn

// leave sends a browser to the provider.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	v, err := form(r)
	if err != nil {
		s.page(w, http.StatusBadRequest, view{Title: "This cannot be done", Error: pageProblem(err).Text})
		return
	}
	vis := &visit{source: quota.Source(r.RemoteAddr), expires: s.c.Now().Add(visitLife)}
	again := view{Title: "Approve a device", Action: pathDevice, Pair: true, UserCode: clip(v.Get("user_code"))}
	if v.Has("client_id") {
		a, trusted, err := s.readAsk(r)
		if err != nil {
			s.refuseAsk(w, r, a, trusted, err)
			return
		}
		vis.ask = &a
		again = view{Title: "Sign in", Program: a.Client, Action: pathAuthorize, Ask: &a}
	} else if vis.userCode = readUserCode(v.Get("user_code")); s.waiting(vis.userCode) == nil {
		again.Error = noDevice
		s.page(w, http.StatusForbidden, again)
		return
	}
	at, state, finish, err := s.c.Outside.Begin(r.Context())
	cookie := randomText(32)
	if err == nil {
		vis.finish, vis.cookie = finish, store.HashToken(cookie)
		if !s.addVisit(state, vis) {
			err = fault("token.outside", ringfence.KindOverload, "too many are signing in", "wait a few minutes", nil)
		}
	}
	if err != nil {
		s.c.Log.Warn("nobody can be sent to the OpenID provider", "provider", s.c.Outside.Name(), "cause", err, "hint", ringfence.HintOf(err))
		again.Error = pageProblem(err).Text
		s.page(w, statusOf(err), again)
		return
	}
	// The browser comes back by a link of the provider's, with which Strict would send no cookie.
	http.SetCookie(w, &http.Cookie{Name: cookieOf(state), Value: cookie, Path: "/", MaxAge: int(visitLife / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, at, http.StatusSeeOther)
}

const noDevice = "No device waits with this code. Look at the device: its code may have expired."

// cookieOf names the cookie of a visit, so that each tab of a browser has its own.
func cookieOf(state string) string { return cookiePrefix + store.HashToken(state)[:16] }

func statusOf(err error) int {
	if status := ringfence.KindOf(err).HTTP(); status != http.StatusUnauthorized { // no scheme is asked for
		return status
	}
	return http.StatusForbidden
}

func (s *Server) addVisit(state string, v *visit) bool {
	now := s.c.Now()
	s.forget(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for _, o := range s.visits {
		if o.source == v.source {
			same++
		}
	}
	hash := store.HashToken(state)
	if len(s.visits) >= maxVisits || same >= maxVisitsPerSource || s.visits[hash] != nil {
		return false
	}
	s.visits[hash] = v
	return true
}

// take returns the visit of a request if it is in the state that is asked for, and takes it away, so that nothing is answered twice.
func (s *Server) take(r *http.Request, state string, back bool) *visit {
	c, err := r.Cookie(cookieOf(state))
	if err != nil {
		return nil
	}
	hash := store.HashToken(state)
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.visits[hash]
	if v == nil || subtle.ConstantTimeCompare([]byte(v.cookie), []byte(store.HashToken(c.Value))) != 1 || (v.finish == nil) != back || !s.c.Now().Before(v.expires) {
		return nil
	}
	delete(s.visits, hash)
	return v
}

// comeBack takes somebody who comes from the provider, and asks which of their devices this is for. That question is put even if there is
// one answer only: the provider may have asked nothing, and somebody else may have sent the link.
func (s *Server) comeBack(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	state := q.Get("state")
	v := s.take(r, state, false)
	if v == nil || len(q["state"]) != 1 {
		s.page(w, http.StatusForbidden, view{Title: "This cannot be done", Error: "This sign-in was not begun in this browser, has taken too long, or is over. Begin again in the program."})
		return
	}
	user, subject, err := v.finish(r.Context(), q)
	if err == nil {
		err = s.audit(r.Context(), "token.outside", "user "+string(user), "proved at "+s.c.Outside.Name()+" as "+clipTo(subject, 255))
	}
	var devices []store.Device
	if err == nil {
		devices, err = s.devicesOf(r.Context(), user)
	}
	if err != nil {
		s.c.Log.Warn("a sign-in with the OpenID provider was refused", "provider", s.c.Outside.Name(), "remote", r.RemoteAddr, "subject", clipTo(subject, 255), "cause", err, "hint", ringfence.HintOf(err))
		s.dropCookie(w, state)
		s.page(w, statusOf(err), view{Title: "This cannot be done", Error: pageProblem(err).Text})
		return
	}
	next := *v
	next.finish, next.user = nil, user
	if !s.addVisit(state, &next) {
		s.page(w, http.StatusServiceUnavailable, view{Title: "This cannot be done", Error: "Too many are signing in: wait a few minutes."})
		return
	}
	s.page(w, http.StatusOK, s.choice(&next, state, devices))
}

// choice is the page on which somebody says which device this is for.
func (s *Server) choice(v *visit, state string, devices []store.Device) view {
	p := view{Title: "Sign in", Action: pathChoose, Who: string(v.user), State: state}
	if v.ask != nil {
		p.Program = v.ask.Client
	} else {
		p.Title, p.Shown = "Approve a device", v.userCode[:4]+"-"+v.userCode[4:]
	}
	for _, d := range devices {
		p.Devices = append(p.Devices, string(d.ID))
	}
	return p
}

// choose grants what an activation code grants, for the device that was chosen.
func (s *Server) choose(w http.ResponseWriter, r *http.Request) {
	f, err := form(r)
	if err != nil {
		s.page(w, http.StatusBadRequest, view{Title: "This cannot be done", Error: pageProblem(err).Text})
		return
	}
	state := f.Get("state")
	v := s.take(r, state, true)
	if v == nil {
		s.page(w, http.StatusForbidden, view{Title: "This cannot be done", Error: "This sign-in was not begun in this browser, has taken too long, or is over. Begin again in the program."})
		return
	}
	s.dropCookie(w, state)
	devices, err := s.devicesOf(r.Context(), v.user)
	i := slices.IndexFunc(devices, func(d store.Device) bool { return string(d.ID) == f.Get("device") })
	switch {
	case err != nil:
	case i < 0: // also somebody else's
		err = fault("token.outside", ringfence.KindDenied, "this is none of your devices that sign in by token", "begin again in the program", nil)
	}
	if err != nil {
		s.c.Log.Warn("a sign-in with the OpenID provider was refused", "user", v.user, "remote", r.RemoteAddr, "cause", err, "hint", ringfence.HintOf(err))
		s.page(w, statusOf(err), view{Title: "This cannot be done", Error: pageProblem(err).Text})
		return
	}
	if v.ask != nil {
		s.giveCode(w, r, *v.ask, devices[i].ID)
		return
	}
	s.pair(w, v.userCode, devices[i].ID)
}

func (s *Server) dropCookie(w http.ResponseWriter, state string) {
	http.SetCookie(w, &http.Cookie{Name: cookieOf(state), Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// devicesOf returns the active devices of a user that sign in by token, at least one.
func (s *Server) devicesOf(ctx context.Context, user ringfence.UserID) (out []store.Device, err error) {
	all, err := s.c.Grants.DevicesOf(ctx, user)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.State == store.DeviceActive && slices.Contains(d.Profile.Auth, ringfence.AuthToken) {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fault("token.outside", ringfence.KindDenied, "the provider knows you as "+clip(string(user))+", who has no device here that signs in by token", "an administrator adds one: ringfence device add ID --user USER --auth token", nil)
	}
	return out, nil
}

func clipTo(s string, most int) string { return s[:min(len(s), most)] }
