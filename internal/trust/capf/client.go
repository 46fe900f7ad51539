package capf

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"time"

	"ringfence"
)

// Credential is a certificate with its key, which proves who a phone is.
type Credential struct {
	Certificate []byte // DER
	Key         crypto.Signer
}

// Keeper is where a phone keeps its LSC.
type Keeper interface {
	// Store keeps a certificate and its key. The phone says that it stored it only if the error is nil.
	Store(cert *x509.Certificate, key crypto.Signer) error
	// Delete removes them; ok is false if there were none.
	Delete() (ok bool, err error)
	// Certificate returns the DER of the certificate, or nil if there is none.
	Certificate() []byte
}

// Client is the phone's side.
type Client struct {
	Name   string // SEP001122334455
	String string // the authentication string, or empty
	Keeper Keeper

	Proof *Credential // what the phone proves itself with by existing certificate; nil: nothing
	SUDI  *Credential // what it signs the session id with; nil: Proof
	SHA1  bool        // prove with SHA-1 alone and no session id, as old phones do

	Keys     []Key                            // what the phone can make: all but RSA1024
	Generate func(Key) (crypto.Signer, error) // makes a key; nil: crypto/rsa and crypto/ecdsa
	Step     time.Duration                    // for each message of the server: 30 seconds
}

// Result is what a session did to the phone.
type Result struct {
	Operation   Operation
	Certificate *x509.Certificate // of InstallUpgrade
	RetryAfter  time.Duration     // if the server wants to be asked again
}

// Run lets the server have its session on a connection whose server certificate was checked: it must be the one that the trust list names as
// CAPF. It does not close the connection. The key of a new certificate is made here and given to nobody but the Keeper.
func (c Client) Run(ctx context.Context, conn net.Conn) (Result, error) {
	if !isDeviceName(c.Name) || c.Keeper == nil {
		return Result{}, fault("capf.client", ringfence.KindInvalid, "the phone has no name, or nowhere to keep a certificate", "", nil)
	}
	if c.Step == 0 {
		c.Step = 30 * time.Second
	}
	if c.Keys == nil {
		c.Keys = []Key{RSA2048, RSA3072, RSA4096, ECP256, ECP384, ECP521}
	}
	if c.Generate == nil {
		c.Generate = generate
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	ph := &phone{Client: c, w: wire{conn: conn, ctx: ctx}, operation: NoPendingOperation}
	return ph.run()
}

// generate makes keys as the standard library does.
func generate(k Key) (crypto.Signer, error) {
	if curve, _ := k.curve(); curve != nil {
		return ecdsa.GenerateKey(curve, rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, k.bits())
}

// phone is one session as the phone sees it.
type phone struct {
	Client
	w         wire
	session   uint32
	begun     bool
	operation Operation
	key       crypto.Signer
	cert      *x509.Certificate
	wants     []command // what the server may send now
}

func (p *phone) run() (Result, error) {
	p.wants = []command{cmdAuthRequest, cmdRetryLater}
	for {
		m, err := p.w.receive(p.Step, p.admit)
		if err != nil {
			return Result{}, err
		}
		switch m.command {
		case cmdEnd:
			return p.ended(m)
		case cmdRetryLater:
			d, _, err := m.shortOf(tagRetryDelay)
			if err != nil {
				return Result{}, err
			}
			return Result{Operation: NoPendingOperation, RetryAfter: time.Duration(d) * time.Second},
				fault("capf.client", ringfence.KindOverload, "the server wants to be asked later", "", nil)
		}
		out, err := p.step(m)
		if err != nil {
			return Result{}, err
		}
		if err := p.w.send(out, p.Step); err != nil {
			return Result{}, err
		}
	}
}

func (p *phone) admit(h header) (int, error) {
	if p.begun && h.session != p.session {
		return 0, fault("capf.client", ringfence.KindInvalid, "a message of the server belongs to another session", "", nil)
	}
	if !slices.Contains(p.wants, h.command) {
		return 0, fault("capf.client", ringfence.KindInvalid, "the server sent "+h.command.String()+" where that is not expected", "", nil)
	}
	p.begun, p.session = true, h.session
	if h.command == cmdStoreRequest {
		return maxDER + maxShort, nil
	}
	return maxShort, nil
}

func (p *phone) step(m message) (message, error) {
	switch m.command {
	case cmdAuthRequest:
		p.wants = []command{cmdKeyRequest, cmdDeleteRequest, cmdFetchRequest, cmdEnd, cmdRetryLater}
		return p.authenticate()
	case cmdKeyRequest:
		p.operation, p.wants = InstallUpgrade, []command{cmdStoreRequest, cmdEnd, cmdRetryLater}
		return p.makeKey(m)
	case cmdStoreRequest:
		p.wants = []command{cmdEnd, cmdRetryLater}
		return p.store(m)
	case cmdDeleteRequest:
		p.operation, p.wants = Delete, []command{cmdEnd, cmdRetryLater}
		ok, err := p.Keeper.Delete()
		return p.says(cmdDeleteResponse, ok && err == nil), nil
	}
	p.operation, p.wants = Troubleshoot, []command{cmdEnd, cmdRetryLater}
	der := p.Keeper.Certificate()
	out := p.says(cmdFetchResponse, der != nil)
	if der != nil {
		out.elements = append(out.elements, certificateElement(der, certLSC))
	}
	return out, nil
}

func (p *phone) says(c command, ok bool) message {
	reason := reasonRefused
	if ok {
		reason = reasonDone
	}
	return message{command: c, session: p.session, elements: []element{byteElement(tagReason, reason)}}
}

func (p *phone) authenticate() (message, error) {
	m := message{command: cmdAuthResponse, session: p.session, elements: []element{byteElement(tagReason, reasonDone), byteElement(tagVersion, 3)}}
	if p.String != "" {
		m.elements = append(m.elements, textElement(tagPassword, p.String))
	}
	m.elements = append(m.elements, textElement(tagDevice, p.Name))
	if p.Proof == nil {
		return m, nil
	}
	data := proofData(p.Name, p.Proof.Certificate)
	short, err := sign(p.Proof.Key, digestSHA1, data)
	if err != nil {
		return m, cannotSign(err)
	}
	m.elements = append(m.elements, certificateElement(p.Proof.Certificate, certLSC), element{tagSigned, short})
	if p.SHA1 {
		return m, nil
	}
	long, err := sign(p.Proof.Key, digestSHA512, data)
	if err != nil {
		return m, cannotSign(err)
	}
	by := p.SUDI
	if by == nil {
		by = p.Proof
	}
	data = sudiData(p.session, by.Certificate)
	sudi := appendTagged(nil, tagged{0, by.Certificate})
	for _, kind := range []byte{digestSHA1, digestSHA512} {
		sig, err := sign(by.Key, kind, data)
		if err != nil {
			return m, cannotSign(err)
		}
		sudi = appendTagged(sudi, tagged{kind, sig})
	}
	m.elements = append(m.elements, element{tagSignedSHA2, appendTagged(nil, tagged{digestSHA512, long})}, element{tagSUDI, sudi})
	return m, nil
}

func cannotSign(err error) error {
	return fault("capf.client", ringfence.KindInternal, "the key of the phone does not sign", "RSA with less than 1024 bits cannot", err)
}

// makeKey makes the key that the server asks for, after saying that it will take a while.
func (p *phone) makeKey(m message) (message, error) {
	kind, _, err := m.byteOf(tagKeyType)
	if err != nil {
		return message{}, err
	}
	bits, _, err := m.shortOf(tagKeySize)
	if err != nil {
		return message{}, err
	}
	curve, _, err := m.byteOf(tagCurve)
	if err != nil {
		return message{}, err
	}
	want, ok := keyOn(kind, bits, curve)
	if !ok || !slices.Contains(p.Keys, want) {
		return p.says(cmdKeyResponse, false), nil
	}
	if err := p.w.send(message{command: cmdInProgress, session: p.session}, p.Step); err != nil {
		return message{}, err
	}
	if p.key, err = p.Generate(want); err != nil {
		return p.says(cmdKeyResponse, false), nil
	}
	spki, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		return message{}, fault("capf.client", ringfence.KindInternal, "the public key cannot be written", "", err)
	}
	return message{command: cmdKeyResponse, session: p.session, elements: []element{{tagPublicKey, spki}}}, nil
}

// store keeps the certificate if it is for the key that was made and for this phone.
func (p *phone) store(m message) (message, error) {
	der, ok, err := m.certificateOf()
	if err != nil {
		return message{}, err
	}
	if !ok || p.key == nil {
		return p.says(cmdStoreResponse, false), nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return p.says(cmdStoreResponse, false), nil
	}
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(p.key.Public()) || p.Keeper.Store(cert, p.key) != nil {
		return p.says(cmdStoreResponse, false), nil
	}
	p.cert = cert
	return p.says(cmdStoreResponse, true), nil
}

// ended reads the goodbye.
func (p *phone) ended(m message) (Result, error) {
	const op = "capf.client"
	reason, ok, err := m.byteOf(tagReason)
	if err != nil {
		return Result{}, err
	}
	r := Result{Operation: p.operation, Certificate: p.cert}
	switch {
	case !ok:
		return r, malformed("the server ended the session without a reason")
	case reason == reasonNothing, reason == reasonDone:
		return r, nil
	case reason == reasonUnknown:
		return r, fault(op, ringfence.KindNotFound, "the server does not know a device "+p.Name, "correct the name, or have the device added", nil)
	case reason == reasonRefused:
		return r, fault(op, ringfence.KindDenied, "the server refused", "check the authentication string; the administrator sees the reason", nil)
	}
	return r, fault(op, ringfence.KindDenied, fmt.Sprintf("the server ended the session with reason %d", reason), "", nil)
}
