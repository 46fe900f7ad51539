package store

import (
	"context"
	"time"

	"ringfence"
)

// Certificate is the record of one issued certificate.
type Certificate struct {
	Serial    string // lower-case hexadecimal, no leading zeros
	Subject   string // distinguished name, RFC 4514
	Role      string
	Name      string // common name
	Device    ringfence.DeviceID
	NotBefore time.Time
	NotAfter  time.Time
	PEM       string
	RevokedAt time.Time // zero: not revoked
	Reason    string    // why it was revoked
}

const certificateColumns = `serial, subject, role, name, device_id, not_before, not_after, pem, revoked_at, reason`

func scanCertificate(row scanner) (c Certificate, err error) {
	var from, to, revoked int64
	err = row.Scan(&c.Serial, &c.Subject, &c.Role, &c.Name, &c.Device, &from, &to, &c.PEM, &revoked, &c.Reason)
	c.NotBefore, c.NotAfter, c.RevokedAt = instant(from), instant(to), instant(revoked)
	return c, err
}

// RecordCertificate keeps a certificate that was issued, together with the audit entry of its signature.
func (r repos) RecordCertificate(ctx context.Context, c Certificate, a AuditEntry) error {
	const op = "store.certificate.record"
	return r.atomically(ctx, func(r repos) error {
		_, err := r.exec(ctx, op, `INSERT INTO certificates (`+certificateColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)`, c.Serial, c.Subject, c.Role, c.Name,
			string(c.Device), micros(c.NotBefore), micros(c.NotAfter), c.PEM, micros(c.RevokedAt), c.Reason)
		if err != nil {
			return err
		}
		return r.AppendAudit(ctx, a)
	})
}

// RevokeCertificate marks a certificate revoked, together with its audit entry. It is KindNotFound if there is no such
// certificate and KindConflict if it was revoked before.
func (r repos) RevokeCertificate(ctx context.Context, serial string, at time.Time, reason string, a AuditEntry) error {
	const op = "store.certificate.revoke"
	return r.atomically(ctx, func(r repos) error {
		n, err := r.exec(ctx, op, `UPDATE certificates SET revoked_at=$2, reason=$3 WHERE serial=$1 AND revoked_at=0`, serial, micros(at), reason)
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := r.Certificate(ctx, serial); err != nil {
				return err
			}
			return fault(op, ringfence.KindConflict, "the certificate "+serial+" is revoked already", "", nil)
		}
		return r.AppendAudit(ctx, a)
	})
}

// Certificate returns one record.
func (r repos) Certificate(ctx context.Context, serial string) (Certificate, error) {
	return selectOne(ctx, r.r, "store.certificate", "there is no certificate with serial "+serial, scanCertificate, `SELECT `+certificateColumns+` FROM certificates WHERE serial=$1`, serial)
}

// RevokedCertificates returns the certificates that were revoked and have not expired at now, oldest revocation first.
func (r repos) RevokedCertificates(ctx context.Context, now time.Time) ([]Certificate, error) {
	return selectAll(ctx, r.r, "store.certificates", scanCertificate,
		`SELECT `+certificateColumns+` FROM certificates WHERE revoked_at<>0 AND not_after>$1 ORDER BY revoked_at, serial`, micros(now))
}

// CertificatesOf returns the certificates of a device, newest first.
func (r repos) CertificatesOf(ctx context.Context, id ringfence.DeviceID) ([]Certificate, error) {
	return selectAll(ctx, r.r, "store.certificates", scanCertificate,
		`SELECT `+certificateColumns+` FROM certificates WHERE device_id=$1 ORDER BY not_before DESC, serial`, string(id))
}

// Certificates returns up to limit records whose serial is above after, by serial; start with "".
func (r repos) Certificates(ctx context.Context, after string, limit int) ([]Certificate, error) {
	return selectAll(ctx, r.r, "store.certificates", scanCertificate, `SELECT `+certificateColumns+` FROM certificates WHERE serial>$1 ORDER BY serial LIMIT $2`, after, limit)
}

// CertificateFilter says which certificates are wanted. Empty fields do not narrow.
type CertificateFilter struct {
	After string // only serials above this one
	Role  string
	Name  string
	State string    // "live", "expired" or "revoked"
	Now   time.Time // what State means
	Limit int
}

// FindCertificates returns the certificates that fit, by serial.
func (r repos) FindCertificates(ctx context.Context, f CertificateFilter) ([]Certificate, error) {
	return selectAll(ctx, r.r, "store.certificates", scanCertificate, `SELECT `+certificateColumns+` FROM certificates WHERE serial>$1 AND ($2='' OR role=$2) AND ($3='' OR name=$3)
		AND ($4='' OR $4='revoked' AND revoked_at<>0 OR $4='live' AND revoked_at=0 AND not_after>$5 OR $4='expired' AND revoked_at=0 AND not_after<=$5) ORDER BY serial LIMIT $6`,
		f.After, f.Role, f.Name, f.State, micros(f.Now), f.Limit)
}

// CertificateCount is how many certificates of a role there are, by state.
type CertificateCount struct {
	Role                   string
	Live, Expired, Revoked int
}

// CountCertificates counts the certificates, by role.
func (r repos) CountCertificates(ctx context.Context, now time.Time) ([]CertificateCount, error) {
	return selectAll(ctx, r.r, "store.certificates", func(row scanner) (c CertificateCount, err error) {
		return c, row.Scan(&c.Role, &c.Live, &c.Expired, &c.Revoked)
	}, `SELECT role, SUM(CASE WHEN revoked_at=0 AND not_after>$1 THEN 1 ELSE 0 END), SUM(CASE WHEN revoked_at=0 AND not_after<=$1 THEN 1 ELSE 0 END),
		SUM(CASE WHEN revoked_at<>0 THEN 1 ELSE 0 END) FROM certificates GROUP BY role ORDER BY role`, micros(now))
}

// LastCertificate is the certificate of an identity that is good for longest.
type LastCertificate struct {
	Role, Name string
	NotAfter   time.Time
}

// LastCertificates returns, by role and name, for how long each identity has a certificate that is good at now.
func (r repos) LastCertificates(ctx context.Context, now time.Time) ([]LastCertificate, error) {
	return selectAll(ctx, r.r, "store.certificates", func(row scanner) (c LastCertificate, err error) {
		var until int64
		err = row.Scan(&c.Role, &c.Name, &until)
		c.NotAfter = instant(until)
		return c, err
	}, `SELECT role, name, MAX(not_after) FROM certificates WHERE revoked_at=0 AND not_after>$1 GROUP BY role, name ORDER BY role, name`, micros(now))
}
