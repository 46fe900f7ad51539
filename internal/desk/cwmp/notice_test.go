package cwmp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

// informed returns the events and the names of the parameters of an Inform that an ACS heard.
func informed(t *testing.T, text string) (events, names []string) {
	t.Helper()
	n, err := tree([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	inform := n.child("Body").child("Inform")
	for _, e := range inform.child("Event").children {
		events = append(events, strings.TrimSuffix(e.value("EventCode")+"/"+e.value("CommandKey"), "/"))
	}
	for _, p := range inform.child("ParameterList").children {
		names = append(names, p.value("Name"))
	}
	return events, names
}

// TestValueChange has an ACS hear of what others changed, if it wants to or always does, and not of what it changed itself.
func TestValueChange(t *testing.T) {
	var kept Kept
	a := &acs{}
	server := serve(t, a)
	session := func(p *Profile, requests ...string) (events, names []string) {
		t.Helper()
		a.heard, a.requests = nil, requests
		if s, err := server.Run(t.Context(), Identity{}, p, []Occasion{{Event: Boot}}, 0); err != nil {
			t.Fatalf("%+v %v", s, err)
		}
		return informed(t, a.heard[0])
	}
	with := func(changes ...string) *Profile {
		set := flatprofile.NewSet(flatprofile.Parameters())
		for i := 0; i < len(changes); i += 2 {
			set.Put(flatprofile.Value{Name: changes[i], Value: changes[i+1], From: "test"})
		}
		return NewProfile(set, Identity{}, "1", "11.3.7", "http://192.0.2.1:8000/a", kept, func(k Kept) error { kept = k; return nil })
	}
	notify := func(n string, names ...string) string {
		list := ""
		for _, name := range names {
			list += "<SetParameterAttributesStruct><Name>" + name + "</Name><NotificationChange>1</NotificationChange><Notification>" + n + "</Notification></SetParameterAttributesStruct>"
		}
		return "<c:SetParameterAttributes><ParameterList>" + list + "</ParameterList></c:SetParameterAttributes>"
	}
	const station, cipher = "Device.X_RINGFENCE_Profile.Station_Name", "Device.X_CISCO_SecuritySettings.TLSCipherList"
	if events, _ := session(with("Station_Name", "one"), notify("2", station), notify("1", "Device.X_CISCO_SecuritySettings."), notify("1", "Device.DeviceInfo.")); !slices.Equal(events, []string{"1 BOOT"}) {
		t.Errorf("%v", events)
	}
	if kept.Notify[station] != "2" || kept.Notify[cipher] != "1" || kept.Notify["Device.DeviceInfo.SoftwareVersion"] != "" || kept.Notify["Device.DeviceInfo.SerialNumber"] != "1" {
		t.Errorf("%v", kept.Notify)
	}
	if events, _ := session(with("Station_Name", "one")); !slices.Equal(events, []string{"1 BOOT"}) {
		t.Errorf("nothing changed: %v", events)
	}
	events, names := session(with("Station_Name", "two", "TLS_Cipher_List", "ECDHE+AESGCM", "Proxy_1_", "elsewhere"))
	if !slices.Equal(events, []string{"1 BOOT", "4 VALUE CHANGE"}) || !slices.Contains(names, station) || !slices.Contains(names, cipher) || slices.Contains(names, "Device.X_RINGFENCE_Profile.Proxy_1_") {
		t.Errorf("%v %v", events, names)
	}
	for _, text := range []string{kept.Told[station], kept.Told[cipher]} {
		if text == "" || strings.Contains(text, "two") {
			t.Errorf("%q", text)
		}
	}
	// What the ACS sets itself it knows.
	p := with("Station_Name", "two", "TLS_Cipher_List", "ECDHE+AESGCM")
	set := `<c:SetParameterValues><ParameterList><ParameterValueStruct><Name>` + station + `</Name><Value xsi:type="xsd:string">three</Value></ParameterValueStruct></ParameterList><ParameterKey>k</ParameterKey></c:SetParameterValues>`
	if events, _ := session(p, set); !slices.Equal(events, []string{"1 BOOT"}) {
		t.Errorf("%v", events)
	}
	if events, names := session(p); !slices.Equal(events, []string{"1 BOOT"}) || slices.Contains(names, station) {
		t.Errorf("%v %v", events, names)
	}
	// What is always told: another place for connection requests.
	p.bell = "http://192.0.2.1:8000/b"
	if events, _ := session(p); !slices.Equal(events, []string{"1 BOOT", "4 VALUE CHANGE"}) {
		t.Errorf("%v", events)
	}
	if session(with("Station_Name", "two"), notify("0", station, cipher)); kept.Notify[station] != "" {
		t.Errorf("%v", kept.Notify)
	}
	// A session that fails has told nothing.
	p.bell = "http://192.0.2.1:8000/c"
	broken := server
	broken.URL += "refused"
	if _, err := broken.Run(t.Context(), Identity{}, p, []Occasion{{Event: Boot}}, 0); err == nil || len(p.Changed()) != 1 {
		t.Errorf("%v %v", err, p.Changed())
	}
}

const download = "<c:Download><CommandKey>d1</CommandKey><FileType>3 Vendor Configuration File</FileType><URL>https://prov.example.com/desk.xml</URL><Username>u</Username><Password>p</Password><FileSize>100</FileSize><DelaySeconds>%d</DelaySeconds></c:Download>"

// TestDownload has an ACS order a profile, which comes or not, and be told of it once.
func TestDownload(t *testing.T) {
	var kept Kept
	p := aPhone(t, &kept)
	s := &server{phone: p, cwmp: nsCWMP + "0", now: time.Now}
	if n, _, text := does(t, s, fmt.Sprintf(download, 0)); n.value("Status") != "1" || n.value("StartTime") != unknownTime || kept.Order == nil || kept.Order.URL != "https://prov.example.com/desk.xml" || kept.Order.Password != "p" {
		t.Errorf("%s %+v", text, kept)
	}
	if n, _, text := does(t, s, fmt.Sprintf(download, 0)); n.child("detail").child("Fault").value("FaultCode") != "9004" {
		t.Errorf("a second one: %s", text)
	}
	f, err := flatprofile.Parse([]byte("<flat-profile><Station_Name>new</Station_Name><Nobody_Knows>x</Nobody_Knows><RTP_Port_Min>99999</RTP_Port_Min><ACS_URL>http://evil.example/</ACS_URL><DND_Setting>No</DND_Setting></flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Take(f); err != nil || n != 2 || kept.Values["Station_Name"] != "new" || kept.Values["DND_Setting"] != "No" || kept.Values["ACS_URL"] != "" || kept.Values["RTP_Port_Min"] != "" {
		t.Errorf("%d %v %v", n, err, kept.Values)
	}
	if _, err := p.Take(&flatprofile.File{}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := p.Finish(Transfer{Key: "d1", Code: TransferAccess, Text: "gone", Started: began, Completed: began.Add(time.Second)}); err != nil || kept.Order != nil {
		t.Errorf("%v %+v", err, kept)
	}
	a := &acs{}
	server := serve(t, a)
	deaf := server
	deaf.URL += "deaf"
	if _, err := deaf.Run(t.Context(), Identity{}, p, nil, 0); ringfence.KindOf(err) != ringfence.KindDenied || len(p.Transfers()) != 1 {
		t.Errorf("%v %v", err, p.Transfers())
	}
	a.heard = nil
	session, err := server.Run(t.Context(), Identity{}, p, []Occasion{{Event: Boot}}, 0)
	events, _ := informed(t, a.heard[0])
	if err != nil || !slices.Equal(events, []string{"1 BOOT", "7 TRANSFER COMPLETE", "M Download/d1"}) || len(session.Done) != 1 || session.Done[0].Method != "TransferComplete" || len(p.Transfers()) != 0 {
		t.Errorf("%v %v %+v", err, events, session)
	}
	n, err := tree([]byte(a.heard[1]))
	if err != nil {
		t.Fatal(err)
	}
	if told := n.child("Body").child("TransferComplete"); told.value("CommandKey") != "d1" || told.child("FaultStruct").value("FaultCode") != "9016" || told.value("StartTime") != "2026-01-01T00:00:00Z" || told.value("CompleteTime") != "2026-01-01T00:00:01Z" {
		t.Errorf("%s", a.heard[1])
	}
	for kind, code := range map[ringfence.Kind]Code{ringfence.KindUnauthenticated: TransferAuthentication, ringfence.KindNotFound: TransferAccess, ringfence.KindInsecure: TransferContact, ringfence.KindInvalid: TransferCorrupted, ringfence.KindInternal: DownloadFailed} {
		if got := CodeOf(fault(kind, "x", "", nil)); got != code || got.text() == "" {
			t.Errorf("%v: %d", kind, got)
		}
	}
}

// TestAppointments has sessions at the times that the ACS asked for, and files taken after theirs.
func TestAppointments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept Kept
		p := aPhone(t, &kept)
		s := &server{phone: p, cwmp: nsCWMP + "0", now: time.Now}
		for i := range maxAppointments + 1 {
			n, _, text := does(t, s, fmt.Sprintf("<c:ScheduleInform><DelaySeconds>%d</DelaySeconds><CommandKey>s%d</CommandKey></c:ScheduleInform>", 600*(i/2+1), i))
			if refused := n.child("detail").child("Fault").value("FaultCode") == "9004"; refused != (i == maxAppointments) {
				t.Error(text)
			}
		}
		does(t, s, fmt.Sprintf(download, 900))
		var mu sync.Mutex
		var at []string
		began := time.Now()
		fetched, fails := 0, true
		c := &Client{Phone: p, Interval: func() (time.Duration, bool) { return 0, false }, Tell: func(s Session) {
			mu.Lock()
			defer mu.Unlock()
			var events []string
			for _, e := range s.Events {
				events = append(events, strings.TrimSuffix(string(e.Event)+"/"+e.Key, "/"))
			}
			at = append(at, fmt.Sprint(time.Since(began).Round(time.Second), " ", strings.Join(events, "+")))
		}, ACS: func() ACS {
			return ACS{URL: "https://acs.example.com/", Now: time.Now, Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no name server") }}
		}, Retry: func() (uint32, uint32) { return 65535, 1000 }, Fetch: func(context.Context, Order) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if fetched++; fails {
				return false, fault(ringfence.KindNotFound, "gone", "", nil)
			}
			return true, nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events, again := c.wait(ctx, 0, false, false)
		if d := time.Since(began); again || d != 10*time.Minute || len(events) != 3 || events[0].Event != Scheduled || events[1] != (Occasion{Asked, "s0"}) || events[2] != (Occasion{Asked, "s1"}) {
			t.Errorf("%v %v after %s", events, again, d)
		}
		if events, again = c.wait(ctx, time.Hour, true, false); again || len(events) != 0 || fetched != 1 || time.Since(began) != 15*time.Minute || len(p.Transfers()) != 1 || p.Transfers()[0].Code != TransferAccess {
			t.Errorf("%v %v %+v", events, again, p.Transfers())
		}
		does(t, s, fmt.Sprintf(download, 60))
		fails = false
		if _, again = c.wait(ctx, time.Hour, true, false); !again || fetched != 2 || len(p.Transfers()) != 2 || p.Transfers()[1].Code != 0 {
			t.Errorf("%v %+v", again, p.Transfers())
		}
		if events, _ = c.wait(ctx, 0, false, true); time.Since(began) != 20*time.Minute || len(events) != 3 { // also while sessions fail
			t.Errorf("%v after %s", events, time.Since(began))
		}
		if events, again = c.wait(ctx, time.Minute, true, false); again || !slices.Equal(events, []Occasion{{Event: Periodic}}) {
			t.Errorf("%v", events)
		}
		ended := make(chan bool)
		go func() { reboot, _ := c.Run(ctx, []Occasion{{Event: Boot}}); ended <- reboot }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		cancel()
		if <-ended {
			t.Error("it wants to restart")
		}
		mu.Lock()
		defer mu.Unlock()
		if len(at) != 2 || !strings.Contains(at[1], "1 BOOT+3 SCHEDULED+M ScheduleInform/s4+M ScheduleInform/s5+7 TRANSFER COMPLETE") { // the ACS is gone: what there is to say is said again
			t.Errorf("%q", at)
		}
	})
}

// TestPeriodicTime has informs at the times that an ACS chose, and at none that is nonsense.
func TestPeriodicTime(t *testing.T) {
	var kept Kept
	p := aPhone(t, &kept)
	s := &server{phone: p, cwmp: nsCWMP + "0", now: time.Now}
	put := func(value string) *node {
		n, _, _ := does(t, s, `<c:SetParameterValues><ParameterList><ParameterValueStruct><Name>Device.ManagementServer.PeriodicInformTime</Name><Value xsi:type="xsd:dateTime">`+value+`</Value></ParameterValueStruct></ParameterList><ParameterKey>k</ParameterKey></c:SetParameterValues>`)
		return n
	}
	now := time.Date(2026, 3, 1, 12, 10, 0, 0, time.UTC)
	if d := kept.Periodic(time.Hour, now); d != time.Hour {
		t.Error(d)
	}
	if n := put("tomorrow"); n.name != "Fault" || kept.PeriodicTime != "" {
		t.Errorf("%+v", n)
	}
	for value, want := range map[string]time.Duration{"2026-01-01T00:15:00Z": 5 * time.Minute, "2026-01-01T00:05:00+01:00": 55 * time.Minute, "2030-01-01T00:10:00Z": time.Hour, "0001-01-01T00:00:00Z": time.Hour} {
		if n := put(value); n.name != "SetParameterValuesResponse" || kept.Periodic(time.Hour, now) != want {
			t.Errorf("%s: %+v %s", value, n, kept.Periodic(time.Hour, now))
		}
	}
}
