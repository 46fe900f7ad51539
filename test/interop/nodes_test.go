package interop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/admin/client"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
)

// natsServer starts Debian's nats-server behind TLS, and returns its URL and the file with the authority of its certificate.
func natsServer(t *testing.T) (url, authority string) {
	t.Helper()
	dir := t.TempDir()
	ca := testkit.NewAuthority("bus")
	cert := ca.Issue("127.0.0.1")
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close()
	cmd := exec.Command("/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", fmt.Sprint(at), "--tls", "--tlscert", write("cert.pem", "CERTIFICATE", cert.Certificate[0]),
		"--tlskey", write("key.pem", "EC PRIVATE KEY", key))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatalf("nats-server is needed: apt-get install nats-server (%v)", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return fmt.Sprintf("tls://127.0.0.1:%d", at), write("ca.pem", "CERTIFICATE", ca.Root())
}

// administrator speaks to the API of a node over its socket.
func administrator(s *onehost.Site) *client.Client {
	c := client.New(client.Config{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.Node.SocketPath())
	}})
	s.Cleanup(c.Close)
	return c
}

// Two nodes on one PostgreSQL and one NATS server: what is administered on one holds on the other, each serves its own phones, and one
// goes on when the other is gone.
func TestTwoNodesOneDatabase(t *testing.T) {
	dsn := testkit.NewPostgres(t, "fsync=off").DSN(t)
	url, authority := natsServer(t)
	join := func(name string, data string) *onehost.Site {
		return onehost.Open(t, onehost.Options{Data: data, Within: 2 * time.Minute, Change: func(c *config.Config) {
			c.Node, c.Store.DSN, c.Bus.URL, c.Observe.Authorities = name, dsn, url, authority
			c.Media.First, c.Media.Last = mediaPorts(t)
		}})
	}
	home := t.TempDir()
	one := join("node-1", home)
	second := t.TempDir() // a node that joins is given the key that secrets are sealed with
	key, err := os.ReadFile(filepath.Join(home, "seal.key"))
	one.OK(err)
	one.OK(os.WriteFile(filepath.Join(second, "seal.key"), key, 0o600))
	two := join("node-2", second)
	for _, s := range []*onehost.Site{one, two} {
		s.Until("the bus connects", func() bool { return s.Node.Bus.Stats().Connected })
	}

	// Users and devices that are made on one node can be used on the other at once.
	admin := administrator(one)
	codes := map[string]string{}
	for i, user := range []string{"alice", "bob"} {
		one.OK(admin.Do(one.Ctx, http.MethodPost, "/users", nil, api.NewUser{ID: ringfence.UserID(user), Numbers: []ringfence.Number{ringfence.Number(fmt.Sprint(101 + i))}}, nil))
		var device api.DeviceAdded
		one.OK(admin.Do(one.Ctx, http.MethodPost, "/devices", nil, api.NewDevice{ID: ringfence.DeviceID(user + "-desk"), User: ringfence.UserID(user)}, &device))
		codes[user] = device.Activation.Code
	}
	began := time.Now()
	two.Until("the other node knows bob's phone", func() bool { return two.Node.Roster.Device("bob-desk") != nil })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	alice := one.Start(one.Known(one.Enrol(codes["alice"])))
	bob := two.Start(two.Known(two.Enrol(codes["bob"])))

	// Each node serves its own phones, under the one authority.
	echo := func(s *onehost.Site, p *phone.Phone) {
		t.Helper()
		c, err := p.Call(s.Ctx, "*43", phone.CallOptions{Audio: phone.Tone(440)})
		s.OK(err)
		s.OK(c.WaitAnswered(s.Ctx))
		s.Hears(c, 440)
		c.Hangup()
		s.OK(c.WaitEnded(s.Ctx))
	}
	echo(one, alice)
	echo(two, bob)
	one.Until("the records of both are in one place", func() bool {
		cdrs, err := one.Node.Store.CDRs(one.Ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 2
	})

	// What is revoked on one is cut off on the other.
	began = time.Now()
	one.OK(admin.Do(one.Ctx, http.MethodPost, "/devices/bob-desk/revoke", nil, api.Why{Reason: "phone was lost"}, nil))
	two.Until("bob's phone is cut off", func() bool {
		return len(two.Node.Registrar.All()) == 0 || two.Node.Registrar.FlowOf("bob-desk") == nil
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}

	// One goes on when the other is gone, and what they share is whole.
	one.Node.Close()
	two.User("carol", "103")
	echo(two, two.Phone("carol"))
	if d, err := two.Node.Store.Device(two.Ctx, "bob-desk"); err != nil || d.State != store.DeviceRevoked {
		t.Errorf("bob-desk: %+v, %v", d, err)
	}
}
