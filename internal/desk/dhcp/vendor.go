package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// The enterprises whose options are understood: the Broadband Forum, which tells of the ACS (TR-069 section 3.1), and the maker of the phones, whose options are numbered as those of DHCP are.
const (
	broadbandForum = 3561
	phoneMaker     = 9
)

// forumClass is the vendor class of option 60 by which option 43 is the Broadband Forum's.
const forumClass = "dslforum.org"

// place reads where the profile is, as options 66, 150, 159 and 160 say it: a text, or addresses.
func place(b []byte) (string, string) {
	if len(b) == 4 {
		found, why := addresses(b, 4)
		if why != "" {
			return "", why
		}
		return found[0].String(), ""
	}
	s, why := word(b)
	if why != "" && len(b)%4 == 0 && len(b) > 0 {
		if found, bad := addresses(b, 4); bad == "" {
			return found[0].String(), ""
		}
	}
	return s, why
}

// places are the options that a maker's own option has in it.
func places(sub map[uint16][]byte) (string, string) {
	for _, code := range []uint16{160, 159, 66, 150} {
		if b, ok := sub[code]; ok {
			if s, why := place(b); why == "" {
				return s, ""
			}
		}
	}
	return "", "it names no place that is understood"
}

// forum reads what the Broadband Forum's options say of the ACS; first is the number of the first of four.
func forum(sub map[uint16][]byte, first, option uint16) (*ACS, string) {
	at := func(n uint16) string { s, _ := words(sub[first+n]); return s }
	a := &ACS{URL: at(0), ProvisioningCode: at(1), RetryWait: at(2), RetryMultiplier: at(3), Option: option}
	switch {
	case a.URL == "":
		return nil, "it names no auto-configuration server"
	case !strings.HasPrefix(a.URL, "https://"):
		return nil, fmt.Sprintf("the auto-configuration server %.80s is not reached by HTTPS", a.URL)
	}
	return a, ""
}

// vendor43 reads option 43: whose it is says option 60.
func (a *Answer) vendor43(b []byte) (value, why string) {
	if s, bad := word(b); bad == "" && strings.Contains(s, "://") { // some servers write the address itself
		a.places[43] = s
		return s, ""
	}
	sub, why := suboptions(b, false)
	if why != "" {
		return "", why
	}
	if strings.Contains(a.Class, forumClass) {
		acs, why := forum(sub, 1, 43)
		if why != "" {
			return "", why
		}
		a.ACS = acs
		return "ACS " + acs.URL, ""
	}
	s, why := places(sub)
	if why != "" {
		return "", why
	}
	a.places[43] = s
	return s, ""
}

// enterprise reads the data of one enterprise.
func (a *Answer) enterprise(option uint16, number uint32, data []byte, wide bool) (value, why string) {
	sub, why := suboptions(data, wide)
	if why != "" {
		return "", why
	}
	switch number {
	case broadbandForum:
		first := uint16(11) // TR-069 table 4
		if wide {
			first = 1
		}
		acs, why := forum(sub, first, option)
		if why != "" {
			return "", why
		}
		if a.ACS == nil || a.ACS.Option == 43 { // what names its enterprise is surer
			a.ACS = acs
		}
		return "ACS " + acs.URL, ""
	case phoneMaker:
		s, why := places(sub)
		if why == "" {
			a.places[option] = s
		}
		return s, why
	}
	return "", fmt.Sprintf("enterprise %d is not known", number)
}

// vendor125 reads option 125 of DHCPv4 (RFC 3925): one block after the other.
func (a *Answer) vendor125(b []byte) (value, why string) {
	var good, wrong []string
	for n := 0; len(b) > 0 && n < maxAddresses; n++ {
		if len(b) < 5 || len(b) < 5+int(b[4]) {
			wrong = append(wrong, "a block of it is cut short")
			break
		}
		v, bad := a.enterprise(125, binary.BigEndian.Uint32(b), b[5:5+int(b[4])], false)
		if bad != "" {
			wrong = append(wrong, bad)
		} else {
			good = append(good, v)
		}
		b = b[5+int(b[4]):]
	}
	if len(good) == 0 && len(wrong) == 0 {
		wrong = []string{"it is empty"}
	}
	return strings.Join(good, ", "), strings.Join(wrong, ", ")
}

func addr(a netip.Addr) string { return a.String() }
