package capf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"ringfence"
)

// FuzzMessage reads a message and what may be inside it, and writes it again.
func FuzzMessage(f *testing.F) {
	f.Add([]byte("\x55\x01\x00\x00\x00\x01\x00\x08\x07\x00\x01\x03\x08\x00\x01\x00"))
	f.Add([]byte("\x55\x02\x00\x00\x00\x01\x00\x23\x01\x00\x01\x01\x07\x00\x01\x03\x0b\x00\x051234\x00\x0d\x00\x10SEP001122334455\x00"))
	f.Add([]byte("\x55\x10\x00\x00\x00\x01\x00\x05\x0c\x00\x02\x00\x3c"))
	f.Add([]byte("\x55\x0c\x00\x00\x00\x01\x00\x0e\x01\x00\x01\x01\x04\x00\x07\x01\x00\x04\x00\x01\x30\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		admitted := 0
		m, err := readMessage(r, func(h header) (int, error) { admitted = h.length; return maxBody, nil })
		if admitted > maxBody && len(in)-r.Len() > headerLen {
			t.Fatal("a body that is too long was read")
		}
		if err != nil {
			if _, ok := err.(*ringfence.Fault); !ok {
				t.Fatalf("%T", err)
			}
			return
		}
		out, err := m.bytes()
		if err != nil || !bytes.Equal(out, in[:len(in)-r.Len()]) {
			t.Fatalf("% x is written as % x: %v", in, out, err)
		}
		if der, ok, err := m.certificateOf(); ok && err == nil {
			if e := certificateElement(der, certLSC); len(e.value) != len(der)+5 {
				t.Fatal("a certificate has another length")
			}
			_, _ = readCertificate(der)
		}
		if b, ok := m.get(tagSUDI); ok {
			der, short, long, err := parseSUDI(b)
			if err == nil && len(der)+len(short)+len(long)+9 != len(b) {
				t.Fatal("the parts of a SUDI element do not fill it")
			}
		}
		for _, e := range m.elements {
			_, _, _ = m.textOf(e.tag, maxName)
			_, _, _ = m.byteOf(e.tag)
			_, _, _ = m.shortOf(e.tag)
			_, _ = parseTagged(e.value, 1)
			_ = checkDER(e.value, maxDER)
		}
	})
}

// canned is a connection whose other side has said everything already.
type canned struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *canned) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *canned) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c *canned) SetDeadline(time.Time) error { return nil }

// theKey is a public key on P-256, for seeds.
const theKey = "3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"

// FuzzServer says anything to a server that has an order. Only a phone that said the string, sent a key and stored the certificate has one.
func FuzzServer(f *testing.F) {
	frame := func(c command, e ...element) []byte {
		b, err := message{command: c, session: 1, elements: e}.bytes()
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	key, err := hex.DecodeString(theKey)
	if err != nil {
		f.Fatal(err)
	}
	auth := frame(cmdAuthResponse, byteElement(tagReason, 1), byteElement(tagVersion, 3), textElement(tagPassword, "123456"), textElement(tagDevice, phoneName))
	made, kept := frame(cmdKeyResponse, element{tagPublicKey, key}), frame(cmdStoreResponse, byteElement(tagReason, 1))
	f.Add(byte(0), bytes.Join([][]byte{auth, frame(cmdInProgress), made, kept}, nil))
	f.Add(byte(0), bytes.Join([][]byte{auth, kept, made}, nil))
	f.Add(byte(0), bytes.Join([][]byte{auth, made, made}, nil))
	f.Add(byte(1), bytes.Join([][]byte{auth, frame(cmdDeleteResponse, byteElement(tagReason, 1))}, nil))
	f.Add(byte(2), bytes.Join([][]byte{auth, frame(cmdFetchResponse, byteElement(tagReason, 7))}, nil))
	f.Add(byte(0), frame(cmdAbortRequest))
	o := newOffice(f)
	f.Fuzz(func(t *testing.T, op byte, in []byte) {
		o.book.orders, o.book.wrote = map[string]*entry{}, nil
		o.ours.signed, o.ours.revoked = map[string]bool{}, map[string]string{}
		want := order([...]Operation{InstallUpgrade, Delete, Troubleshoot, InstallUpgrade}[op%4])
		if op%4 == 3 { // nobody here has a certificate that proves anything
			want.Auth = ByLSC
		}
		e := o.book.add(phoneName, want)
		conn := &canned{in: bytes.NewReader(in)}
		ss := &session{s: o.Server, id: 1}
		err := ss.run(context.Background(), wire{conn: conn, ctx: context.Background()})
		if err != nil {
			if _, ok := err.(*ringfence.Fault); !ok {
				t.Fatalf("%T", err)
			}
		}
		stand := 0
		if e.status == UpgradeSuccess {
			stand = 1
		}
		if o.ours.standing() != stand || e.claim != "" {
			t.Fatalf("%d certificates stand, the order is %+v", o.ours.standing(), e)
		}
		success := e.status == UpgradeSuccess || e.status == DeleteSuccess || e.status == TroubleshootSuccess
		if success && (err != nil || !bytes.Contains(in, []byte("123456\x00"))) {
			t.Fatalf("%+v %v", e, err)
		}
	})
}

// FuzzClient lets a server say anything to a phone. Nobody but the phone's own keeper gets its key, and only with a certificate for it.
func FuzzClient(f *testing.F) {
	for _, s := range []string{
		"55010000000100080700010308000100" + "550f0000000100040100" + "0100",
		"55010000000100080700010308000100" + "55030000000100081200010011000101" + "5509000000010012030001010400" + "0b0100080001300430020500",
		"55010000000100080700010308000100" + "550d000000010000" + "550f000000010004010001" + "01",
		"55010000000100080700010308000100" + "550b000000010000" + "550f000000010004010001" + "00",
		"5510000000010005" + "0c0002003c",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	k := knownKey(f)
	a := newAuthority(f, "Example", time.Now)
	proof := a.lsc(f, phoneName, newEC(f))
	store, err := message{command: cmdStoreRequest, session: 1, elements: []element{byteElement(tagCertType, certLSC), certificateElement(a.lsc(f, phoneName, k).Certificate, certLSC)}}.bytes()
	if err != nil {
		f.Fatal(err)
	}
	ask, err := hex.DecodeString("55010000000100080700010308000100" + "55030000000100081200010011000101")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(ask, store...))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := &pocket{}
		c := client()
		c.Keeper, c.Keys, c.Proof, c.Generate = p, []Key{ECP256}, &proof, func(Key) (crypto.Signer, error) { return k, nil }
		r, err := c.Run(context.Background(), &canned{in: bytes.NewReader(in)})
		if err != nil {
			if _, ok := err.(*ringfence.Fault); !ok {
				t.Fatalf("%T", err)
			}
		}
		if r.Certificate != nil && p.cert == nil {
			t.Fatal("a certificate is reported that is not kept")
		}
		if p.cert != nil && !k.PublicKey.Equal(p.cert.PublicKey) {
			t.Fatal("a certificate is kept for another key")
		}
	})
}

// knownKey is the key whose public half is theKey.
func knownKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	d := make([]byte, 32)
	d[31] = 1
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// FuzzSubject reads the subject of a certificate: a MAC address is twelve digits, and the name that follows from it is one.
func FuzzSubject(f *testing.F) {
	f.Add("CP-8841-SEP001122334455", "", "EVVBU", "PID:CP-8841 SN:FCH12345678", "")
	f.Add("", "000e08abcdef", "CP-8841-3PCC", "", "88012BA01234")
	f.Add("00:11:22:33:44:55", "", "", "", "")
	f.Fuzz(func(t *testing.T, cn, state, unit, serial, locality string) {
		var n pkix.Name
		for i, v := range map[int]string{3: cn, 8: state, 11: unit, 5: serial, 7: locality} {
			n.Names = append(n.Names, pkix.AttributeTypeAndValue{Type: oid(i), Value: v})
		}
		id, err := Subject(n)
		if err != nil {
			return
		}
		if len(id.MAC) != 12 || strings.Trim(id.MAC, "0123456789ABCDEF") != "" || !isDeviceName(id.DeviceName()) {
			t.Fatalf("%+v", id)
		}
	})
}
