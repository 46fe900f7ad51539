package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // refuses a member that is there twice

	"ringfence"
	"ringfence/internal/network/feed"
	"ringfence/internal/network/prove"
	"ringfence/internal/state/durable"
)

// Record is one proof.
type Record struct {
	Number   int           `json:"number"` // from 1, with none left out
	At       time.Time     `json:"at"`
	Host     string        `json:"host"` // where the proof was made
	Firewall string        `json:"firewall"`
	Set      string        `json:"set"`
	Version  string        `json:"version,omitempty"`
	Needs    string        `json:"needs"`             // SHA-256 of the set,
	Site     string        `json:"site"`              // of the site file,
	Rules    string        `json:"rules"`             // and of the rules as the firewall printed them; the file of that name has them
	Changed  []string      `json:"changed"`           // since the record before: rules, needs, site, verdict
	Proof    *prove.Result `json:"proof"`             // what was found
	Previous string        `json:"previous"`          // SHA-256 of the record before, as it was signed
	Failure  string        `json:"failure,omitempty"` // instead of a proof: why there is none
}

// Verdict returns the verdict of the proof, or "none".
func (r Record) Verdict() string {
	if r.Proof == nil {
		return "none"
	}
	return string(r.Proof.Verdict)
}

const (
	typeJOSE   = "ringfence-evidence+json"
	maxRecord  = 4 << 20 // bytes
	maxRecords = 1_000_000
	keyName    = "key.pem"
	publicName = "key.pub"
)

// Book is a directory with records.
type Book struct {
	dir string
	key ed25519.PrivateKey
}

// Create opens the book in a directory, which it makes if there is none. Without a key file the book has a key of its own, made when the book is.
func Create(dir, keyFile string) (*Book, error) {
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o700); err != nil {
		return nil, unavailable("the book cannot be kept in "+dir, err)
	}
	own := keyFile == ""
	if own {
		keyFile = filepath.Join(dir, keyName)
	}
	text, err := os.ReadFile(keyFile)
	if own && errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, name(1))); err == nil {
			return nil, fault(ringfence.KindConflict, "the book in "+dir+" has records and no key", "name its key, or begin a new book elsewhere")
		}
		text, err = newKey()
		if err == nil {
			err = durable.Create(keyFile, text)
		}
	}
	if err != nil {
		return nil, unavailable("the key of the book cannot be read", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	b := &Book{dir, key}
	public, err := feed.KeyPEM(b.Key())
	if err != nil {
		return nil, err
	}
	if err := durable.Create(filepath.Join(dir, publicName), public); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, unavailable("the public key of the book cannot be written", err)
	}
	return b, nil
}

func newKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text[:min(len(text), 4096)])
	if block != nil {
		if any, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := any.(ed25519.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fault(ringfence.KindInvalid, "the key of the book is no Ed25519 key in PEM form", "`openssl genpkey -algorithm ed25519` makes one")
}

// Key returns the public key of the book.
func (b *Book) Key() ed25519.PublicKey { return b.key.Public().(ed25519.PublicKey) }

// Append adds a record: its number, what changed and what stood before are filled in. The rules are kept if they let something else through than those of the record before, or cannot be compared.
func (b *Book) Append(r Record, rules []byte) (Record, error) {
	last, text, err := b.last()
	if err != nil {
		return r, err
	}
	r.Number, r.Rules, r.Changed = 1, Digest(rules), []string{"first"}
	if last != nil {
		r.Number, r.Previous, r.Changed = last.Number+1, Digest(text), changed(*last, r)
		if last.Proof != nil && r.Proof != nil && last.Proof.Passes != "" && last.Proof.Passes == r.Proof.Passes {
			r.Rules = last.Rules // counters go up, and nothing else is new
		}
	}
	if r.Number > maxRecords {
		return r, fault(ringfence.KindOverload, "the book is full", "begin a new one")
	}
	if r.Rules == Digest(rules) && len(rules) > 0 {
		if err := durable.Create(filepath.Join(b.dir, "rules", r.Rules), rules); err != nil && !errors.Is(err, fs.ErrExist) {
			return r, unavailable("the rules cannot be kept", err)
		}
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return r, unavailable("the record cannot be written", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: b.key}, (&jose.SignerOptions{}).WithType(typeJOSE).WithHeader("kid", feed.ID(b.Key())))
	if err != nil {
		return r, unavailable("the key cannot sign", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return r, unavailable("the record cannot be signed", err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		return r, unavailable("the record cannot be signed", err)
	}
	if err := durable.Create(filepath.Join(b.dir, name(r.Number)), []byte(compact+"\n")); errors.Is(err, fs.ErrExist) {
		return r, fault(ringfence.KindConflict, "somebody else writes into this book", "let one at a time write")
	} else if err != nil {
		return r, unavailable("the record cannot be kept", err)
	}
	return r, nil
}

// changed says in what a record differs from the one before.
func changed(old, now Record) []string {
	out := []string{}
	add := func(word string, differs bool) {
		if differs {
			out = append(out, word)
		}
	}
	rules := old.Rules != now.Rules
	if old.Proof != nil && now.Proof != nil && old.Proof.Passes != "" {
		rules = old.Proof.Passes != now.Proof.Passes
	}
	add("rules", rules && now.Proof != nil)
	add("needs", old.Needs != now.Needs)
	add("site", old.Site != now.Site)
	add("verdict", old.Verdict() != now.Verdict())
	return out
}

// last returns the record with the highest number, whose signature it checks.
func (b *Book) last() (*Record, []byte, error) {
	n, err := highest(b.dir)
	if err != nil || n == 0 {
		return nil, nil, err
	}
	r, text, err := read(b.dir, n, b.Key())
	if err != nil {
		return nil, nil, err
	}
	return &r, text, nil
}

func name(n int) string { return fmt.Sprintf("%07d.jws", n) }

func highest(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, unavailable("the book cannot be read", err)
	}
	for _, e := range slices.Backward(entries) {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "%d.jws", &n); err == nil && name(n) == e.Name() && n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

func read(dir string, n int, key ed25519.PublicKey) (Record, []byte, error) {
	f, err := os.Open(filepath.Join(dir, name(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil, fault(ringfence.KindInsecure, fmt.Sprintf("record %d is not there", n), "it was taken away, or the book was copied in part")
	} else if err != nil {
		return Record{}, nil, unavailable(fmt.Sprintf("record %d cannot be read", n), err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return Record{}, nil, unavailable(fmt.Sprintf("record %d cannot be read", n), err)
	}
	r, err := Open(text, key)
	if err != nil {
		return r, nil, fmt.Errorf("record %d: %w", n, err)
	}
	if r.Number != n {
		return r, nil, fault(ringfence.KindInsecure, fmt.Sprintf("record %d stands where record %d should", r.Number, n), "the files were exchanged")
	}
	return r, text, nil
}

// Open returns what is in a record, if this key signed it.
func Open(text []byte, key ed25519.PublicKey) (Record, error) {
	if len(text) > maxRecord {
		return Record{}, fault(ringfence.KindInvalid, "it is larger than 4 MiB", "")
	}
	web, err := jose.ParseSignedCompact(string(bytes.TrimSpace(text)), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(web.Signatures) != 1 {
		return Record{}, fault(ringfence.KindInsecure, "that is no signed record", "the file was changed")
	}
	if typ, _ := web.Signatures[0].Protected.ExtraHeaders[jose.HeaderType].(string); typ != typeJOSE {
		return Record{}, fault(ringfence.KindInsecure, "what was signed there is no record of a book", "")
	}
	payload, err := web.Verify(key)
	if err != nil {
		return Record{}, fault(ringfence.KindInsecure, "it was not signed by the key "+feed.ID(key), "it is somebody else's, or was changed")
	}
	var r Record
	if err := json.Unmarshal(payload, &r); err != nil {
		return Record{}, fault(ringfence.KindInvalid, "it was signed, and cannot be read", "it may be of another release")
	}
	return r, nil
}

// PublicKey returns the key that lies in a book. It is worth as much as the place where it lies.
func PublicKey(dir string) (ed25519.PublicKey, error) {
	text, err := os.ReadFile(filepath.Join(dir, publicName))
	if err != nil {
		return nil, unavailable("the book has no public key", err)
	}
	return feed.ParseKey(text)
}

// Check returns all records, if each was signed by this key, holds the digest of the one before, and the rules that it names are there as they were.
func Check(dir string, key ed25519.PublicKey) ([]Record, error) {
	n, err := highest(dir)
	if err != nil {
		return nil, err
	}
	var all []Record
	before := ""
	kept := map[string]bool{}
	for i := 1; i <= n; i++ {
		r, text, err := read(dir, i, key)
		if err != nil {
			return all, err
		}
		if r.Previous != before {
			return all, fault(ringfence.KindInsecure, fmt.Sprintf("record %d does not follow record %d", i, i-1), "one of them was put in the place of another")
		}
		if r.Proof != nil && !kept[r.Rules] {
			if _, err := Rules(dir, r); err != nil {
				return all, fmt.Errorf("record %d: %w", i, err)
			}
			kept[r.Rules] = true
		}
		before = Digest(text)
		all = append(all, r)
	}
	return all, nil
}

// Rules returns the rules of a record as the firewall printed them.
func Rules(dir string, r Record) ([]byte, error) {
	if strings.Trim(r.Rules, "0123456789abcdef") != "" || len(r.Rules) != sha256.Size*2 {
		return nil, fault(ringfence.KindInvalid, "the record names no rules", "")
	}
	b, err := os.ReadFile(filepath.Join(dir, "rules", r.Rules))
	if err != nil {
		return nil, fault(ringfence.KindInsecure, "the rules of the record are not there", "they were taken away, or the book was copied in part")
	}
	if Digest(b) != r.Rules {
		return nil, fault(ringfence.KindInsecure, "the rules of the record were changed", "")
	}
	return b, nil
}

// Digest names bytes as records do: by their SHA-256, in hexadecimal.
func Digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func fault(k ringfence.Kind, text, hint string) error {
	return &ringfence.Fault{Op: "evidence", Kind: k, Text: text, Hint: hint}
}

func unavailable(text string, err error) error {
	return &ringfence.Fault{Op: "evidence", Kind: ringfence.KindUnavailable, Text: text, Err: err}
}
