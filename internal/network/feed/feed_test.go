package feed

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/testkit"
)

func set(t testing.TB, name string) *need.Set {
	t.Helper()
	s, err := catalogue.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keys(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}

// TestRoundTrip has each set come out of its feed as it went in.
func TestRoundTrip(t *testing.T) {
	pub, key := keys(t)
	for _, name := range catalogue.Names() {
		s := set(t, name)
		text, err := Sign(Feed{Serial: 7, Set: *s}, key)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(text, pub, 6)
		if err != nil {
			t.Fatal(err, ringfence.HintOf(err))
		}
		a, _ := json.Marshal(s)
		b, _ := json.Marshal(f.Set)
		if !bytes.Equal(a, b) || f.Serial != 7 {
			t.Errorf("%s came out differently", name)
		}
	}
}

// TestRefused is what nobody takes: of another key, changed, older, no feed at all.
func TestRefused(t *testing.T) {
	pub, key := keys(t)
	other, _ := keys(t)
	text, err := Sign(Feed{Serial: 7, Set: *set(t, "webex-calling")}, key)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSpace(string(text)), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	wider := parts[0] + "." + base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte("23.89.0.0/16"), []byte("23.88.0.0/15"), 1)) + "." + parts[2]
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"`+typeJOSE+`"}`)) + "." + parts[1] + "."
	for name, x := range map[string]struct {
		text  string
		key   ed25519.PublicKey
		after int64
		want  ringfence.Kind
	}{
		"another key":    {string(text), other, 0, ringfence.KindInsecure},
		"changed":        {wider, pub, 0, ringfence.KindInsecure},
		"no signature":   {none, pub, 0, ringfence.KindInvalid},
		"the same again": {string(text), pub, 7, ringfence.KindConflict},
		"an older one":   {string(text), pub, 8, ringfence.KindConflict},
		"nothing":        {"", pub, 0, ringfence.KindInvalid},
		"half of it":     {string(text[:len(text)/2]), pub, 0, ringfence.KindInvalid},
		"something else": {"{}", pub, 0, ringfence.KindInvalid},
		"too much":       {strings.Repeat("a", MaxSize+1), pub, 0, ringfence.KindInvalid},
	} {
		if _, err := Open([]byte(x.text), x.key, x.after); ringfence.KindOf(err) != x.want || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Sign(Feed{}, key); err == nil {
		t.Error("a feed without a number")
	}
}

// vault is a Vault in memory.
type vault struct {
	mu   sync.Mutex
	held []byte
}

func (v *vault) Secret(context.Context, string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.held == nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound}
	}
	return v.held, nil
}

func (v *vault) CreateSecret(_ context.Context, _ string, b []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.held != nil {
		return &ringfence.Fault{Kind: ringfence.KindConflict}
	}
	v.held = b
	return nil
}

func (v *vault) ReplaceSecret(_ context.Context, _ string, old, b []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !bytes.Equal(v.held, old) {
		return &ringfence.Fault{Kind: ringfence.KindConflict}
	}
	v.held = b
	return nil
}

// TestKeeper has numbers grow with changes and with nothing else, whoever asks, also after a restart; and openssl verify the signature by the key that is handed out.
func TestKeeper(t *testing.T) {
	v := &vault{}
	k := NewKeeper(v, nil)
	pub, err := k.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := set(t, "webex-calling")
	serial := func(k *Keeper, s *need.Set) int64 {
		t.Helper()
		text, err := k.Feed(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(text, pub, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f.Serial
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if n := serial(NewKeeper(v, nil), s); n != 1 {
				t.Errorf("%d", n)
			}
		})
	}
	wg.Wait()
	changed := *s
	changed.Title = "another"
	if a, b, c, d := serial(k, &changed), serial(k, &changed), serial(NewKeeper(v, nil), s), serial(k, set(t, "dedicated-instance")); a != 2 || b != 2 || c != 3 || d != 1 {
		t.Errorf("%d %d %d %d", a, b, c, d)
	}
	text, err := k.Feed(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSpace(string(text)), ".")
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	public, err := KeyPEM(pub)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"key.pem": public, "signed": []byte(parts[0] + "." + parts[1]), "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), testkit.Need(t, "openssl", "openssl"), "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "signed", "-sigfile", "sig")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verified Successfully") {
		t.Errorf("%v %s", err, out)
	}
	if again, err := ParseKey(public); err != nil || !again.Equal(pub) {
		t.Error(err)
	}
	if _, err := ParseKey([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")); err == nil {
		t.Error("a key of nothing")
	}
	v.held = []byte("{}")
	if _, err := k.Feed(t.Context(), s); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	pub, key := keys(f)
	text, err := Sign(Feed{Serial: 1, Set: need.Set{ID: "x", Title: "x"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("a.b.c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Open(b, pub, 0); err == nil && !bytes.Equal(bytes.TrimSpace(b), bytes.TrimSpace(text)) {
			t.Errorf("%+v", got)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	pub, _ := keys(f)
	b, err := KeyPEM(pub)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := ParseKey(b); err == nil && len(key) != ed25519.PublicKeySize {
			t.Error(len(key))
		}
	})
}
