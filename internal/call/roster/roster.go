package roster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"ringfence"
	"ringfence/internal/state/store"
)

// Source is where the roster is read from; *store.Store is one.
type Source interface {
	Users(ctx context.Context, after ringfence.UserID, limit int) ([]store.User, error)
	Devices(ctx context.Context, after ringfence.DeviceID, limit int) ([]store.Device, error)
	User(ctx context.Context, id ringfence.UserID) (store.User, error)
	DevicesOf(ctx context.Context, user ringfence.UserID) ([]store.Device, error)
}

type snapshot struct {
	users   map[ringfence.UserID]*store.User
	devices map[ringfence.DeviceID]*store.Device
	numbers map[ringfence.Number]ringfence.UserID
	md5     bool
	plain   map[ringfence.DeviceID]string // devices with an exception, which may be over, and what it is called
}

func (s *snapshot) addUser(u *store.User) {
	s.users[u.ID] = u
	for _, n := range u.Numbers {
		s.numbers[n] = u.ID
	}
}

func (s *snapshot) addDevice(d *store.Device) {
	s.devices[d.ID] = d
	s.md5 = s.md5 || slices.Contains(d.Profile.Auth, ringfence.AuthDigestMD5)
	if d.Profile.Plain != nil {
		s.plain[d.ID] = exceptionOf(d).String()
	}
}

// Roster answers who is who. Its methods may be called from any goroutine; what they return must not be changed.
type Roster struct {
	source  Source
	may     func(profile string) error
	now     atomic.Pointer[snapshot]
	reading sync.Mutex
}

// Open reads everything once. may says whether devices of a security profile may have an exception; nil: all may.
func Open(ctx context.Context, source Source, may func(profile string) error) (*Roster, error) {
	if may == nil {
		may = func(string) error { return nil }
	}
	r := &Roster{source: source, may: may}
	return r, r.Reload(ctx)
}

const page = 1000

// Reload reads everything again and replaces the snapshot; on error the old one stays. Reloads take turns, so that the snapshot
// never goes back in time.
func (r *Roster) Reload(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	s := &snapshot{plain: map[ringfence.DeviceID]string{}, users: map[ringfence.UserID]*store.User{}, devices: map[ringfence.DeviceID]*store.Device{}, numbers: map[ringfence.Number]ringfence.UserID{}}
	for after := ringfence.UserID(""); ; {
		users, err := r.source.Users(ctx, after, page)
		if err != nil {
			return err
		}
		for i := range users {
			s.addUser(&users[i])
			after = users[i].ID
		}
		if len(users) < page {
			break
		}
	}
	for after := ringfence.DeviceID(""); ; {
		devices, err := r.source.Devices(ctx, after, page)
		if err != nil {
			return err
		}
		for i := range devices {
			s.addDevice(&devices[i])
			after = devices[i].ID
		}
		if len(devices) < page {
			break
		}
	}
	r.now.Store(s)
	return nil
}

// Refresh reads one user with its devices again, or takes notice that it is gone; on error nothing changes. It takes turns with Reload.
func (r *Roster) Refresh(ctx context.Context, user ringfence.UserID) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	u, err := r.source.User(ctx, user)
	gone := ringfence.KindOf(err) == ringfence.KindNotFound
	if err != nil && !gone {
		return err
	}
	devices, err := r.source.DevicesOf(ctx, user)
	if err != nil {
		return err
	}
	old := r.now.Load()
	s := &snapshot{plain: map[ringfence.DeviceID]string{}, users: maps.Clone(old.users), numbers: maps.Clone(old.numbers), devices: make(map[ringfence.DeviceID]*store.Device, len(old.devices)+1)}
	if before := s.users[user]; before != nil {
		for _, n := range before.Numbers {
			if s.numbers[n] == user {
				delete(s.numbers, n)
			}
		}
	}
	if delete(s.users, user); !gone {
		s.addUser(&u)
	}
	for _, d := range old.devices {
		if d.User != user {
			s.addDevice(d)
		}
	}
	for i := range devices {
		s.addDevice(&devices[i])
	}
	r.now.Store(s)
	return nil
}

// User returns a user, or nil.
func (r *Roster) User(id ringfence.UserID) *store.User { return r.now.Load().users[id] }

// Device returns a device, or nil.
func (r *Roster) Device(id ringfence.DeviceID) *store.Device { return r.now.Load().devices[id] }

// Owner returns whose number n is.
func (r *Roster) Owner(n ringfence.Number) (ringfence.UserID, bool) {
	id, ok := r.now.Load().numbers[n]
	return id, ok
}

// AnyMD5 reports whether the profile of any device allows digest with MD5.
func (r *Roster) AnyMD5() bool { return r.now.Load().md5 }

// Counts returns how many users and devices there are.
func (r *Roster) Counts() (users, devices int) {
	s := r.now.Load()
	return len(s.users), len(s.devices)
}
