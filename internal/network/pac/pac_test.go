package pac

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/names"
	"ringfence/internal/testkit"
)

// noon is a Wednesday.
func world() World {
	return World{Own: []netip.Addr{netip.MustParseAddr("10.1.2.3")}, Now: time.Date(2026, 11, 25, 12, 30, 15, 0, time.UTC)}
}

func find(t testing.TB, src, url, host string) (Answer, error) {
	t.Helper()
	s, err := Parse([]byte(src))
	if err != nil {
		return Answer{}, err
	}
	return s.Find(t.Context(), world(), url, host)
}

// judge has the library that such files are tested with find the way for each address.
func judge(t testing.TB, src string, urls []string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.pac")
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(urls)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/python3", "python3"), "-c", `import sys, json, pacparser
pacparser.init()
pacparser.setmyip("10.1.2.3")
pacparser.parse_pac_file(sys.argv[1])
print(json.dumps({u: pacparser.find_proxy(u, u.split("/")[2]) for u in json.load(sys.stdin)}))`, path)
	cmd.Stdin = strings.NewReader(string(in))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, string(out), complaint.String())
	}
	got := map[string]string{}
	if err := json.Unmarshal(out[strings.LastIndexByte(strings.TrimSpace(string(out)), '\n')+1:], &got); err != nil {
		t.Fatal(err, string(out))
	}
	return got
}

// TestAsLibpacparser (V09) gives the same answers as libpacparser: for each required domain by the files that we render, and for files with all that the language has.
func TestAsLibpacparser(t *testing.T) {
	files := map[string]string{}
	for _, f := range []string{"office", "language"} {
		b, err := os.ReadFile("testdata/" + f + ".pac")
		if err != nil {
			t.Fatal(err)
		}
		files[f] = string(b)
	}
	urls := []string{"http://intranet/", "http://10.9.8.7/x", "http://192.168.3.4/", "http://172.31.0.1/", "http://172.32.0.1/", "http://8.8.8.8/", "http://video.example.com/", "https://api.example.com/v1", "http://a.lab.example/", "http://lab.example/",
		"http://www.example.org/", "http://ftp.example.org/", "https://www.example.net/", "ftp://ftp.example.net/", "http://a.b.c.example.net/", "http://a.b.example.net/", "http://example.net/", "http://WWW.Corp.Example/", "http://one.two/"}
	for _, name := range catalogue.Names() {
		s, err := catalogue.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := names.Render(s, "pac", names.Options{Proxy: "proxy.example.com:3128", Otherwise: "other.example.com:8080"})
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
		for _, d := range s.Domains {
			host := strings.TrimPrefix(d.Pattern, "*.")
			urls = append(urls, "https://"+host+"/", "https://a.b."+host+"/", "https://x"+host+"/", "https://"+host+".evil.example/")
		}
	}
	compared := 0
	for name, src := range files {
		s, err := Parse([]byte(src))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for u, want := range judge(t, src, urls) {
			got, err := s.Find(t.Context(), world(), u, strings.Split(u, "/")[2])
			if err != nil || got.Text != want {
				t.Errorf("%s: %s: %q, %v; libpacparser says %q", name, u, got.Text, err, want)
			}
			compared++
		}
	}
	if compared < 300 {
		t.Errorf("only %d answers were compared", compared)
	}
}

// TestExpressions gives the same as libpacparser to expressions one by one.
func TestExpressions(t *testing.T) {
	all := []string{
		`shExpMatch("a.example.com", "*.example.com")`, `shExpMatch("a.example.com", "(*.org|*.com)")`, `shExpMatch("http://x/y?z", "*?z")`, `shExpMatch("abc", "a?c")`, `shExpMatch("ab", "[a-c]b")`,
		`isInNet("10.1.2.3", "10.1.0.0", "255.255.0.0")`, `isInNet("10.1.2.3", "10.1.0.0", "255.255.255.0")`, `dnsDomainLevels("a.b.c")`, `localHostOrDomainIs("www", "www.example.com")`, `localHostOrDomainIs("www.a.com", "www.example.com")`,
		`dnsDomainIs("www.example.com", ".example.com")`, `dnsDomainIs("wwwexample.com", "example.com")`, `myIpAddress()`, `isPlainHostName("a.b")`, `dnsResolve("10.1.2.3")`, `weekdayRange("SUN", "SAT")`, `timeRange(0, 23)`, `timeRange(0, 0, 0, 23, 59, 59)`,
		`dateRange(1, 31)`, `dateRange("JAN", "DEC")`, `dateRange(1990, 2090)`, `dateRange(1, "JAN", 2000, 31, "DEC", 2089)`, `[1,[2,3]].toString()`, `"a-b-c".split("-", 2).length`, `"a1b2".replace(/\d/g, function (d) { return d * 2 })`, `String([]) + String({})`,
		`"abc".split("").reverse().join("")`, `var a = []; a[3] = 1 ;; a.length`, `(function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2) })(12)`, `"\u00e4".length`, `1 < 2 == true`, `"10" < "9"`, `10 < "9"`, `null + 1`, `undefined + 1`, `[] + []`, `"b" > "a"`,
		`typeof typeof 1`, `!"" + !0`, `+[] + +"x"`, `var s = ""; for (var k in { b: 1, a: 2 }) s += k ;; s`, `parseInt("12", 3)`, `parseInt("")`, `(12.5).toString()`, `1e-7`, `-0`, `0.000001`, `1e20`, `"x".concat(1, null, true)`, `"a,b,,c".split(",").length`,
		`new Array(3).length`, `new Array(1, 2).join()`, `"aXbX".lastIndexOf("X")`, `"abc".charAt(9) === ""`, `"abc"[1]`, `"".split(",").length`, `isNaN("x")`, `/a/i.test("A")`, `"x.y".replace(".", "-")`, `"a" in { a: undefined }`, `2 * 3 + 4 % 3 - 10 / 4`, `1 + + 1`, `a = b = 3, a + b`,
		`var x = 1; { var x = 2 } ;; x`, `(function () { return arguments.length })(1, 2, 3)`, `"abcabc".indexOf("c", 3)`, `"abc".substring(-1, 2)`, `"abc".slice(1)`, `0 || "x" && "y"`, `var o = { f: function () { return this.v }, v: 7 } ;; o.f()`,
	}
	src := "function encode(v) { var s = String(v), out = ''; for (var i = 0; i < s.length; i++) out += 'c' + s.charCodeAt(i); return out + typeof v }\nvar all = [];\n"
	var urls []string
	for i, e := range all {
		before, value, ok := strings.Cut(e, ";; ")
		if !ok {
			before, value = "", e
		}
		src += "all.push(function () { " + before + ";\n return encode((" + value + ")) });\n"
		urls = append(urls, "http://h"+strconv.Itoa(i)+"/")
	}
	src += "function FindProxyForURL(url, host) { return 'PROXY v' + all[host.substring(1)]() + ':1' }\n"
	want := judge(t, src, urls)
	for i, u := range urls {
		if got, err := find(t, src, u, "h"+strconv.Itoa(i)); err != nil || got.Text != want[u] {
			t.Errorf("%s: %q, %v; libpacparser says %q", all[i], got.Text, err, want[u])
		}
	}
}

const f = "function FindProxyForURL(url, host) "

// TestTraps stops what does not end, in bounded time and memory.
func TestTraps(t *testing.T) {
	for name, src := range map[string]string{
		"loop":            f + "{ while (true) ; }",
		"loop in try":     f + "{ for (;;) { try { for (;;) ; } catch (e) { } finally { continue } } }",
		"loop at load":    "for (;;) ; " + f + "{ }",
		"doubling":        f + "{ var s = 'x'; while (true) s += s; }",
		"joining":         f + "{ var a = []; for (;;) { a.push('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'); a = a.concat(a); } }",
		"length":          f + "{ var a = []; a.length = 16000000; }",
		"place":           f + "{ var a = []; a[999999999] = 1; }",
		"recursion":       "function g() { return g() } " + f + "{ return g() }",
		"toString":        "var o = { toString: function () { return '' + o } }; " + f + "{ return '' + o }",
		"in itself":       f + "{ var a = []; a[0] = a; return '' + a }",
		"expression":      f + "{ var s = 'a'; for (var i = 0; i < 18; i++) s += s; for (;;) /(((a{30}){30})x?)+$/.test(s); }",
		"replacing":       f + "{ var s = 'aaaaaaaaaa'; for (;;) s = s.replace(/a/g, 'aaaaaaaaaa'); }",
		"names":           f + "{ for (var i = 0; ; i++) dnsResolve('n' + i + '.example'); }",
		"properties":      f + "{ var o = {}; for (var i = 0; ; i++) o['k' + i] = i; }",
		"sorting":         f + "{ var a = []; for (var i = 0; i < 9000; i++) a.push(i); a.sort(function () { for (;;) ; }) }",
		"growing in each": f + "{ var a = [1]; a.forEach(function () { a.push(1) }) }",
		"splitting":       f + "{ var s = 'a'; for (var i = 0; i < 20; i++) s += s; for (;;) s.split(''); }",
		"dates":           f + "{ for (;;) new Date(); }",
	} {
		w := world()
		asked := 0
		w.Resolve = func(context.Context, string) ([]netip.Addr, error) { asked++; return nil, nil }
		s, err := Parse([]byte(src))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		began := time.Now()
		_, err = s.Find(t.Context(), w, "http://h/", "h")
		if took := time.Since(began); ringfence.KindOf(err) != ringfence.KindOverload || took > 20*time.Second || asked > maxNames {
			t.Errorf("%s: %v after %v", name, err, took)
		} else {
			t.Logf("%s: %v", name, took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := Parse([]byte(f + "{ while (true) ; }"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := s.Find(ctx, world(), "http://h/", "h"); err == nil || a.Steps > 10_000 {
		t.Errorf("%v after %d steps", err, a.Steps)
	}
}

// TestBroken names what is wrong, with its line.
func TestBroken(t *testing.T) {
	for src, says := range map[string]string{
		"<html><body>Not Found</body></html>":      "line 1",
		"function f() {\n\n return 1":              "line 3",
		f + "{ return 'x }":                        "line 1: a text has no end",
		f + "{\n return undefinedName }":           "line 2: the program fails: undefinedName is not defined",
		f + "{\n\n throw 'no' }":                   "line 3: the program fails: no",
		f + "{ return null.x }":                    "has no property",
		f + "{ return host() }":                    "host is not a function",
		f + "{ return 'PROXY' }":                   "is no way to go",
		f + "{ return 'PROXY a b:1' }":             "is no way to go",
		f + "{ return 'PROXY a:0' }":               "is no proxy",
		f + "{ return 'TELNET a:1' }":              "is no way to go",
		f + "{ return 5 }":                         "is no way to go",
		"function Find() { }":                      "no function FindProxyForURL",
		"var FindProxyForURL = 1":                  "no function FindProxyForURL",
		f + "{ return /(?=a)/.test(host) }":        "look-ahead",
		f + "{ x: for (;;) break x }":              "labels are not understood",
		f + "{ return (a => a)(1) }":               "arrow functions are not understood",
		"class A { }":                              "not understood in such files",
		"break":                                    "outside of a loop",
		"return 1":                                 "return stands outside",
		"1 = 2":                                    "nothing can be assigned",
		"/* ":                                      "a comment has no end",
		"a = /x":                                   "a regular expression has no end",
		"a = 08x":                                  "is no number",
		"a = '\\u12xy'":                            "is no character",
		"#":                                        "is not understood",
		strings.Repeat("(", 1000):                  "nested too deeply",
		strings.Repeat("{", 1000):                  "nested too deeply",
		strings.Repeat("!", 1000) + "1":            "nested too deeply",
		strings.Repeat("a=function(){", 500):       "nested too deeply",
		"a=" + strings.Repeat("1+", 150_000) + "1": "too large",
		strings.Repeat(" ", maxFile+1):             "too long",
		"switch (1) { default: default: }":         "two defaults",
		"try { }":                                  "neither catch nor finally",
	} {
		_, err := find(t, src, "http://h/", "h")
		if ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %v; want %q", src, err, says)
		}
	}
}

// TestWorld lets a file see what it is given and nothing else.
func TestWorld(t *testing.T) {
	w := world()
	w.Own = append(w.Own, netip.MustParseAddr("2001:db8::7"))
	w.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
		return map[string][]netip.Addr{"in.example": {netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.5.5.5")}, "six.example": {netip.MustParseAddr("2001:db8::1")}}[host], nil
	}
	for e, want := range map[string]string{
		`isInNet("in.example", "10.5.0.0", "255.255.0.0")`: "true", `isInNet("out.example", "0.0.0.0", "0.0.0.0")`: "false", `dnsResolve("in.example")`: "10.5.5.5", `dnsResolve("out.example")`: "null", `isResolvable("six.example")`: "false",
		`isResolvableEx("six.example")`: "true", `dnsResolveEx("in.example")`: "2001:db8::1;10.5.5.5", `myIpAddress()`: "10.1.2.3", `myIpAddressEx()`: "10.1.2.3;2001:db8::7", `isInNetEx("2001:db8::9", "2001:db8::/32")`: "true",
		`sortIpAddressList("10.1.1.1;2001:db8::1")`: "2001:db8::1;10.1.1.1",
		`weekdayRange("WED")`:                       "true", `weekdayRange("THU", "TUE")`: "false", `weekdayRange("FRI", "WED", "GMT")`: "true", `weekdayRange("NO")`: "false", `timeRange(12)`: "true", `timeRange(22, 6)`: "false", `timeRange(9, 17)`: "true", `timeRange(12, 30, 12, 30)`: "true",
		`timeRange(12, 31, 13, 0)`: "false", `timeRange(12, 30, 15, 12, 30, 15, "GMT")`: "true", `dateRange(25)`: "true", `dateRange("DEC")`: "false", `dateRange(2026)`: "true", `dateRange(24, 26)`: "true", `dateRange("OCT", "DEC")`: "true", `dateRange("DEC", "FEB")`: "false",
		`dateRange(1, "NOV", 24, "NOV")`: "false", `dateRange("NOV", 2026, "JAN", 2027)`: "true", `dateRange(26, "NOV", 2026, 1, "JAN", 2027)`: "false", `dateRange(1, 2, 3)`: "false",
		`new Date().getDay()`: "3", `new Date().getHours() + ":" + new Date().getMinutes()`: "12:30", `new Date(2020, 1, 3).getMonth()`: "1", `typeof XMLHttpRequest`: "undefined", `Math.random()`: "0.5", `let_()`: "3",
	} {
		s, err := Parse([]byte("function let_() { let a = 1; { let a = 2; const b = a; } for (let i of [1, 2]) a += 1; return a }\n" + f + "{ alert(" + e + "); return '' }"))
		if err != nil {
			t.Fatalf("%s: %v", e, err)
		}
		if a, err := s.Find(t.Context(), w, "http://h/", "h"); err != nil || len(a.Alerts) != 1 || a.Alerts[0] != want || a.Ways[0].Kind != "DIRECT" {
			t.Errorf("%s: %+v %v, want %s", e, a, err, want)
		}
	}
}

func TestWays(t *testing.T) {
	for s, want := range map[string]string{"": "DIRECT", " direct ;": "DIRECT", "PROXY a:8080; HTTP b ;HTTPS c; SOCKS d;SOCKS5 [2001:db8::1]:9;DIRECT": "PROXY a:8080,PROXY b:80,HTTPS c:443,SOCKS d:1080,SOCKS5 [2001:db8::1]:9,DIRECT"} {
		ways, err := ParseWays(s)
		var got []string
		for _, w := range ways {
			got = append(got, w.String())
		}
		if err != nil || strings.Join(got, ",") != want {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"office", "language"} {
		b, err := os.ReadFile("testdata/" + name + ".pac")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("function FindProxyForURL(u, h) { for (let i in {a:1}) try { throw /a[/]/g } catch (e) { return 'PROXY ' + h.replace(e, '$1') } }"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		a, err := s.Find(t.Context(), world(), "http://www.example.com/", "www.example.com")
		if a.Steps > maxSteps*2 || err == nil && len(a.Ways) == 0 {
			t.Errorf("%+v %v", a, err)
		}
	})
}

func FuzzWays(f *testing.F) {
	f.Add("PROXY a:8080; HTTP b ;HTTPS c; SOCKS [::1]:5;DIRECT")
	f.Fuzz(func(t *testing.T, s string) {
		ways, err := ParseWays(s)
		if err != nil {
			return
		}
		for _, w := range ways {
			if strings.ContainsAny(w.Host, " \r\n;/") || (w.Kind == "DIRECT") != (w.Host == "") {
				t.Errorf("%q: %+v", s, w)
			}
		}
	})
}
