package rtp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"ringfence"
)

func mustKeys(t testing.TB, s Suite) Keys {
	t.Helper()
	k, err := NewKeys(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestInlineRoundTrip(t *testing.T) {
	for _, s := range Suites() {
		k := mustKeys(t, s)
		for _, tail := range []string{"", "|2^20", "|2^48", "|1048576"} {
			got, err := ParseInline(s, k.Inline()+tail)
			if err != nil || !got.Equal(k) {
				t.Fatalf("%s%s: %v", s, tail, err)
			}
		}
		if unpadded := strings.TrimRight(k.Inline(), "="); unpadded != k.Inline() {
			if got, err := ParseInline(s, unpadded); err != nil || !got.Equal(k) {
				t.Fatalf("%s without padding: %v", s, err)
			}
		}
		if other := mustKeys(t, s); other.Equal(k) || k.Equal(Keys{}) {
			t.Fatalf("%s: different keys are equal", s)
		}
	}
}

func TestInlineRefusals(t *testing.T) {
	k := mustKeys(t, AES_CM_128_HMAC_SHA1_80)
	in := k.Inline()
	for name, c := range map[string]struct {
		suite Suite
		text  string
		kind  ringfence.Kind
	}{
		"mki":              {k.Suite, in + "|2^20|1:4", ringfence.KindUnsupported},
		"mki only":         {k.Suite, in + "|1:4", ringfence.KindUnsupported},
		"two keys":         {k.Suite, in + ";" + in, ringfence.KindUnsupported},
		"unknown suite":    {"NULL", in, ringfence.KindUnsupported},
		"no method":        {k.Suite, strings.TrimPrefix(in, "inline:"), ringfence.KindInvalid},
		"lifetime zero":    {k.Suite, in + "|0", ringfence.KindInvalid},
		"lifetime 2^49":    {k.Suite, in + "|2^49", ringfence.KindInvalid},
		"lifetime words":   {k.Suite, in + "|forever", ringfence.KindInvalid},
		"two lifetimes":    {k.Suite, in + "|2^20|2^20", ringfence.KindInvalid},
		"too short":        {k.Suite, in[:len(in)-4], ringfence.KindInvalid},
		"wrong suite":      {AEAD_AES_256_GCM, in, ringfence.KindInvalid},
		"not base64":       {k.Suite, in[:20] + "*" + in[21:], ringfence.KindInvalid},
		"too much padding": {k.Suite, in + "====", ringfence.KindInvalid},
		"very long":        {k.Suite, "inline:" + strings.Repeat("A", 1000), ringfence.KindInvalid},
	} {
		got, err := ParseInline(c.suite, c.text)
		if ringfence.KindOf(err) != c.kind || !got.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), in[7:17]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func TestKeysAreNeverShown(t *testing.T) {
	k := Keys{Suite: AEAD_AES_128_GCM, Master: bytes.Repeat([]byte{0xAB}, 28)}
	secret := []string{"abab", "ABAB", "171 171", "q6ur", base64.StdEncoding.EncodeToString(k.Master)[:8]}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "keys", k, "pointer", &k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "keys", k, "nested", struct{ K Keys }{k})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", k, &k, struct{ K Keys }{k})
	}
	j, err := json.Marshal(map[string]any{"k": k, "p": &k})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	for _, s := range secret {
		if strings.Contains(out.String(), s) {
			t.Errorf("%q shows in %s", s, out.String())
		}
	}
	if !strings.Contains(out.String(), "AEAD_AES_128_GCM") {
		t.Error("the suite does not show")
	}
}

func FuzzInline(f *testing.F) {
	f.Add("inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4")
	f.Add("inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj")
	f.Add("inline:|")
	f.Fuzz(func(t *testing.T, s string) {
		for _, suite := range Suites() {
			k, err := ParseInline(suite, s)
			if err != nil {
				if !k.IsZero() {
					t.Fatal("keys and an error")
				}
				continue
			}
			again, err := ParseInline(suite, k.Inline())
			if err != nil || !again.Equal(k) || k.Check() != nil {
				t.Fatalf("does not survive being written: %v", err)
			}
		}
	})
}
