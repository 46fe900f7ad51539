package ringfence_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The rules of the house are tests, so that a broken rule fails the build and not a review. Each rule is data at the top
// of its test; who needs another arrow, socket or dependency changes that data, where everybody sees it.

// allowed says which rooms a room may import, besides the root package. A room that is missing here may not exist.
// The order is the order of the floors: formats and state, engines and trust, calls, services, the node, the command.
func allowed() map[string][]string {
	everything := []string{"*"}
	return map[string][]string{
		// Formats and state import nobody.
		"sip":           {},
		"sip/sdp":       {},
		"media/rtp":     {},
		"media/codec":   {},
		"state/store":   {},
		"state/bus":     {},
		"state/durable": {},
		// Engines and trust.
		"sip/locate":   {"sip"},
		"sip/mediasec": {"sip"}, "sip/eventlist": {},
		"sip/transport":    {"sip"},
		"sip/peer":         {"sip", "sip/transport"},
		"sip/transaction":  {"sip", "sip/transport"},
		"sip/dialog":       {"sip", "sip/transport", "sip/transaction"},
		"media/relay":      {"media/rtp"},
		"media/player":     {"media/codec", "media/relay", "media/rtp"},
		"trust/acme":       {"state/store", "trust/quota"},
		"trust/ca":         {"state/store", "trust/ca/internal/keys", "trust/chain", "trust/subject"},
		"trust/capf":       {"trust/quota"},
		"trust/cipherlist": {},
		"trust/enroll":     {"state/store", "trust/quota"},
		"trust/chain":      {},
		"trust/keyring":    {"trust/chain"},
		"trust/oidc":       {},
		"trust/profile":    {},
		"trust/publicname": {},
		"trust/publish":    {"state/store", "trust/trustlist"},
		"trust/est":        {"trust/ca", "trust/pkcs7", "trust/quota"},
		"trust/pkcs7":      {},
		"trust/quota":      {},
		"trust/revocation": {},
		"trust/signedfile": {},
		"trust/signin":     {},
		"trust/trustlist":  {"trust/signedfile"},
		"trust/subject":    {},
		"trust/tlspolicy":  {"trust/cipherlist", "trust/subject"},
		"trust/token":      {"state/store", "trust/quota"},
		"trust/tvs":        {"trust/quota", "trust/signedfile", "trust/trustlist"},
		// The annex with the signing keys; the compiler lets only trust/ca in.
		"trust/ca/internal/keys": {},
		// Calls.
		"call/roster":    {"state/store"},
		"call/trunk":     {"sip", "sip/peer", "sip/transaction", "sip/transport", "trust/profile", "trust/subject"},
		"call/dialplan":  {},
		"call/registrar": {"call/roster", "sip", "sip/transaction", "sip/transport", "state/store"},
		"call/control": {"call/dialplan", "call/registrar", "call/roster", "call/trunk", "trust/profile", "media/codec", "media/player", "media/relay", "media/rtp",
			"sip", "sip/dialog", "sip/sdp", "sip/transaction", "sip/transport", "state/store"},
		"call/watch": {"call/control", "call/registrar", "sip", "sip/transaction", "sip/transport"},
		// Services are built on what a stranger's product could use as well: the phone knows no room of calls or state.
		"service/cti": {"trust/quota"},
		"service/phone": {"media/codec", "media/player", "media/relay", "media/rtp", "sip", "sip/dialog", "sip/mediasec", "sip/sdp",
			"sip/transaction", "sip/transport", "trust/ca", "trust/enroll", "trust/subject"},
		"service/swarm": {"service/phone"},
		// What a desk phone does with its configuration file.
		"desk/flatprofile": {},
		"desk/profilerule": {},
		"desk/dhcp":        {},
		"desk/dot1x":       {},
		"desk/engine":      {}, "desk/sound": {"desk/engine", "media/codec"},
		"desk/upkeep": {"desk/flatprofile", "sip", "trust/signedfile"},
		"desk/cwmp":   {"desk/flatprofile", "desk/lint", "sip"},
		"desk/vpn":    {}, "desk/lsc": {"trust/pkcs7"}, "desk/share": {}, "desk/change": {"desk/flatprofile", "desk/lint"},
		"desk/directory": {"desk/flatprofile"},
		"desk/line":      {"desk/flatprofile", "trust/cipherlist"},
		"desk/resync":    {"desk/flatprofile", "desk/profilerule", "sip", "trust/chain", "trust/signedfile"},
		"desk/webproxy":  {"desk/flatprofile", "network/pac", "network/proxy", "network/wpad"},
		"desk/paging":    {"desk/flatprofile", "media/codec", "media/rtp"}, "desk/linekey": {"desk/flatprofile"}, "desk/feature": {"desk/flatprofile", "desk/linekey", "desk/paging", "media/codec", "service/phone", "sip/eventlist"},
		"desk/page": {"desk/change", "desk/feature", "desk/flatprofile", "trust/quota"},
		"desk/lint": {"desk/flatprofile", "desk/linekey", "desk/paging", "desk/profilerule", "network/phoneports", "trust/cipherlist"},
		// The network plane: what is needed, in one form for all who make something of it.
		"network/need":       {},
		"network/catalogue":  {"network/need"},
		"network/evidence":   {"network/feed", "network/prove", "state/durable"},
		"network/feed":       {"network/need", "network/catalogue"},
		"network/nat":        {},
		"network/phoneports": {"desk/flatprofile", "desk/paging", "network/need"},
		"network/phonewall":  {"network/box", "network/firewall", "network/need", "network/phoneports", "network/prove", "network/site"},
		// Web proxies: a way through one, with a ticket if it wants one. Neither knows what goes through.
		"network/proxy":    {},
		"network/kerberos": {},
		"network/pac":      {},
		"network/wpad":     {},
		"network/posture":  {"trust/cipherlist"},
		"network/marks":    {"network/need", "network/catalogue"},
		"network/names":    {"network/need", "network/catalogue"},
		"network/sheet":    {"network/need", "network/catalogue"},
		"network/box":      {},
		"network/site":     {"network/box", "network/need"},
		// Firewalls: what one says, in one form; who writes and reads it; who compares it with what is needed.
		"network/firewall":       {"network/box", "network/need", "network/site"},
		"network/firewall/nft":   {"network/box", "network/firewall", "network/firewall/entry", "network/need", "network/site"},
		"network/firewall/cloud": {"network/box", "network/firewall", "network/need", "network/site"},
		"network/published":      {"network/need"},
		"network/prove":          {"network/box", "network/firewall", "network/site"},
		"network/audit":          {"network/box", "network/catalogue", "network/firewall", "network/firewall/entry", "network/need", "network/prove", "network/site"},
		// Network devices: what their rules have in common, and each in its own words.
		"network/firewall/entry":     {"network/box", "network/firewall", "network/need", "network/site"},
		"network/firewall/pf":        {"network/box", "network/firewall", "network/firewall/entry", "network/site"},
		"network/firewall/panos":     {"network/box", "network/firewall", "network/firewall/entry", "network/site"},
		"network/firewall/iosacl":    {"network/box", "network/firewall", "network/firewall/entry", "network/site"},
		"network/firewall/asa":       {"network/box", "network/firewall", "network/firewall/entry", "network/site"},
		"network/firewall/iptables":  {"network/box", "network/firewall", "network/site"},
		"network/firewall/firewalld": {"network/box", "network/firewall", "network/firewall/iptables", "network/site"},
		"network/firewall/ufw":       {"network/box", "network/firewall", "network/firewall/iptables", "network/site"},
		"network/target":             {"network/audit", "network/box", "network/firewall", "network/firewall/asa", "network/firewall/cloud", "network/firewall/entry", "network/firewall/firewalld", "network/firewall/iosacl", "network/firewall/iptables", "network/firewall/nft", "network/firewall/panos", "network/firewall/pf", "network/firewall/ufw", "network/need", "network/prove", "network/site"},
		// The readiness probe: what both ends say, how datagrams carry more than bytes, and the two ends.
		"network/ready/wire": {}, "network/ready/datagram": {},
		"network/ready/ntp":       {},
		"network/ready/dns":       {},
		"network/ready/carrier":   {},
		"network/ready/verdict":   {},
		"network/ready/duties":    {"network/ready/verdict"},
		"network/ready/reflector": {"network/need", "network/ready/datagram", "network/ready/wire"},
		"network/ready/probe":     {"network/need", "network/pac", "network/proxy", "network/ready/datagram", "network/ready/dns", "network/ready/ntp", "network/ready/verdict", "network/ready/wire", "network/wpad"},
		// The node knows everybody; nobody below knows the node.
		"node/config": {"call/dialplan", "call/trunk", "media/codec", "service/cti", "sip/locate", "state/durable", "state/store", "trust/profile", "trust/tlspolicy"},
		// The words of the API are for both its ends; the client is what a stranger's program could be.
		"node/admin/api":      {"call/control", "call/dialplan", "network/firewall", "network/need", "network/ready/verdict", "node/observe/ladder", "state/store", "trust/profile", "trust/tlspolicy", "trust/trustlist"},
		"node/admin/client":   {"node/admin/api"},
		"node/follow":         {"call/control", "call/roster", "service/cti", "sip/transaction"},
		"node/records":        {"state/store"},
		"node/observe/redact": {},
		"node/observe/outbox": {},
		"node/observe/hep":    {"node/observe/outbox", "node/observe/redact"},
		"node/observe/ladder": {"node/observe/redact"},
		"node/observe/syslog": {"node/observe/outbox"},
		"node/observe/trace":  {"call/control", "state/store"},
		"node/observe":        {"node/observe/redact", "call/control", "node/config", "sip", "sip/transport", "state/store"},
		"node/sockets":        {},
		"node/exceptions":     {"call/registrar", "call/roster", "sip/transport"},
		"node/admin":          everything,
		"node":                everything,
		// Tests of the whole: no product code.
		"test/interop": everything,
		"test/faults":  everything,
		"testkit":      {},
		// Firewalls are tested on a router, with the site files of a branch.
		"testkit/router":   {"network/box", "network/site", "testkit"},
		"testkit/openldap": {"testkit"},
		"testkit/branch":   {"network/catalogue", "network/need", "network/site"},
		// A whole node of a test is above the node; the network in memory, which rooms below use, is not.
		"testkit/onehost": everything,
		// What firewalls are tested with.
		"testkit/policies": {"network/box", "network/catalogue", "network/firewall", "network/need", "network/prove", "network/site"},
	}
}

// entrances are rooms that only those named may import: they sit on the roof or exist for tests.
func entrances() map[string][]string {
	return map[string][]string{
		"node":             {"cmd/ringfence", "testkit/onehost", "test/interop", "test/faults"},
		"node/admin":       {"node"},
		"node/config":      {"node", "node/admin", "cmd/ringfence", "testkit/onehost", "test/interop", "test/faults"},
		"testkit":          {"testkit/openldap", "testkit/router"},
		"testkit/openldap": {},
		"testkit/onehost":  {},
		"testkit/policies": {},
		"testkit/router":   {},
		"testkit/branch":   {},
	}
}

// outsiders says which rooms may import a module of somebody else. Everybody else lives on the standard library.
func outsiders() map[string][]string {
	return map[string][]string{
		"github.com/pion/rtp":            {"media/rtp"},
		"github.com/pion/rtcp":           {"media/rtp"},
		"github.com/thesyncim/gopus":     {"media/codec"},
		"github.com/pion/srtp/v3":        {"media/rtp"},
		"github.com/jackc/pgx/v5":        {"state/store"},
		"modernc.org/sqlite":             {"state/store"},
		"github.com/nats-io":             {"state/bus"},
		"github.com/coder/websocket":     {"sip/transport"},
		"github.com/goccy/go-yaml":       {"network/catalogue", "network/site", "node/config", "node/admin", "cmd/ringfence"},
		"golang.org/x/crypto":            {"state/store", "trust/ca", "trust/enroll", "trust/publicname", "network/kerberos", "network/proxy"},
		"github.com/jcmturner/gokrb5/v8": {"network/kerberos"},
		"golang.org/x/sys":               {"media/relay", "node/sockets", "sip/transport"},
		"golang.org/x/net":               {"media/relay", "node", "sip/locate", "network/ready/dns"},
		"github.com/danielgtaylor/huma":  {"node/admin"},
		"github.com/prometheus":          {"node", "node/admin"},
		"go.opentelemetry.io":            {"node/observe/trace"},
		"github.com/spf13/cobra":         {"cmd/ringfence"},
		"github.com/go-jose/go-jose/v4":  {"network/evidence", "network/feed", "trust/acme", "trust/oidc", "trust/token", "trust/trustlist"},
		"rsc.io/qr":                      {"cmd/ringfence", "node/admin"},
	}
}

// socketHands are the files that may open a socket, and why. Tests may as well.
func socketHands() map[string]string {
	return map[string]string{
		"internal/node/sockets/sockets.go": "the opener of a real host: it refuses what no flow declares",
		"internal/testkit":                 "the opener of tests",
		"internal/testkit/onehost":         "a client of the node under test",
		"internal/testkit/openldap":        "finds free ports, and knocks until the directory is there",
		"cmd/ringfence":                    "the command line is a client: it dials the node's Unix socket or the API, and runs where no flow table is",
	}
}

// tlsHands are the rooms and files that may write a tls.Config, and why. A node's listeners and connections have theirs from the tree of TLS settings.
func tlsHands() map[string]string {
	return map[string]string{
		"internal/trust/tlspolicy": "the tree of TLS settings",
		"internal/trust/enroll":    "a device that does not know yet whom to believe",
		"internal/trust/acme":      "looks at challenges of machines that have no certificate yet",
		"internal/testkit":         "tests",
		"internal/testkit/onehost": "tests",
		"cmd/ringfence":            "the command line is a client, and its phone has an anchor of its own",
	}
}

// hostile are the rooms that see bytes of strangers: every parser in them has a fuzz target.
func hostile() []string {
	return []string{"sip", "sip/locate", "sip/mediasec", "sip/sdp", "sip/transport", "sip/transaction", "media/rtp", "media/codec", "media/relay", "trust/ca", "trust/acme", "trust/capf", "trust/chain", "trust/enroll", "trust/est", "trust/keyring",
		"trust/oidc", "trust/publicname", "trust/signin", "trust/trustlist", "trust/tvs",
		"call/registrar", "desk/cwmp", "desk/dhcp", "desk/directory", "desk/dot1x", "desk/feature", "desk/flatprofile", "desk/line", "desk/lint", "desk/profilerule", "desk/resync", "desk/sound", "desk/upkeep", "desk/vpn", "network/catalogue", "network/evidence", "network/feed", "network/firewall/asa", "network/firewall/cloud", "network/firewall/iptables", "network/firewall/nft", "network/firewall/panos", "network/firewall/pf", "network/kerberos", "network/pac", "network/phoneports", "network/posture", "network/proxy", "network/published", "network/ready/datagram", "network/ready/dns", "network/ready/duties", "network/ready/ntp", "network/ready/reflector", "network/ready/verdict", "network/ready/wire", "network/site", "network/wpad", "service/cti", "service/phone", "node/config", "node/admin", "state/bus"}
}

const (
	maxFile     = 900  // lines
	maxFunction = 150  // lines
	maxPackage  = 4000 // lines of a room, without tests, unless it has at most maxFiles files
	maxFiles    = 20
)

type sourceFile struct {
	path  string // slash-separated, from the root of the repository
	room  string // "sip/dialog" for internal/sip/dialog, "cmd/ringfence", "" for the root
	test  bool
	lines int
	ast   *ast.File
	text  []byte
}

type house struct {
	fset  *token.FileSet
	files []*sourceFile // Go files of this module
	all   []string      // every file a reader of the repository sees
}

// theHouse reads the repository once. Nested modules (bench, tools) and what git ignores are left out of files.
var theHouse = sync.OnceValues(func() (*house, error) {
	h := &house{fset: token.NewFileSet()}
	nested := map[string]bool{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		if d.IsDir() {
			switch p {
			case ".git", "bin", "data", "bench/out", "web/node_modules":
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && p != "." {
				nested[p] = true
			}
			return nil
		}
		if strings.HasSuffix(p, ".test") || strings.HasSuffix(p, ".prof") || d.Type()&fs.ModeType != 0 || p == ".git" {
			return nil
		}
		h.all = append(h.all, p)
		if path.Ext(p) != ".go" || inNested(nested, p) {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(h.fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		room := strings.TrimPrefix(path.Dir(p), "internal/")
		if room == "." {
			room = ""
		}
		h.files = append(h.files, &sourceFile{path: p, room: room, test: strings.HasSuffix(p, "_test.go"),
			lines: h.fset.File(f.FileStart).LineCount(), ast: f, text: text})
		return nil
	})
	return h, err
})

func inNested(nested map[string]bool, p string) bool {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if nested[dir] {
			return true
		}
	}
	return false
}

func open(t *testing.T) *house {
	t.Helper()
	h, err := theHouse()
	if err != nil {
		t.Fatal(err)
	}
	if len(h.files) < 50 {
		t.Fatalf("only %d Go files were found: the test looks in the wrong place", len(h.files))
	}
	return h
}

// rooms returns the names of all rooms that have code, without the root, in order.
func (h *house) rooms() []string {
	set := map[string]bool{}
	for _, f := range h.files {
		if !f.test && f.room != "" {
			set[f.room] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func isAnnex(room string) bool { return strings.Contains("/"+room+"/", "/internal/") }

// TestImportDirection holds arrows to one direction: a room imports only the rooms in its row.
func TestImportDirection(t *testing.T) {
	h, table, doors, outside := open(t), allowed(), entrances(), outsiders()
	for _, f := range h.files {
		if f.test {
			continue
		}
		row, known := table[f.room]
		if !known && f.room != "" && !strings.HasPrefix(f.room, "cmd/") {
			t.Errorf("%s: the room %q is not in the table of allowed imports", f.path, f.room)
			continue
		}
		for _, spec := range f.ast.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(name, "/")
			switch {
			case name == "ringfence":
				// The shared words are for everybody.
			case first == "ringfence":
				to := strings.TrimPrefix(name, "ringfence/internal/")
				everywhere := strings.HasPrefix(f.room, "cmd/") || slices.Contains(row, "*")
				if who, guarded := doors[to]; guarded && !slices.Contains(who, f.room) || !everywhere && !slices.Contains(row, to) {
					t.Errorf("%s imports %s: there is no arrow from %q to %q", f.path, name, f.room, to)
				}
			case strings.Contains(first, "."):
				if !mayUse(outside, name, f.room) {
					t.Errorf("%s imports %s: that module is not for %q", f.path, name, f.room)
				}
			case name == "C":
				t.Errorf("%s needs a C compiler", f.path)
			}
		}
	}
}

func mayUse(outside map[string][]string, name, room string) bool {
	for module, rooms := range outside {
		if (name == module || strings.HasPrefix(name, module+"/")) && slices.Contains(rooms, room) {
			return true
		}
	}
	return false
}

// TestArrowsHaveNoCycle checks the table itself: an arrow may never lead back.
func TestArrowsHaveNoCycle(t *testing.T) {
	table := allowed()
	var visit func(room string, trail []string)
	visit = func(room string, trail []string) {
		if slices.Contains(trail, room) {
			t.Errorf("the table allows a cycle: %s", strings.Join(append(trail, room), " -> "))
			return
		}
		for _, to := range table[room] {
			if _, ok := table[to]; !ok && to != "*" {
				t.Errorf("the row of %q names %q, which has no row", room, to)
			}
			visit(to, append(slices.Clone(trail), room))
		}
	}
	for room := range table {
		visit(room, nil)
	}
}

// TestRoomNames refuses drawers: a package is named after what it is for, and no two rooms share a name.
func TestRoomNames(t *testing.T) {
	seen := map[string]string{}
	for _, room := range open(t).rooms() {
		leaf := path.Base(room)
		switch leaf {
		case "util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib", "types":
			t.Errorf("%s: %q says nothing about what the room is for", room, leaf)
		}
		if strings.ContainsAny(leaf, "_-") || leaf != strings.ToLower(leaf) {
			t.Errorf("%s: a room has a plain name in lower case", room)
		}
		if other, twice := seen[leaf]; twice {
			t.Errorf("%s and %s have the same name", room, other)
		}
		seen[leaf] = room
	}
}

// purpose returns the first sentence of a room's package comment without "Package x", e.g. "turns bytes into ...".
func (h *house) purpose(t *testing.T, room string) string {
	var found string
	for _, f := range h.files {
		if f.room != room || f.test || f.ast.Doc == nil {
			continue
		}
		base := path.Base(f.path)
		if base != "doc.go" && !isAnnex(room) && !strings.HasPrefix(room, "cmd/") {
			t.Errorf("%s has a package comment; it belongs in doc.go", f.path)
		}
		if found != "" {
			t.Errorf("%s: the package comment is in more than one file", room)
		}
		start := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			start = "Command " + path.Base(room) + " "
		}
		text := new(doc.Package).Synopsis(f.ast.Doc.Text())
		if !strings.HasPrefix(text, start) || !strings.HasSuffix(text, ".") {
			t.Errorf("%s: the package comment must begin with %q and a sentence that says what the room is for", f.path, start)
		}
		found = strings.TrimPrefix(text, start)
	}
	if found == "" {
		t.Errorf("%s has no package comment", room)
	}
	return found
}

// TestNothingIsSwitchedOnByAnImport refuses init functions and package variables that could change.
func TestNothingIsSwitchedOnByAnImport(t *testing.T) {
	h := open(t)
	frozen := map[string]map[string]bool{} // room -> names of arrays at package level
	for _, f := range h.files {
		if f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init hides what is switched on; construct it in internal/node", h.fset.Position(fn.Pos()))
			}
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				v := spec.(*ast.ValueSpec)
				arrays, ok := constant(v, gen.Doc)
				if !ok {
					t.Errorf("%s: %s can change while the program runs; make it a function, a constant or a field", h.fset.Position(v.Pos()), v.Names[0].Name)
				}
				for _, name := range arrays {
					if frozen[f.room] == nil {
						frozen[f.room] = map[string]bool{}
					}
					frozen[f.room][name] = true
				}
			}
		}
	}
	for _, f := range h.files {
		if names := frozen[f.room]; len(names) > 0 && !f.test {
			checkFrozen(t, h.fset, f.ast, names)
		}
	}
}

// constant reports whether a package variable cannot sensibly change: a guard, an error, an embedded file or an array.
// Arrays are returned, for a look at who writes to them.
func constant(v *ast.ValueSpec, comment *ast.CommentGroup) (arrays []string, ok bool) {
	if v.Names[0].Name == "_" {
		return nil, true
	}
	for _, c := range []*ast.CommentGroup{comment, v.Doc} {
		if c != nil && slices.ContainsFunc(c.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") }) {
			return nil, true
		}
	}
	if len(v.Values) != len(v.Names) {
		return nil, false
	}
	for i, value := range v.Values {
		switch e := value.(type) {
		case *ast.CallExpr:
			fun, isSel := e.Fun.(*ast.SelectorExpr)
			if !isSel || fun.Sel.Name != "New" {
				return nil, false
			}
			if pkg, isID := fun.X.(*ast.Ident); !isID || pkg.Name != "errors" || !strings.HasPrefix(strings.ToLower(v.Names[i].Name), "err") {
				return nil, false
			}
		case *ast.CompositeLit:
			if a, isArray := e.Type.(*ast.ArrayType); !isArray || a.Len == nil {
				return nil, false
			}
			arrays = append(arrays, v.Names[i].Name)
		default:
			return nil, false
		}
	}
	return arrays, true
}

// checkFrozen refuses writing to a package-level array, and handing out its address.
func checkFrozen(t *testing.T, fset *token.FileSet, f *ast.File, names map[string]bool) {
	target := func(e ast.Expr) (string, bool) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.Ident:
				return x.Name, names[x.Name]
			default:
				return "", false
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		var written []ast.Expr
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				written = n.Lhs
			}
		case *ast.IncDecStmt:
			written = []ast.Expr{n.X}
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				written = []ast.Expr{n.X}
			}
		}
		for _, e := range written {
			if name, ok := target(e); ok {
				t.Errorf("%s: the table %s is written to or handed out", fset.Position(e.Pos()), name)
			}
		}
		return true
	})
}

// TestTLSHands checks who writes a tls.Config: what a node speaks comes from one place.
func TestTLSHands(t *testing.T) {
	h, hands := open(t), tlsHands()
	seen := map[string]bool{}
	for _, f := range h.files {
		tls := importName(f.ast, "crypto/tls")
		if tls == "" || f.test || strings.HasPrefix(f.path, "bench/") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			sel, ok := lit.Type.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Config" {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == tls {
				dir := path.Dir(f.path)
				if seen[dir] = true; hands[dir] == "" {
					t.Errorf("%s: TLS settings come from the tree: take a *tls.Config from trust/tlspolicy", h.fset.Position(lit.Pos()))
				}
			}
			return true
		})
	}
	for dir := range hands {
		if !seen[dir] {
			t.Errorf("%s writes no tls.Config any more: take it out of tlsHands", dir)
		}
	}
}

// TestHands checks who touches the outside world: sockets, the environment, and the clock in tests.
func TestHands(t *testing.T) {
	h, hands := open(t), socketHands()
	mayOpen := func(f *sourceFile) bool {
		_, byFile := hands[f.path]
		_, byFolder := hands[path.Dir(f.path)]
		return f.test || byFile || byFolder
	}
	for _, f := range h.files {
		net, os, time := importName(f.ast, "net"), importName(f.ast, "os"), importName(f.ast, "time")
		// Sleeping in virtual time costs nothing and is exact: inside synctest.Test, or beside synctest.Wait, which panics elsewhere.
		bubbleEnd := token.NoPos
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				// inBubble is the name of a test's own wrapper around synctest.Test.
				if id, ok := n.Fun.(*ast.Ident); isCall(n, "synctest", "Test") || ok && id.Name == "inBubble" {
					bubbleEnd = max(bubbleEnd, n.End())
				}
			case *ast.FuncDecl:
				if f.test && waitsInBubble(n) {
					bubbleEnd = max(bubbleEnd, n.End())
				}
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			where, name := h.fset.Position(sel.Pos()), sel.Sel.Name
			switch {
			case pkg.Name == net && net != "" && opensSocket(name) && !mayOpen(f):
				t.Errorf("%s: net.%s: only the node's opener opens sockets; take a ringfence.Opener", where, name)
			case pkg.Name == os && os != "" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, name) &&
				!f.test && !strings.HasPrefix(f.room, "cmd/"):
				t.Errorf("%s: os.%s: only the command line reads the environment", where, name)
			case pkg.Name == time && time != "" && name == "Sleep" && f.test && sel.Pos() >= bubbleEnd:
				t.Errorf("%s: a test waits for what it expects, or sleeps inside synctest.Test, where time is virtual", where)
			}
			return true
		})
	}
	for file := range hands {
		if _, err := os.Stat(file); err != nil && file == "internal/node/sockets/sockets.go" {
			t.Errorf("the allowed hand %s is gone", file)
		}
	}
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == name && isName(sel.X, pkg)
}

func waitsInBubble(fn *ast.FuncDecl) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && isCall(call, "synctest", "Wait") {
			found = true
		}
		return !found
	})
	return found
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// opensSocket reports whether a name of package net opens a socket. Types such as net.Listener do not.
func opensSocket(name string) bool {
	switch name {
	case "Listener", "ListenConfig":
		return name == "ListenConfig"
	case "FileListener", "FileConn", "FilePacketConn":
		return true
	}
	return strings.HasPrefix(name, "Listen") || strings.HasPrefix(name, "Dial")
}

// importName returns the name by which a file knows a package of the standard library, or "".
func importName(f *ast.File, pkg string) string {
	for _, spec := range f.Imports {
		if spec.Path.Value == strconv.Quote(pkg) {
			if spec.Name != nil {
				return spec.Name.Name
			}
			return path.Base(pkg)
		}
	}
	return ""
}

// TestBudgets keeps files, functions and rooms readable.
func TestBudgets(t *testing.T) {
	h := open(t)
	lines, count := map[string]int{}, map[string]int{}
	for _, f := range h.files {
		if f.lines > maxFile {
			t.Errorf("%s has %d lines; %d is the cap", f.path, f.lines, maxFile)
		}
		if !f.test {
			lines[f.room] += f.lines
			count[f.room]++
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := h.fset.Position(fn.End()).Line - h.fset.Position(fn.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines; %d is the cap", h.fset.Position(fn.Pos()), fn.Name.Name, n, maxFunction)
			}
		}
	}
	for room, n := range lines {
		if room == "cmd/ringfence" { // a verb a file: nobody reads it in one sitting, and it grows with every verb
			continue
		}
		if n > maxPackage && count[room] > maxFiles {
			t.Errorf("%s has %d lines in %d files; %d lines or %d files is the cap", room, n, count[room], maxPackage, maxFiles)
		}
	}
}

// TestParsersAreFuzzed finds the exported parsers of rooms that see hostile bytes. Each is named in a fuzz target of its room.
func TestParsersAreFuzzed(t *testing.T) {
	h := open(t)
	for _, room := range hostile() {
		parsers, fuzzed, targets := map[string]token.Position{}, map[string]bool{}, 0
		for _, f := range h.files {
			if f.room != room {
				continue
			}
			for _, decl := range f.ast.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				switch {
				case !ok:
				case f.test && strings.HasPrefix(fn.Name.Name, "Fuzz"):
					targets++
					ast.Inspect(fn, func(n ast.Node) bool {
						if id, ok := n.(*ast.Ident); ok {
							fuzzed[id.Name] = true
						}
						return true
					})
				case !f.test && isParser(fn.Name.Name) && takesBytes(fn):
					parsers[fn.Name.Name] = h.fset.Position(fn.Pos())
				}
			}
		}
		for name, where := range parsers {
			if !fuzzed[name] {
				t.Errorf("%s: %s reads hostile bytes and no fuzz target of %s calls it (%d targets)", where, name, room, targets)
			}
		}
	}
}

func isParser(name string) bool {
	for _, p := range []string{"Parse", "Unmarshal", "Frame", "Decode"} {
		if rest, ok := strings.CutPrefix(name, p); ok && (rest == "" || rest[0] >= 'A' && rest[0] <= 'Z') {
			return true
		}
	}
	return false
}

// takesBytes reports whether a function has a parameter of type []byte or string.
func takesBytes(fn *ast.FuncDecl) bool {
	for _, p := range fn.Type.Params.List {
		switch x := p.Type.(type) {
		case *ast.Ident:
			if x.Name == "string" {
				return true
			}
		case *ast.ArrayType:
			if id, ok := x.Elt.(*ast.Ident); ok && id.Name == "byte" {
				return true
			}
		}
	}
	return false
}

// TestVerificationNamesTests looks for each test that the tables of docs name.
func TestVerificationNamesTests(t *testing.T) {
	for file, least := range map[string]int{"docs/network-verification.md": 80, "docs/desk-phone-coverage.md": 80} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, row := range regexp.MustCompile("(?m)^\\|.*\\| `((?:internal|cmd)/[a-z0-9/]+)` \\| (.*) \\|$").FindAllStringSubmatch(string(b), -1) {
			files, err := filepath.Glob(row[1] + "/*_test.go")
			if err != nil {
				t.Fatal(err)
			}
			var all []byte
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b...)
			}
			for _, name := range regexp.MustCompile("`([A-Za-z0-9]+)`").FindAllStringSubmatch(row[2], -1) {
				if named++; !strings.Contains(string(all), "\nfunc "+name[1]+"(") {
					t.Errorf("%s: %s has no %s", file, row[1], name[1])
				}
			}
		}
		if named < least {
			t.Errorf("%s names only %d tests", file, named)
		}
	}
}
