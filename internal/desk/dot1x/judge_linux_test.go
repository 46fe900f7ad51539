package dot1x

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/engine"
	"ringfence/internal/node/sockets"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// issuer makes certificates for a test, in files of a directory.
type issuer struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *rsa.PrivateKey
	n    int64
}

func newIssuer(t *testing.T, dir, name string) *issuer {
	i := &issuer{t: t, dir: dir}
	now := time.Now()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	i.cert, i.key = i.sign(name, template)
	return i
}

func (i *issuer) sign(name string, c *x509.Certificate) (*x509.Certificate, *rsa.PrivateKey) {
	i.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048) // the suites of EAP-FAST are older than those of ECDSA
	if err != nil {
		i.t.Fatal(err)
	}
	i.n++
	c.SerialNumber = big.NewInt(i.n)
	parent, signer := i.cert, i.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		i.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	write(i.t, i.file(name, ".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(i.t, i.file(name, ".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})))
	return out, key
}

func (i *issuer) file(name, kind string) string { return filepath.Join(i.dir, name+kind) }

// leaf issues a certificate of a server or a phone, valid for the time from now.
func (i *issuer) leaf(name string, valid time.Duration, usage x509.ExtKeyUsage) {
	i.t.Helper()
	i.sign(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}})
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// bed is a directory with certificates, and what a switch needs.
type bed struct {
	*testing.T
	dir  string
	site *issuer
	n    int
	said string // what the last supplicant said
}

func newBed(t *testing.T) *bed {
	dir, err := os.MkdirTemp("", "eap") // a socket's name is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bed{T: t, dir: dir, site: newIssuer(t, dir, "site")}
	b.site.leaf("radius.example.com", time.Hour, x509.ExtKeyUsageServerAuth)
	b.site.leaf("phone", time.Hour, x509.ExtKeyUsageClientAuth)
	b.site.leaf("old", -time.Hour, x509.ExtKeyUsageClientAuth)
	b.site.leaf("pc", time.Hour, x509.ExtKeyUsageClientAuth)
	newIssuer(t, dir, "stranger")
	return b
}

func (b *bed) file(name string) string { return filepath.Join(b.dir, name) }

// authenticator is a port of a switch that asks who is there, with an authentication server within.
func (b *bed) authenticator(users string) *os.Process {
	b.Helper()
	hostapd := testkit.Need(b, "/usr/sbin/hostapd", "hostapd")
	write(b.T, b.file("users"), users)
	write(b.T, b.file("hostapd.conf"), strings.NewReplacer("DIR", b.dir).Replace(`interface=eth0far
driver=wired
ctrl_interface=DIR/switch
ieee8021x=1
eap_reauth_period=0
eap_server=1
eap_user_file=DIR/users
ca_cert=DIR/site.pem
server_cert=DIR/radius.example.com.pem
private_key=DIR/radius.example.com.key
pac_opaque_encr_key=000102030405060708090a0b0c0d0e0f
eap_fast_a_id=101112131415161718191a1b1c1d1e1f
eap_fast_a_id_info=switch
eap_fast_prov=3
pac_key_lifetime=604800
pac_key_refresh_time=86400
`))
	return router.Neighbour(b, "eth0", "02:00:00:00:09:50", nil, hostapd, b.file("hostapd.conf"))
}

// stations returns what the switch says of who is behind its port.
func (b *bed) stations() string {
	out, _ := exec.Command(testkit.Need(b, "/usr/sbin/hostapd_cli", "hostapd"), "-p", b.file("switch"), "-i", "eth0far", "all_sta").CombinedOutput()
	return string(out)
}

func opener(t *testing.T) *sockets.Opener {
	t.Helper()
	o, err := sockets.New([]ringfence.Flow{{Name: "supplicant", Purpose: "test", Room: "desk/dot1x", Direction: ringfence.Dials, Transport: "unix", TLS: ringfence.HostSocket},
		{Name: "eapol", Purpose: "test", Room: "desk/dot1x", Direction: ringfence.Listens, Transport: "ethernet", TLS: ringfence.TLSNone}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// supplicant runs wpa_supplicant on eth0 until done is called.
func (b *bed) supplicant(c Config) (s *Supplicant, done func()) {
	b.Helper()
	program := testkit.Need(b, "/usr/sbin/wpa_supplicant", "wpasupplicant")
	text, err := c.File(b.file("ctl"))
	if err != nil {
		b.Fatal(err)
	}
	write(b.T, b.file("wpa.conf"), string(text))
	ctx, cancel := context.WithCancel(b.Context())
	var said []string
	e, err := engine.Start(ctx, engine.Program{Path: program, Args: []string{"-D", "wired", "-i", "eth0", "-c", b.file("wpa.conf")}, Hear: func(line string) { said = append(said, line) }})
	if err != nil {
		b.Fatal(err)
	}
	stop := func() {
		cancel()
		_ = e.Wait()
		b.said = strings.Join(said, "\n")
		if b.Failed() {
			b.Log(b.said)
		}
	}
	o, n := opener(b.T), 0
	if s, err = Attach(ctx, func(ctx context.Context) (net.Conn, error) {
		n++
		return o.DialUnixgramFrom(ctx, "supplicant", fmt.Sprintf("@ringfence-%s-%d", filepath.Base(b.dir), n), b.file("ctl/eth0"))
	}, time.Now); err != nil {
		stop()
		b.Fatal(err)
	}
	return s, stop
}

func (b *bed) phone() Config {
	return Config{Methods: []Method{TLS}, Identity: "CP-8841-3PCC-SEP020000000950", CA: b.file("site.pem"), ServerName: "radius.example.com", Cert: b.file("phone.pem"), Key: b.file("phone.key")}
}

// settle waits for the end of one attempt.
func (b *bed) settle(c Config, patience time.Duration) (Status, error) {
	b.Helper()
	b.n++ // another phone each time: a switch lets one that it refused wait (IEEE 802.1X-2010 section 8.6, quietPeriod)
	router.Run(b, "/sbin/ip", "", "link", "set", "eth0", "address", fmt.Sprintf("02:00:00:00:0a:%02x", b.n))
	s, done := b.supplicant(c)
	defer done()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	err := s.WaitSettled(ctx)
	status := s.Status()
	if err == nil {
		if err := s.Logoff(); err != nil {
			b.Error(err)
		}
	}
	return status, err
}

const users = `"phone-user" FAST
"anonymous" FAST
* TLS,FAST
"phone-user" MSCHAPV2 "right password" [2]
`

// TestHostapd has hostapd be the switch, and its authentication server let the phone in or not.
func TestHostapd(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	b := newBed(t)
	b.authenticator(users)
	s, err := b.settle(b.phone(), 20*time.Second)
	if err != nil || s.State != Authenticated || s.Protocol != TLS || !strings.HasPrefix(s.TLS, "TLSv1.") || !strings.Contains(s.Server, "CN=radius.example.com") || s.Since.IsZero() {
		t.Errorf("%+v %v", s, err)
	}
	fast := Config{Methods: []Method{FAST}, Identity: "anonymous", CA: b.file("site.pem"), ServerName: "radius.example.com", User: "phone-user", Password: "right password", PAC: b.file("pac")}
	for i := range 2 { // the second time with the PAC that the first one brought
		if s, err = b.settle(fast, 30*time.Second); err != nil || s.State != Authenticated || s.Protocol != FAST {
			t.Errorf("%d: %+v %v", i, s, err)
		}
		if info, err := os.Stat(b.file("pac")); err != nil || info.Size() == 0 {
			t.Errorf("%d: the PAC is not kept: %v %v", i, info, err)
		}
		if first := strings.Contains(b.said, "No PAC file"); first != (i == 0) {
			t.Errorf("%d: %s", i, b.said)
		}
	}
	for name, x := range map[string]struct {
		change func(*Config)
		kind   ringfence.Kind
		says   string
	}{
		"another authority":   {func(c *Config) { c.CA = b.file("stranger.pem") }, ringfence.KindInsecure, "not believed"},
		"another name":        {func(c *Config) { c.ServerName = "radius.example.org" }, ringfence.KindInsecure, "not believed"},
		"expired certificate": {func(c *Config) { c.Cert, c.Key = b.file("old.pem"), b.file("old.key") }, ringfence.KindDenied, "refuses the phone"},
		"wrong password":      {func(c *Config) { *c = fast; c.PAC, c.Password = "", "wrong password" }, ringfence.KindDenied, "refuses the phone"},
		"fast, not believed":  {func(c *Config) { *c = fast; c.PAC, c.CA = "", b.file("stranger.pem") }, ringfence.KindInsecure, "not believed"},
	} {
		c := b.phone()
		x.change(&c)
		if s, err := b.settle(c, 20*time.Second); ringfence.KindOf(err) != x.kind || !strings.Contains(err.Error(), x.says) || s.State == Authenticated {
			t.Errorf("%s: %+v %v", name, s, err)
		}
	}
}

// TestServerIsOver has an authentication server whose certificate is over: neither kind of phone believes it.
func TestServerIsOver(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	b := newBed(t)
	b.site.leaf("radius.example.com", -time.Hour, x509.ExtKeyUsageServerAuth)
	b.authenticator(users)
	for name, c := range map[string]Config{
		"EAP-TLS":  b.phone(),
		"EAP-FAST": {Methods: []Method{FAST}, Identity: "anonymous", CA: b.file("site.pem"), ServerName: "radius.example.com", User: "phone-user", Password: "right password"},
	} {
		if s, err := b.settle(c, 20*time.Second); ringfence.KindOf(err) != ringfence.KindInsecure || !strings.Contains(err.Error(), "not believed") || s.State == Authenticated {
			t.Errorf("%s: %+v %v", name, s, err)
		}
	}
}

// TestNobodyAsks is a port of a switch without 802.1X.
func TestNobodyAsks(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	b := newBed(t)
	router.Neighbour(t, "eth0", "02:00:00:00:09:50", nil, "/bin/sleep", "60")
	if s, err := b.settle(b.phone(), 3*time.Second); ringfence.KindOf(err) != ringfence.KindTimeout || s.State != Authenticating {
		t.Errorf("%+v %v", s, err)
	}
}

// watch has tshark look at the EAPOL that reaches the switch, and returns what it saw by now: source, destination and type of each frame.
func watch(t *testing.T, nsenter string, pid int) func() string {
	t.Helper()
	tshark := testkit.Need(t, "/usr/bin/tshark", "tshark")
	var mu sync.Mutex
	var out strings.Builder
	ready := make(chan struct{})
	var once sync.Once
	ctx, cancel := context.WithCancel(t.Context())
	e, err := engine.Start(ctx, engine.Program{Path: nsenter, Args: []string{"--net=/proc/" + fmt.Sprint(pid) + "/ns/net", tshark, "-n", "-l", "-i", "eth0far", "-f", "ether proto 0x888e", "-T", "fields", "-E", "separator=|", "-e", "eth.src", "-e", "eth.dst", "-e", "eapol.type"}, Env: []string{"HOME=" + t.TempDir()}, Hear: func(line string) {
		if strings.Contains(line, "Capturing on") {
			once.Do(func() { close(ready) })
			return
		}
		mu.Lock()
		defer mu.Unlock()
		out.WriteString(strings.ReplaceAll(line, "|", "\t") + "\n")
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = e.Wait() })
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("tshark does not capture")
	}
	return func() string { mu.Lock(); defer mu.Unlock(); return out.String() }
}

// TestBehind has a computer at the PC port prove itself to the switch through the phone, and pulls its plug.
func TestBehind(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	b := newBed(t)
	program := testkit.Need(t, "/usr/sbin/wpa_supplicant", "wpasupplicant")
	at := b.authenticator(users)
	nsenter := testkit.Need(t, "/usr/bin/nsenter", "util-linux")
	seen := watch(t, nsenter, at.Pid)
	phone, done := b.supplicant(b.phone())
	defer done()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := phone.WaitSettled(ctx); err != nil {
		t.Fatal(err)
	}
	pc := b.phone()
	pc.Identity, pc.Cert, pc.Key = "a computer", b.file("pc.pem"), b.file("pc.key")
	text, err := pc.File(b.file("pcctl"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, b.file("pc.conf"), string(text))
	o := opener(t)
	computer := router.Neighbour(t, "pc0", "02:00:00:00:09:51", nil, "/bin/sh", "-c", "ip link set pc0far address 02:00:00:00:09:99; exec "+program+" -D wired -i pc0far -c "+b.file("pc.conf"))
	up, err := o.OpenFrames("eapol", "eth0", EtherType, Group(), true)
	if err != nil {
		t.Fatal(err)
	}
	down, err := o.OpenFrames("eapol", "pc0", EtherType, Group(), true)
	if err != nil {
		t.Fatal(err)
	}
	pass := &PassThrough{Own: [6]byte{2, 0, 0, 0, 9, 0x50}, Switch: up, PC: down, Now: time.Now, Up: func() bool {
		i, err := net.InterfaceByName("pc0")
		return err == nil && i.Flags&net.FlagRunning != 0
	}}
	ended := make(chan struct{})
	go func() { pass.Run(ctx); close(ended) }()
	router.Until(t, "the computer is let in", func() bool { return pass.Behind().State == LetIn })
	if got := pass.Behind(); got.Station != "02:00:00:00:09:99" || got.Logoffs != 0 {
		t.Errorf("%+v", got)
	}
	in := func(mac string) bool {
		_, rest, ok := strings.Cut(b.stations(), mac+"\n")
		rest, _, _ = strings.Cut(rest, "\n02:")
		return ok && strings.Contains(rest, "[AUTHORIZED]")
	}
	router.Until(t, "the switch lets both in", func() bool { return in("02:00:00:00:09:50") && in("02:00:00:00:09:99") })
	router.Run(t, nsenter, "", "--net=/proc/"+fmt.Sprint(computer.Pid)+"/ns/net", "/sbin/ip", "link", "set", "pc0far", "down")
	router.Until(t, "the switch forgets the computer, and the phone alone stays", func() bool { return !in("02:00:00:00:09:99") && in("02:00:00:00:09:50") })
	router.Until(t, "the logoff is seen on the wire, with the computer's address", func() bool { return strings.Contains(seen(), "02:00:00:00:09:99\t01:80:c2:00:00:03\t2\n") })
	if strings.Contains(seen(), "02:00:00:00:09:50\t01:80:c2:00:00:03\t2\n") {
		t.Error("the phone logged itself off")
	}
	if got := pass.Behind(); got.State != LoggedOff || got.Logoffs != 1 {
		t.Errorf("%+v", got)
	}
	cancel()
	<-ended
}
