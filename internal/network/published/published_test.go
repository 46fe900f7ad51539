package published

import (
	"slices"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

const microsoft = `[
 {"id": 11, "serviceArea": "Skype", "serviceAreaDisplayName": "Microsoft Teams", "ips": ["52.112.0.0/14", "52.122.0.0/15", "2603:1063::/38"], "udpPorts": "3478,3479,3480,3481", "expressRoute": true, "category": "Optimize", "required": true},
 {"id": 12, "serviceArea": "Skype", "serviceAreaDisplayName": "Microsoft Teams", "urls": ["*.lync.com", "*.teams.example"], "ips": ["52.112.0.0/14"], "tcpPorts": "443,80", "expressRoute": true, "category": "Allow", "required": true, "notes": "signalling"},
 {"id": 16, "serviceArea": "Skype", "urls": ["*.lync.com", "statics.example"], "tcpPorts": "443", "category": "Default", "required": true},
 {"id": 17, "serviceArea": "Skype", "urls": ["extra.example"], "tcpPorts": "443", "category": "Default", "required": false},
 {"id": 31, "serviceArea": "SharePoint", "urls": ["*.sharepoint.example"], "ips": ["13.107.136.0/22"], "tcpPorts": "80,443", "category": "Optimize", "required": true}
]`

const amazon = `{"syncToken": "1700000000", "createDate": "2023-11-14-22-13-20",
 "prefixes": [
  {"ip_prefix": "3.80.16.0/21", "region": "us-east-1", "service": "CHIME_VOICECONNECTOR", "network_border_group": "us-east-1"},
  {"ip_prefix": "3.80.16.0/23", "region": "us-east-1", "service": "CHIME_MEETINGS", "network_border_group": "us-east-1"},
  {"ip_prefix": "3.80.17.0/24", "region": "us-east-1", "service": "CHIME_VOICECONNECTOR", "network_border_group": "us-east-1"},
  {"ip_prefix": "99.77.253.0/24", "region": "us-west-2", "service": "CHIME_VOICECONNECTOR", "network_border_group": "us-west-2"}],
 "ipv6_prefixes": [{"ipv6_prefix": "2600:9000::/28", "region": "us-east-1", "service": "CHIME_VOICECONNECTOR", "network_border_group": "us-east-1"}]}`

const google = `{"syncToken": "1700000000000", "creationTime": "2023-11-14T22:13:20", "prefixes": [{"ipv4Prefix": "74.125.250.0/24"}, {"ipv6Prefix": "2001:4860:4864:5::/64"}]}`

const plain = `# a list as firewalls take them
3.7.35.0/25
3.7.35.5   ; inside the one above
2620:123:2000::/40,
*.zoom.example # names
`

func read(t *testing.T, text, format string, o Options) *need.Set {
	t.Helper()
	s, err := Read([]byte(text), format, o)
	if err != nil {
		t.Fatal(format, err, ringfence.HintOf(err))
	}
	return s
}

func rows(s *need.Set) (out []string) {
	for _, n := range s.Needs {
		var ports []string
		for _, p := range n.ToPorts {
			ports = append(ports, p.String())
		}
		var nets []string
		for _, p := range s.NetworksOf(n.To[0]) {
			nets = append(nets, p.String())
		}
		out = append(out, n.ID+" "+strings.Join(ports, ",")+" "+strings.Join(nets, ","))
	}
	for _, d := range s.Domains {
		out = append(out, d.Pattern)
	}
	return out
}

// TestLists has each list become the rows that its publisher means, and nothing that he does not say.
func TestLists(t *testing.T) {
	for name, c := range map[string]struct {
		set  *need.Set
		want []string
	}{
		"microsoft": {read(t, microsoft, "microsoft365", Options{ID: "teams", Services: []string{"skype"}}), []string{
			"m365-11-udp 3478,3479,3480,3481 52.112.0.0/14,52.122.0.0/15,2603:1063::/38", "m365-12-tcp 443,80 52.112.0.0/14", "*.lync.com", "*.teams.example", "statics.example"}},
		"microsoft, what is optional": {read(t, microsoft, "microsoft365", Options{ID: "m", Optional: true, Services: []string{"SharePoint", "Skype"}}), []string{
			"m365-11-udp 3478,3479,3480,3481 52.112.0.0/14,52.122.0.0/15,2603:1063::/38", "m365-12-tcp 443,80 52.112.0.0/14", "m365-31-tcp 80,443 13.107.136.0/22", "*.lync.com", "*.teams.example", "statics.example", "extra.example", "*.sharepoint.example"}},
		"aws": {read(t, amazon, "aws", Options{ID: "chime", Services: []string{"CHIME_VOICECONNECTOR"}, Regions: []string{"us-east-1"}, TCP: []need.Ports{{First: 5061, Last: 5061}}, UDP: []need.Ports{{First: 5000, Last: 65000}}}), []string{
			"aws-chime-voiceconnector-tcp 5061 3.80.16.0/21,2600:9000::/28", "aws-chime-voiceconnector-udp 5000-65000 3.80.16.0/21,2600:9000::/28"}},
		"google": {read(t, google, "google", Options{ID: "meet", UDP: []need.Ports{{First: 3478, Last: 3478}, {First: 19302, Last: 19309}}}), []string{
			"google-google-udp 3478,19302-19309 74.125.250.0/24,2001:4860:4864:5::/64"}},
		"plain": {read(t, plain, "plain", Options{ID: "zoom", UDP: []need.Ports{{First: 8801, Last: 8810}}}), []string{
			"service-udp 8801-8810 3.7.35.0/25,2620:123:2000::/40", "*.zoom.example"}},
	} {
		if got := rows(c.set); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q\nwant\n%q", name, got, c.want)
		}
	}
}

// TestResolved has a site that uses such a service say only who its clients are.
func TestResolved(t *testing.T) {
	set := read(t, microsoft, "microsoft365", Options{ID: "teams", Services: []string{"Skype"}})
	s, err := site.Parse([]byte("set: teams\nipv6: true\nnetworks:\n  client: [10.0.0.0/8, 2001:db8::/32]\n"), "site.yaml", set)
	if err != nil {
		t.Fatal(err)
	}
	if p := site.Resolve(set, s); len(p.Missing) > 0 || len(p.Rows) != 2 {
		t.Errorf("%+v", p)
	}
}

func TestRefused(t *testing.T) {
	ports := []need.Ports{{First: 443, Last: 443}}
	for _, c := range []struct {
		text, format string
		o            Options
		want         string
	}{
		{microsoft, "microsoft365", Options{}, "id of its own"},
		{microsoft, "microsoft365", Options{ID: "self"}, "id of its own"},
		{microsoft, "newspaper", Options{ID: "x"}, "no list that is known"},
		{microsoft, "microsoft365", Options{ID: "x", Services: []string{"Exchange"}}, "nothing is left"},
		{"{}", "microsoft365", Options{ID: "x"}, "not Microsoft's endpoints"},
		{"[]", "aws", Options{ID: "x", TCP: ports}, "not ip-ranges.json"},
		{"{}", "google", Options{ID: "x", TCP: ports}, "no list of Google's"},
		{google, "google", Options{ID: "x"}, "no ports"},
		{plain, "plain", Options{ID: "x"}, "no ports"},
		{"one\n", "plain", Options{ID: "x", TCP: ports}, "line 1"},
		{"10.0.0.0/33\n", "plain", Options{ID: "x", TCP: ports}, "line 1"},
		{`[{"id":1,"serviceArea":"A","required":true,"ips":["10.0.0.0/8"],"tcpPorts":"443-80"}]`, "microsoft365", Options{ID: "x"}, "neither a port"},
		{`[{"id":1,"serviceArea":"A","required":true,"ips":["10.0.0.0/64"],"tcpPorts":"443"}]`, "microsoft365", Options{ID: "x"}, "is no network"},
		{`[{"id":1,"serviceArea":"A","required":true,"ips":["10.0.0.0/8"],"tcpPorts":"443"},{"id":1,"serviceArea":"A","required":true,"ips":["11.0.0.0/8"],"tcpPorts":"443"}]`, "microsoft365", Options{ID: "x"}, "comes twice"},
	} {
		if _, err := Read([]byte(c.text), c.format, c.o); err == nil || !strings.Contains(err.Error(), c.want) || ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s %.40s: %v, want %q", c.format, c.text, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	for format, text := range map[string]string{"microsoft365": microsoft, "aws": amazon, "google": google, "plain": plain} {
		f.Add(format, []byte(text))
	}
	f.Fuzz(func(t *testing.T, format string, b []byte) {
		s, err := Read(b, format, Options{ID: "x", TCP: []need.Ports{{First: 443, Last: 443}}})
		if err == nil && len(s.Check()) > 0 {
			t.Error(s.Check())
		} else if err != nil && ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Error(err)
		}
	})
}
