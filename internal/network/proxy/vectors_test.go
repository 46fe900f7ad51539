package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestChallenges(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   []Challenge
	}{
		{[]string{"Negotiate", "NTLM", `Basic realm="a, b"`}, []Challenge{{"negotiate", "", map[string]string{}}, {"ntlm", "", map[string]string{}}, {"basic", "", map[string]string{"realm": "a, b"}}}},
		{[]string{`Digest realm="a\"b", nonce = x, qop="auth,auth-int" , stale=TRUE, Basic realm=c, NTLM TlRM==, Newauth`}, []Challenge{
			{"digest", "", map[string]string{"realm": `a"b`, "nonce": "x", "qop": "auth,auth-int", "stale": "TRUE"}}, {"basic", "", map[string]string{"realm": "c"}}, {"ntlm", "TlRM==", map[string]string{}},
			{"newauth", "", map[string]string{}}}},
		{[]string{",, , Basic  realm=\"\" ,"}, []Challenge{{"basic", "", map[string]string{"realm": ""}}}},
		{nil, nil},
	} {
		if got, err := ParseChallenges(c.fields); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v %v", c.fields, got, err)
		}
	}
	for _, bad := range []string{"=", `Basic realm="a`, "Basic realm=\"a\nb\"", "Basic realm=a, realm=b", "a" + strings.Repeat(",a", maxChallenges), "Digest a=b" + strings.Repeat(", x=y", 2), strings.Repeat("a", maxValue+1), "realm=x", "NTLM TlRM==, x=y"} {
		if got, err := ParseChallenges([]string{bad}); err == nil {
			t.Errorf("%.60q is read as %v", bad, got)
		}
	}
}

// TestDigestVectors makes the answers of RFC 7616 sections 3.9.1 and 3.9.2.
func TestDigestVectors(t *testing.T) {
	one := Challenge{Scheme: "digest", Params: map[string]string{"realm": "http-auth@example.org", "qop": "auth, auth-int", "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"}}
	for algorithm, want := range map[string]string{"MD5": "8ca523f5e9506fed4657c9700eebdbec", "SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"} {
		one.Params["algorithm"] = algorithm
		d, err := newDigest(one, "Mufasa", "Circle of Life", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
		if err != nil {
			t.Fatal(err)
		}
		answer := d.answer("GET", "/dir/index.html")
		for _, part := range []string{`response="` + want + `"`, `Digest username="Mufasa"`, "algorithm=" + algorithm, "qop=auth, nc=00000001", `opaque="FQhe/`, `cnonce="f2/`} {
			if !strings.Contains(answer, part) {
				t.Errorf("%s: %s is not in %s", algorithm, part, answer)
			}
		}
	}
	two := Challenge{Scheme: "digest", Params: map[string]string{"realm": "api@example.org", "qop": "auth", "algorithm": "SHA-512-256", "nonce": "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", "opaque": "HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", "userhash": "true", "charset": "UTF-8"}}
	d, err := newDigest(two, "J\u00e4s\u00f8n Doe", "Secret, or not?", "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm")
	if err != nil {
		t.Fatal(err)
	}
	// The user's hash and the response of the RFC are of plain SHA-512 cut short (erratum 4897); these are of SHA-512/256 itself, as its section 3.3 has it.
	if a := d.answer("GET", "/doe.json"); !strings.Contains(a, `username="793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"`) || !strings.Contains(a, "userhash=true") {
		t.Error(a)
	}
	two.Params["userhash"] = "false"
	if d, err = newDigest(two, "J\u00e4s\u00f8n Doe", "x", "y"); err != nil || !strings.Contains(d.answer("GET", "/"), "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe") {
		t.Error(err)
	}
	for _, bad := range []map[string]string{{"nonce": "x", "algorithm": "SHA-1"}, {"realm": "x"}, {"nonce": "x", "qop": "auth-conf"}} {
		if _, err := newDigest(Challenge{Params: bad}, "a", "b", "c"); err == nil {
			t.Errorf("%v", bad)
		}
	}
}

// challengeOf makes a second message of NTLM.
func challengeOf(flags uint32, nonce string, info []byte) []byte {
	b := append([]byte(ntlmSignature), 2, 0, 0, 0)
	target := toUTF16("Server")
	b = binary.LittleEndian.AppendUint16(b, uint16(len(target)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(target)))
	b = binary.LittleEndian.AppendUint32(b, 56)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, nonce...)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(info)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(info)))
	b = binary.LittleEndian.AppendUint32(b, uint32(56+len(target)))
	b = append(b, ntlmVersionBytes()...)
	return append(append(b, target...), info...)
}

func pair(id uint16, v []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, id)
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(v))), v...)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// TestNTLMVectors computes the example of MS-NLMP section 4.2.4.
func TestNTLMVectors(t *testing.T) {
	key := ntowf("User", "Password", "Domain")
	if want := unhex("0c868a403bfd7a93a3001ef22ef02e3f"); !bytes.Equal(key, want) {
		t.Fatalf("NTOWFv2 %x", key)
	}
	nonce, client := [8]byte(unhex("0123456789abcdef")), [8]byte(bytes.Repeat([]byte{0xaa}, 8))
	info := append(pair(2, toUTF16("Domain")), pair(1, toUTF16("Server"))...)
	nt, session := ntlmv2(key, nonce, client, 0, info)
	if want := unhex("68cd0ab851e51c96aabc927bebef6a1c"); !bytes.Equal(nt[:16], want) {
		t.Errorf("NTProofStr %x", nt[:16])
	}
	if want := unhex("8de40ccadbc14a82f15cb0ad0de95ca3"); !bytes.Equal(session, want) {
		t.Errorf("SessionBaseKey %x", session)
	}
	if lm := hmacMD5(key, nonce[:], client[:]); !bytes.Equal(lm, unhex("86c35097ac9cec102554764a57cccc19")) {
		t.Errorf("LMv2 %x", lm)
	}
	const flags = ntlmUnicode | ntlmNTLM | ntlmExtended | ntlmTargetInfo
	second := challengeOf(flags, string(nonce[:]), append(info, pair(0, nil)...))
	c, err := ParseNTLMChallenge(second)
	if err != nil || c.Target != "Server" || !bytes.Equal(c.Info, info) || c.Time != 0 {
		t.Fatalf("%+v %v", c, err)
	}
	third := ntlmAuthenticate(ntlmNegotiate(), second, c, "User", "Password", "Domain", "COMPUTER", client, time.Unix(-11644473600, 0))
	if !bytes.Contains(third, nt) || !bytes.Contains(third, unhex("86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa")) || !bytes.Contains(third, toUTF16("COMPUTER")) || !bytes.Equal(third[72:88], make([]byte, 16)) {
		t.Errorf("%x", third)
	}
	// With the server's time there is a MIC over all three messages, and no LMv2.
	withTime := append(append(bytes.Clone(info), pair(ntlmInfoTime, []byte{1, 2, 3, 4, 5, 6, 7, 8})...), pair(0, nil)...)
	second = challengeOf(flags, string(nonce[:]), withTime)
	if c, err = ParseNTLMChallenge(second); err != nil || c.Time != 0x0807060504030201 {
		t.Fatalf("%+v %v", c, err)
	}
	third = ntlmAuthenticate(ntlmNegotiate(), second, c, "User", "Password", "Domain", "", client, time.Now())
	mic := bytes.Clone(third[72:88])
	copy(third[72:88], make([]byte, 16))
	_, session = ntlmv2(key, nonce, client, c.Time, append(bytes.Clone(c.Info), pair(ntlmInfoFlags, []byte{2, 0, 0, 0})...))
	if !bytes.Equal(mic, hmacMD5(session, ntlmNegotiate(), second, third)) {
		t.Error("the MIC is not over the three messages")
	}
	if c, err := ParseNTLMChallenge(second[:len(second)-1]); err != nil || c.Info != nil {
		t.Errorf("%+v %v", c, err)
	}
	for name, b := range map[string][]byte{"short": second[:31], "first": ntlmNegotiate(), "info cut": challengeOf(flags, string(nonce[:]), []byte{1, 0, 9, 0}),
		"time cut": challengeOf(flags, string(nonce[:]), pair(ntlmInfoTime, []byte{1})), "odd end": challengeOf(flags, string(nonce[:]), []byte{1})} {
		if _, err := ParseNTLMChallenge(b); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Digest realm="a\"b", nonce = x, qop="auth,auth-int" , Basic realm=c, NTLM TlRM==`)
	f.Add("Negotiate YII=, ,")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := ParseChallenges([]string{s, s})
		if err != nil {
			return
		}
		if len(all) > maxChallenges {
			t.Errorf("%d challenges", len(all))
		}
		for _, c := range all {
			if c.Scheme == "" || c.Scheme != strings.ToLower(c.Scheme) || len(c.Params) > maxParams || c.Token != "" && len(c.Params) > 0 {
				t.Errorf("%+v", c)
			}
			if d, err := newDigest(c, "u", "p", "c"); err == nil {
				if a := d.answer("CONNECT", "a:1"); strings.ContainsAny(a, "\r\n") {
					t.Errorf("%q breaks the header", a)
				}
			}
		}
	})
}

func FuzzNTLMChallenge(f *testing.F) {
	f.Add(challengeOf(ntlmUnicode|ntlmTargetInfo, "01234567", append(pair(ntlmInfoTime, make([]byte, 8)), pair(0, nil)...)))
	f.Add(ntlmNegotiate())
	real, err := base64.StdEncoding.DecodeString("TlRMTVNTUAACAAAADAAMADgAAAAFgoECASNFZ4mrze8AAAAAAAAAACQAJABEAAAABgBwFwAAAA9TAGUAcgB2AGUAcgACAAwARABvAG0AYQBpAG4AAQAMAFMAZQByAHYAZQByAAAAAAA=")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseNTLMChallenge(b)
		if err != nil {
			return
		}
		if len(c.Info) > ntlmMaxInfo {
			t.Errorf("%d bytes of information", len(c.Info))
		}
		ntlmAuthenticate(ntlmNegotiate(), b, c, "u", "p", "d", "", [8]byte{}, time.Now())
	})
}
