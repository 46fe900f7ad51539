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
