package store

import (
	"context"
	"time"

	"ringfence"
)

// Forwarding says where a user's calls go instead; an empty target means not forwarded.
type Forwarding struct {
	Always, Busy, NoAnswer, Unreachable string
	NoAnswerAfter                       time.Duration // whole seconds; zero means the dial plan's default
}

// User is a person or a place that owns numbers.
type User struct {
	ID           ringfence.UserID
	Name         string // display name
	Numbers      []ringfence.Number
	Voicemail    bool
	Forward      Forwarding
	DoNotDisturb bool
	TollClass    string // which destinations may be called
	PINHash      string // of HashPIN; empty: no PIN is set and none opens anything
}

const userColumns = `id, name, voicemail, fwd_always, fwd_busy, fwd_noanswer, fwd_unreachable, noanswer_seconds, dnd, toll_class, pin_hash`

func scanUser(row scanner) (u User, err error) {
	var secs int64
	err = row.Scan(&u.ID, &u.Name, &u.Voicemail, &u.Forward.Always, &u.Forward.Busy, &u.Forward.NoAnswer, &u.Forward.Unreachable,
		&secs, &u.DoNotDisturb, &u.TollClass, &u.PINHash)
	u.Forward.NoAnswerAfter = time.Duration(secs) * time.Second
	return u, err
}

func (u User) args() []any {
	return []any{string(u.ID), u.Name, u.Voicemail, u.Forward.Always, u.Forward.Busy, u.Forward.NoAnswer, u.Forward.Unreachable,
		int64(u.Forward.NoAnswerAfter / time.Second), u.DoNotDisturb, u.TollClass, u.PINHash}
}

// CreateUser adds a user with its numbers; an id or a number that is taken is KindConflict.
func (r repos) CreateUser(ctx context.Context, u User) error {
	const op = "store.user.create"
	if u.ID == "" {
		return fault(op, ringfence.KindInvalid, "a user needs an id", "", nil)
	}
	return r.atomically(ctx, func(r repos) error {
		if _, err := r.exec(ctx, op, `INSERT INTO users (`+userColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)`, u.args()...); err != nil {
			return err
		}
		return r.putNumbers(ctx, op, u)
	})
}

// UpdateUser replaces all facts of a user.
func (r repos) UpdateUser(ctx context.Context, u User) error {
	const op = "store.user.update"
	return r.atomically(ctx, func(r repos) error {
		err := r.execOne(ctx, op, "there is no user "+string(u.ID), `UPDATE users SET name=$2, voicemail=$3, fwd_always=$4, fwd_busy=$5, fwd_noanswer=$6,
			fwd_unreachable=$7, noanswer_seconds=$8, dnd=$9, toll_class=$10, pin_hash=$11 WHERE id=$1`, u.args()...)
		if err != nil {
			return err
		}
		if _, err := r.exec(ctx, op, `DELETE FROM user_numbers WHERE user_id=$1`, string(u.ID)); err != nil {
			return err
		}
		return r.putNumbers(ctx, op, u)
	})
}

func (r repos) putNumbers(ctx context.Context, op string, u User) error {
	for i, n := range u.Numbers {
		if n == "" {
			return fault(op, ringfence.KindInvalid, "a number is empty", "", nil)
		}
		if _, err := r.exec(ctx, op+": number "+string(n), `INSERT INTO user_numbers (number, user_id, position) VALUES ($1, $2, $3)`, string(n), string(u.ID), i); err != nil {
			return err
		}
	}
	return nil
}

// DeleteUser removes a user with its numbers, devices, digest secrets and activation codes. Certificates stay, as evidence.
func (r repos) DeleteUser(ctx context.Context, id ringfence.UserID) error {
	return r.execOne(ctx, "store.user.delete", "there is no user "+string(id), `DELETE FROM users WHERE id=$1`, string(id))
}

// User returns one user.
func (r repos) User(ctx context.Context, id ringfence.UserID) (User, error) {
	return r.oneUser(ctx, "there is no user "+string(id), `id=$1`, string(id))
}

// UserByNumber returns the user who owns a number.
func (r repos) UserByNumber(ctx context.Context, n ringfence.Number) (User, error) {
	return r.oneUser(ctx, "nobody owns the number "+string(n), `id=(SELECT user_id FROM user_numbers WHERE number=$1)`, string(n))
}

func (r repos) oneUser(ctx context.Context, missing, where string, arg string) (User, error) {
	const op = "store.user"
	u, err := selectOne(ctx, r.r, op, missing, scanUser, `SELECT `+userColumns+` FROM users WHERE `+where, arg)
	if err != nil {
		return User{}, err
	}
	u.Numbers, err = selectAll(ctx, r.r, op, scanNumber, `SELECT number FROM user_numbers WHERE user_id=$1 ORDER BY position`, string(u.ID))
	return u, err
}

func scanNumber(row scanner) (n ringfence.Number, err error) { return n, row.Scan(&n) }

// Users returns up to limit users whose id is above after, by id; start with "".
func (r repos) Users(ctx context.Context, after ringfence.UserID, limit int) ([]User, error) {
	const op = "store.users"
	users, err := selectAll(ctx, r.r, op, scanUser, `SELECT `+userColumns+` FROM users WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
	if err != nil || len(users) == 0 {
		return nil, err
	}
	at := make(map[ringfence.UserID]int, len(users))
	for i, u := range users {
		at[u.ID] = i
	}
	type owned struct {
		user ringfence.UserID
		n    ringfence.Number
	}
	nums, err := selectAll(ctx, r.r, op, func(row scanner) (o owned, err error) { return o, row.Scan(&o.user, &o.n) },
		`SELECT user_id, number FROM user_numbers WHERE user_id > $1 AND user_id <= $2 ORDER BY user_id, position`, string(after), string(users[len(users)-1].ID))
	if err != nil {
		return nil, err
	}
	for _, o := range nums {
		if i, ok := at[o.user]; ok {
			users[i].Numbers = append(users[i].Numbers, o.n)
		}
	}
	return users, nil
}
