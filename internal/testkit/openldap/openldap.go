package openldap

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile DIR/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile DIR/ca.pem
TLSCertificateFile DIR/cert.pem
TLSCertificateKeyFile DIR/key.pem
sasl-host dir.example.com
authz-regexp uid=([^,]*),.*cn=digest-md5,cn=auth uid=$1,ou=people,dc=example,dc=com
security simple_bind=64
sizelimit 3
database mdb
suffix dc=example,dc=com
directory DIR/db
limits users size.soft=3 size.prtotal=unlimited
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree=ou=people,dc=example,dc=com by users read by anonymous auth
access to * by * read
`

const people = `dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: ou=public,dc=example,dc=com
objectClass: organizationalUnit
ou: public

dn: uid=desk,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: desk
cn: Desk Phone
sn: Phone
userPassword: right password

dn: uid=ada,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: ada
cn: Ada Lovelace
givenName: Ada
sn: Lovelace
telephoneNumber: 101
title: Analyst
mobile: +44 20 1234

dn: cn=Zoë (Sales)*,ou=public,dc=example,dc=com
objectClass: inetOrgPerson
cn: Zoë (Sales)*
sn: (Sales)*
givenName: Zoë
telephoneNumber: 201

dn: cn=b1,ou=public,dc=example,dc=com
objectClass: inetOrgPerson
cn: b1
sn: Bee

dn: cn=b2,ou=public,dc=example,dc=com
objectClass: inetOrgPerson
cn: b2
sn: Bee

dn: cn=b3,ou=public,dc=example,dc=com
objectClass: inetOrgPerson
cn: b3
sn: Bee

dn: cn=b4,ou=public,dc=example,dc=com
objectClass: inetOrgPerson
cn: b4
sn: Bee
`

// Start runs OpenLDAP on loopback until the test ends, as dir.example.com with a certificate of ca, and returns the ports of ldap and ldaps. Its base is dc=example,dc=com: everybody may read ou=public, and ou=people
// who is bound, e.g. as uid=desk,ou=people with the password "right password". It gives three entries at a time, and more in pages to who is bound.
func Start(t *testing.T, ca *testkit.Authority) (plain, sealed string) {
	t.Helper()
	program, add := testkit.Need(t, "/usr/sbin/slapd", "slapd"), testkit.Need(t, "/usr/sbin/slapadd", "slapd")
	testkit.Need(t, "/usr/sbin/slapd", "libsasl2-modules")
	dir := t.TempDir()
	pair := ca.Issue("dir.example.com")
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"slapd.conf": []byte(strings.ReplaceAll(slapdConf, "DIR", dir)), "people.ldif": []byte(people), "ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()}),
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(add, "-f", filepath.Join(dir, "slapd.conf"), "-l", filepath.Join(dir, "people.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	port := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, p, _ := net.SplitHostPort(l.Addr().String())
		return p
	}
	plain, sealed = port(), port()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-d", "none", "-f", filepath.Join(dir, "slapd.conf"), "-h", "ldap://127.0.0.1:"+plain+" ldaps://127.0.0.1:"+sealed)
	var said bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &said, 5*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+sealed); err == nil {
			_ = c.Close()
			return plain, sealed
		}
		<-tick.C
	}
	t.Fatal("slapd does not listen")
	return "", ""
}
