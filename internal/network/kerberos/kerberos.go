package kerberos

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"ringfence"
)

// Client is one user of one realm.
type Client struct {
	Realm, User, Password string
	// Ask sends a message to a key distribution centre of the realm and returns its answer; [Exchange] does that over a connection.
	Ask func(ctx context.Context, request []byte) ([]byte, error)
}

const (
	maxAnswer     = 64 << 10
	maxIterations = 1 << 20 // of PBKDF2: RFC 8009 has 32,768, and a stranger could ask for four thousand million
	skew          = 5 * time.Minute
)

// Exchange sends a message over a TCP connection to a key distribution centre and returns the answer (RFC 4120 section 7.2.2).
func Exchange(conn net.Conn, request []byte) ([]byte, error) {
	broken := func(err error) ([]byte, error) {
		return nil, &ringfence.Fault{Op: "kerberos", Kind: ringfence.KindUnavailable, Text: "the key distribution centre does not answer", Hint: "check its address and TCP port 88", Err: err}
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)); err != nil {
		return broken(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return broken(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxAnswer {
		return nil, invalid(fmt.Sprintf("an answer of %d bytes is none of a key distribution centre", n), nil)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		return broken(err)
	}
	return b, nil
}

func invalid(text string, err error) error {
	return &ringfence.Fault{Op: "kerberos", Kind: ringfence.KindInvalid, Text: text, Err: err}
}

// keyTypes are the ways of encryption that are asked for, the best first.
func keyTypes() []int32 {
	return []int32{etypeID.AES256_CTS_HMAC_SHA384_192, etypeID.AES128_CTS_HMAC_SHA256_128, etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96}
}

func settings() *config.Config {
	c := config.New()
	c.LibDefaults.NoAddresses, c.LibDefaults.TicketLifetime, c.LibDefaults.RenewLifetime = true, 10*time.Minute, 0
	c.LibDefaults.DefaultTktEnctypeIDs, c.LibDefaults.DefaultTGSEnctypeIDs, c.LibDefaults.PermittedEnctypeIDs = keyTypes(), keyTypes(), keyTypes()
	return c
}

// Token gets a ticket for a service such as HTTP/proxy.example.com, and returns what a server that speaks Negotiate is shown.
func (c *Client) Token(ctx context.Context, service string) ([]byte, error) {
	kind, host, ok := strings.Cut(service, "/")
	if !ok || kind == "" || host == "" || c.User == "" || c.Realm == "" {
		return nil, invalid(fmt.Sprintf("%.80q of %.80q in the realm %.80q is no service of Kerberos", service, c.User, c.Realm), nil)
	}
	conf := settings()
	who := types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: strings.Split(c.User, "/")}
	first, err := c.login(ctx, conf, who)
	if err != nil {
		return nil, err
	}
	q, err := messages.NewTGSReq(who, c.Realm, conf, first.ticket, first.key, types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{kind, strings.ToLower(host)}}, false)
	if err != nil {
		return nil, invalid("the request for a ticket cannot be made", err)
	}
	b, err := q.Marshal()
	if err != nil {
		return nil, invalid("the request for a ticket cannot be made", err)
	}
	answer, err := c.ask(ctx, b)
	if err != nil {
		return nil, err
	}
	second, err := c.ticket(answer, first.key, q)
	if err != nil {
		return nil, err
	}
	return c.wrap(who, second)
}

// grant is a ticket and the key that belongs to it.
type grant struct {
	ticket messages.Ticket
	key    types.EncryptionKey
}

func (c *Client) ask(ctx context.Context, b []byte) ([]byte, error) {
	answer, err := c.Ask(ctx, b)
	if err == nil && len(answer) > maxAnswer {
		err = invalid("the answer of the key distribution centre is too long", nil)
	}
	return answer, err
}

// refused is what a KRB-ERROR means to whoever typed the password.
func refused(e messages.KRBError) error {
	f := &ringfence.Fault{Op: "kerberos", Kind: ringfence.KindUnauthenticated, Text: fmt.Sprintf("the key distribution centre refuses: %.120q", e.Error())}
	switch e.ErrorCode {
	case errorcode.KDC_ERR_PREAUTH_FAILED:
		f.Hint = "the password is wrong"
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		f.Hint = "there is no such user in this realm"
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		f.Kind, f.Hint = ringfence.KindNotFound, "the proxy has no service principal by this name: name the proxy as the realm does, HTTP/NAME"
	case errorcode.KRB_AP_ERR_SKEW:
		f.Kind, f.Hint = ringfence.KindConflict, "set the clock of this host: it may be five minutes off at most"
	case errorcode.KDC_ERR_ETYPE_NOSUPP:
		f.Kind, f.Hint = ringfence.KindInsecure, "the realm has no AES key for this user or service"
	}
	return f
}

// safely keeps a broken message from ending the program: the library that reads it does not promise that.
func safely(read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = invalid("what answers is no key distribution centre", fmt.Errorf("%v", p))
		}
	}()
	return read()
}

// login makes the exchange with the authentication service, with the time as proof of the password (RFC 4120 section 5.2.7.2).
func (c *Client) login(ctx context.Context, conf *config.Config, who types.PrincipalName) (g grant, err error) {
	q, err := messages.NewASReqForTGT(c.Realm, conf, who)
	if err != nil {
		return g, invalid("the request to log in cannot be made", err)
	}
	for proven := false; ; proven = true {
		b, err := q.Marshal()
		if err != nil {
			return g, invalid("the request to log in cannot be made", err)
		}
		answer, err := c.ask(ctx, b)
		if err != nil {
			return g, err
		}
		var e messages.KRBError
		if err := safely(func() error { return e.Unmarshal(answer) }); err != nil {
			return c.granted(answer, q)
		}
		if e.ErrorCode != errorcode.KDC_ERR_PREAUTH_REQUIRED || proven {
			return g, refused(e)
		}
		if err := safely(func() error { return c.prove(&q, e) }); err != nil {
			return g, err
		}
	}
}

// secret makes the key of the password, as the hints of an answer want it.
func (c *Client) secret(who types.PrincipalName, hints types.PADataSequence, want int32) (types.EncryptionKey, error) {
	chosen := want
	for _, h := range hints {
		if h.PADataType != patype.PA_ETYPE_INFO2 {
			continue
		}
		info, err := h.GetETypeInfo2()
		if err != nil || len(info) == 0 || len(info) > 16 {
			return types.EncryptionKey{}, invalid("the key distribution centre's hint about keys is broken", err)
		}
		i := slices.IndexFunc(info, func(e types.ETypeInfo2Entry) bool {
			return slices.Contains(keyTypes(), e.EType) && (want == 0 || e.EType == want)
		})
		if i < 0 {
			return types.EncryptionKey{}, refused(messages.KRBError{ErrorCode: errorcode.KDC_ERR_ETYPE_NOSUPP})
		}
		if n := len(info[i].S2KParams); n != 0 && n != 4 || n == 4 && (binary.BigEndian.Uint32(info[i].S2KParams) > maxIterations || binary.BigEndian.Uint32(info[i].S2KParams) == 0) || len(info[i].Salt) > 1024 {
			return types.EncryptionKey{}, invalid("the key distribution centre asks for a key that takes too long to make", nil)
		}
		chosen = info[i].EType
		only, err := one(info[i])
		if err != nil {
			return types.EncryptionKey{}, err
		}
		hints = only
		break
	}
	if chosen == 0 {
		chosen = etypeID.AES256_CTS_HMAC_SHA1_96
	}
	if !slices.Contains(keyTypes(), chosen) {
		return types.EncryptionKey{}, refused(messages.KRBError{ErrorCode: errorcode.KDC_ERR_ETYPE_NOSUPP})
	}
	hints = slices.DeleteFunc(slices.Clone(hints), func(h types.PAData) bool { return h.PADataType == patype.PA_ETYPE_INFO })
	key, _, err := crypto.GetKeyFromPassword(c.Password, who, c.Realm, chosen, hints)
	if err != nil {
		return key, invalid("no key can be made of the password", err)
	}
	return key, nil
}

// one is a list of hints with this one alone, so that the library looks at no other.
func one(e types.ETypeInfo2Entry) (types.PADataSequence, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(e.EType)) })
			b.AddASN1(asn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.GeneralString, func(b *cryptobyte.Builder) { b.AddBytes([]byte(e.Salt)) })
			})
			if len(e.S2KParams) > 0 {
				b.AddASN1(asn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(e.S2KParams) })
			}
		})
	})
	der, err := b.Bytes()
	return types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: der}}, err
}

// prove adds the encrypted time to a request.
func (c *Client) prove(q *messages.ASReq, e messages.KRBError) error {
	var hints types.PADataSequence
	if err := hints.Unmarshal(e.EData); err != nil {
		return invalid("the key distribution centre's hint about keys is broken", err)
	}
	key, err := c.secret(q.ReqBody.CName, hints, 0)
	if err != nil {
		return err
	}
	stamp, err := types.GetPAEncTSEncAsnMarshalled()
	if err != nil {
		return invalid("the time cannot be written", err)
	}
	sealed, err := crypto.GetEncryptedData(stamp, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return invalid("the time cannot be sealed", err)
	}
	b, err := sealed.Marshal()
	if err != nil {
		return invalid("the time cannot be sealed", err)
	}
	q.PAData = append(q.PAData, types.PAData{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: b})
	return nil
}

// granted opens the answer of the authentication service, which only who knows the password can have made.
func (c *Client) granted(answer []byte, q messages.ASReq) (g grant, err error) {
	err = safely(func() error {
		var r messages.ASRep
		if err := r.Unmarshal(answer); err != nil {
			return invalid("what answers is no key distribution centre", err)
		}
		if !r.CName.Equal(q.ReqBody.CName) || r.CRealm != c.Realm {
			return invalid("the key distribution centre answers for somebody else", nil)
		}
		key, err := c.secret(r.CName, r.PAData, r.EncPart.EType)
		if err != nil {
			return err
		}
		b, err := crypto.DecryptEncPart(r.EncPart, key, keyusage.AS_REP_ENCPART)
		if err != nil {
			return &ringfence.Fault{Op: "kerberos", Kind: ringfence.KindUnauthenticated, Text: "the answer of the key distribution centre is not sealed with this password", Hint: "the password is wrong, or somebody else answers", Err: err}
		}
		var part messages.EncKDCRepPart
		if err := part.Unmarshal(b); err != nil {
			return invalid("the answer of the key distribution centre is broken", err)
		}
		if err := c.matches(part, q.ReqBody); err != nil {
			return err
		}
		g = grant{r.Ticket, part.Key}
		return nil
	})
	return g, err
}

// ticket opens the answer of the ticket-granting service.
func (c *Client) ticket(answer []byte, session types.EncryptionKey, q messages.TGSReq) (g grant, err error) {
	err = safely(func() error {
		var e messages.KRBError
		if e.Unmarshal(answer) == nil {
			return refused(e)
		}
		var r messages.TGSRep
		if err := r.Unmarshal(answer); err != nil {
			return invalid("what answers is no key distribution centre", err)
		}
		if err := r.DecryptEncPart(session); err != nil {
			return invalid("the ticket is not sealed for this session", err)
		}
		if err := c.matches(r.DecryptedEncPart, q.ReqBody); err != nil {
			return err
		}
		g = grant{r.Ticket, r.DecryptedEncPart.Key}
		return nil
	})
	return g, err
}

// matches holds an answer against its question (RFC 4120 section 3.1.5).
func (c *Client) matches(part messages.EncKDCRepPart, q messages.KDCReqBody) error {
	if part.Nonce != q.Nonce {
		return invalid("this answers another request", nil)
	}
	if !slices.Equal(part.SName.NameString, q.SName.NameString) || part.SRealm != c.Realm {
		return &ringfence.Fault{Op: "kerberos", Kind: ringfence.KindUnsupported, Text: fmt.Sprintf("the key distribution centre gives a ticket for %.120q of %.80q instead", strings.Join(part.SName.NameString, "/"), part.SRealm),
			Hint: "the service is in another realm, and this program knows one realm at a time"}
	}
	if off := time.Since(part.AuthTime); off > 24*time.Hour || off < -skew || !part.EndTime.After(time.Now()) {
		return invalid("the ticket is not valid now", nil)
	}
	return nil
}

// wrap makes of a ticket the first token of GSS-API (RFC 4121 section 4.1), and of that what SPNEGO begins with (RFC 4178 section 4.2.1).
func (c *Client) wrap(who types.PrincipalName, g grant) ([]byte, error) {
	a, err := types.NewAuthenticator(c.Realm, who)
	if err != nil {
		return nil, invalid("no proof can be made", err)
	}
	sum := make([]byte, 24) // no channel binding, no flags: nothing is said over this context
	sum[0] = 16
	a.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum}
	q, err := messages.NewAPReq(g.ticket, g.key, a)
	if err != nil {
		return nil, invalid("no proof can be made", err)
	}
	raw, err := q.Marshal()
	if err != nil {
		return nil, invalid("no proof can be made", err)
	}
	spnego, krb5 := []byte{0x2b, 6, 1, 5, 5, 2}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2} // 1.3.6.1.5.5.2, 1.2.840.113554.1.2.2
	oid := func(b *cryptobyte.Builder, id []byte) {
		b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(id) })
	}
	application, context := asn1.Tag(0x60), func(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }
	var token, out cryptobyte.Builder
	token.AddASN1(application, func(b *cryptobyte.Builder) {
		oid(b, krb5)
		b.AddBytes([]byte{1, 0}) // KRB_AP_REQ
		b.AddBytes(raw)
	})
	inner, err := token.Bytes()
	if err != nil {
		return nil, invalid("no proof can be made", err)
	}
	out.AddASN1(application, func(b *cryptobyte.Builder) {
		oid(b, spnego)
		b.AddASN1(context(0), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(context(0), func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { oid(b, krb5) })
				})
				b.AddASN1(context(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(inner) })
			})
		})
	})
	return out.Bytes()
}
