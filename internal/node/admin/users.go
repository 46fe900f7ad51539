package admin

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
)

type (
	page struct { // the framework sees no fields of embedded types, so each request spells its own out
		After string `query:"after" maxLength:"64" doc:"list what comes after this id"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
	}
	userPath struct {
		ID ringfence.UserID `path:"id" maxLength:"64" doc:"id of the user" example:"alice"`
	}
	newUserIn    struct{ Body api.NewUser }
	userChangeIn struct {
		ID   ringfence.UserID `path:"id" maxLength:"64" doc:"id of the user" example:"alice"`
		Body api.UserChange
	}
)

func (s *Server) routesUsers() {
	target := func(in *userPath) string { return "user " + string(in.ID) }
	look(s, op("user.list", http.MethodGet, "/users", "List users, by id"), s.listUsers)
	look(s, op("user.show", http.MethodGet, "/users/{id}", "Show a user"), func(ctx context.Context, in *userPath) (*body[api.User], error) {
		u, err := s.user(ctx, in.ID)
		return answer(u), err
	})
	add := op("user.add", http.MethodPost, "/users", "Add a user")
	add.DefaultStatus = http.StatusCreated
	act(s, add, api.ScopeWrite, func(in *newUserIn) string { return "user " + string(in.Body.ID) }, s.addUser)
	act(s, op("user.set", http.MethodPatch, "/users/{id}", "Change what is given of a user"), api.ScopeWrite,
		func(in *userChangeIn) string { return "user " + string(in.ID) }, s.setUser)
	act(s, op("user.remove", http.MethodDelete, "/users/{id}", "Remove a user with its devices; their certificates are revoked and their calls end"), api.ScopeWrite, target, s.removeUser)
}

func (s *Server) listUsers(ctx context.Context, in *page) (*body[[]api.User], error) {
	users, err := s.c.Store.Users(ctx, ringfence.UserID(in.After), in.Limit)
	if err != nil {
		return nil, err
	}
	owns, err := s.devicesByUser(ctx)
	out := make([]api.User, 0, len(users))
	for _, u := range users {
		out = append(out, userOut(u, owns[u.ID]))
	}
	return answer(out), err
}

func (s *Server) devicesByUser(ctx context.Context) (map[ringfence.UserID]int, error) {
	owns := map[ringfence.UserID]int{}
	for after := ringfence.DeviceID(""); ; {
		ds, err := s.c.Store.Devices(ctx, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, d := range ds {
			owns[d.User]++
			after = d.ID
		}
		if len(ds) < 1000 {
			return owns, nil
		}
	}
}

func (s *Server) user(ctx context.Context, id ringfence.UserID) (api.User, error) {
	u, err := s.c.Store.User(ctx, id)
	if err != nil {
		return api.User{}, unknown(err, "user", string(id))
	}
	ds, err := s.c.Store.DevicesOf(ctx, id)
	return userOut(u, len(ds)), err
}

// unknown adds to "there is no such thing" where to look.
func unknown(err error, what, id string) error {
	if ringfence.KindOf(err) != ringfence.KindNotFound {
		return err
	}
	return fault("admin", ringfence.KindNotFound, "there is no "+what+" "+clip(id), "see `ringfence "+what+" list`")
}

func userOut(u store.User, devices int) api.User {
	if u.Numbers == nil {
		u.Numbers = []ringfence.Number{}
	}
	if u.TollClass == "" {
		u.TollClass = string(dialplan.Internal)
	}
	return api.User{ID: u.ID, Name: u.Name, Numbers: u.Numbers, Voicemail: u.Voicemail, DND: u.DoNotDisturb, TollClass: u.TollClass, PINSet: u.PINHash != "", Devices: devices,
		Forward: api.Forward{Always: u.Forward.Always, Busy: u.Forward.Busy, NoAnswer: u.Forward.NoAnswer, Unreachable: u.Forward.Unreachable,
			NoAnswerSeconds: int(u.Forward.NoAnswerAfter / time.Second)}}
}

// checkUser says what the store does not: whether numbers and targets can be dialled.
func (s *Server) checkUser(u store.User) error {
	const op = "admin.user"
	number := regexp.MustCompile(`^\+?[0-9]{1,32}$`)
	target := regexp.MustCompile(`^([+0-9*#]{1,32}|[a-z0-9][a-z0-9._-]{0,62})?$`)
	groups := s.c.Plan().Groups
	for _, n := range u.Numbers {
		if !number.MatchString(string(n)) {
			return fault(op, ringfence.KindInvalid, fmt.Sprintf("%.40q is no number", n), "a number is 1 to 32 digits, perhaps with a leading +")
		}
		if i := slices.IndexFunc(groups, func(g dialplan.Group) bool { return g.Number == n }); i >= 0 {
			return fault(op, ringfence.KindConflict, fmt.Sprintf("%s is the number of the hunt group %q", n, groups[i].Name), "choose another number")
		}
	}
	for _, t := range [...]string{u.Forward.Always, u.Forward.Busy, u.Forward.NoAnswer, u.Forward.Unreachable} {
		if !target.MatchString(t) {
			return fault(op, ringfence.KindInvalid, fmt.Sprintf("calls cannot be forwarded to %.40q", t), "give a number or the id of a user")
		}
		if t != "" && (t == string(u.ID) || slices.Contains(u.Numbers, ringfence.Number(t))) {
			return fault(op, ringfence.KindInvalid, "calls of "+string(u.ID)+" cannot be forwarded to the same user", "give another number")
		}
	}
	return nil
}

func (s *Server) addUser(ctx context.Context, in *newUserIn) (*body[api.User], error) {
	b := in.Body
	u := store.User{ID: b.ID, Name: b.Name, Numbers: b.Numbers, Voicemail: b.Voicemail, DoNotDisturb: b.DND, TollClass: b.TollClass}
	if f := b.Forward; f != nil {
		u.Forward = store.Forwarding{Always: f.Always, Busy: f.Busy, NoAnswer: f.NoAnswer, Unreachable: f.Unreachable, NoAnswerAfter: time.Duration(f.NoAnswerSeconds) * time.Second}
	}
	if u.TollClass == "" {
		u.TollClass = string(dialplan.Internal)
	}
	if err := firstOf(s.checkUser(u), setPIN(&u, b.PIN)); err != nil {
		return nil, err
	}
	if err := s.c.Store.CreateUser(ctx, u); err != nil {
		return nil, taken(err, "the user "+string(u.ID)+" or one of its numbers is there already")
	}
	return answer(userOut(u, 0)), s.c.Roster.Refresh(ctx, u.ID)
}

// taken words a conflict of the store.
func taken(err error, text string) error {
	if ringfence.KindOf(err) == ringfence.KindConflict {
		return &ringfence.Fault{Op: "admin", Kind: ringfence.KindConflict, Text: text, Hint: "see `ringfence user list` and `ringfence device list`", Err: err}
	}
	return err
}

func setPIN(u *store.User, pin string) (err error) {
	u.PINHash = ""
	if pin != "" {
		u.PINHash, err = store.HashPIN(pin)
	}
	return err
}

func (s *Server) setUser(ctx context.Context, in *userChangeIn) (*body[api.User], error) {
	var pin string
	if in.Body.PIN != nil { // the costly part is done before the transaction
		probe := store.User{}
		if err := setPIN(&probe, *in.Body.PIN); err != nil {
			return nil, err
		}
		pin = probe.PINHash
	}
	err := s.c.Store.Tx(ctx, func(tx *store.Tx) error {
		u, err := tx.User(ctx, in.ID)
		if err != nil {
			return unknown(err, "user", string(in.ID))
		}
		change(&u, in.Body)
		if in.Body.PIN != nil {
			u.PINHash = pin
		}
		if err := s.checkUser(u); err != nil {
			return err
		}
		return taken(tx.UpdateUser(ctx, u), "one of the numbers belongs to somebody else")
	})
	if err != nil {
		return nil, err
	}
	if err := s.c.Roster.Refresh(ctx, in.ID); err != nil {
		return nil, err
	}
	out, err := s.user(ctx, in.ID)
	return answer(out), err
}

func change(u *store.User, c api.UserChange) {
	set(&u.Name, c.Name)
	set(&u.Numbers, c.Numbers)
	set(&u.Voicemail, c.Voicemail)
	set(&u.Forward.Always, c.ForwardAlways)
	set(&u.Forward.Busy, c.ForwardBusy)
	set(&u.Forward.NoAnswer, c.ForwardNoAnswer)
	set(&u.Forward.Unreachable, c.ForwardUnreach)
	set(&u.DoNotDisturb, c.DND)
	set(&u.TollClass, c.TollClass)
	if c.NoAnswerSeconds != nil {
		u.Forward.NoAnswerAfter = time.Duration(*c.NoAnswerSeconds) * time.Second
	}
}

func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

func (s *Server) removeUser(ctx context.Context, in *userPath) (*body[api.Ended], error) {
	ds, err := s.c.Store.DevicesOf(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.c.Store.DeleteUser(ctx, in.ID); err != nil {
		return nil, unknown(err, "user", string(in.ID))
	}
	var sum api.Ended
	for _, d := range ds {
		e, cut := s.c.Host.Cut(ctx, d.ID, "cessation of operation")
		sum.Certificates += e.Certificates
		sum.Connections += e.Connections
		sum.Calls += e.Calls
		err = firstOf(err, cut, s.dropException(ctx, d.ID))
	}
	return answer(sum), firstOf(err, s.c.Roster.Refresh(ctx, in.ID))
}
