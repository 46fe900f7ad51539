package store

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"ringfence"
)

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}

// mapError turns a driver's error into a Fault, once.
func mapError(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*ringfence.Fault](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return fault(op, ringfence.KindCancelled, "the caller gave up", "", err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fault(op, ringfence.KindTimeout, "the database took too long", "", err)
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return mapPostgres(op, e)
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return mapSQLite(op, e)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault(op, ringfence.KindInsecure, "the database server proves no name that we believe", "name its authority by sslrootcert= in the address, and the host as its certificate has it", e)
	}
	_, isNet := errors.AsType[net.Error](err)
	_, isConnect := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case isConnect, isNet, errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// A connect error can quote the address; its text holds no password.
		return fault(op, ringfence.KindUnavailable, "the database server cannot be reached", "check that it runs and that its address is right", err)
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone):
		return fault(op, ringfence.KindUnavailable, "the database is closed", "", err)
	}
	return fault(op, ringfence.KindInternal, "the database failed", "", err)
}

// mapSQLite reads a result code (www.sqlite.org/rescode.html).
func mapSQLite(op string, e *sqlite.Error) error {
	switch e.Code() {
	case 1555, 2067, 2579: // SQLITE_CONSTRAINT_PRIMARYKEY, _UNIQUE, _ROWID
		return fault(op, ringfence.KindConflict, "it exists already", "", e)
	case 787: // SQLITE_CONSTRAINT_FOREIGNKEY
		return fault(op, ringfence.KindInvalid, "it refers to something that does not exist, or something refers to it", "", e)
	}
	switch e.Code() & 0xff {
	case 19, 20, 18: // SQLITE_CONSTRAINT, _MISMATCH, _TOOBIG
		return fault(op, ringfence.KindInvalid, "the database refused the value", "", e)
	case 13: // SQLITE_FULL
		return fault(op, ringfence.KindOverload, "the disk is full, nothing was written", "free space on the disk that holds the database", e)
	case 5, 6: // SQLITE_BUSY, SQLITE_LOCKED
		return fault(op, ringfence.KindOverload, "the database is locked by another process", "find who else has the file open (fuser), and try again", e)
	case 8, 14, 3, 23: // SQLITE_READONLY, _CANTOPEN, _PERM, _AUTH
		return fault(op, ringfence.KindUnavailable, "the database file cannot be written", "check that the service's user owns the file and its directory", e)
	case 10: // SQLITE_IOERR
		return fault(op, ringfence.KindUnavailable, "reading or writing the disk failed", "check the disk and the system's log", e)
	case 11, 26: // SQLITE_CORRUPT, SQLITE_NOTADB
		return fault(op, ringfence.KindUnavailable, "the file is damaged, or is no database", "restore it from the last backup", e)
	case 9: // SQLITE_INTERRUPT
		return fault(op, ringfence.KindCancelled, "the caller gave up", "", e)
	}
	return fault(op, ringfence.KindInternal, "the database failed", "", e)
}

// mapPostgres reads a SQLSTATE (PostgreSQL manual, appendix A).
func mapPostgres(op string, e *pgconn.PgError) error {
	switch e.Code {
	case "23505":
		return fault(op, ringfence.KindConflict, "it exists already", "", e)
	case "23503":
		return fault(op, ringfence.KindInvalid, "it refers to something that does not exist, or something refers to it", "", e)
	case "53100":
		return fault(op, ringfence.KindOverload, "the disk is full, nothing was written", "free space on the disk that holds the database", e)
	case "55P03", "40001", "40P01":
		return fault(op, ringfence.KindOverload, "the database is locked by another process", "look at pg_locks for who holds it, and try again", e)
	case "53300":
		return fault(op, ringfence.KindOverload, "the database server has no connection left", "raise max_connections", e)
	case "57014":
		return fault(op, ringfence.KindCancelled, "the caller gave up", "", e)
	case "28P01", "28000":
		return fault(op, ringfence.KindUnauthenticated, "the database server refused our login", "check user and password in the address", e)
	case "3D000":
		return fault(op, ringfence.KindNotFound, "the database server has no database of that name", "create it with createdb", e)
	}
	if len(e.Code) == 5 {
		switch e.Code[:2] {
		case "22", "23":
			return fault(op, ringfence.KindInvalid, "the database refused the value", "", e)
		case "08", "57":
			return fault(op, ringfence.KindUnavailable, "the database server is going away or starting", "try again in a moment", e)
		}
	}
	return fault(op, ringfence.KindInternal, "the database failed", "", e)
}

// interfered reports whether a transaction failed only because another ran at the same time.
func interfered(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
}

// encode is the stored form of a structured value.
func encode(op string, v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fault(op, ringfence.KindInvalid, "the value cannot be written as JSON", "", err)
	}
	return string(b), nil
}

// decode reads a stored structured value; the store wrote it, so a failure is a defect or damage.
func decode(text string, into any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}
