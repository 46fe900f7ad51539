package registrar_test

import (
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/sip"
	"ringfence/internal/state/store"
)

const password = "correct horse battery"

// withDigest gives alice a phone that knows passwords only, and bob one that knows only MD5, if md5 is set.
func withDigest(md5 bool) func(*people, *registrar.Config) {
	return func(p *people, _ *registrar.Config) {
		add := func(id, user string, algs ...ringfence.Auth) {
			p.devices = append(p.devices, store.Device{ID: ringfence.DeviceID(id), User: ringfence.UserID(user), State: store.DeviceActive, Profile: store.DeviceProfile{Auth: algs}})
			for _, a := range []ringfence.Auth{ringfence.AuthDigestSHA256, ringfence.AuthDigestMD5} { // the profile decides, not what there is
				sum := map[ringfence.Auth]sip.DigestAlgorithm{ringfence.AuthDigestSHA256: sip.DigestSHA256, ringfence.AuthDigestMD5: sip.DigestMD5}[a]
				p.secrets[id+" "+string(a)] = sip.HA1(sum, id, domain, password)
			}
		}
		add("alice-old", "alice", ringfence.AuthDigestSHA256)
		if md5 {
			add("bob-older", "bob", ringfence.AuthDigestSHA256, ringfence.AuthDigestMD5)
		}
	}
}

func answer(c sip.Challenge, username, pass string, nc uint32) string {
	return "Authorization: " + c.Authorize(sip.Answer{Username: username, Password: pass, Method: "REGISTER", URI: "sip:" + domain, CNonce: "0123456789abcdef", NC: nc})
}

// challenged registers without credentials and returns the challenge of an algorithm.
func (h *handset) challenged(alg sip.DigestAlgorithm) sip.Challenge {
	h.Helper()
	m := h.want(401, h.contact("x", ""))
	for v := range m.All(sip.HeaderWWWAuthenticate) {
		if c, err := sip.ParseChallenge(v); err == nil && c.Algorithm == alg {
			return c
		}
	}
	h.Fatalf("no challenge with %s", alg)
	return sip.Challenge{}
}

func TestDigestOverTLS(t *testing.T) {
	inOffice(t, withDigest(false), func(o *office) {
		h := o.dial("", "alice")
		c := h.challenged(sip.DigestSHA256)
		h.want(401, h.contact("x", ""), answer(c, "alice-old", "wrong", 1))
		h.want(200, h.contact("x", ""), answer(c, "alice-old", password, 1))
		h.want(200, h.contact("x", "")) // the connection speaks for the device now
		if at := o.reg.Locate("alice"); len(at) != 1 || at[0].Proof.Auth != ringfence.AuthDigestSHA256 || at[0].Proof.Verdict != ringfence.Sealed {
			t.Errorf("%+v", at)
		}
		// MD5 counts only where the profile allows it, even if the device has such a secret.
		weak := o.dial("", "alice")
		c = weak.challenged(sip.DigestSHA256)
		c.Algorithm = sip.DigestMD5
		weak.want(401, weak.contact("y", ""), answer(c, "alice-old", password, 1))
	})
}

// Nonces: made here, fresh, and each count once.
func TestNonces(t *testing.T) {
	inOffice(t, withDigest(false), func(o *office) {
		stale := func(m *sip.Message) bool {
			return strings.Contains(string(m.Get(sip.HeaderWWWAuthenticate)), "stale=true")
		}
		h := o.dial("", "alice")
		c := h.challenged(sip.DigestSHA256)
		forged := c
		forged.Nonce = strings.ToUpper(c.Nonce)
		if m := h.want(401, h.contact("x", ""), answer(forged, "alice-old", password, 1)); stale(m) {
			t.Error("a forged nonce is called stale")
		}
		h.want(200, h.contact("x", ""), answer(c, "alice-old", password, 1))
		thief := o.dial("", "alice") // another connection replays what it saw
		thief.id = "thief"
		thief.want(401, thief.contact("evil", ""), answer(c, "alice-old", password, 1))
		thief.want(200, thief.contact("x", ""), answer(c, "alice-old", password, 2)) // who has the password may count on
		late := o.dial("", "alice")
		late.id = "late"
		c = late.challenged(sip.DigestSHA256)
		<-time.After(6 * time.Minute)
		late = o.dial("", "alice")
		late.id = "later"
		if m := late.want(401, late.contact("x", ""), answer(c, "alice-old", password, 1)); !stale(m) {
			t.Errorf("an old nonce: %s", m.Get(sip.HeaderWWWAuthenticate))
		}
		if o.bound("alice") == nil {
			t.Error("nothing is bound")
		}
	})
}

// Nobody learns from an answer whether a user exists: not by its status, its fields or its length.
func TestEqualAnswers(t *testing.T) {
	inOffice(t, withDigest(true), func(o *office) {
		type seen struct{ first, second, length1, length2 int }
		answers := map[seen]string{}
		for _, who := range [][2]string{{"alice", "alice-old"}, {"alice", "alice-xxx"}, {"bobby", "bob-older"}, {"carol", "carol-old"}} {
			h := o.dial("", who[0])
			h.id = "call-" + who[0]
			m := h.want(401, h.contact("x", ""))
			c, ok := m.StrongestChallenge(sip.HeaderWWWAuthenticate, sip.DigestSHA256)
			if !ok {
				t.Fatal("no challenge")
			}
			again := h.register(h.contact("x", ""), answer(c, who[1], "wrong", 1))
			size := func(m *sip.Message) int {
				return len(m.Bytes()) - len(m.Get(sip.HeaderVia)) - len(m.Get(sip.HeaderCallID)) - len(m.Get(sip.HeaderTo)) - len(m.Get(sip.HeaderFrom))
			}
			s := seen{m.Status(), again.Status(), size(m), size(again)}
			answers[s] += " " + who[1]
		}
		if len(answers) != 1 {
			t.Errorf("answers differ: %v", answers)
		}
	})
}

func TestMD5IsOfferedOnlyWhereSomebodyNeedsIt(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		inOffice(t, withDigest(allowed), func(o *office) {
			h := o.dial("", "bob")
			m := h.want(401, h.contact("x", ""))
			var algs []string
			for v := range m.All(sip.HeaderWWWAuthenticate) {
				c, err := sip.ParseChallenge(v)
				if err != nil {
					t.Fatal(err)
				}
				algs = append(algs, c.Algorithm.String())
			}
			if !allowed {
				if !same(algs, "SHA-256") {
					t.Errorf("challenges %v", algs)
				}
				return
			}
			if !same(algs, "SHA-256", "MD5") {
				t.Errorf("challenges %v", algs)
			}
			c := h.challenged(sip.DigestMD5)
			h.want(200, h.contact("x", ""), answer(c, "bob-older", password, 1))
			if at := o.reg.Locate("bob"); len(at) != 1 || at[0].Proof.Auth != ringfence.AuthDigestMD5 {
				t.Errorf("%+v", at)
			}
		})
	}
}
