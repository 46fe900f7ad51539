package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ringfence/internal/desk/feature"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/linekey"
	"ringfence/internal/desk/paging"
)

// featureUses says what the parameters did that are about keys, calls, pages, certificates and firmware.
func (d *deskPhone) featureUses(set *flatprofile.Set, did map[string]string) {
	s := feature.Of(set)
	switched := func(name, on, off string) { did[name] = map[bool]string{true: on, false: off}[set.Yes(name)] }
	for n := 1; n <= flatprofile.Keys; n++ {
		name := fmt.Sprintf("Extended_Function_%d_", n)
		if f, ok := s.Keys[n]; ok {
			did[name] = keyDoes(f, s.Codes)
		} else if set.Text(name) != "" {
			did[name] = "is not understood, and the key does nothing"
		}
	}
	for n, to := range s.Speed {
		did[fmt.Sprintf("Speed_Dial_%d_Number", n)] = "`phone do speed " + strconv.Itoa(n) + "` calls " + to.Number
		did[fmt.Sprintf("Speed_Dial_%d_Name", n)] = "what it is called"
	}
	for name, x := range map[string]struct{ to, who string }{"Cfwd_All_Dest": {s.Forward.All, "all callers"}, "Cfwd_Busy_Dest": {s.Forward.Busy, "callers who find the line busy"}, "Cfwd_No_Ans_Dest": {s.Forward.NoAnswer, "callers whom nobody answers"}} {
		if x.to != "" {
			did[name] = x.who + " are sent to " + x.to
		} else if set.Text(name) != "" {
			did[name] = "forwarding is switched off"
		}
	}
	did["Cfwd_No_Ans_Delay"] = "after " + s.Forward.After.String() + " nobody answers"
	switched("DND_Setting", "callers hear that the phone is busy", "callers are let through")
	switched("CW_Setting", "a second call rings during the first", "a second caller hears that the line is busy")
	switched("Block_ANC_Setting", "callers who hide are refused", "callers may hide")
	switched("Block_CID_Setting", "our name is withheld", "our name is told")
	switched("Auto_Answer_Page", "pages by SIP are answered at once", "pages by SIP ring")
	for name, what := range map[string]string{"Conference_Serv": "conferences", "Blind_Transfer_Serv": "transfers without a question", "Attn_Transfer_Serv": "transfers with one", "DND_Serv": "do-not-disturb", "Call_Park_Serv": "parking", "Call_Pick_Up_Serv": "picking up", "Group_Call_Pick_Up_Serv": "picking up in the group", "Paging_Serv": "paging",
		"Cfwd_Setting": "forwarding", "Cfwd_All_Serv": "forwarding of all calls", "Cfwd_Busy_Serv": "forwarding if busy", "Cfwd_No_Ans_Serv": "forwarding without an answer"} {
		switched(name, what+": allowed", what+": switched off")
	}
	for name, what := range map[string]string{"Attendant_Console_Call_Pickup_Code": "dialled before the number that rings", "Group_Call_Pickup_Code": "dialled for what rings in the group", "Call_Park_Code": "transferred to, with the place", "Call_Unpark_Code": "dialled before the place",
		"Voice_Mail_Number": "what the mailbox key calls", "Call_Appearances_Per_Line": "so many calls of a line"} {
		did[name] = what
	}
	if s.List != "" {
		did["BLF_List_URI"] = fmt.Sprintf("the server tells of %s by one subscription; %d keys are free for it", s.List, len(s.ListKeys))
		did["BLF_List_Feature_Options"] = keyDoes(s.ListFunction, s.Codes)
		did["Use_Line_Keys_For_BLF_List"], did["Number_of_Units"] = "which keys it has", "and how many more"
	}
	switch p := s.Paging; {
	case p.Refused != nil:
		did[paging.ScriptParameter] = "no pages: " + p.Reason
	case len(p.Groups) > 0:
		did[paging.ScriptParameter] = fmt.Sprintf("pages %d groups and listens to %d, IN THE CLEAR", len(p.Groups), len(p.Heard()))
	}
	switched(paging.ClearParameter, "pages by multicast although lines are sealed", "no pages by multicast if a line is sealed")
	_, _, own := d.certificate(set.Get(certificateSelect), time.Now())
	did[certificateSelect] = "the phone proves itself with " + own.String()
	if set.Text("CDC_Server_1_") != "" {
		did["CDC_Server_1_"], did["CDC_Challenge_Password_1_"] = "`phone up` gets the certificate of the site there, by EST", "proves who asks for it"
	}
	if shares(set) {
		did["Peer_Firmware_Sharing"], did["Peer_Firmware_Sharing_Log_Server"] = "phones of the link are asked for firmware before the server", "hears of that by syslog"
	} else {
		did["Peer_Firmware_Sharing"] = "no phone is asked for firmware: Yes has to stand in the profile"
	}
}

// keyDoes says what a key does.
func keyDoes(f linekey.Function, codes feature.Codes) string {
	var out []string
	add := func(on bool, format string, args ...any) {
		if on {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	of := ""
	if f.Target != "" {
		of = " of " + f.Target
	}
	add(f.Lamp, "shows the calls%s", of)
	add(f.Mailbox, "shows the messages%s", of)
	add(f.Dials && f.Dialled() != "", "calls %s", f.Dialled())
	add(f.Dials && f.Dialled() == "", "calls them")
	add(f.PicksUp && codes.PickUp != "", "picks up what rings there, if need be by %s", codes.PickUp)
	add(f.PicksUp && codes.PickUp == "", "picks nothing up, since that is switched off")
	add(f.Parks && codes.Park != "", "parks calls%s by %s, and takes them by %s", of, codes.Park, codes.Retrieve)
	add(f.Parks && codes.Park == "", "parks nothing, since that is switched off")
	return strings.Join(out, "; ")
}
