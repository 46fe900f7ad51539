package signin

import (
	"encoding/json"
	"math"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"

	"ringfence"
)

const (
	maxToken  = 4096 // bytes
	lifeOfOne = 5 * time.Minute
	mostLife  = 30 * 24 * time.Hour
)

// Tokens is what the token endpoint gave.
type Tokens struct {
	Access  string
	Refresh string // empty: the server gave none
	Issued  time.Time
	Expires time.Time // of the access token
	SIP     SIP       // zero: the server does not say
}

// SIP is where the signed-in device registers, and as whom.
type SIP struct {
	User   ringfence.UserID `json:"user"`
	Domain string           `json:"domain"` // of the user's address-of-record
	Host   string           `json:"host"`   // whose name the server proves
	Port   uint16           `json:"port"`
}

func (s SIP) valid() bool {
	return isHost(s.Domain) && isHost(s.Host) && s.Port != 0 && s.User != "" && len(s.User) <= 64 && !strings.ContainsFunc(string(s.User), func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"@;:/?`, r) })
}

// isHost reports whether s is a host name or an address, with nothing around it.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return s != "" && len(s) <= 253 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

// parseServer reads metadata. The endpoints have to be where the issuer is: what this program holds is for that server and for no other.
func parseServer(b []byte) (Server, error) {
	var m struct {
		Issuer string `json:"issuer"`
		Token  string `json:"token_endpoint"`
		Device string `json:"device_authorization_endpoint"`
		Revoke string `json:"revocation_endpoint"`
	}
	bad := func(text string) (Server, error) {
		return Server{}, fault(ringfence.KindInvalid, text, "is this the address of a Ringfence node?", nil)
	}
	if json.Unmarshal(b, &m) != nil {
		return bad("the description of the authorization server cannot be read")
	}
	u, err := url.Parse(m.Issuer)
	if err != nil || u.Scheme != "https" || !isHost(u.Hostname()) || u.String() != u.Scheme+"://"+u.Host || m.Issuer != u.String() {
		return bad("the authorization server gives no address of its own that could be used")
	}
	for name, at := range map[string]string{"token endpoint": m.Token, "device authorization endpoint": m.Device, "revocation endpoint": m.Revoke} {
		e, err := url.Parse(at)
		switch {
		case at == "" && name == "revocation endpoint":
		case at == "":
			return bad("the authorization server has no " + name)
		case err != nil || e.Scheme != u.Scheme || e.Host != u.Host || e.User != nil || e.Fragment != "" || len(at) > 512:
			return bad("the " + name + " of the authorization server is elsewhere")
		}
	}
	return Server{Issuer: m.Issuer, Token: m.Token, Device: m.Device, Revoke: m.Revoke}, nil
}

func parsePairing(b []byte, now time.Time) (Pairing, error) {
	var m struct {
		Device   string  `json:"device_code"`
		User     string  `json:"user_code"`
		URI      string  `json:"verification_uri"`
		Complete string  `json:"verification_uri_complete"`
		Expires  float64 `json:"expires_in"`
		Interval float64 `json:"interval"`
	}
	if json.Unmarshal(b, &m) != nil || !isSecret(m.Device) || !isShown(m.User, 64) || !isShown(m.URI, 512) || m.Complete != "" && !isShown(m.Complete, 512) || !strings.HasPrefix(m.URI, "https://") {
		return Pairing{}, fault(ringfence.KindInvalid, "the answer with the device code cannot be used", "", nil)
	}
	p := Pairing{UserCode: m.User, URI: m.URI, Complete: m.Complete, code: m.Device, every: pollEvery, Expires: now.Add(seconds(m.Expires, time.Hour))}
	if m.Interval > 0 {
		p.every = min(max(seconds(m.Interval, pollMost), time.Second), pollMost)
	}
	return p, nil
}

func parseTokens(b []byte, now time.Time) (Tokens, error) {
	var m struct {
		Access  string   `json:"access_token"`
		Type    string   `json:"token_type"`
		Expires *float64 `json:"expires_in"`
		Refresh string   `json:"refresh_token"`
		SIP     SIP      `json:"sip"`
	}
	if json.Unmarshal(b, &m) != nil || !isToken(m.Access) || !strings.EqualFold(m.Type, "Bearer") || m.Refresh != "" && !isSecret(m.Refresh) || m.SIP != (SIP{}) && !m.SIP.valid() {
		return Tokens{}, fault(ringfence.KindInvalid, "the answer with the tokens cannot be used", "", nil)
	}
	life := lifeOfOne
	if m.Expires != nil {
		life = seconds(*m.Expires, mostLife)
	}
	return Tokens{Access: m.Access, Refresh: m.Refresh, Issued: now, Expires: now.Add(life), SIP: m.SIP}, nil
}

// parseRefusal returns nil if b is no error of OAuth.
func parseRefusal(b []byte) *refusal {
	var m struct {
		Code string `json:"error"`
		Text string `json:"error_description"`
	}
	if json.Unmarshal(b, &m) != nil || !isShown(m.Code, 64) {
		return nil
	}
	return &refusal{code: m.Code, text: clip(m.Text)}
}

// seconds reads a number of seconds, between none and most.
func seconds(n float64, most time.Duration) time.Duration {
	if math.IsNaN(n) || n <= 0 {
		return 0
	}
	return time.Duration(min(n, most.Seconds())) * time.Second
}

// isToken reports whether s can be in an Authorization field (token68, RFC 9110 section 11.2).
func isToken(s string) bool {
	body := strings.TrimRight(s, "=")
	return body != "" && len(s) <= maxToken && strings.Trim(body, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/") == ""
}

// isSecret reports whether s can be a refresh token or a code: visible ASCII (RFC 6749 appendix A).
func isSecret(s string) bool { return isShown(s, maxToken) }

func isShown(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// clip bounds words that came from outside and drops what could disturb a terminal.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
