package roster

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"ringfence"
	"ringfence/internal/state/store"
)

// people are users and devices in memory; pages counts how often all of them were asked for.
type people struct {
	users   map[ringfence.UserID]store.User
	devices map[ringfence.DeviceID]store.Device
	pages   int
	broken  error
}

func (p *people) Users(_ context.Context, after ringfence.UserID, _ int) (out []store.User, _ error) {
	p.pages++
	for _, id := range slices.Sorted(maps.Keys(p.users)) {
		if id > after {
			out = append(out, p.users[id])
		}
	}
	return out, p.broken
}

func (p *people) Devices(_ context.Context, after ringfence.DeviceID, _ int) (out []store.Device, _ error) {
	for _, id := range slices.Sorted(maps.Keys(p.devices)) {
		if id > after {
			out = append(out, p.devices[id])
		}
	}
	return out, p.broken
}

func (p *people) User(_ context.Context, id ringfence.UserID) (store.User, error) {
	if u, ok := p.users[id]; ok || p.broken != nil {
		return u, p.broken
	}
	return store.User{}, &ringfence.Fault{Kind: ringfence.KindNotFound}
}

func (p *people) DevicesOf(_ context.Context, user ringfence.UserID) (out []store.Device, _ error) {
	for _, d := range p.devices {
		if d.User == user {
			out = append(out, d)
		}
	}
	return out, p.broken
}

// TestRefresh changes people at random: after each change, one who refreshes the user that it is about knows what one who reads everything knows.
func TestRefresh(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	p := &people{users: map[ringfence.UserID]store.User{}, devices: map[ringfence.DeviceID]store.Device{}}
	quick, err := Open(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		user := ringfence.UserID(fmt.Sprintf("user-%d", r.IntN(10)))
		device := ringfence.DeviceID(fmt.Sprintf("%s-%d", user, r.IntN(3)))
		switch r.IntN(6) {
		case 0:
			delete(p.users, user)
			maps.DeleteFunc(p.devices, func(_ ringfence.DeviceID, d store.Device) bool { return d.User == user })
		case 1:
			delete(p.devices, device)
		case 2, 3:
			p.users[user] = store.User{ID: user, Name: fmt.Sprint(i), Numbers: []ringfence.Number{ringfence.Number(fmt.Sprint(user, r.IntN(4)))}}
		default:
			d := store.Device{ID: device, User: user, Profile: store.DeviceProfile{Auth: []ringfence.Auth{[]ringfence.Auth{ringfence.AuthDigestMD5, ringfence.AuthCertificate}[min(1, r.IntN(8))]}}}
			if r.IntN(3) == 0 {
				d.Profile.Plain = &store.PlainException{Reason: fmt.Sprint(i)}
			}
			p.devices[device] = d
		}
		pages := p.pages
		if err := quick.Refresh(t.Context(), user); err != nil || p.pages != pages {
			t.Fatalf("%v, %d pages", err, p.pages-pages)
		}
		whole, err := Open(t.Context(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := quick.now.Load(), whole.now.Load(); !reflect.DeepEqual(a, b) {
			t.Fatalf("change %d, of %s:\n%+v\n%+v", i, user, a, b)
		}
	}
	before := quick.now.Load()
	p.broken = &ringfence.Fault{Kind: ringfence.KindUnavailable}
	if err := quick.Refresh(t.Context(), "user-1"); err == nil || quick.now.Load() != before {
		t.Errorf("%v, or it forgot what it knew", err)
	}
}
