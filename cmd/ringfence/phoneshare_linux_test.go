package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
	"ringfence/internal/trust/signedfile"
)

// otherPhone is a phone of few lines that speaks the protocol of docs/adr/0020. It gives its file twice, the first time with a byte changed; then, once somebody makes a file, it looks for the same file itself, and for one that nobody has.
const otherPhone = `import hashlib, os, socket, struct, sys, threading, time
path, what, go, result = sys.argv[1:5]
data = open(path, "rb").read()
group, own = ("239.255.40.51", 4051), "10.9.0.1"
hear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
hear.bind(group)
hear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group[0]) + socket.inet_aton(own))
def answer():
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.bind((own, 0))
    while True:
        line, who = hear.recvfrom(2000)
        f = line.decode().split()
        if len(f) == 4 and f[1] == "ASK" and f[3] == what and not os.path.exists(go):
            out.sendto(("RINGFENCE-FIRMWARE/1 HAVE %s %s %d\n" % (f[2], what, len(data))).encode(), who)
threading.Thread(target=answer, daemon=True).start()
give = socket.create_server((own, 6970))
def serve():
    for n in range(2):
        c, _ = give.accept()
        c.makefile().readline()
        c.sendall(("RINGFENCE-FIRMWARE/1 OK %d\n" % len(data)).encode() + data[:-1] + (b"x" if n == 0 else data[-1:]))
        c.close()
threading.Thread(target=serve, daemon=True).start()
while not os.path.exists(go):
    time.sleep(0.05)
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ask.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
ask.bind((own, 0))
ask.settimeout(0.5)
said = []
for want in (what, "00" * 32):
    for _ in range(40):
        ask.sendto(("RINGFENCE-FIRMWARE/1 ASK 0123456789abcdef %s\n" % want).encode(), group)
        try:
            line, who = ask.recvfrom(2000)
        except socket.timeout:
            if want != what:
                break
            continue
        f = line.decode().split()
        assert f[:4] == ["RINGFENCE-FIRMWARE/1", "HAVE", "0123456789abcdef", what], f
        c = socket.create_connection((who[0], 6970))
        c.sendall(("RINGFENCE-FIRMWARE/1 GET %s\n" % want).encode())
        r = c.makefile("rb")
        assert r.readline() == b"RINGFENCE-FIRMWARE/1 OK %d\n" % len(data)
        said.append(hashlib.sha256(r.read()).hexdigest())
        break
    else:
        said.append("nobody has it")
c = socket.create_connection(("10.9.0.2", 6970))
c.sendall(("RINGFENCE-FIRMWARE/1 GET %s\n" % ("00" * 32)).encode())
said.append(c.makefile().readline().strip())
open(result + ".part", "w").write("\n".join(said))
os.rename(result + ".part", result)
time.sleep(1000)
`

// TestPhoneSharesFirmware has a phone take its firmware from a phone of another make on its link, which lies at first, and give it to that one.
func TestPhoneSharesFirmware(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	python, ip := testkit.Need(t, "/usr/bin/python3", "python3"), testkit.Need(t, "/sbin/ip", "iproute2")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := testkit.NewAuthority("CA")
	vendor, image := signedImage(t, bytes.Repeat([]byte("firmware "), 50_000))
	header, _ := signedfile.Beginning(image)
	what := sha256.Sum256(header)
	var mu sync.Mutex
	var asked []string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Header.Get("Range"))
		mu.Unlock()
		http.ServeContent(w, r, "x.loads", time.Time{}, bytes.NewReader(image))
	}))
	s.TLS, s.Config.ErrorLog = ca.Server("localhost"), log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	requests := func() string {
		mu.Lock()
		defer mu.Unlock()
		out := strings.Join(asked, "|")
		asked = nil
		return out
	}
	syslog, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer syslog.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	profile := "<flat-profile><Upgrade_Rule>https://localhost:" + port + "/x.loads</Upgrade_Rule><Peer_Firmware_Sharing_Log_Server>" + syslog.LocalAddr().String() + "</Peer_Firmware_Sharing_Log_Server>SHARE</flat-profile>"
	for name, b := range map[string][]byte{"cfg.xml": []byte(strings.Replace(profile, "SHARE", "<Peer_Firmware_Sharing>Yes</Peer_Firmware_Sharing>", 1)), "alone.xml": []byte(strings.Replace(profile, "SHARE", "", 1)), "peer.py": []byte(otherPhone), "image": image,
		"vendor.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vendor.Raw}), "ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()})} {
		if err := os.WriteFile(file(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	router.Neighbour(t, "eth0", "02:00:00:00:09:70", []string{"10.9.0.1/24"}, python, file("peer.py"), file("image"), hex.EncodeToString(what[:]), file("go"), file("result"))
	router.Run(t, ip, "", "address", "add", "10.9.0.2/24", "dev", "eth0")
	router.Run(t, ip, "", "route", "add", "239.0.0.0/8", "dev", "eth0")
	firmware := func(ctx context.Context, want int, cfg string, more ...string) (from, said string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(ctx, append([]string{"phone", "firmware", "--json", "--cfg", file(cfg), "--ca", file("ca.pem"), "--signer", file("vendor.pem")}, more...), &out, &errs); code != want {
			t.Errorf("exit code %d, want %d: %s%s", code, want, out.String(), errs.String())
		}
		var f fetched
		if json.Unmarshal(out.Bytes(), &f) != nil || f.Name != "sip88xx.loads" || f.Signer != "CN=Vendor" {
			t.Errorf("%s%s", out.String(), errs.String())
		}
		return f.From, errs.String()
	}
	const beginning = "bytes=0-65534"
	if from, said := firmware(t.Context(), 0, "alone.xml"); from != "server" || said != "" || requests() != "" { // nobody is asked unless the profile says so
		t.Error(from, said)
	}
	if from, said := firmware(t.Context(), 0, "cfg.xml"); from != "server" || !strings.Contains(said, "10.9.0.1 offers the firmware, and it is not taken") || requests() != beginning+"|" {
		t.Error(from, said)
	}
	if from, said := firmware(t.Context(), 0, "cfg.xml", "--state", dir, "--out", file("out")); from != "10.9.0.1" || !strings.Contains(said, "10.9.0.1 gave the firmware") || requests() != beginning {
		t.Error(from, said)
	}
	if b, err := os.ReadFile(file("out")); err != nil || len(b) != 450_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	b := make([]byte, 2000)
	_ = syslog.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _, err := syslog.ReadFrom(b); err != nil || !strings.HasPrefix(string(b[:n]), "<133>") || !strings.Contains(string(b[:n]), "firmware: 10.9.0.1 offers the firmware, and it is not taken") {
		t.Errorf("%s %v", b[:n], err)
	}
	// Now the other way round.
	if err := os.WriteFile(file("go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gave := make(chan string, 1)
	go func() {
		_, said := firmware(ctx, 0, "cfg.xml", "--give", "1m")
		gave <- said
	}()
	router.Until(t, "the other phone has looked for its file", func() bool { _, err := os.Stat(file("result")); return err == nil })
	cancel()
	sum := sha256.Sum256(image)
	if b, err := os.ReadFile(file("result")); err != nil || string(b) != hex.EncodeToString(sum[:])+"\nRINGFENCE-FIRMWARE/1 NO" {
		t.Errorf("%s %v", b, err)
	}
	if said := <-gave; !strings.Contains(said, "was given to 10.9.0.1") {
		t.Error(said)
	}
}
