package main

import (
	"context"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/network/phoneports"
	"ringfence/internal/testkit"
)

// deskNetwork makes two networks, that of the phone and one outside, with a link between them. The phone runs with its firewall in force; then probes come from outside.
const deskNetwork = `
ip link set lo up
unshare --net sleep 60 &
other=$!
for i in 1 2 3 4 5 6 7 8 9 10; do
	[ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break
	sleep 0.1
done
ip link add desk type veth peer name outside netns $other
ip address add 192.0.2.1/24 dev desk
ip link set desk up
out="nsenter --net --target $other"
$out ip link set lo up
$out ip address add 192.0.2.2/24 dev outside
$out ip link set outside up
python3 inside.py &
inside=$!
ringfence phone up --cfg cfg.xml --ca ca.pem --firewall --state state >up.txt 2>&1 &
up=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -e state/status.json ] && break; sleep 0.2; done
ringfence phone status --state state | grep '^firewall:'
nft list table inet ringfence_phone >rules.txt
$out python3 outside.py
kill -INT $up
wait $up
nft list tables
kill $inside $other
`

// inside listens in the phone's network on ports that are open and on some that are not, and asks outside for an answer.
const inside = `
import socket, threading
def tcp(port):
    s = socket.create_server(('', port))
    while True:
        c, _ = s.accept()
        c.close()
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('', port))
    while True:
        b, a = s.recvfrom(100)
        s.sendto(b, a)
for p in (12000, 12001): threading.Thread(target=tcp, args=(p,), daemon=True).start()
for p in (8005, 8011, 16400): threading.Thread(target=udp, args=(p,), daemon=True).start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 40000))
s.settimeout(0.3)
while True:
    try:
        s.sendto(b'hello', ('192.0.2.2', 7000))
        b, _ = s.recvfrom(100)
        s.sendto(b'heard ' + b, ('192.0.2.2', 7000))
    except OSError: pass
`

// outside probes the phone, and says what became of each probe.
const outside = `
import socket, struct
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.7)
    s.connect(('192.0.2.1', port))
    try:
        s.send(b'x')
        return 'answer' if s.recv(10) else '?'
    except ConnectionRefusedError: return 'unreachable'
    except socket.timeout: return 'nothing'
def tcp(port):
    s = socket.socket()
    s.settimeout(0.7)
    try:
        s.connect(('192.0.2.1', port))
        return 'open'
    except ConnectionRefusedError: return 'refused'
    except socket.timeout: return 'nothing'
def ping():
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    s.settimeout(0.7)
    b = struct.pack('!BBHHH', 8, 0, 0, 1, 1)
    n = sum(struct.unpack('!4H', b))
    b = struct.pack('!BBHHH', 8, 0, 0xffff - ((n & 0xffff) + (n >> 16)), 1, 1)
    s.sendto(b, ('192.0.2.1', 0))
    try:
        while True:
            if s.recv(100)[20] == 0: return 'answer'
    except socket.timeout: return 'nothing'
def back():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('', 7000))
    s.settimeout(5)
    for i in range(20):
        b, a = s.recvfrom(100)
        if b.startswith(b'heard'): return 'heard'
        s.sendto(b'there', a)
    return 'nothing'
for p in (8005, 8011, 9999, 16400, 16402): print('udp', p, udp(p))
for p in (12000, 12001, 12002): print('tcp', p, tcp(p))
print('ping', ping())
print('way back', back())
`

// TestPhoneFirewall puts the firewall of two profiles into force in a network of the phone's own, and sends packets at it from outside.
func TestPhoneFirewall(t *testing.T) {
	testkit.Need(t, "/usr/bin/python3", "python3")
	testkit.Need(t, "/usr/sbin/nft", "nftables")
	testkit.Need(t, "/sbin/ip", "iproute2")
	unshare := testkit.Need(t, "/usr/bin/unshare", "util-linux")
	dir := t.TempDir()
	files := map[string]string{"inside.py": inside, "outside.py": outside}
	files["ca.pem"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testkit.NewAuthority("CA").Root()}))
	for name, x := range map[string]struct{ options, want string }{
		"ping and unreachable": {"TCP:12000,UDP:8000:8010", "udp 8005 answer\nudp 8011 unreachable\nudp 9999 unreachable\nudp 16400 answer\nudp 16402 unreachable\ntcp 12000 open\ntcp 12001 nothing\ntcp 12002 nothing\nping answer\nway back heard\n"},
		"neither":              {"NO_ICMP_PING,NO_ICMP_UNREACHABLE,TCP:12000,UDP:8000:8010", "udp 8005 answer\nudp 8011 nothing\nudp 9999 nothing\nudp 16400 answer\nudp 16402 unreachable\ntcp 12000 open\ntcp 12001 nothing\ntcp 12002 nothing\nping nothing\nway back heard\n"},
	} {
		files["cfg.xml"] = "<flat-profile><Proxy_1_>192.0.2.2</Proxy_1_><User_ID_1_>alice</User_ID_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><Upgrade_Enable>No</Upgrade_Enable><Firewall_Config>" + x.options + "</Firewall_Config></flat-profile>"
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, unshare, "--net", "sh", "-c", deskNetwork)
		cmd.Dir, cmd.WaitDelay = dir, time.Second
		out, err := cmd.Output()
		cancel()
		_ = os.RemoveAll(filepath.Join(dir, "state"))
		said, _ := os.ReadFile(filepath.Join(dir, "up.txt"))
		rules, _ := os.ReadFile(filepath.Join(dir, "rules.txt"))
		if want := "firewall: in force, as the table ringfence_phone of nftables\n" + x.want; string(out) != want {
			t.Errorf("%s: %v: it has networks of its own; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN\n%s\nwant\n%s\n%s%s", name, err, out, want, said, rules)
		}
	}
}

// TestPhoneFirewallElsewhere leaves the network of the host alone.
func TestPhoneFirewallElsewhere(t *testing.T) {
	if _, err := applyPhoneFirewall(t.Context(), phoneports.View{Firewall: true}); err == nil || !strings.Contains(err.Error(), "network") {
		t.Errorf("%v", err)
	}
}
