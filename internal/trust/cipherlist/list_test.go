package cipherlist_test

import (
	"errors"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/cipherlist"
)

// phoneWords are the words that a desk phone's cipher list may have: table 6 of the document on phone security.
func phoneWords() []string {
	return []string{"DEFAULT", "COMPLEMENTOFDEFAULT", "ALL", "COMPLEMENTOFALL", "HIGH", "Medium", "MEDIUM", "eNULL", "NULL", "aNULL", "kRSA", "RSA", "kDHE", "kEDH", "DH", "DHE", "EDH", "ADH",
		"kECDHE", "kEECDH", "ECDH", "ECDHE", "EECDH", "AECDH", "aRSA", "aDSS", "DSS", "aECDSA", "ECDSA", "TLSv1.2", "TLSv1", "SSLv3", "AES128", "AES256", "AES", "AESGCM", "AESCCM", "AESCCM8",
		"ARIA128", "ARIA256", "ARIA", "CAMELLIA128", "CAMELLIA256", "CAMELLIA", "CHACHA20", "SEED", "MD5", "SHA1", "SHA", "SHA256", "SHA384", "SUITEB128", "SUITEB128ONLY", "SUITEB192"}
}

// openssl returns what OpenSSL makes of a list up to TLS 1.2, or ok false if it refuses it.
func openssl(t *testing.T, list string) (names []string, ok bool) {
	t.Helper()
	if strings.HasPrefix(list, "-") { // is no option; an empty word changes nothing
		list = ":" + list
	}
	out, err := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/openssl", "openssl"), "ciphers", list).Output()
	if err != nil {
		if _, refused := errors.AsType[*exec.ExitError](err); !refused {
			t.Fatal(err)
		}
		return nil, false
	}
	for name := range strings.SplitSeq(strings.TrimSpace(string(out)), ":") {
		if !strings.HasPrefix(name, "TLS_") {
			names = append(names, name)
		}
	}
	return names, true
}

// compare holds our reading of a list against that of OpenSSL, for the suites that both know.
func compare(t *testing.T, list string, known map[string]bool) {
	t.Helper()
	theirs, ok := openssl(t, list)
	l, err := cipherlist.Parse(list)
	var ours []string
	for _, s := range l.Suites {
		if known[s.OpenSSL] {
			ours = append(ours, s.OpenSSL)
		}
	}
	if refused := err != nil || len(ours) == 0; refused == ok {
		t.Errorf("%q: OpenSSL takes it: %v; we: %v, %d suites", list, ok, err, len(ours))
		return
	}
	if ok && !slices.Equal(ours, theirs) {
		for i := range ours {
			if i >= len(theirs) || ours[i] != theirs[i] {
				t.Errorf("%q: at %d of %d and %d we have %s\n%v\n%v", list, i, len(ours), len(theirs), ours[i], ours, theirs)
				return
			}
		}
		t.Errorf("%q: we have %d, OpenSSL %d", list, len(ours), len(theirs))
	}
}

// TestLikeOpenSSL reads every word of a phone's list, and ten thousand lists made of them, as OpenSSL does.
func TestLikeOpenSSL(t *testing.T) {
	all, ok := openssl(t, "ALL:COMPLEMENTOFALL")
	if !ok || len(all) < 100 {
		t.Fatalf("%d suites", len(all))
	}
	known := map[string]bool{}
	for _, name := range all {
		known[name] = true
		if _, ok := cipherlist.ByName(name); !ok {
			t.Errorf("we do not know %s", name)
		}
	}
	words := phoneWords()
	for _, w := range words {
		compare(t, w, known)
	}
	for _, list := range []string{"RSA:!aNULL:!eNULL", "HIGH:MEDIUM:AES:@STRENGTH", "ALL:!ADH:@STRENGTH", "DEFAULT:@SECLEVEL=2", "HIGH:@SECLEVEL=9", "HIGH:@NONSENSE", "DEFAULTAES", "AES:DEFAULT", "ECDHE-RSA-AES128-GCM-SHA256",
		"AES128-SHA:-AES128-SHA:AES", "kEECDH+aRSA+AESGCM:+AES256", "!", "-", "+", "@", "AES+", "AES+:SHA", "+AES+SHA", "AES+@STRENGTH", "a_b", "AES!SHA", "ALL:-AES:+CAMELLIA:AES", "HIGH+FIPS", "FIPS", "FIPS+TLSv1.2", "CBC", "AES+CBC",
		"TLSv1.2+AES128-SHA", "EDH-RSA-DES-CBC3-SHA", "PSK", "kPSK+AES", "SRP", "aSRP", "LOW", "kGOST", "GOST94", "ALL:::,,;;", ":AES", "SUITEB128C2", "SUITEB128ONLYX", "COMPLEMENTOFDEFAULT+AES", "COMPLEMENTOFDEFAULT+HIGH:!PSK"} {
		compare(t, list, known)
	}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	lists := make(chan string)
	var wg sync.WaitGroup
	for range 4 { // each list is a process
		wg.Go(func() {
			for list := range lists {
				if !t.Failed() {
					compare(t, list, known)
				}
			}
		})
	}
	for range 10_000 {
		var b strings.Builder
		for i := range 1 + r.IntN(7) {
			if i > 0 {
				b.WriteString(pick(":", ":", ":", ":", ",", ";", "::"))
			}
			if r.IntN(25) == 0 {
				b.WriteString(pick("@STRENGTH", "@SECLEVEL=1", "@SECLEVEL=7", "@"))
				continue
			}
			b.WriteString(pick("", "", "", "!", "-", "+"))
			b.WriteString(pick(words...))
			for r.IntN(4) == 0 {
				b.WriteString("+" + pick(words...))
			}
			// Debian's OpenSSL has no SEED: it passes over what is glued to an unknown word, and stumbles over what is glued to a known one.
			if r.IntN(60) == 0 && !strings.HasSuffix(b.String(), "SEED") {
				b.WriteString(pick("_", "+", "!", "-", ".", "=", "x"))
			}
		}
		lists <- b.String()
	}
	close(lists)
	wg.Wait()
}

func TestServed(t *testing.T) {
	for list, want := range map[string]string{
		"RSA:!aNULL:!eNULL":                            "",
		"ECDHE+aRSA+AESGCM":                            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:NULL": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
		"ECDHE-ECDSA-CHACHA20-POLY1305":                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
	} {
		l, err := cipherlist.Parse(list)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range l.Suites {
			if s.Served {
				got = append(got, s.Name)
			}
			if s.Served == (s.Why != "") {
				t.Errorf("%+v", s)
			}
		}
		if strings.Join(got, " ") != want || len(got) != len(l.Served()) {
			t.Errorf("%s: %v", list, got)
		}
	}
}

func TestWarnings(t *testing.T) {
	for list, want := range map[string]string{
		"RSA:!aNULL:!eNULL":           "RSA means RSA as the key exchange",
		"HIGH:Medium":                 "did you mean MEDIUM?",
		"nonsense":                    "passed over in silence",
		"AES:DEFAULT":                 "only at the very beginning",
		"MD5+AES":                     "matches no cipher suite",
		"AES128+AES256":               "exclude each other",
		"!ALL":                        "the list is empty",
		"AES128-SHA":                  "only TLS 1.3 is left",
		"HIGH":                        "Go chooses",
		"HIGH:?":                      "a character where a word should be",
		"HIGH:TLS_AES_128_GCM_SHA256": "not governed",
	} {
		l, err := cipherlist.Parse(list)
		text := strings.Join(l.Warnings, "\n")
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", list, text, want)
		}
	}
	if l, _ := cipherlist.Parse("DEFAULT:@SECLEVEL=2"); l.Level != 2 || len(l.TLS13) != 3 {
		t.Errorf("%+v", l)
	}
	if _, err := cipherlist.Parse(strings.Repeat("A:", 3000)); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, w := range phoneWords() {
		f.Add(w + ":!aNULL:-AES+SHA:@STRENGTH")
	}
	f.Add("TLS_RSA_WITH_NULL_MD5")
	f.Fuzz(func(t *testing.T, list string) {
		l, err := cipherlist.Parse(list)
		if err != nil && ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Fatal(err)
		}
		for _, s := range l.Suites {
			if _, ok := cipherlist.ByName(s.Name); !ok || s.Encryption == "" || s.KeyExchange == "" || s.MAC == "" || s.Authentication == "" {
				t.Fatalf("%+v", s)
			}
		}
		for _, w := range l.Warnings {
			if len(w) > 300 {
				t.Fatal(w)
			}
		}
	})
}
