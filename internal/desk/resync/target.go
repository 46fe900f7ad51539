package resync

import (
	"context"
	"net/url"
	"strings"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/profilerule"
)

// Target works out where the rule of a parameter leads, with what its macros stand for now. ok is false if no alternative of it applies.
func (p *Phone) Target(set *flatprofile.Set, parameter string) (t profilerule.Target, ok bool, err error) {
	rule, err := profilerule.Parse(set.Text(parameter))
	if err != nil {
		return t, false, err
	}
	c := p.at(set)
	t, ok, err = rule.Choose(c.value, c.secret)
	if err == nil && ok && len(t.Unknown) > 0 {
		err = bad("the rule %s has a macro that nobody knows: $%s", parameter, t.Unknown[0])
	}
	return t, ok, err
}

// Log tells the syslog server of a file that is asked for (Log_Request_Msg), came (Log_Success_Msg) or did not (Log_Failure_Msg).
func (p *Phone) Log(set *flatprofile.Set, parameter string, at *url.URL, failed error) {
	c := p.at(set)
	c.at = at
	priority := priorityNotice
	if failed != nil {
		c.err, priority = strings.TrimPrefix(failed.Error(), "resync: "), priorityError
	}
	p.log(parameter, priority, c)
}

// Expand puts what they stand for now in the place of macros. Those of secrets stay as they stand.
func (p *Phone) Expand(set *flatprofile.Set, text string) string {
	out, _ := profilerule.Expand(text, p.at(set).value)
	return out
}

// Profile fetches one profile that somebody else than a rule named, as a rule's is fetched: by HTTPS, from a server that proves its name, within Restricted_Access_Domains. User and password may be empty.
func (p *Phone) Profile(ctx context.Context, set *flatprofile.Set, address, user, password string) (*flatprofile.File, error) {
	c := p.at(set)
	a, err := p.fetch(ctx, profilerule.Target{URL: address, UID: user, PWD: password}, c, func() {})
	if err != nil {
		return nil, err
	}
	b, _, err := Decode(a.body, a.codings, "", set.Text("IKM_HTTP_Encrypt_Content"))
	if err != nil {
		return nil, err
	}
	f, err := flatprofile.Parse(b)
	if err == nil && f.Root != flatprofile.Root {
		err = bad("the file is no profile: the element around all others is %.40q", f.Root)
	}
	return f, err
}
