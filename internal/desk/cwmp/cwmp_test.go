package cwmp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

const head = `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:c="urn:dslforum-org:cwmp-1-0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><s:Header><c:ID s:mustUnderstand="1">%s</c:ID></s:Header><s:Body>`

// ask wraps a request of an ACS.
func ask(id, body string) []byte {
	return []byte(fmt.Sprintf(head, id) + body + "</s:Body></s:Envelope>")
}

func aPhone(t testing.TB, kept *Kept) *Profile {
	t.Helper()
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Put(flatprofile.Value{Name: "Password_1_", Value: "hidden", From: "test"})
	return NewProfile(set, Identity{"Ringfence", "020000", "CP-8841-3PCC", "S1"}, "1", "11.3.7", "", *kept, func(k Kept) error { *kept = k; return nil })
}

// does answers one request, and returns the answer as a tree.
func does(t *testing.T, s *server, body string) (*node, Done, string) {
	t.Helper()
	e, err := ParseEnvelope(ask("7", body))
	if err != nil {
		t.Fatal(err)
	}
	b, done := s.answer(e)
	n, err := tree(b)
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if n.child("Header").value("ID") != "7" {
		t.Errorf("another ID: %s", b)
	}
	return n.child("Body").children[0], done, string(b)
}

func TestMethods(t *testing.T) {
	var kept Kept
	phone := aPhone(t, &kept)
	s := &server{phone: phone, cwmp: nsCWMP + "0", now: time.Now}
	get := func(names ...string) map[string]string {
		t.Helper()
		list := ""
		for _, n := range names {
			list += "<string>" + n + "</string>"
		}
		n, _, text := does(t, s, "<c:GetParameterValues><ParameterNames>"+list+"</ParameterNames></c:GetParameterValues>")
		out := map[string]string{}
		for _, v := range n.child("ParameterList").children {
			out[v.value("Name")] = v.value("Value")
		}
		if n.name != "GetParameterValuesResponse" || !strings.Contains(text, fmt.Sprintf(`arrayType="cwmp:ParameterValueStruct[%d]"`, len(out))) {
			t.Errorf("%s", text)
		}
		return out
	}
	got := get("Device.DeviceInfo.", "Device.ManagementServer.PeriodicInformInterval", "Device.X_RINGFENCE_Profile.Enable_802_1X_Authentication", "Device.X_RINGFENCE_Profile.Password_1_")
	if got["Device.DeviceInfo.SerialNumber"] != "S1" || got["Device.ManagementServer.PeriodicInformInterval"] != "20" || got["Device.X_RINGFENCE_Profile.Enable_802_1X_Authentication"] != "false" {
		t.Errorf("%v", got)
	}
	if v, ok := got["Device.X_RINGFENCE_Profile.Password_1_"]; !ok || v != "" {
		t.Errorf("a password is told: %q", v)
	}
	if n, _, _ := does(t, s, "<c:GetRPCMethods/>"); len(n.child("MethodList").children) != 11 {
		t.Errorf("%+v", n)
	}
	if n, _, _ := does(t, s, "<c:GetParameterNames><ParameterPath>Device.</ParameterPath><NextLevel>1</NextLevel></c:GetParameterNames>"); len(n.child("ParameterList").children) != 5 || n.child("ParameterList").children[1].value("Name") != "Device.ManagementServer." {
		t.Errorf("%d", len(n.child("ParameterList").children))
	}
	if n, _, _ := does(t, s, "<c:GetParameterNames><ParameterPath>Device.DeviceInfo.</ParameterPath><NextLevel>0</NextLevel></c:GetParameterNames>"); len(n.child("ParameterList").children) != 9 {
		t.Errorf("%d", len(n.child("ParameterList").children))
	}
	put := func(pairs ...string) (*node, Done) {
		t.Helper()
		list := ""
		for i := 0; i < len(pairs); i += 3 {
			list += `<ParameterValueStruct><Name>` + pairs[i] + `</Name><Value xsi:type="xsd:` + pairs[i+1] + `">` + pairs[i+2] + `</Value></ParameterValueStruct>`
		}
		n, done, _ := does(t, s, "<c:SetParameterValues><ParameterList>"+list+"</ParameterList><ParameterKey>key 1</ParameterKey></c:SetParameterValues>")
		return n, done
	}
	// The cipher list, as the handbook names it, and parameters of other types.
	n, _ := put("Device.X_CISCO_SecuritySettings.TLSCipherList", "string", "ECDHE+AESGCM", "Device.X_RINGFENCE_Profile.SIP_Transport_1_", "string", "TLS", "Device.X_RINGFENCE_Profile.Auth_INVITE_1_", "boolean", "1", "Device.X_RINGFENCE_Profile.RTP_Port_Min", "unsignedInt", "20000")
	if n.name != "SetParameterValuesResponse" || n.value("Status") != "1" || kept.Values["TLS_Cipher_List"] != "ECDHE+AESGCM" || kept.Values["Auth_INVITE_1_"] != "Yes" || kept.ParameterKey != "key 1" || phone.Values().Text("SIP_Transport_1_") != "TLS" {
		t.Errorf("%+v %+v", n, kept)
	}
	if got := get("Device.X_CISCO_SecuritySettings.TLSCipherList", "Device.ManagementServer.ParameterKey"); got["Device.X_CISCO_SecuritySettings.TLSCipherList"] != "ECDHE+AESGCM" || got["Device.ManagementServer.ParameterKey"] != "key 1" {
		t.Errorf("%v", got)
	}
	if n, _ = put("Device.ManagementServer.PeriodicInformInterval", "unsignedInt", "600", "Device.DeviceInfo.ProvisioningCode", "string", "code"); n.value("Status") != "0" || kept.ProvisioningCode != "code" {
		t.Errorf("%+v %+v", n, kept)
	}
	// All or nothing.
	before := len(kept.Values)
	n, done := put("Device.X_RINGFENCE_Profile.Station_Name", "string", "desk", "Device.Nothing", "string", "x", "Device.DeviceInfo.SerialNumber", "string", "x", "Device.X_RINGFENCE_Profile.RTP_Port_Max", "unsignedInt", "99999", "Device.X_RINGFENCE_Profile.RTP_Port_Max2", "string", "x",
		"Device.X_RINGFENCE_Profile.Firewall", "boolean", "1", "Device.ManagementServer.URL", "string", "http://acs.example.com/", "Device.X_RINGFENCE_Profile.SIP_Transport_2_", "string", "SCTP", "Device.X_RINGFENCE_Profile.Auth_INVITE_2_", "boolean", "Yes")
	codes := map[string]string{}
	for _, f := range n.child("detail").child("Fault").children {
		if f.name == "SetParameterValuesFault" {
			codes[f.value("ParameterName")] = f.value("FaultCode")
		}
	}
	want := map[string]string{"Device.Nothing": "9005", "Device.DeviceInfo.SerialNumber": "9008", "Device.X_RINGFENCE_Profile.RTP_Port_Max": "9007", "Device.X_RINGFENCE_Profile.RTP_Port_Max2": "9005", "Device.X_RINGFENCE_Profile.Firewall": "9006", "Device.ManagementServer.URL": "9007",
		"Device.X_RINGFENCE_Profile.SIP_Transport_2_": "9007", "Device.X_RINGFENCE_Profile.Auth_INVITE_2_": "9007"}
	if n.name != "Fault" || n.child("detail").child("Fault").value("FaultCode") != "9003" || !strings.HasPrefix(done.Fault, "9003 ") || fmt.Sprint(codes) != fmt.Sprint(want) || len(kept.Values) != before || phone.Values().Text("Station_Name") == "desk" {
		t.Errorf("%v %v", codes, kept)
	}
	for body, code := range map[string]string{
		"<c:GetParameterValues><ParameterNames><string>Device.None</string></ParameterNames></c:GetParameterValues>": "9005",
		"<c:GetParameterNames><ParameterPath>Device</ParameterPath><NextLevel>1</NextLevel></c:GetParameterNames>":   "9003",
		"<c:AddObject><ObjectName>Device.X.</ObjectName></c:AddObject>":                                              "9005",
		"<c:Download><FileType>1 Firmware Upgrade Image</FileType></c:Download>":                                     "9001",
		"<c:FactoryReset/>": "9000",
		"<c:SetParameterAttributes><ParameterList><SetParameterAttributesStruct><Name>Device.DeviceInfo.</Name><NotificationChange>1</NotificationChange><Notification>7</Notification></SetParameterAttributesStruct></ParameterList></c:SetParameterAttributes>":                      "9009",
		"<c:SetParameterAttributes><ParameterList><SetParameterAttributesStruct><Name>Device.DeviceInfo.SoftwareVersion</Name><NotificationChange>1</NotificationChange><Notification>0</Notification></SetParameterAttributesStruct></ParameterList></c:SetParameterAttributes>":       "9009",
		"<c:SetParameterAttributes><ParameterList><SetParameterAttributesStruct><Name>Device.ManagementServer.ParameterKey</Name><NotificationChange>true</NotificationChange><Notification>2</Notification></SetParameterAttributesStruct></ParameterList></c:SetParameterAttributes>": "9009",
		"<c:Download><FileType>3 Vendor Configuration File</FileType><URL>http://prov.example.com/x</URL></c:Download>":                                                                                                                                                                 "9013",
		"<c:Download><FileType>3 Vendor Configuration File</FileType><URL>https://prov.example.com/x</URL><FileSize>99999999</FileSize></c:Download>":                                                                                                                                   "9004",
		"<c:Download><FileType>3 Vendor Configuration File</FileType><URL>https://prov.example.com/x</URL><DelaySeconds>-1</DelaySeconds></c:Download>":                                                                                                                                 "9003",
		"<c:ScheduleInform><DelaySeconds>0</DelaySeconds></c:ScheduleInform>": "9003",
	} {
		if n, _, text := does(t, s, body); n.child("detail").child("Fault").value("FaultCode") != code {
			t.Errorf("%s: %s", body, text)
		}
	}
	does(t, s, "<c:SetParameterAttributes><ParameterList><SetParameterAttributesStruct><Name>Device.X_CISCO_SecuritySettings.</Name><NotificationChange>1</NotificationChange><Notification>1</Notification></SetParameterAttributesStruct></ParameterList></c:SetParameterAttributes>")
	n, _, _ = does(t, s, "<c:GetParameterAttributes><ParameterNames><string>Device.X_CISCO_SecuritySettings.TLSCipherList</string></ParameterNames></c:GetParameterAttributes>")
	if n.child("ParameterList").children[0].value("Notification") != "1" {
		t.Errorf("%+v", n)
	}
	if does(t, s, "<c:Reboot><CommandKey>again</CommandKey></c:Reboot>"); !s.asked || s.reboot != "again" {
		t.Errorf("%+v", s)
	}
	// A phone that cannot keep a change does not make it.
	phone.keep = func(Kept) error { return errors.New("full") }
	if n, _ := put("Device.X_RINGFENCE_Profile.Station_Name", "string", "desk"); n.child("detail").child("Fault").value("FaultCode") != "9002" || phone.Values().Text("Station_Name") == "desk" {
		t.Errorf("%+v", n)
	}
}

func TestParseEnvelope(t *testing.T) {
	for name, b := range map[string]string{"nothing": "", "no XML": "hello", "a document type": `<!DOCTYPE x [<!ENTITY a "b">]><x/>`, "another element": "<x/>", "SOAP 1.2": `<Envelope xmlns="http://www.w3.org/2003/05/soap-envelope"/>`,
		"two messages": string(ask("1", "<c:A/><c:B/>")), "not of CWMP": string(ask("1", "<x/>")), "a header": strings.Replace(string(ask("1", "")), "<c:ID", `<c:Other s:mustUnderstand="1"/><c:ID`, 1), "deep": string(ask("1", strings.Repeat("<c:a>", 30)+strings.Repeat("</c:a>", 30))),
		"long": strings.Repeat(" ", MaxEnvelope+1), "many": string(ask("1", "<c:a>"+strings.Repeat("<b/>", maxNodes)+"</c:a>")), "behind": string(ask("1", "")) + "<x/>", "a long ID": string(ask(strings.Repeat("1", 300), ""))} {
		if e, err := ParseEnvelope([]byte(b)); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if e, err := ParseEnvelope(ask("1", "")); err != nil || e.Method != "" || e.ID != "1" {
		t.Errorf("%+v %v", e, err)
	}
}

// acs is a server of few lines, over TLS.
type acs struct {
	mu       sync.Mutex
	requests []string // that it makes, one after the other
	heard    []string
	digest   bool
	basic    bool
	informs  int
	paths    []string
}

func (a *acs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paths = append(a.paths, r.URL.Path)
	b, _ := io.ReadAll(r.Body)
	if user, password, _ := r.BasicAuth(); a.basic && (user != "desk" || password != "secret") {
		w.Header().Set("WWW-Authenticate", `Basic realm="acs"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if a.digest {
		c, err := sip.ParseCredentials([]byte(r.Header.Get("Authorization")))
		if err != nil || !c.Verify(sip.HA1(sip.DigestMD5, "desk", "acs", "secret"), http.MethodPost) {
			challenge := sip.Challenge{Realm: "acs", Nonce: "n1", Algorithm: sip.DigestMD5}
			w.Header().Set("WWW-Authenticate", string(challenge.Append(nil)))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
	}
	switch r.URL.Path {
	case "/moved":
		http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		return
	case "/clear":
		http.Redirect(w, r, "http://acs.example.com/", http.StatusFound)
		return
	case "/nonsense":
		_, _ = io.WriteString(w, "hello")
		return
	case "/refused":
		_, _ = w.Write(ask("1", `<s:Fault><faultcode>Client</faultcode><detail><c:Fault><FaultCode>8001</FaultCode><FaultString>Request denied</FaultString></c:Fault></detail></s:Fault>`))
		return
	case "/deaf": // to what the phone tells
		if e, err := ParseEnvelope(b); err == nil && e.Method == "TransferComplete" {
			_, _ = w.Write(ask(e.ID, `<s:Fault><faultcode>Server</faultcode><detail><c:Fault><FaultCode>8005</FaultCode><FaultString>Retry request</FaultString></c:Fault></detail></s:Fault>`))
			return
		}
	case "/endless":
		_, _ = io.CopyN(w, zeros{}, MaxEnvelope+2)
		return
	}
	e, err := ParseEnvelope(b)
	if err == nil && e.Method == "Inform" {
		a.informs++
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1", Path: "/"})
		a.heard = append(a.heard, string(b))
		_, _ = w.Write(ask(e.ID, "<c:InformResponse><MaxEnvelopes>1</MaxEnvelopes></c:InformResponse>"))
		return
	}
	if c, err := r.Cookie("session"); err != nil || c.Value != "1" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.heard = append(a.heard, string(b))
	if err == nil && e.Method == "TransferComplete" {
		_, _ = w.Write(ask(e.ID, "<c:TransferCompleteResponse/>"))
		return
	}
	if len(a.requests) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_, _ = w.Write(ask("r", a.requests[0]))
	a.requests = a.requests[1:]
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// serve runs an ACS, and returns how a phone reaches it.
func serve(t *testing.T, a *acs) ACS {
	t.Helper()
	ca := testkit.NewAuthority("CA")
	s := httptest.NewUnstartedServer(a)
	s.TLS = ca.Server("acs.example.com")
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not believe it
	s.StartTLS()
	t.Cleanup(s.Close)
	return ACS{URL: "https://acs.example.com/", User: "desk", Password: "secret", TLS: &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12}, Now: time.Now,
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}, Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
		}}
}

func TestSession(t *testing.T) {
	for name, digest := range map[string]bool{"digest": true, "by the cookie alone": false} {
		var kept Kept
		phone := aPhone(t, &kept)
		server := &acs{digest: digest, requests: []string{"<c:GetParameterValues><ParameterNames><string>Device.DeviceInfo.SoftwareVersion</string></ParameterNames></c:GetParameterValues>",
			`<c:SetParameterValues><ParameterList><ParameterValueStruct><Name>Device.X_CISCO_SecuritySettings.TLSCipherList</Name><Value xsi:type="xsd:string">ECDHE+AESGCM</Value></ParameterValueStruct></ParameterList><ParameterKey>k</ParameterKey></c:SetParameterValues>`,
			"<c:Reboot><CommandKey>later</CommandKey></c:Reboot>"}}
		a := serve(t, server)
		s, err := a.Run(t.Context(), Identity{"Ringfence", "020000", "CP-8841-3PCC", "S1"}, phone, []Occasion{{Event: Bootstrap}, {Event: Boot}, {Event: Rebooted, Key: "before"}}, 2)
		if err != nil || len(s.Done) != 3 || s.Done[1].Method != "SetParameterValues" || !slices.Equal(s.Done[1].Names, []string{"Device.X_CISCO_SecuritySettings.TLSCipherList"}) || !s.Reboot || s.Key != "later" || !strings.HasPrefix(s.TLS, "TLS 1.3") || s.Subject != "CN=acs.example.com" || kept.Values["TLS_Cipher_List"] != "ECDHE+AESGCM" {
			t.Errorf("%s: %+v %v", name, s, err)
		}
		n, err := tree([]byte(server.heard[0]))
		if err != nil {
			t.Fatal(err)
		}
		inform := n.child("Body").child("Inform")
		var events, forced []string
		for _, e := range inform.child("Event").children {
			events = append(events, e.value("EventCode")+"/"+e.value("CommandKey"))
		}
		for _, p := range inform.child("ParameterList").children {
			forced = append(forced, p.value("Name"))
		}
		if !slices.Equal(events, []string{"0 BOOTSTRAP/", "1 BOOT/", "M Reboot/before"}) || inform.child("DeviceId").value("OUI") != "020000" || inform.value("RetryCount") != "2" || inform.value("MaxEnvelopes") != "1" ||
			!slices.Equal(forced, []string{"Device.DeviceInfo.HardwareVersion", "Device.DeviceInfo.ProvisioningCode", "Device.DeviceInfo.SoftwareVersion", "Device.ManagementServer.ConnectionRequestURL", "Device.ManagementServer.ParameterKey", "Device.RootDataModelVersion"}) {
			t.Errorf("%s: %v %v", name, events, forced)
		}
	}
}

// TestBadACS has servers that are none, or lie.
func TestBadACS(t *testing.T) {
	var kept Kept
	phone := aPhone(t, &kept)
	server := &acs{}
	base := serve(t, server)
	run := func(change func(*ACS)) error {
		a := base
		change(&a)
		_, err := a.Run(t.Context(), Identity{}, phone, []Occasion{{Event: Boot}}, 0)
		return err
	}
	for name, x := range map[string]struct {
		change func(*ACS)
		kind   ringfence.Kind
	}{
		"in the clear":           {func(a *ACS) { a.URL = "http://acs.example.com/" }, ringfence.KindInsecure},
		"no address":             {func(a *ACS) { a.URL = "acs.example.com" }, ringfence.KindInvalid},
		"another authority":      {func(a *ACS) { a.TLS = &tls.Config{RootCAs: testkit.NewAuthority("CA").Pool} }, ringfence.KindInsecure},
		"another name":           {func(a *ACS) { a.URL = "https://other.example.com/" }, ringfence.KindInsecure},
		"redirects to the clear": {func(a *ACS) { a.URL += "clear" }, ringfence.KindInsecure},
		"nonsense":               {func(a *ACS) { a.URL += "nonsense" }, ringfence.KindInvalid},
		"refuses":                {func(a *ACS) { a.URL += "refused" }, ringfence.KindDenied},
		"endless":                {func(a *ACS) { a.URL += "endless" }, ringfence.KindInvalid},
		"nobody": {func(a *ACS) {
			a.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errors.New("refused") }
		}, ringfence.KindUnavailable},
		"no name": {func(a *ACS) {
			a.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
		}, ringfence.KindUnavailable},
	} {
		if err := run(x.change); ringfence.KindOf(err) != x.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := run(func(a *ACS) { a.URL += "moved" }); err != nil {
		t.Errorf("a redirection: %v", err)
	}
	server.digest = true
	if err := run(func(a *ACS) { a.Password = "wrong" }); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("%v", err)
	}
	if err := run(func(a *ACS) { a.User = "" }); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("%v", err)
	}
	server.digest, server.basic = false, true
	if err := run(func(*ACS) {}); err != nil {
		t.Errorf("Basic: %v", err)
	}
	if err := run(func(a *ACS) { a.Named = true }); ringfence.KindOf(err) != ringfence.KindInsecure { // whoever answers by DHCP would learn the password
		t.Errorf("Basic to one that DHCP named: %v", err)
	}
	server.basic = false
	for range maxRPCs + 5 {
		server.requests = append(server.requests, "<c:GetRPCMethods/>")
	}
	if err := run(func(*ACS) {}); ringfence.KindOf(err) != ringfence.KindOverload {
		t.Errorf("%v", err)
	}
}

func TestDoorbell(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := &Doorbell{Path: "/guess", User: "acs", Password: "secret", Now: func() time.Time { return now }}
	get := func(path, authorization string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", authorization)
		d.ServeHTTP(w, r)
		return w
	}
	rung := func() bool {
		select {
		case <-d.Rung():
			return true
		default:
			return false
		}
	}
	if w := get("/", ""); w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
	w := get("/guess", "")
	challenges := w.Header().Values("WWW-Authenticate")
	if w.Code != http.StatusUnauthorized || len(challenges) != 2 || rung() {
		t.Fatalf("%d %q", w.Code, challenges)
	}
	for i, algorithm := range []sip.DigestAlgorithm{sip.DigestSHA256, sip.DigestMD5} {
		c, err := sip.ParseChallenge([]byte(challenges[i]))
		if err != nil || c.Algorithm != algorithm {
			t.Fatalf("%v %v", c, err)
		}
		with := func(password string, nc uint32) string {
			return c.Authorize(sip.Answer{Username: "acs", Password: password, Method: http.MethodGet, URI: "/guess", CNonce: "c", NC: nc})
		}
		n := uint32(i + 1)
		if w := get("/guess", with("wrong", n)); w.Code != http.StatusUnauthorized || rung() {
			t.Errorf("%d", w.Code)
		}
		if w := get("/guess", with("secret", n)); w.Code != http.StatusOK || !rung() {
			t.Errorf("%d", w.Code)
		}
		if w := get("/guess", with("secret", n)); w.Code != http.StatusUnauthorized || rung() { // heard on the way, and said again
			t.Errorf("%d", w.Code)
		}
	}
	c, _ := sip.ParseChallenge([]byte(challenges[1]))
	last := 0
	for n := range uint32(20) {
		last = get("/guess", c.Authorize(sip.Answer{Username: "acs", Password: "secret", Method: http.MethodGet, URI: "/guess", CNonce: "c", NC: n + 10})).Code
	}
	if last != http.StatusServiceUnavailable {
		t.Errorf("%d: an ACS can ask as often as it likes", last)
	}
	if w := httptest.NewRecorder(); true {
		if (&Doorbell{Path: "/", Now: time.Now}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil)); w.Code != http.StatusServiceUnavailable {
			t.Errorf("without a password: %d", w.Code)
		}
	}
}

func TestRetry(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 10: 2560 * time.Second, 50: 2560 * time.Second} {
		if d := retry(n, 5, 2000); d < want || d > 2*want {
			t.Errorf("%d: %v", n, d)
		}
		if d := retry(n, 30, 1000); d != 30*time.Second {
			t.Errorf("%d: %v", n, d)
		}
	}
	if d := retry(10, 65535, 65535); d <= 0 || d > longestRetry {
		t.Error(d)
	}
}

// TestClient keeps in touch while the ACS is gone and comes back.
func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept Kept
		phone := aPhone(t, &kept)
		var mu sync.Mutex
		var sessions []Session
		rung := make(chan struct{})
		c := &Client{Phone: phone, Rung: rung, Interval: func() (time.Duration, bool) { return time.Hour, true }, Tell: func(s Session) { mu.Lock(); defer mu.Unlock(); sessions = append(sessions, s) }, ACS: func() ACS {
			return ACS{URL: "https://acs.example.com/", Now: time.Now, Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no name server") }}
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() { reboot, _ := c.Run(ctx, []Occasion{{Event: Boot}}); ended <- reboot }()
		time.Sleep(2 * time.Minute)
		rung <- struct{}{}
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		n := len(sessions)
		last := sessions[n-1]
		mu.Unlock()
		// Waits of 5, 10, 20, 40 seconds and up to twice that.
		if n < 4 || n > 6 || !slices.Equal(last.Events, []Occasion{{Event: Boot}, {Event: Requested}}) || last.Error == "" {
			t.Errorf("%d %+v", n, last)
		}
		cancel()
		if <-ended {
			t.Error("it wants to restart")
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	f.Add(ask("1", "<c:GetParameterNames><ParameterPath>Device.</ParameterPath><NextLevel>1</NextLevel></c:GetParameterNames>"))
	f.Add(ask("1", `<c:SetParameterValues><ParameterList><ParameterValueStruct><Name>Device.X_RINGFENCE_Profile.Station_Name</Name><Value xsi:type="xsd:string">a</Value></ParameterValueStruct></ParameterList><ParameterKey>k</ParameterKey></c:SetParameterValues>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil || e.Method == "" {
			return
		}
		var kept Kept
		s := &server{phone: small{&kept}, cwmp: nsCWMP + "0", now: time.Now}
		answer, _ := s.answer(e)
		if back, err := ParseEnvelope(answer); err != nil || back.Method == "" {
			t.Errorf("%v: %s", err, answer)
		}
	})
}

// small is a phone of two parameters.
type small struct{ kept *Kept }

func (small) Parameters() []Parameter {
	return []Parameter{{Value: Value{"Device.A", "1", Unsigned}, Writable: true}, {Value: Value{"Device.B.C", "x", String}, Forced: true}}
}
func (small) Check(Value) error { return nil }
func (s small) Set(v []Value, key string) (bool, error) {
	s.kept.ParameterKey = key
	return len(v) > 1, nil
}

func (small) Attributes() map[string]string                     { return nil }
func (small) SetAttributes(map[string]string) error             { return nil }
func (small) Changed() []Parameter                              { return nil }
func (small) Heard() error                                      { return nil }
func (small) Schedule(Appointment) error                        { return nil }
func (small) Due(time.Time) (due []Appointment, next time.Time) { return nil, next }
func (small) Accept(Order) error                                { return nil }
func (small) Ordered() (Order, bool)                            { return Order{}, false }
func (small) Finish(Transfer) error                             { return nil }
func (small) Transfers() []Transfer                             { return nil }
func (small) Delivered(int) error                               { return nil }

func FuzzParseURL(f *testing.F) {
	f.Add("https://acs.example.com:7547/cwmp?x=1")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseURL(s); err == nil && (u.Scheme != "https" || u.Hostname() == "" || u.User != nil) {
			t.Errorf("%v", u)
		}
	})
}
