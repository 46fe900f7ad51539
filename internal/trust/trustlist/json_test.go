package trustlist_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/trustlist"
)

func buildJSON(t testing.TB, by holder, entries ...trustlist.Entry) []byte {
	t.Helper()
	b, err := trustlist.BuildJSON(trustlist.Options{Name: "ITLFile.json", Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}, entries, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func enc(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jws signs by hand (RFC 7515 appendix A.2), so that there is something to send that BuildJSON would not make.
func jws(t testing.TB, key crypto.Signer, header, payload string) []byte {
	t.Helper()
	input := enc([]byte(header)) + "." + enc([]byte(payload))
	sum := sha512.Sum512([]byte(input))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA512, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return []byte(input + "." + enc(sig))
}

// header is the one that lists have.
func header(signer holder) string {
	sum := sha256.Sum256(signer.cert.Raw)
	return fmt.Sprintf(`{"alg":"RS512","typ":"trustlist+jws","x5t#S256":"%s"}`, enc(sum[:]))
}

func TestJSON(t *testing.T) {
	a, b, node := newHolder(t, "sast-a", 0x1001, false), newHolder(t, "sast-b", 0x1002, false), newHolder(t, "node-1", 0x81, true)
	entries := []trustlist.Entry{entry(trustlist.SAST, a), entry(trustlist.SAST, b), entry(trustlist.CCMTFTP, a), entry(trustlist.CAPF, node), entry(trustlist.TVS, node)}
	raw := buildJSON(t, a, entries...)
	l := parse(t, raw) // either form is read
	same := parse(t, build(t, a, entries...))
	if l.Name != "ITLFile.json" || l.Version != same.Version || l.SignerVersion != same.SignerVersion || l.Digest != same.Digest || l.Bits != same.Bits || !l.Time.Equal(same.Time) ||
		l.Signer.Name != same.Signer.Name || l.Signer.Issuer != same.Signer.Issuer || !bytes.Equal(l.Signer.Serial, same.Signer.Serial) || len(l.Records) != len(same.Records) {
		t.Errorf("%+v\n%+v", l, same)
	}
	for i, r := range l.Records {
		if o := same.Records[i]; r.Role != o.Role || r.Subject != o.Subject || r.Issuer != o.Issuer || !bytes.Equal(r.Serial, o.Serial) || !r.Cert.Equal(o.Cert) {
			t.Errorf("%+v\n%+v", r, o)
		}
	}
	if who, err := l.VerifyBy(same.Signers()); err != nil || !who.Equal(a.cert) {
		t.Errorf("%v %v", who, err)
	}
	if _, err := l.VerifyBy([]*x509.Certificate{b.cert}); ringfence.KindOf(err) != ringfence.KindDenied {
		t.Errorf("%v", err)
	}
	// Both forms are one list to a plan.
	for _, pair := range [][2]*trustlist.List{{l, same}, {same, l}, {l, l}} {
		if s := trustlist.Plan(pair[0], pair[1]); !s.Taken || s.Stranded || len(s.Added)+len(s.Removed) > 0 || len(s.Kept) != 2 {
			t.Errorf("%+v", s)
		}
	}
	next := parse(t, buildJSON(t, b, entry(trustlist.SAST, b), entry(trustlist.SAST, newHolder(t, "c", 3, false))))
	if s := trustlist.Plan(l, next); !s.Taken || s.Stranded || len(s.Kept) != 1 {
		t.Errorf("%+v", s)
	}
	if s := trustlist.Plan(next, l); s.Taken || !s.Stranded {
		t.Errorf("%+v", s)
	}
	var out strings.Builder
	if err := l.Show(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ITLFile.json, version 1.2, signed at 2026-01-02 03:04:05 UTC", "RSA 2048 with SHA-512", "Record 3: CCM+TFTP", "C=ZZ,O=Example,CN=node-1", "until 2096-10-02"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not show %q:\n%s", want, out.String())
		}
	}
	if _, err := trustlist.ParseJSON(append(raw, '\n')); err != nil {
		t.Errorf("a file that ends in a line feed: %v", err)
	}
}

// TestJSONBytes reads the form with nothing of ours, and has OpenSSL check the signature.
func TestJSONBytes(t *testing.T) {
	a, b := newHolder(t, "sast-a", 0x1001, false), newHolder(t, "sast-b", 0x1002, false)
	parts := strings.Split(string(buildJSON(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b))), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	dec := func(s string) []byte {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got := string(dec(parts[0])); got != header(a) {
		t.Errorf("%s", got)
	}
	std := base64.StdEncoding.EncodeToString
	want := `{"version":"1.2","name":"ITLFile.json","time":"2026-01-02T03:04:05Z","signer":{"subject":"C=ZZ,O=Example,CN=sast-a","issuer":"C=ZZ,O=Example,CN=sast-a","serial":"1001"},"records":[` +
		`{"role":"SAST","subject":"C=ZZ,O=Example,CN=sast-a","issuer":"C=ZZ,O=Example,CN=sast-a","serial":"1001","certificate":"` + std(a.cert.Raw) + `"},` +
		`{"role":"SAST","subject":"C=ZZ,O=Example,CN=sast-b","issuer":"C=ZZ,O=Example,CN=sast-b","serial":"1002","certificate":"` + std(b.cert.Raw) + `"}]}`
	if got := string(dec(parts[1])); got != want {
		t.Errorf("%s\nand not\n%s", got, want)
	}
	dir := t.TempDir()
	spki, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{"signed": []byte(parts[0] + "." + parts[1]), "signature": dec(parts[2]), "public.der": spki} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(testkit.Need(t, "openssl", "openssl"), "dgst", "-sha512", "-verify", "public.der", "-keyform", "DER", "-signature", "signature", "signed")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "Verified OK") {
		t.Errorf("%v %s", err, out)
	}
}

// TestGuide holds what the guide shows to the members that a list has.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash("../../../docs/guides/trust-lists.md"))
	if err != nil {
		t.Fatal(err)
	}
	var shown []any
	for rest := string(text); ; {
		_, after, ok := strings.Cut(rest, "```json\n")
		if !ok {
			break
		}
		block, tail, _ := strings.Cut(after, "```")
		var v any
		if err := json.Unmarshal([]byte(block), &v); err != nil {
			t.Fatal(err)
		}
		shown, rest = append(shown, v), tail
	}
	if len(shown) != 2 {
		t.Fatalf("the guide shows %d pieces of JSON", len(shown))
	}
	a, b := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false)
	parts := strings.Split(string(buildJSON(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b))), ".")
	for i, want := range shown {
		part, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(part, &got); err != nil {
			t.Fatal(err)
		}
		if g, w := members(got), members(want); g != w {
			t.Errorf("a list has %s, and the guide shows %s", g, w)
		}
	}
}

// members lists the names of members, those of objects inside in brackets; of a list, the first one counts.
func members(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var out []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, k+members(v[k]))
		}
		return "{" + strings.Join(out, " ") + "}"
	case []any:
		if len(v) > 0 {
			return members(v[0])
		}
	}
	return ""
}

func TestJSONRefuses(t *testing.T) {
	a, b, ec := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false), newHolder(t, "ec", 3, true)
	good := []trustlist.Entry{entry(trustlist.SAST, a), entry(trustlist.SAST, b)}
	o := trustlist.Options{Name: "ITLFile.json", Time: time.Unix(0, 0)}
	for name, c := range map[string]struct {
		o       trustlist.Options
		entries []trustlist.Entry
		key     crypto.Signer
		kind    ringfence.Kind
	}{
		"one SAST":        {o, good[:1], a.key, ringfence.KindInvalid},
		"an EC SAST":      {o, []trustlist.Entry{good[0], entry(trustlist.SAST, ec)}, a.key, ringfence.KindUnsupported},
		"another key":     {o, good, b.key, ringfence.KindInvalid},
		"an EC key":       {o, good, ec.key, ringfence.KindInvalid},
		"SHA-1":           {trustlist.Options{Name: "x", Time: o.Time, Digest: crypto.SHA1}, good, a.key, ringfence.KindUnsupported},
		"no name":         {trustlist.Options{Time: o.Time}, good, a.key, ringfence.KindInvalid},
		"an odd name":     {trustlist.Options{Name: "a\nb", Time: o.Time}, good, a.key, ringfence.KindInvalid},
		"a long name":     {trustlist.Options{Name: strings.Repeat("a", 256), Time: o.Time}, good, a.key, ringfence.KindInvalid},
		"no time":         {trustlist.Options{Name: "x"}, good, a.key, ringfence.KindInvalid},
		"an unknown role": {o, append(slices.Clone(good), entry(9, ec)), a.key, ringfence.KindInvalid},
	} {
		if _, err := trustlist.BuildJSON(c.o, c.entries, a.cert, c.key); err == nil || ringfence.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJSONHostile changes a list in every place, and sends what is signed well and no list.
func TestJSONHostile(t *testing.T) {
	a, b := newHolder(t, "a", 1, false), newHolder(t, "b", 2, false)
	raw := buildJSON(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b))
	holds := func(in []byte) bool {
		l, err := trustlist.ParseJSON(in)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Fatalf("%v", err)
			}
			return false
		}
		_, err = l.VerifyBy([]*x509.Certificate{a.cert, b.cert})
		return err == nil
	}
	if !holds(raw) {
		t.Fatal("the list itself")
	}
	for i := range raw {
		if holds(raw[:i]) {
			t.Fatalf("it may be cut off at %d", i)
		}
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if holds(changed) {
			t.Fatalf("byte %d may be changed", i)
		}
	}
	parts := strings.Split(string(raw), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, by string) string {
		t.Helper()
		out := strings.Replace(string(payload), old, by, 1)
		if out == string(payload) {
			t.Fatalf("there is no %s", old)
		}
		return out
	}
	good := header(a)
	sum := enc(make([]byte, sha256.Size))
	if !holds(jws(t, a.key, good, string(payload))) {
		t.Fatal("a list that is signed by hand")
	}
	for name, bad := range map[string][]byte{
		"nothing":                  {},
		"too much":                 bytes.Repeat([]byte("e"), trustlist.MaxJSON+1),
		"two parts":                []byte(parts[0] + "." + parts[1]),
		"four parts":               []byte(string(raw) + ".x"),
		"no signature":             []byte(parts[0] + "." + parts[1] + "."),
		"spaces":                   []byte(parts[0] + "." + parts[1] + " ." + parts[2]),
		"two line feeds":           append(bytes.Clone(raw), "\n\n"...),
		"a line feed inside":       []byte(parts[0] + "." + parts[1] + "." + parts[2][:10] + "\n" + parts[2][10:]),
		"a carriage return":        []byte(parts[0] + "." + parts[1] + "\r." + parts[2]),
		"padding":                  []byte(string(raw) + "="),
		"the other serialisation":  fmt.Appendf(nil, `{"protected":"%s","payload":"%s","signature":"%s"}`, parts[0], parts[1], parts[2]),
		"no algorithm":             []byte(enc([]byte(strings.Replace(good, "RS512", "none", 1))) + "." + parts[1] + "."),
		"a MAC":                    jws(t, a.key, strings.Replace(good, "RS512", "HS512", 1), string(payload)),
		"another digest":           jws(t, a.key, strings.Replace(good, "RS512", "RS256", 1), string(payload)),
		"another type":             jws(t, a.key, strings.Replace(good, "trustlist+jws", "at+jwt", 1), string(payload)),
		"no thumbprint":            jws(t, a.key, `{"alg":"RS512","typ":"trustlist+jws"}`, string(payload)),
		"a short thumbprint":       jws(t, a.key, `{"alg":"RS512","typ":"trustlist+jws","x5t#S256":"AAAA"}`, string(payload)),
		"a number for it":          jws(t, a.key, `{"alg":"RS512","typ":"trustlist+jws","x5t#S256":1}`, string(payload)),
		"a key in the header":      jws(t, a.key, `{"alg":"RS512","typ":"trustlist+jws","x5t#S256":"`+sum+`","jwk":{}}`, string(payload)),
		"a payload that is plain":  jws(t, a.key, `{"alg":"RS512","typ":"trustlist+jws","x5t#S256":"`+sum+`","b64":false,"crit":["b64"]}`, string(payload)),
		"the algorithm twice":      jws(t, a.key, `{"alg":"none","typ":"trustlist+jws","x5t#S256":"`+sum+`","alg":"RS512"}`, string(payload)),
		"a long header":            jws(t, a.key, good+strings.Repeat(" ", 500), string(payload)),
		"a header that is a list":  jws(t, a.key, `[]`, string(payload)),
		"no JSON":                  jws(t, a.key, good, `rubbish`),
		"a payload that is a list": jws(t, a.key, good, `[]`),
		"something behind it":      jws(t, a.key, good, string(payload)+`{}`),
		"deep JSON":                jws(t, a.key, good, strings.Repeat(`[`, 100000)),
		"an empty object":          jws(t, a.key, good, `{}`),
		"null":                     jws(t, a.key, good, `null`),
		"another version":          jws(t, a.key, good, replace(`"1.2"`, `"1.3"`)),
		"the version twice":        jws(t, a.key, good, replace(`"version":"1.2"`, `"version":"1.3","version":"1.2"`)),
		"the version in capitals":  jws(t, a.key, good, replace(`"version"`, `"Version"`)),
		"no name":                  jws(t, a.key, good, replace(`"ITLFile.json"`, `""`)),
		"an escape in the name":    jws(t, a.key, good, replace(`"ITLFile.json"`, `"\u001b[2J"`)),
		"a time with a zone":       jws(t, a.key, good, replace(`04:05Z`, `04:05+01:00`)),
		"a time before all":        jws(t, a.key, good, replace(`"2026`, `"1926`)),
		"a time after all":         jws(t, a.key, good, replace(`"2026`, `"2926`)),
		"no serial":                jws(t, a.key, good, replace(`"serial":"01"`, `"serial":""`)),
		"a serial that is none":    jws(t, a.key, good, replace(`"serial":"01"`, `"serial":"0x"`)),
		"a serial in capitals":     jws(t, a.key, good, replace(`"serial":"01"`, `"serial":"AB"`)),
		"no signer":                jws(t, a.key, good, replace(`"signer":{`, `"stranger":{`)),
		"an unknown role":          jws(t, a.key, good, replace(`"SAST"`, `"role 9"`)),
		"a role that is a number":  jws(t, a.key, good, replace(`"SAST"`, `0`)),
		"a certificate that lies":  jws(t, a.key, good, replace(`{"role":"SAST","subject":"C=ZZ,O=Example,CN=a"`, `{"role":"SAST","subject":"C=ZZ,O=Example,CN=b"`)),
		"rubbish for one":          jws(t, a.key, good, replace(`"certificate":"MII`, `"certificate":"AAA`)),
		"very many records":        jws(t, a.key, good, replace(`"records":[`, `"records":[`+strings.Repeat(`{},`, 1000))),
	} {
		if l, err := trustlist.ParseJSON(bad); err == nil || ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v %v", name, l, err)
		}
	}
	// These are lists, and nobody's whom a phone knows.
	twin := newHolder(t, "a", 1, false)
	odd, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		list    []byte
		signers []*x509.Certificate
		kind    ringfence.Kind
	}{
		"signed with another key":               {jws(t, b.key, good, string(payload)), []*x509.Certificate{a.cert, b.cert}, ringfence.KindDenied},
		"by a twin":                             {jws(t, twin.key, header(twin), string(payload)), []*x509.Certificate{a.cert, b.cert}, ringfence.KindDenied},
		"by a twin under the hash of the other": {jws(t, twin.key, good, string(payload)), []*x509.Certificate{a.cert, b.cert}, ringfence.KindDenied},
		"by the right key under another hash":   {jws(t, a.key, header(b), string(payload)), []*x509.Certificate{a.cert, b.cert}, ringfence.KindDenied},
		"for nobody":                            {raw, nil, ringfence.KindDenied},
		"by a key that signs no lists":          {raw, []*x509.Certificate{certify(t, "a", 1, odd).cert}, ringfence.KindUnsupported},
	} {
		l, err := trustlist.ParseJSON(c.list)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if who, err := l.VerifyBy(c.signers); err == nil || ringfence.KindOf(err) != c.kind {
			t.Errorf("%s: %v %v", name, who, err)
		}
		if err := l.Verify(b.cert); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Two with the same names: the one that signed is found behind the other.
	l := parse(t, raw)
	if who, err := l.VerifyBy([]*x509.Certificate{twin.cert, a.cert}); err != nil || !who.Equal(a.cert) {
		t.Errorf("%v %v", who, err)
	}
	l = parse(t, build(t, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b)))
	if who, err := l.VerifyBy([]*x509.Certificate{twin.cert, a.cert}); err != nil || !who.Equal(a.cert) {
		t.Errorf("%v %v", who, err)
	}
	// A member that is not known today is no fault, and is covered by the signature.
	if !holds(jws(t, a.key, good, replace(`"version"`, `"comment":"x","version"`))) {
		t.Error("an unknown member")
	}
}

// FuzzParseJSON has the fuzzer write header and payload; the base64 around them is done for it.
func FuzzParseJSON(f *testing.F) {
	a, b := newHolder(f, "a", 1, false), newHolder(f, "b", 2, false)
	raw := buildJSON(f, a, entry(trustlist.SAST, a), entry(trustlist.SAST, b))
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(string(raw), ".")[1])
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(header(a)), payload)
	f.Fuzz(func(t *testing.T, head, payload []byte) {
		for _, in := range [][]byte{payload, []byte(enc(head) + "." + enc(payload) + "." + enc(make([]byte, 256)))} {
			l, err := trustlist.ParseJSON(in)
			if err != nil {
				if ringfence.KindOf(err) != ringfence.KindInvalid {
					t.Fatal(err)
				}
				continue
			}
			if _, err := l.VerifyBy([]*x509.Certificate{a.cert, b.cert}); err == nil {
				t.Fatal("nobody signed this")
			}
			var out strings.Builder
			if err := l.Show(&out); err != nil {
				t.Fatal(err)
			}
			for _, c := range out.String() {
				if c < ' ' && c != '\n' {
					t.Fatalf("%q", out.String())
				}
			}
			if !json.Valid(payload) || hex.EncodeToString(l.Signer.Serial) == "" {
				t.Fatalf("%q was read", payload)
			}
		}
	})
}
