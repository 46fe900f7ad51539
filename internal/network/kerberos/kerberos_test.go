package kerberos

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"ringfence"
)

// A real key distribution centre judges this room in internal/network/proxy. Here are answers that none would give.

// wanted is a KRB-ERROR that wants a proof, with hints.
func wanted(t testing.TB, hints types.PADataSequence) []byte {
	t.Helper()
	e := messages.NewKRBError(types.PrincipalName{NameType: 2, NameString: []string{"krbtgt", "R"}}, "R", errorcode.KDC_ERR_PREAUTH_REQUIRED, "")
	e.EData = nil
	for _, h := range hints { // SEQUENCE OF PA-DATA, by hand
		v := append([]byte{0xa2, byte(len(h.PADataValue) + 2), 4, byte(len(h.PADataValue))}, h.PADataValue...)
		one := append([]byte{0xa1, 3, 2, 1, byte(h.PADataType)}, v...)
		e.EData = append(e.EData, append([]byte{0x30, byte(len(one))}, one...)...)
	}
	e.EData = append([]byte{0x30, byte(len(e.EData))}, e.EData...)
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func info2(t testing.TB, e ...types.ETypeInfo2Entry) types.PADataSequence {
	t.Helper()
	var body []byte
	for _, x := range e {
		h, err := one(x)
		if err != nil {
			t.Fatal(err)
		}
		body = append(body, h[0].PADataValue[2:]...)
	}
	return types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: append([]byte{0x30, byte(len(body))}, body...)}}
}

func iterations(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func TestHostileAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		kind   ringfence.Kind
	}{
		"nothing":         {nil, ringfence.KindInvalid},
		"HTTP":            {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), ringfence.KindInvalid},
		"no hints":        {wanted(t, info2(t)), ringfence.KindInvalid},
		"only old keys":   {wanted(t, info2(t, types.ETypeInfo2Entry{EType: 23, Salt: "s"})), ringfence.KindInsecure},
		"endless key":     {wanted(t, info2(t, types.ETypeInfo2Entry{EType: 18, Salt: "s", S2KParams: iterations(1<<32 - 1)})), ringfence.KindInvalid},
		"longest key":     {wanted(t, info2(t, types.ETypeInfo2Entry{EType: 18, Salt: "s", S2KParams: iterations(0)})), ringfence.KindInvalid},
		"odd parameters":  {wanted(t, info2(t, types.ETypeInfo2Entry{EType: 18, Salt: "s", S2KParams: []byte{1}})), ringfence.KindInvalid},
		"always a proof":  {wanted(t, info2(t, types.ETypeInfo2Entry{EType: 23, Salt: "s"}, types.ETypeInfo2Entry{EType: 17, Salt: "s", S2KParams: iterations(100)})), ringfence.KindUnauthenticated},
		"a long answer":   {make([]byte, maxAnswer+1), ringfence.KindInvalid},
		"a broken ticket": {[]byte{0x6b, 0x82, 0x01, 0x00, 0x30}, ringfence.KindInvalid},
	} {
		asked := 0
		k := &Client{Realm: "R", User: "u", Password: "p", Ask: func(context.Context, []byte) ([]byte, error) { asked++; return c.answer, nil }}
		began := time.Now()
		if _, err := k.Token(t.Context(), "HTTP/proxy"); ringfence.KindOf(err) != c.kind || asked > 2 || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
}

func TestExchange(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		kind   ringfence.Kind
	}{"closes": {nil, ringfence.KindUnavailable}, "cut": {[]byte{0, 0, 0, 9, 1}, ringfence.KindUnavailable}, "too long": {[]byte{0, 1, 0, 1}, ringfence.KindInvalid}, "empty": {make([]byte, 4), ringfence.KindInvalid}} {
		here, there := net.Pipe()
		go func() {
			_, _ = io.ReadFull(there, make([]byte, 7))
			_, _ = there.Write(c.answer)
			there.Close()
		}()
		if _, err := Exchange(here, []byte("ask")); ringfence.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		here.Close()
	}
	here, there := net.Pipe()
	go func() {
		b := make([]byte, 7)
		_, _ = io.ReadFull(there, b)
		_, _ = there.Write(b)
	}()
	if b, err := Exchange(here, []byte("ask")); err != nil || !bytes.Equal(b, []byte("ask")) {
		t.Errorf("%q %v", b, err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(wanted(f, info2(f, types.ETypeInfo2Entry{EType: 17, Salt: "s", S2KParams: iterations(10)})))
	f.Add([]byte{0x6b, 3, 0x30, 1, 0})
	f.Add([]byte{0x6d, 3, 0x30, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		k := &Client{Realm: "R", User: "u", Password: "p", Ask: func(context.Context, []byte) ([]byte, error) { return b, nil }}
		if token, err := k.Token(t.Context(), "HTTP/proxy"); err == nil {
			t.Errorf("a token of %d bytes without a password", len(token))
		}
		q, err := messages.NewASReqForTGT("R", settings(), types.PrincipalName{NameString: []string{"u"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.granted(b, q); err == nil {
			t.Error("an answer that is not sealed is believed")
		}
		if _, err := k.ticket(b, types.EncryptionKey{KeyType: 17, KeyValue: make([]byte, 16)}, messages.TGSReq{}); err == nil {
			t.Error("a ticket that is not sealed is believed")
		}
	})
}
