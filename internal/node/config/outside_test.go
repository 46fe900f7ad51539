package config

import (
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]Endpoint{
		"tls://logs.example:6514":  {"tls", "logs.example", 6514},
		"tls://[2001:db8::1]:6514": {"tls", "2001:db8::1", 6514},
		"unix:///dev/log":          {"unix", "/dev/log", 0},
		"https://c.example:4318/x": {"https", "c.example", 4318},
	} {
		if e, err := ParseEndpoint(text, "tls", "unix", "https"); err != nil || e != want {
			t.Errorf("%s: %+v %v", text, e, err)
		}
	}
	for _, text := range []string{"", "logs.example:6514", "tcp://logs.example:6514", "tls://logs.example", "tls://logs.example:0", "tls://:6514", "tls://u:p@logs.example:6514",
		"tls://logs.example:6514/x", "tls://logs.example:6514?x", "tls://logs.example:70000", "unix://dev/log", "tls://[:1", "http://c.example:4318"} {
		if e, err := ParseEndpoint(text, "tls", "unix", "https"); err == nil {
			t.Errorf("%q was taken as %+v", text, e)
		}
	}
}

func TestOutsideIsDeclared(t *testing.T) {
	c := Default()
	before := len(c.Flows())
	c.Log.Syslog, c.Observe.HEP, c.Observe.Traces, c.Bus.URL = "tls://logs.example:6514", "udp://192.0.2.1:9060", "https://192.0.2.2:4318", "tls://192.0.2.3:4222"
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range c.Flows()[before:] {
		names = append(names, f.Name+" "+f.Transport+" "+f.Ports.String()+" "+string(f.TLS))
	}
	if got, want := strings.Join(names, ", "), "syslog tcp 6514 server, hep udp 9060 none, traces tcp 4318 server, bus tcp 4222 mutual, dns udp 53 none"; got != want {
		t.Errorf("flows %s\nwant  %s", got, want)
	}
	c.Log.Syslog, c.Observe.HEP, c.Observe.Ladder, c.Bus.URL, c.Bus.Credentials = "udp://x:514", "x:9060", -1, "", "/x"
	var keys []string
	for _, w := range c.Check() {
		keys = append(keys, w.Key)
	}
	if got := strings.Join(keys, " "); got != "log.syslog observe.hep observe.ladder bus.credentials" {
		t.Errorf("wrong: %s", got)
	}
}

// TestDatabaseIsDeclared: every port of a database's servers is in the flow table, once, and the name servers are too where one is a name, whoever else
// needs them.
func TestDatabaseIsDeclared(t *testing.T) {
	table := func(change func(*Config)) string {
		c := Default()
		before := map[string]bool{}
		for _, f := range c.Flows() {
			before[f.Name] = true
		}
		change(&c)
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range c.Flows() {
			if !before[f.Name] {
				out = append(out, f.Name+" "+f.Transport+" "+f.Ports.String()+" "+f.Peers)
			}
		}
		return strings.Join(out, "; ")
	}
	for dsn, want := range map[string]string{
		"postgres://u@192.0.2.1/x?sslmode=verify-full":                                      "postgres tcp 5432 the database: 192.0.2.1",
		"postgres://u@[2001:db8::1]:5433/x?sslmode=verify-full":                             "postgres tcp 5433 the database: 2001:db8::1",
		"postgres://u@192.0.2.1:5433,192.0.2.2:5434,192.0.2.3:5433/x?sslmode=verify-full":   "postgres tcp 5433 the database: 192.0.2.1, 192.0.2.3; postgres-5434 tcp 5434 the database: 192.0.2.2",
		"postgres://u@/x?host=192.0.2.1,db2.example&port=5433&sslmode=verify-full":          "postgres tcp 5433 the database: 192.0.2.1, db2.example; dns udp 53 this host's name servers",
		"postgres://u@/x?host=/run/postgresql,192.0.2.1&port=5440,5441&sslmode=verify-full": "postgres tcp 5441 the database: 192.0.2.1",
		"postgres:///x?host=/run/postgresql":                                                "",
		"sqlite:/var/lib/x.db":                                                              "",
	} {
		if got := table(func(c *Config) { c.Store.DSN = dsn }); got != want {
			t.Errorf("%s\n declares %s\n want     %s", dsn, got, want)
		}
	}
	provided := table(func(c *Config) { // it needs no name servers, and the database still does
		c.Store.DSN = "postgres://u@db.example/x?sslmode=verify-full"
		c.OAuth.Provider = OpenID{Issuer: "https://192.0.2.9/realms/staff", ClientID: "ringfence"}
	})
	if !strings.Contains(provided, "dns udp 53 ") {
		t.Errorf("a database by name and a provider by address declare %s", provided)
	}
	proxies := table(func(c *Config) {
		c.SIP.Proxies = []string{"edge.example"}
		c.Store.DSN = "postgres://u@db.example/x?sslmode=verify-full"
		c.Log.Syslog = "tls://logs.example:6514"
	})
	if strings.Count(proxies, "dns udp 53 ") != 1 || !strings.Contains(proxies, "postgres tcp 5432") {
		t.Errorf("with edge proxies: %s", proxies)
	}
	for dsn, why := range map[string]string{
		"mysql://x": "must begin with", "postgres://u@192.0.2.1/x": "would not be verified TLS", "sqlite:x.db": "absolute path",
		"postgres://u:hush@192.0.2.1/x?sslmode=verify-full&sslrootcert=/nowhere.pem": "names \"/nowhere.pem\"",
		"postgres://u:hush@192.0.2.1/x?sslmode=verify-full&sslrootcert=/dev/zero":    "names \"/dev/zero\"",
	} {
		c := Default()
		c.Store.DSN = dsn
		wrong := c.Check()
		if len(wrong) != 1 || wrong[0].Key != "store.dsn" || !strings.Contains(wrong[0].Text, why) || strings.Contains(wrong[0].Text, "hush") {
			t.Errorf("%s: %v, want %s", dsn, wrong, why)
		}
	}
}

// TestReachedAt: where other nodes reach this one is an address that others can use, and goes with a database that others have.
func TestReachedAt(t *testing.T) {
	for text, want := range map[string]string{
		"sip: {reached-at: \"192.0.2.11:5061\"}\nstore: {dsn: \"postgres:///x?host=/run/postgresql\"}\n": "",
		"sip: {reached-at: \"192.0.2.11:5061\"}\n":                                                       "goes with store.dsn",
		"sip: {reached-at: \"[::]:5061\"}\nstore: {dsn: \"postgres:///x?host=/run/postgresql\"}\n":       "an address of this host",
		"sip: {reached-at: \"192.0.2.11:0\"}\nstore: {dsn: \"postgres:///x?host=/run/postgresql\"}\n":    "an address of this host",
		"sip: {reached-at: \"node-2:5061\"}\nstore: {dsn: \"postgres:///x?host=/run/postgresql\"}\n":     "x.yaml:1:19: sip.reached-at: \"node-2:5061\"",
	} {
		c, err := Parse([]byte(text), "x.yaml")
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		flows := c.Flows()
		if f := flows[len(flows)-1]; f.Name != "sip-node" || f.Transport != "tcp" || f.Direction != "dial" || f.TLS != "mutual" {
			t.Errorf("flow %+v", f)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add("tls://logs.example:6514")
	f.Add("unix:///dev/log")
	f.Add("tls://[::1%25x]:1")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEndpoint(text, "tls", "unix")
		if err == nil && (e.Host == "" || e.Scheme == "tls" && e.Port == 0) {
			t.Fatalf("%q became %+v", text, e)
		}
	})
}
