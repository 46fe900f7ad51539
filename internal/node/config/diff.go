package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"ringfence"
)

// Change is one setting that differs between two configurations.
type Change struct {
	Key      string // e.g. "dialplan.emergency"
	From, To string // as YAML on one line
	Restart  bool   // whether it takes a restart to come into force
}

// FlowChange is one flow that differs; From or To is empty if it was not or will not be there.
type FlowChange struct{ Flow, From, To string }

// Diff returns what differs from old to new, by key.
func Diff(old, new Config) ([]Change, error) {
	a, err := flat(old)
	if err != nil {
		return nil, err
	}
	b, err := flat(new)
	if err != nil {
		return nil, err
	}
	for key := range b { // what is empty is left out of a file
		if _, ok := a[key]; !ok {
			a[key] = ""
		}
	}
	var out []Change
	for key, was := range a {
		if is := b[key]; was != is {
			out = append(out, Change{Key: key, From: was, To: is, Restart: !Live(key)})
		}
	}
	slices.SortFunc(out, func(x, y Change) int { return strings.Compare(x.Key, y.Key) })
	return out, nil
}

// Live reports whether a setting comes into force without a restart.
func Live(key string) bool {
	if strings.HasPrefix(key, "oauth.provider") { // its flow is declared at the start
		return false
	}
	return strings.HasPrefix(key, "dialplan.") || strings.HasPrefix(key, "calls.") || strings.HasPrefix(key, "oauth.") || key == "tls" || strings.HasPrefix(key, "tls.") || key == "log.level"
}

// Merge returns the configuration to run with when new was applied to a node that runs old: the live settings are new, those
// that take a restart are old.
func Merge(old, new Config) Config {
	c := old
	c.Plan, c.Calls, c.OAuth.Clients, c.TLS, c.Log.Level = new.Plan, new.Calls, new.OAuth.Clients, new.TLS, new.Log.Level
	return c
}

// flat lists every setting with its value. A list is one setting, so that its order is compared too.
func flat(c Config) (map[string]string, error) {
	b, err := Export(c)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		return nil, &ringfence.Fault{Op: "config.diff", Kind: ringfence.KindInternal, Text: "the configuration cannot be compared", Err: err}
	}
	out := map[string]string{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		if m, ok := v.(map[string]any); ok {
			for k, v := range m {
				walk(strings.TrimPrefix(prefix+"."+k, "."), v)
			}
			return
		}
		line, err := yaml.MarshalWithOptions(v, yaml.Flow(true))
		if err != nil {
			line = fmt.Append(nil, v)
		}
		out[prefix] = strings.TrimSpace(string(line))
	}
	walk("", tree)
	if out["store.dsn"] != `""` { // it may hold a password
		out["store.dsn"] = hidden(c.Store.DSN)
	}
	return out, nil
}

// hidden shows that a database address changed without showing its password.
func hidden(dsn string) string {
	dsn = regexp.MustCompile(`(?i)([?&][a-z_]*password)=[^&]*`).ReplaceAllString(dsn, "$1=***")
	scheme, rest, ok := strings.Cut(dsn, "://")
	if at := strings.LastIndex(rest, "@"); ok && at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		return scheme + "://" + user + ":***" + rest[at:]
	}
	return dsn
}

// DiffFlows returns what differs between two flow tables, by name.
func DiffFlows(old, new []ringfence.Flow) (out []FlowChange) {
	say := func(flows []ringfence.Flow, name string) string {
		i := slices.IndexFunc(flows, func(f ringfence.Flow) bool { return f.Name == name })
		if i < 0 {
			return ""
		}
		f := flows[i]
		where := f.Path
		if f.Addr.IsValid() {
			where = f.Addr.String()
		}
		return fmt.Sprintf("%s %s %s %s dscp %d tls %s", f.Direction, f.Transport, where, f.Ports, f.DSCP, f.TLS)
	}
	for _, f := range append(slices.Clone(old), new...) {
		was, is := say(old, f.Name), say(new, f.Name)
		if was != is && !slices.ContainsFunc(out, func(c FlowChange) bool { return c.Flow == f.Name }) {
			out = append(out, FlowChange{f.Name, was, is})
		}
	}
	return out
}
