package store

import (
	"context"

	"ringfence"
)

// DigestSecret lets a device that has no certificate answer a digest challenge (RFC 8760). HA1 is the hash of
// username:realm:password; it is as good as the password within its realm and is sealed on disk.
type DigestSecret struct {
	Device    ringfence.DeviceID
	Username  string
	Realm     string
	Algorithm ringfence.Auth // AuthDigestSHA256 or AuthDigestMD5
	HA1       []byte         // raw hash: 32 bytes for SHA-256, 16 for MD5
}

// PutDigestSecret adds or replaces a secret. A username of another device in the same realm is KindConflict.
func (r repos) PutDigestSecret(ctx context.Context, d DigestSecret) error {
	const op = "store.digest.put"
	want := map[ringfence.Auth]int{ringfence.AuthDigestSHA256: 32, ringfence.AuthDigestMD5: 16}[d.Algorithm]
	if want == 0 || len(d.HA1) != want {
		return fault(op, ringfence.KindInvalid, "the hash does not fit the algorithm "+string(d.Algorithm), "", nil)
	}
	sealed := r.seal.seal(d.HA1, "digest_secrets", "sealed", d.Username, d.Realm, string(d.Algorithm))
	n, err := r.exec(ctx, op, `INSERT INTO digest_secrets (device_id, username, realm, algorithm, sealed) VALUES ($1,$2,$3,$4,$5)
		ON CONFLICT (username, realm, algorithm) DO UPDATE SET sealed=excluded.sealed WHERE digest_secrets.device_id=excluded.device_id`,
		string(d.Device), d.Username, d.Realm, string(d.Algorithm), sealed)
	if err == nil && n == 0 {
		return fault(op, ringfence.KindConflict, "the digest username "+d.Username+" belongs to another device", "choose another username", nil)
	}
	return err
}

// DigestSecret returns the secret for a username in a realm.
func (r repos) DigestSecret(ctx context.Context, username, realm string, alg ringfence.Auth) (DigestSecret, error) {
	const op = "store.digest"
	var sealed string
	d, err := selectOne(ctx, r.r, op, "there is no digest secret for "+username, func(row scanner) (d DigestSecret, err error) {
		return d, row.Scan(&d.Device, &d.Username, &d.Realm, &d.Algorithm, &sealed)
	}, `SELECT device_id, username, realm, algorithm, sealed FROM digest_secrets WHERE username=$1 AND realm=$2 AND algorithm=$3`, username, realm, string(alg))
	if err != nil {
		return DigestSecret{}, err
	}
	if d.HA1, err = r.seal.open(sealed, "digest_secrets", "sealed", d.Username, d.Realm, string(d.Algorithm)); err != nil {
		return DigestSecret{}, err
	}
	return d, nil
}

// DeleteDigestSecrets removes all digest secrets of a device and returns how many there were.
func (r repos) DeleteDigestSecrets(ctx context.Context, id ringfence.DeviceID) (int, error) {
	n, err := r.exec(ctx, "store.digest.delete", `DELETE FROM digest_secrets WHERE device_id=$1`, string(id))
	return int(n), err
}
