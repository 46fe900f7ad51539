package main

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestConnectionReport(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	conn := func(id uint64, remote, local, peer, version, suite, group string) api.Connection {
		return api.Connection{ID: id, Remote: remote, Local: local, Peer: peer, State: "Established", Network: "TLS", Since: at,
			TLS: &ringfence.TLSProof{Version: version, Suite: suite, Group: group}}
	}
	c := api.Connections{
		Counters: api.ConnectionCounters{Active: 5, SendFailures: 1, RemoteClosures: 22, ConnFailures: 3, InactiveAgeouts: 4, MaxQueueBytes: 4096,
			MaxQueuePeer: "192.0.2.7:22943", ClientHandshakeFailures: 5, ServerHandshakeFailures: 66},
		Listeners: []string{"0.0.0.0:5061", "[::]:5061"},
		Connections: []api.Connection{
			conn(7, "192.0.2.7:22943", "192.0.2.1:5061", "device alice-desk", "TLS 1.3", "TLS_AES_256_GCM_SHA384", "X25519MLKEM768"),
			conn(12, "192.0.2.7:22944", "192.0.2.1:5061", "", "TLS 1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "secp521r1"),
			conn(13, "192.0.2.9:40000", "192.0.2.1:5061", "device bob-desk", "TLS 1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "secp256r1"),
			conn(14, "[2001:db8::7]:40001", "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:1]:5061", "device carol-desk", "TLS 1.3", "TLS_AES_128_GCM_SHA256", "x25519"),
			{ID: 15, Remote: "192.0.2.9:5060", Local: "192.0.2.1:5060", Peer: "device door-1", State: "Established", Network: "TCP", Queued: 120, Since: at},
		},
	}
	var got strings.Builder
	connectionReport(&got, c)
	golden(t, "testdata/golden/connections.txt", got.String())
}

// golden compares text with a file that people can read and review.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if that is meant, run the test with -update.\ngot:\n%s", file, got)
	}
}

func TestReportCipher(t *testing.T) {
	for iana, want := range map[string]string{
		"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384":         "ECDHE-RSA-AES256-GCM-SHA384",
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256":       "ECDHE-ECDSA-AES128-GCM-SHA256",
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
		"TLS_CHACHA20_POLY1305_SHA256":                  "TLS_CHACHA20_POLY1305_SHA256",
		"":                                              "",
	} {
		if got := reportCipher(iana); got != want {
			t.Errorf("%s: %s, want %s", iana, got, want)
		}
	}
}

func TestWhen(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	for s, want := range map[string]string{"48h": "2030-01-04T03:04:05Z", "2030-02-01": "2030-02-01T00:00:00Z", "2030-02-01T12:30": "2030-02-01T12:30:00Z", "2030-02-01T12:30:00+02:00": "2030-02-01T10:30:00Z"} {
		if got, err := when(s, now, 1); err != nil || stamp(got) != want {
			t.Errorf("%s: %v %v, want %s", s, got, err, want)
		}
	}
	if got, err := when("24h", now, -1); err != nil || stamp(got) != "2030-01-01T03:04:05Z" {
		t.Errorf("24h ago: %v %v", got, err)
	}
	if _, err := when("soon", now, 1); ringfence.KindOf(err) != ringfence.KindInvalid || err == nil {
		t.Errorf("soon: %v", err)
	}
}

func TestHostPort(t *testing.T) {
	for s, want := range map[string]string{"pbx.example.com": "pbx.example.com:8443", "pbx:1": "pbx:1", "192.0.2.1": "192.0.2.1:8443", "2001:db8::1": "[2001:db8::1]:8443",
		"[2001:db8::1]": "[2001:db8::1]:8443", "[2001:db8::1]:9": "[2001:db8::1]:9", "https://pbx:9/": "pbx:9"} {
		if got, err := hostPort(s); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"", "http://pbx", "https://pbx/path", "a b", "me@pbx"} {
		if got, err := hostPort(s); err == nil {
			t.Errorf("%q was taken for %q", s, got)
		}
	}
}

func TestCSVIsInert(t *testing.T) {
	for s, want := range map[string]string{"2001": "2001", "+4930123": "+4930123", "=1+1": "'=1+1", "+1+1": "'+1+1", "@x": "'@x", "-1": "'-1", "": ""} {
		if got := inert(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestCodeIsReadable(t *testing.T) {
	if got := grouped("1234567890123456"); got != "1234 5678 9012 3456" {
		t.Errorf("%q", got)
	}
	picture, err := halfBlocks("ringfence://enrol?node=pbx.example.com:8443&code=1234567890123456")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
	for i, l := range lines {
		if w := len([]rune(l)); w != len([]rune(lines[0])) || w/2 != len(lines) && (w+1)/2 != len(lines) {
			t.Fatalf("line %d has %d columns, and there are %d lines", i, w, len(lines))
		}
	}
	// The quiet zone is light, and the finder pattern begins with a dark row.
	if r := []rune(lines[0]); r[0] != '█' || []rune(lines[2])[4] != ' ' {
		t.Errorf("the code is not light on dark:\n%s", picture)
	}
}
