package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

// Binding says where one device of an address-of-record can be reached (RFC 3261 section 10, RFC 5626, RFC 5627).
type Binding struct {
	AOR       string // address-of-record, e.g. "sip:alice@example.com"
	Device    ringfence.DeviceID
	Instance  string   // +sip.instance, without the brackets; may be empty
	RegID     int      // reg-id (RFC 5626 section 4.1), 0 if absent
	Contact   string   // contact URI
	Path      []string // Path header values (RFC 3327), topmost first
	FlowToken string   // which connection reaches it
	CallID    string
	CSeq      uint32
	Expires   time.Time
	GRUU      string // temporary GRUU, if one was given
	UserAgent string
	Proof     ringfence.Proof // of the connection it was made on
	Updated   time.Time
}

// BindingKey names a binding.
type BindingKey struct{ AOR, Key string }

// Key returns what a new REGISTER must equal to replace this binding: instance and reg-id if it has both (RFC 5626 section 6),
// otherwise the contact URI.
func (b Binding) Key() BindingKey {
	if b.Instance != "" && b.RegID > 0 {
		return BindingKey{b.AOR, "i:" + strconv.Itoa(b.RegID) + ":" + b.Instance}
	}
	return BindingKey{b.AOR, "c:" + b.Contact}
}

// SameKey reports whether two bindings have the same key, without making it.
func (b *Binding) SameKey(o *Binding) bool {
	outbound := b.Instance != "" && b.RegID > 0
	switch {
	case b.AOR != o.AOR || outbound != (o.Instance != "" && o.RegID > 0):
		return false
	case outbound:
		return b.RegID == o.RegID && b.Instance == o.Instance
	}
	return b.Contact == o.Contact
}

const bindingColumns = `aor, bkey, device_id, instance, reg_id, contact, path, flow_token, call_id, cseq, expires, gruu, user_agent, proof, updated`

// How many bindings one INSERT carries. To PostgreSQL a statement is a round trip, so many (15 values each, at most 65535). The
// SQLite driver looks for each value among all of its statement's, so few; there the transaction alone makes a batch cheap.
const (
	sqliteRows   = 8
	postgresRows = 200
)

// PutBindings adds or replaces many bindings in one transaction: collect what arrives within a few milliseconds and commit it
// together. BenchmarkPutBindings shows the cost per binding for batches of 1, 16 and 200; alone, a binding pays for a whole commit.
// If a key comes twice in the list, the later one wins.
func (r repos) PutBindings(ctx context.Context, bs []Binding) error {
	return r.ApplyBindings(ctx, bs, nil)
}

// ApplyBindings is PutBindings with removals in the same transaction. Keys that are not there are ignored.
func (r repos) ApplyBindings(ctx context.Context, put []Binding, remove []BindingKey) error {
	const op = "store.bindings.put"
	rows, err := bindingRows(op, put)
	if err != nil {
		return err
	}
	return r.atomically(ctx, func(r repos) error {
		for _, k := range remove {
			if _, err := r.exec(ctx, op, `DELETE FROM bindings WHERE aor=$1 AND bkey=$2`, k.AOR, k.Key); err != nil {
				return err
			}
		}
		for len(rows) > 0 {
			n := min(len(rows), max(r.rows, 1))
			if err := r.putBindingRows(ctx, op, rows[:n]); err != nil {
				return err
			}
			rows = rows[n:]
		}
		return nil
	})
}

// ExpireBindings removes those of the keys that have expired at now: a node knows only what it was told itself, and another one may
// have refreshed a binding since.
func (r repos) ExpireBindings(ctx context.Context, keys []BindingKey, now time.Time) error {
	return r.atomically(ctx, func(r repos) error {
		for _, k := range keys {
			if _, err := r.exec(ctx, "store.bindings.expire", `DELETE FROM bindings WHERE aor=$1 AND bkey=$2 AND expires<=$3`, k.AOR, k.Key, micros(now)); err != nil {
				return err
			}
		}
		return nil
	})
}

// bindingRows lays out the values of each binding, keeping the last of each key.
func bindingRows(op string, bs []Binding) ([][]any, error) {
	at := make(map[BindingKey]int, len(bs))
	rows := make([][]any, 0, len(bs))
	for _, b := range bs {
		k := b.Key()
		if b.AOR == "" || b.Contact == "" {
			return nil, fault(op, ringfence.KindInvalid, "a binding needs an address-of-record and a contact", "", nil)
		}
		path, err := encode(op, b.Path)
		if err != nil {
			return nil, err
		}
		proof, err := encode(op, b.Proof)
		if err != nil {
			return nil, err
		}
		row := []any{k.AOR, k.Key, string(b.Device), b.Instance, b.RegID, b.Contact, path, b.FlowToken, b.CallID, int64(b.CSeq), micros(b.Expires),
			b.GRUU, b.UserAgent, proof, micros(b.Updated)}
		if i, ok := at[k]; ok {
			rows[i] = row
			continue
		}
		at[k] = len(rows)
		rows = append(rows, row)
	}
	return rows, nil
}

func (r repos) putBindingRows(ctx context.Context, op string, rows [][]any) error {
	var q strings.Builder
	q.WriteString(`INSERT INTO bindings (` + bindingColumns + `) VALUES `)
	args := make([]any, 0, 15*len(rows))
	for i, row := range rows {
		if i > 0 {
			q.WriteByte(',')
		}
		for j := range row {
			fmt.Fprintf(&q, "%c$%d", ",("[btoi(j == 0)], len(args)+j+1)
		}
		q.WriteByte(')')
		args = append(args, row...)
	}
	q.WriteString(` ON CONFLICT (aor, bkey) DO UPDATE SET device_id=excluded.device_id, instance=excluded.instance, reg_id=excluded.reg_id, contact=excluded.contact,
		path=excluded.path, flow_token=excluded.flow_token, call_id=excluded.call_id, cseq=excluded.cseq, expires=excluded.expires, gruu=excluded.gruu,
		user_agent=excluded.user_agent, proof=excluded.proof, updated=excluded.updated`)
	_, err := r.exec(ctx, op, q.String(), args...)
	return err
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func scanBinding(row scanner) (b Binding, err error) {
	var path, proof string
	var key string
	var cseq, expires, updated int64
	err = row.Scan(&b.AOR, &key, &b.Device, &b.Instance, &b.RegID, &b.Contact, &path, &b.FlowToken, &b.CallID, &cseq, &expires, &b.GRUU, &b.UserAgent, &proof, &updated)
	b.CSeq, b.Expires, b.Updated = uint32(cseq), instant(expires), instant(updated)
	return b, firstOf(err, decode(path, &b.Path), decode(proof, &b.Proof))
}

// Bindings returns the bindings of an address-of-record that have not expired at now, latest update first.
func (r repos) Bindings(ctx context.Context, aor string, now time.Time) ([]Binding, error) {
	return selectAll(ctx, r.r, "store.bindings", scanBinding, `SELECT `+bindingColumns+` FROM bindings WHERE aor=$1 AND expires>$2 ORDER BY updated DESC, bkey`, aor, micros(now))
}

// AllBindings calls each for every binding that has not expired at now, for filling a table in memory at start.
// It stops at the first error, which it returns.
func (r repos) AllBindings(ctx context.Context, now time.Time, each func(Binding) error) error {
	const op, page = "store.bindings.all", 1000
	last := BindingKey{}
	for {
		bs, err := selectAll(ctx, r.r, op, scanBinding, `SELECT `+bindingColumns+` FROM bindings WHERE (aor, bkey) > ($1, $2) AND expires>$3 ORDER BY aor, bkey LIMIT $4`,
			last.AOR, last.Key, micros(now), page)
		if err != nil {
			return err
		}
		for _, b := range bs {
			if err := each(b); err != nil {
				return err
			}
		}
		if len(bs) < page {
			return nil
		}
		last = bs[len(bs)-1].Key()
	}
}

// DeleteBindingsOf removes all bindings of a device, as when it is revoked, and returns how many.
func (r repos) DeleteBindingsOf(ctx context.Context, id ringfence.DeviceID) (int, error) {
	n, err := r.exec(ctx, "store.bindings.delete", `DELETE FROM bindings WHERE device_id=$1`, string(id))
	return int(n), err
}

// PurgeBindings removes the bindings that have expired at now and returns how many.
func (r repos) PurgeBindings(ctx context.Context, now time.Time) (int, error) {
	n, err := r.exec(ctx, "store.bindings.purge", `DELETE FROM bindings WHERE expires<=$1`, micros(now))
	return int(n), err
}
