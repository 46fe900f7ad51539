package upkeep

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/sip"
	"ringfence/internal/trust/signedfile"
)

// Web makes requests within TLS, to servers that proved their names; it follows no redirections.
type Web interface {
	RoundTrip(*http.Request) (*http.Response, error)
}

// Server is where something is fetched from or sent to.
type Server struct {
	URL      string
	User     string // for Digest, or Basic within TLS
	Password string
	Agent    string
	Web      Web

	first *part // what is asked for of the file, if it is not the whole
}

// part is the beginning of a file.
type part struct {
	bytes int
	total int64 // bytes of the whole; 0: the whole came
}

const (
	maxAnswer = 64 << 10 // of a server that was sent something
	maxHops   = 3
)

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "upkeep", Kind: kind, Text: text, Hint: hint, Err: err}
}

// ParseURL reads an address: https alone, whoever says otherwise.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 2048 || u.Hostname() == "" || u.User != nil:
		return nil, fault(ringfence.KindInvalid, fmt.Sprintf("%.80q is no address", s), "write https://HOST/PATH", err)
	case u.Scheme != "https":
		return nil, fault(ringfence.KindInsecure, fmt.Sprintf("%.80s: %s is in the clear, and nobody proves who answers", s, u.Scheme), "use https", nil)
	}
	u.Fragment = ""
	return u, nil
}

// ask makes one request, and answers a challenge. It follows a few redirections of what is fetched; what is sent goes to the one server.
func (s Server) ask(ctx context.Context, method, kind string, body []byte, limit int64) ([]byte, error) {
	u, err := ParseURL(s.URL)
	if err != nil {
		return nil, err
	}
	authorization, hops, tried := "", 0, false
	for {
		req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
		if err != nil {
			return nil, fault(ringfence.KindInvalid, "no request can be made", "", err)
		}
		req.Header.Set("User-Agent", cmp.Or(s.Agent, "Ringfence desk phone"))
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		if s.first != nil {
			req.Header.Set("Range", fmt.Sprintf("bytes=0-%d", s.first.bytes-1))
		}
		resp, err := s.Web.RoundTrip(req)
		if err != nil {
			kind := ringfence.KindUnavailable
			if k := ringfence.KindOf(err); k != ringfence.KindInternal {
				kind = k
			}
			return nil, fault(kind, u.Redacted()+" is not reached", ringfence.HintOf(err), err)
		}
		b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
		_ = resp.Body.Close()
		switch code := resp.StatusCode; {
		case code == http.StatusUnauthorized && s.User != "" && !tried:
			tried = true
			if authorization = s.authorize(resp.Header.Values("WWW-Authenticate"), method, u); authorization == "" {
				return nil, fault(ringfence.KindUnsupported, "the server asks for a way to sign in that is neither Digest nor Basic", "", nil)
			}
		case method == http.MethodGet && code >= 300 && code < 400 && resp.Header.Get("Location") != "":
			next, err := u.Parse(resp.Header.Get("Location"))
			if hops++; err != nil || hops > maxHops {
				return nil, fault(ringfence.KindInvalid, u.Redacted()+" redirects too often, or nowhere", "", err)
			}
			if next.Host != u.Host { // the password is for the server that the rule names
				s.User, s.Password, authorization = "", "", ""
			}
			if u, err = ParseURL(next.String()); err != nil {
				return nil, err
			}
		case code == http.StatusPartialContent && s.first == nil:
			return nil, fault(ringfence.KindInvalid, u.Redacted()+" gives a part where the whole was asked for", "", nil)
		case code == http.StatusPartialContent:
			if s.first.total, err = totalOf(resp.Header.Get("Content-Range"), len(b)); err != nil {
				return nil, fault(ringfence.KindInvalid, u.Redacted()+" gives another part than the one that was asked for", "", err)
			}
			return b, nil
		case code >= 200 && code < 300 && err == nil && int64(len(b)) <= limit:
			return b, nil
		case code >= 200 && code < 300 && err == nil:
			return nil, fault(ringfence.KindInvalid, fmt.Sprintf("%s is larger than %d bytes", u.Redacted(), limit), "", nil)
		case code >= 200 && code < 300:
			return nil, fault(ringfence.KindUnavailable, u.Redacted()+" broke off", "", err)
		default:
			return nil, fault(kindOf(code), fmt.Sprintf("the server answers %d %s", code, http.StatusText(code)), "", nil)
		}
	}
}

// totalOf reads how long a file is whose first n bytes came (RFC 9110 section 14.4).
func totalOf(field string, n int) (total int64, err error) {
	var last int64
	if _, err := fmt.Sscanf(field, "bytes 0-%d/%d", &last, &total); err != nil {
		return 0, err
	}
	if last != int64(n)-1 || total <= last || fmt.Sprintf("bytes 0-%d/%d", last, total) != field {
		return 0, fmt.Errorf("%.60q", field)
	}
	return total, nil
}

func kindOf(status int) ringfence.Kind {
	switch status {
	case http.StatusUnauthorized:
		return ringfence.KindUnauthenticated
	case http.StatusForbidden:
		return ringfence.KindDenied
	case http.StatusNotFound, http.StatusGone:
		return ringfence.KindNotFound
	}
	return ringfence.KindUnavailable
}

func (s Server) authorize(challenges []string, method string, u *url.URL) string {
	var best sip.Challenge
	digest, basic := false, false
	for _, v := range challenges {
		if len(v) > 4096 {
			continue
		}
		if c, err := sip.ParseChallenge([]byte(v)); err == nil && (!digest || c.Algorithm > best.Algorithm) {
			best, digest = c, true
		}
		scheme, _, _ := strings.Cut(v, " ")
		basic = basic || strings.EqualFold(scheme, "Basic")
	}
	switch {
	case digest:
		return best.Authorize(sip.Answer{Username: s.User, Password: s.Password, Method: method, URI: u.RequestURI(), CNonce: rand.Text(), NC: 1})
	case basic:
		req := http.Request{Header: http.Header{}}
		req.SetBasicAuth(s.User, s.Password)
		return req.Header.Get("Authorization")
	}
	return ""
}

// Image is firmware whose signature holds.
type Image struct {
	Name   string    `json:"name"`
	Signer string    `json:"signer"`
	Digest string    `json:"digest"`
	Time   time.Time `json:"signed_at,omitzero"`
	Size   int       `json:"size"`
	Body   []byte    `json:"-"`
	Raw    []byte    `json:"-"` // the file, with its signature
}

// Firmware fetches a signed file, and takes it only if one of the signers signed it, by more than SHA-1.
func (s Server) Firmware(ctx context.Context, signers []*x509.Certificate) (Image, error) {
	if len(signers) == 0 {
		return Check(nil, nil)
	}
	b, err := s.ask(ctx, http.MethodGet, "", nil, signedfile.MaxSize+0xffff)
	if err != nil {
		return Image{}, err
	}
	return Check(b, signers)
}

// Wanted says which file a server has, by its beginning.
type Wanted struct {
	Header []byte // signature and all
	Size   int64  // of the whole
	File   []byte // the whole, if the server gave it
}

// Beginning asks for the beginning of a signed file: enough to know the file by, wherever it is then fetched.
func (s Server) Beginning(ctx context.Context) (Wanted, error) {
	s.first = &part{bytes: 0xffff}
	b, err := s.ask(ctx, http.MethodGet, "", nil, signedfile.MaxSize+0xffff)
	if err != nil {
		return Wanted{}, err
	}
	w := Wanted{Size: s.first.total}
	if w.Size == 0 || w.Size == int64(len(b)) {
		w.File, w.Size = b, int64(len(b))
	}
	var ok bool
	if w.Header, ok = signedfile.Beginning(b); !ok || w.Size > signedfile.MaxSize+0xffff {
		return Wanted{}, fault(ringfence.KindInsecure, "the firmware is not signed", "a phone would not take it", nil)
	}
	return w, nil
}

// Is says whether a file is the one that is wanted, and signed by one of the signers.
func (w Wanted) Is(b []byte, signers []*x509.Certificate) (Image, error) {
	if int64(len(b)) != w.Size || !bytes.HasPrefix(b, w.Header) {
		return Image{}, fault(ringfence.KindInsecure, "it is another file than the one that the server has", "", nil)
	}
	return Check(b, signers)
}

// Check says what a signed file holds, if one of the signers signed it.
func Check(b []byte, signers []*x509.Certificate) (Image, error) {
	if len(signers) == 0 {
		return Image{}, fault(ringfence.KindInvalid, "nobody is named whose signature counts", "name the signer's certificate", nil)
	}
	f, err := signedfile.Parse(b)
	if err != nil {
		return Image{}, fault(ringfence.KindInsecure, "the firmware is not signed", "a phone would not take it", err)
	}
	switch {
	case f.Digest == crypto.SHA1:
		return Image{}, fault(ringfence.KindInsecure, "the firmware is signed by SHA-1, which others can be made to fit", "sign it by SHA-256 or SHA-512", nil)
	case f.Sealed != nil:
		return Image{}, fault(ringfence.KindUnsupported, "the firmware is encrypted", "", nil)
	}
	worst := error(nil)
	for _, c := range signers {
		if worst = f.Verify(c); worst == nil {
			return Image{Name: printable(f.Name), Signer: c.Subject.String(), Digest: f.Digest.String(), Time: f.Time, Size: len(f.Body), Body: f.Body, Raw: b}, nil
		}
	}
	return Image{}, fault(ringfence.KindInsecure, "the firmware is not signed by whom it should be", "a phone would not take it", worst)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
}

// Settings writes the phone's settings as a file that the phone takes, without what is secret.
func Settings(set *flatprofile.Set) []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<flat-profile>\n")
	for _, v := range set.Changed() {
		p, _, ok := set.Catalogue().Find(v.Name)
		if !ok { // no name that could be anything
			continue
		}
		ua := cmp.Or(v.UA, p.UA, "na")
		fmt.Fprintf(&b, "<%s ua=%q>", v.Name, ua)
		if !v.Secret && !p.Secret {
			_ = xml.EscapeText(&b, []byte(v.Value)) // a buffer takes everything
		}
		fmt.Fprintf(&b, "</%s>\n", v.Name)
	}
	b.WriteString("</flat-profile>\n")
	return b.Bytes()
}

// Send sends something by POST or PUT.
func (s Server) Send(ctx context.Context, method, kind string, body []byte) error {
	if method != http.MethodPost && method != http.MethodPut {
		return fault(ringfence.KindInvalid, fmt.Sprintf("%.20q is no way to send something", method), "it is POST or PUT", nil)
	}
	_, err := s.ask(ctx, method, kind, body, maxAnswer)
	return err
}

// Problem packs a problem report: a form with the words of whoever has the problem, and files in a packed archive.
func Problem(name, device, serial, text string, at time.Time, files map[string][]byte) (kind string, body []byte, err error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	t := tar.NewWriter(z)
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if err = t.WriteHeader(&tar.Header{Name: file, Mode: 0o600, Size: int64(len(files[file])), ModTime: at}); err == nil {
			_, err = t.Write(files[file])
		}
		if err != nil {
			return "", nil, fault(ringfence.KindInternal, "the report cannot be packed", "", err)
		}
	}
	if err = t.Close(); err == nil {
		err = z.Close()
	}
	if err != nil {
		return "", nil, fault(ringfence.KindInternal, "the report cannot be packed", "", err)
	}
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	for _, field := range [][2]string{{"devname", device}, {"serialno", serial}, {"description", text}, {"timestamp", at.UTC().Format(time.RFC3339)}} {
		if err := m.WriteField(field[0], field[1]); err != nil {
			return "", nil, fault(ringfence.KindInternal, "the report cannot be packed", "", err)
		}
	}
	w, err := m.CreateFormFile("prt_file", name)
	if err == nil {
		_, err = w.Write(packed.Bytes())
	}
	if err == nil {
		err = m.Close()
	}
	if err != nil {
		return "", nil, fault(ringfence.KindInternal, "the report cannot be packed", "", err)
	}
	return m.FormDataContentType(), form.Bytes(), nil
}
