package store

import (
	"context"
	"time"

	"ringfence"
)

// Document is a record whose shape is its service's own. Its body is sealed.
type Document struct {
	Kind, ID string
	Version  int64     // that it is stored with; a change counts it
	Owner    string    // who has it
	Tag      string    // what it is found by among those of an owner
	State    string    // such as valid
	Until    time.Time // when it may be forgotten; zero: never
	Keys     []string  // each unique among the documents of the kind
	Body     []byte
}

func (r repos) scanDocument(row scanner) (d Document, err error) {
	var until int64
	var body string
	if err = row.Scan(&d.Kind, &d.ID, &d.Version, &d.Owner, &d.Tag, &d.State, &until, &body); err != nil {
		return d, err
	}
	d.Until = instant(until)
	d.Body, err = r.seal.open(body, "documents", "body", d.Kind+"/"+d.ID)
	return d, err
}

const documentColumns = `kind, id, version, owner, tag, state, until_time, body`

// CreateDocuments keeps new documents, all or none: KindConflict if an id or a key is taken.
func (r repos) CreateDocuments(ctx context.Context, all ...Document) error {
	const op = "store.document.create"
	return r.atomically(ctx, func(r repos) error {
		for _, d := range all {
			if _, err := r.exec(ctx, op, `INSERT INTO documents (`+documentColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)`, d.Kind, d.ID, d.Version, d.Owner, d.Tag, d.State, micros(d.Until),
				r.seal.seal(d.Body, "documents", "body", d.Kind+"/"+d.ID)); err != nil {
				return err
			}
			if err := r.putKeys(ctx, op, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r repos) putKeys(ctx context.Context, op string, d Document) error {
	for _, k := range d.Keys {
		if _, err := r.exec(ctx, op, `INSERT INTO document_keys (kind, value, id) VALUES ($1,$2,$3)`, d.Kind, k, d.ID); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceDocument changes a document whose stored version is that of d, and counts it; otherwise, or if a key is taken, it is KindConflict and nothing changes.
func (r repos) ReplaceDocument(ctx context.Context, d Document) error {
	const op = "store.document.replace"
	return r.atomically(ctx, func(r repos) error {
		n, err := r.exec(ctx, op, `UPDATE documents SET version=version+1, owner=$4, tag=$5, state=$6, until_time=$7, body=$8 WHERE kind=$1 AND id=$2 AND version=$3`, d.Kind, d.ID, d.Version, d.Owner, d.Tag, d.State,
			micros(d.Until), r.seal.seal(d.Body, "documents", "body", d.Kind+"/"+d.ID))
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := r.Document(ctx, d.Kind, d.ID); err != nil {
				return err
			}
			return fault(op, ringfence.KindConflict, "it was changed meanwhile", "", nil)
		}
		if _, err := r.exec(ctx, op, `DELETE FROM document_keys WHERE kind=$1 AND id=$2`, d.Kind, d.ID); err != nil {
			return err
		}
		return r.putKeys(ctx, op, d)
	})
}

// Document returns a document without its keys, or KindNotFound.
func (r repos) Document(ctx context.Context, kind, id string) (Document, error) {
	return selectOne(ctx, r.r, "store.document", "there is no such "+kind, r.scanDocument, `SELECT `+documentColumns+` FROM documents WHERE kind=$1 AND id=$2`, kind, id)
}

// DocumentByKey returns the document that has a key.
func (r repos) DocumentByKey(ctx context.Context, kind, key string) (Document, error) {
	return selectOne(ctx, r.r, "store.document", "there is no such "+kind, r.scanDocument,
		`SELECT `+documentColumns+` FROM documents WHERE kind=$1 AND id=(SELECT id FROM document_keys WHERE kind=$1 AND value=$2)`, kind, key)
}

// Documents returns documents of a kind by id, after one: those of an owner, with a tag and in a state where these are not empty.
func (r repos) Documents(ctx context.Context, kind, owner, tag, state, after string, limit int) ([]Document, error) {
	return selectAll(ctx, r.r, "store.documents", r.scanDocument, `SELECT `+documentColumns+` FROM documents WHERE kind=$1 AND ($2='' OR owner=$2) AND ($3='' OR tag=$3) AND ($4='' OR state=$4) AND id>$5 ORDER BY id LIMIT $6`,
		kind, owner, tag, state, after, limit)
}

// ForgetDocuments removes the documents of a kind that may be forgotten before a time, and returns how many.
func (r repos) ForgetDocuments(ctx context.Context, kind string, before time.Time) (int, error) {
	const op = "store.document.forget"
	n := int64(0)
	err := r.atomically(ctx, func(r repos) (err error) {
		if n, err = r.exec(ctx, op, `DELETE FROM documents WHERE kind=$1 AND until_time<>0 AND until_time<$2`, kind, micros(before)); err != nil {
			return err
		}
		_, err = r.exec(ctx, op, `DELETE FROM document_keys WHERE kind=$1 AND id NOT IN (SELECT id FROM documents WHERE kind=$1)`, kind)
		return err
	})
	return int(n), err
}

// DeleteDocument removes a document.
func (r repos) DeleteDocument(ctx context.Context, kind, id string) error {
	const op = "store.document.delete"
	return r.atomically(ctx, func(r repos) error {
		if _, err := r.exec(ctx, op, `DELETE FROM document_keys WHERE kind=$1 AND id=$2`, kind, id); err != nil {
			return err
		}
		return r.execOne(ctx, op, "there is no such "+kind, `DELETE FROM documents WHERE kind=$1 AND id=$2`, kind, id)
	})
}
