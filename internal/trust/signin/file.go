package signin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ringfence"
)

const (
	maxFile = 256 << 10 // bytes
	// reserve is written before a refresh token is spent, so that a full disk cannot lose the next one.
	reserve = 64 << 10
)

// Account is a sign-in with all that it takes to use it, as it is kept in a file.
type Account struct {
	Issuer         string `json:"issuer"`
	Client         string `json:"client"`
	TokenEndpoint  string `json:"token_endpoint"`
	RevokeEndpoint string `json:"revocation_endpoint,omitempty"`
	Node           string `json:"node"`              // how the server is reached: HOST:PORT
	ByName         bool   `json:"by_name,omitempty"` // the host is a domain whose DNS records lead to its nodes
	Anchors        string `json:"anchors"`           // whom to trust, PEM
	SIP            SIP    `json:"sip"`

	Access  string    `json:"access_token"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"` // of the access token
	Refresh string    `json:"refresh_token"`
}

// Take puts new tokens into an account. Where it registers stays as it was when somebody signed in.
func (a *Account) Take(t Tokens) {
	a.Access, a.Refresh, a.Issued, a.Expires = t.Access, t.Refresh, t.Issued.UTC(), t.Expires.UTC()
}

// holds reports whether the access token can still be used at now.
func (a Account) holds(now time.Time) bool { return now.Before(a.Expires.Add(-time.Minute)) }

// young reports whether it need not be renewed yet: a third of its life is left. One from the future says that a clock was set.
func (a Account) young(now time.Time) bool {
	return !now.Before(a.Issued.Add(-time.Minute)) && now.Before(a.Expires.Add(-a.Expires.Sub(a.Issued)/3))
}

// Read returns the account of a file. A file that others can read is refused: then the tokens in it are not ours alone.
func Read(path string) (Account, error) {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Account{}, fault(ringfence.KindNotFound, "there is no sign-in in "+path, "sign in: ringfence signin start", nil)
	case err != nil:
		return Account{}, fault(ringfence.KindUnavailable, "the sign-in cannot be read", "", err)
	case !st.Mode().IsRegular() || st.Size() > maxFile:
		return Account{}, fault(ringfence.KindInvalid, path+" is no file of a sign-in", "", nil)
	case othersCanRead(st.Mode()):
		return Account{}, fault(ringfence.KindInsecure, "others on this host can read "+path, "sign in again, into a file of your own; for this one, an administrator ends it: ringfence signin revoke", nil)
	}
	f, err := os.Open(path)
	if err != nil {
		return Account{}, fault(ringfence.KindUnavailable, "the sign-in cannot be read", "", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Account{}, fault(ringfence.KindUnavailable, "the sign-in cannot be read", "", err)
	}
	return parseAccount(b)
}

func parseAccount(b []byte) (a Account, err error) {
	if err := json.Unmarshal(b, &a); err != nil || a.Issuer == "" || a.TokenEndpoint == "" || a.Node == "" || !isToken(a.Access) || !isSecret(a.Refresh) || !a.SIP.valid() {
		return Account{}, fault(ringfence.KindInvalid, "the file of the sign-in cannot be used", "sign in again: ringfence signin start", err)
	}
	return a, nil
}

// Check says what would be in the way of [Create], before anybody is bothered to sign in.
func Check(path string, replace bool) error {
	if err := free(path, replace); err != nil {
		return err
	}
	w, err := newWriter(path)
	if err == nil {
		w.discard()
	}
	return err
}

func free(path string, replace bool) error {
	if _, err := os.Lstat(path); err == nil && !replace {
		return fault(ringfence.KindConflict, "there is a sign-in in "+path+" already", "end it with `ringfence signin end`, or name another file", nil)
	}
	return nil
}

// Create writes the account of a new sign-in. A file that is there already is replaced only if replace is true.
func Create(ctx context.Context, path string, a Account, replace bool) error {
	if a.Refresh == "" || !a.SIP.valid() {
		return fault(ringfence.KindUnsupported, "the server does not say where to register, or gives no refresh token", "is its release older than this program?", nil)
	}
	unlock, err := lock(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	if err := free(path, replace); err != nil {
		return err
	}
	w, err := newWriter(path)
	if err != nil {
		return err
	}
	return w.commit(a)
}

// Remove takes a file of a sign-in away.
func Remove(ctx context.Context, path string) error {
	unlock, err := lock(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	for _, p := range []string{path, lockPath(path)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault(ringfence.KindUnavailable, "the sign-in cannot be removed", "", err)
		}
	}
	return nil
}

// writer is a file beside the one that it will replace, with room for its content on disk.
type writer struct {
	path string
	tmp  *os.File
}

func newWriter(path string) (*writer, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".signin-*") // it is 0600
	if err == nil {
		if _, err = tmp.Write(make([]byte, reserve)); err == nil {
			err = tmp.Sync()
		}
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}
	if err != nil {
		return nil, fault(ringfence.KindUnavailable, "the sign-in cannot be kept in "+path, "the directory must be there, with room, and yours", err)
	}
	return &writer{path, tmp}, nil
}

// discard gives the new file up.
func (w *writer) discard() {
	_ = w.tmp.Close()
	_ = os.Remove(w.tmp.Name())
}

// commit puts the new content in place; it is on disk when this returns.
func (w *writer) commit(a Account) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	err := e.Encode(a)
	if err == nil {
		_, err = w.tmp.WriteAt(b.Bytes(), 0)
	}
	if err == nil {
		err = w.tmp.Truncate(int64(b.Len()))
	}
	if err == nil {
		err = w.tmp.Sync()
	}
	if cerr := w.tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(w.tmp.Name(), w.path)
	}
	if err != nil {
		_ = os.Remove(w.tmp.Name())
		return fault(ringfence.KindUnavailable, "the sign-in cannot be kept in "+w.path, "", err)
	}
	dir, err := os.Open(filepath.Dir(w.path))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fault(ringfence.KindUnavailable, "the directory of "+w.path+" cannot be flushed", "", err)
	}
	return nil
}
