// Package peer starts the servers that are compared: a Ringfence node, and peers from Debian's packages tuned for the work.
package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ringfence/bench/load"
	"ringfence/bench/proc"
)

// Server is one server under test.
type Server struct {
	*proc.Proc
	load.Target
	Name   string
	Anchor string // the trust anchor of a Ringfence node, PEM
}

// Setup says how a server is started.
type Setup struct {
	Core     int
	Dir      string // a fresh directory of its own
	Password string
	Users    int
	Node     string // path of the benchnode binary
	Proxy    string // path of the benchproxy binary
	Plain    bool   // UDP and RTP in the clear
	Each     bool   // Ringfence: challenge every REGISTER
}

// Ringfence starts a node with made-up users.
func Ringfence(s Setup) (*Server, error) {
	args := []string{"-data", filepath.Join(s.Dir, "data"), "-users", strconv.Itoa(s.Users), "-password", s.Password}
	if s.Each {
		args = append(args, "-challenge-each")
	}
	if s.Plain {
		args = append(args, "-plain")
	}
	p, err := proc.Start(s.Core, s.Node, args...)
	if err != nil {
		return nil, err
	}
	line, err := p.Out.ReadBytes('\n')
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("the node did not start: %s", p.Tail())
	}
	var ready struct{ SIP, Plain, Domain, Leaf, Anchor string }
	if err := json.Unmarshal(line, &ready); err != nil {
		p.Stop()
		return nil, err
	}
	leaf, err := hex.DecodeString(ready.Leaf)
	if err != nil {
		p.Stop()
		return nil, err
	}
	if s.Plain {
		ready.SIP = ready.Plain
	}
	addr, err := netip.ParseAddrPort(ready.SIP)
	if err != nil {
		p.Stop()
		return nil, err
	}
	return &Server{Proc: p, Name: "ringfence", Anchor: ready.Anchor, Target: load.Target{Addr: addr, Domain: ready.Domain, Password: s.Password, Leaf: leaf, DeviceID: true, Plain: s.Plain}}, nil
}

// Tell gives a command to a Ringfence node and waits for its answer.
func (s *Server) Tell(line string) error {
	if _, err := fmt.Fprintln(s.In, line); err != nil {
		return err
	}
	_, err := s.Out.ReadString('\n')
	return err
}

const kamailioConfig = `#!KAMAILIO
debug=-1
log_stderror=yes
children=1
tcp_children=1
disable_tcp=no
enable_tls=yes
listen=tls:127.0.0.1:%[1]d
tcp_max_connections=20000
tls_max_connections=20000
tcp_connection_lifetime=7200
tcp_accept_no_cl=yes
auto_aliases=no
dns=no
rev_dns=no
use_dns_cache=off
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tls.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("tls", "certificate", "%[2]s")
modparam("tls", "private_key", "%[3]s")
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "session_cache", 1)
modparam("tls", "session_id", "bench")
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "hash_size", 14)
modparam("registrar", "max_expires", 7200)
modparam("rr", "enable_full_lr", 1)

request_route {
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("%[4]s", "%[5]s", "0")) {
			www_challenge("%[4]s", "1");
			exit;
		}
		if (!save("location")) sl_reply_error();
		exit;
	}
	if (has_totag()) {
		if (loose_route()) {
			t_relay();
			exit;
		}
		if (is_method("ACK")) {
			if (t_check_trans()) t_relay();
			exit;
		}
		sl_send_reply("404", "Not here");
		exit;
	}
	t_check_trans();
	record_route();
	if (!lookup("location")) {
		sl_send_reply("404", "Not Found");
		exit;
	}
	if (!t_relay()) sl_reply_error();
}
`

// Kamailio starts kamailio with one worker, bindings in memory only, and its fast allocator.
func Kamailio(s Setup) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	const domain = "ringfence.internal"
	cert, key, leaf, err := certificate(s.Dir, domain)
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(s.Dir, "kamailio.cfg")
	if err := os.WriteFile(conf, fmt.Appendf(nil, kamailioConfig, port, cert, key, domain, s.Password), 0o600); err != nil {
		return nil, err
	}
	p, err := proc.Start(s.Core, "kamailio", "-f", conf, "-DD", "-E", "-x", "tlsf", "-X", "tlsf", "-m", "2048", "-M", "32", "-Y", s.Dir, "-P", filepath.Join(s.Dir, "pid"))
	if err != nil {
		return nil, err
	}
	srv := &Server{Proc: p, Name: "kamailio", Target: load.Target{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Domain: domain, Password: s.Password, Leaf: leaf}}
	for range 100 {
		time.Sleep(50 * time.Millisecond)
		if !p.Alive() {
			break
		}
		ph := load.NewPhone(&srv.Target, 0)
		if ph.Connect() == nil {
			ph.Close()
			return srv, nil
		}
	}
	p.Stop()
	return nil, fmt.Errorf("kamailio did not start: %s", p.Tail())
}

func freePort() (uint16, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// certificate makes an ECDSA P-256 certificate with an issuer of its own, a chain of the same length as a node sends.
func certificate(dir, name string) (certFile, keyFile string, leaf []byte, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", nil, err
	}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, issuer, caKey.Public(), caKey)
	if err != nil {
		return "", "", nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if leaf, err = x509.CreateCertificate(rand.Reader, t, issuer, key.Public(), caKey); err != nil {
		return "", "", nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", nil, err
	}
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuerDER})...)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err = os.WriteFile(certFile, chain, 0o600); err == nil {
		err = os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	return certFile, keyFile, leaf, err
}
