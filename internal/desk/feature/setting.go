package feature

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/linekey"
	"ringfence/internal/desk/paging"
)

// Forwarding is where calls of a line go.
type Forwarding struct {
	All      string        `json:"all,omitempty"`
	Busy     string        `json:"busy,omitempty"`
	NoAnswer string        `json:"no_answer,omitempty"`
	After    time.Duration `json:"-"` // of ringing, for NoAnswer
}

// Setting is how the features are set.
type Setting struct {
	Forward        Forwarding
	DoNotDisturb   bool
	Waiting        bool // a second call rings during the first
	NoAnonymous    bool // callers who hide are refused
	Hidden         bool // we hide who calls
	Pages          bool // pages are answered by themselves
	Appearances    int  // calls of a line
	Conference     bool // these can be switched off
	Blind          bool
	Attended       bool
	Speed          map[int]Dial // 2 to 9
	Keys           map[int]linekey.Function
	Wrong          []string       // of keys that cannot be understood
	Mailbox        map[int]string // by line: whose messages are watched; there only if they are
	KeepMissed     map[int]bool
	VoiceMail      string // its number
	Codes          Codes
	Paging         paging.Setting
	List           string           // whose lamps are shown: a list of the server's (BLF_List_URI)
	ListFunction   linekey.Function // of each of its keys
	ListKeys       []int            // the keys that it has, in order
	ForwardAllowed map[Kind]bool
}

// Codes are what a server wants to have dialled, with a number behind it. An empty one is switched off.
type Codes struct {
	PickUp      string // Attendant_Console_Call_Pickup_Code: what rings there
	PickUpGroup string // Group_Call_Pickup_Code: what rings in the group, without a number
	Park        string // Call_Park_Code: transferred to, with the place
	Retrieve    string // Call_Unpark_Code: with the place
}

// Dial is a number with a name.
type Dial struct {
	Name   string `json:"name,omitempty"`
	Number string `json:"number"`
}

// Of reads how the features are set.
func Of(set *flatprofile.Set) Setting {
	dest := func(service, name string) string {
		if !set.Yes("Cfwd_Setting") || !set.Yes(service) {
			return ""
		}
		return set.Text(name)
	}
	s := Setting{Forward: Forwarding{All: dest("Cfwd_All_Serv", "Cfwd_All_Dest"), Busy: dest("Cfwd_Busy_Serv", "Cfwd_Busy_Dest"), NoAnswer: dest("Cfwd_No_Ans_Serv", "Cfwd_No_Ans_Dest")},
		DoNotDisturb: set.Yes("DND_Setting") && set.Yes("DND_Serv"), Waiting: set.Yes("CW_Setting"), NoAnonymous: set.Yes("Block_ANC_Setting") && set.Yes("Block_ANC_Serv"), Hidden: set.Yes("Block_CID_Setting") && set.Yes("Block_CID_Serv"), Pages: set.Yes("Auto_Answer_Page") && set.Yes("Paging_Serv"),
		Conference: set.Yes("Conference_Serv"), Blind: set.Yes("Blind_Transfer_Serv"), Attended: set.Yes("Attn_Transfer_Serv"), VoiceMail: set.Text("Voice_Mail_Number"),
		Speed: map[int]Dial{}, Keys: map[int]linekey.Function{}, Mailbox: map[int]string{}, KeepMissed: map[int]bool{},
		ForwardAllowed: map[Kind]bool{All: set.Yes("Cfwd_Setting") && set.Yes("Cfwd_All_Serv"), Busy: set.Yes("Cfwd_Setting") && set.Yes("Cfwd_Busy_Serv"), NoAnswer: set.Yes("Cfwd_Setting") && set.Yes("Cfwd_No_Ans_Serv")}}
	number := func(name string, otherwise, low, high int) int {
		if n, err := strconv.Atoi(set.Text(name)); err == nil && n >= low && n <= high {
			return n
		}
		return otherwise
	}
	s.Forward.After = time.Duration(number("Cfwd_No_Ans_Delay", 20, 0, 255)) * time.Second
	s.Appearances = number("Call_Appearances_Per_Line", 2, 2, 10)
	for i := 2; i <= 9; i++ {
		if to := set.Text(fmt.Sprintf("Speed_Dial_%d_Number", i)); to != "" {
			s.Speed[i] = Dial{set.Text(fmt.Sprintf("Speed_Dial_%d_Name", i)), to}
		}
	}
	for i := 1; i <= flatprofile.Keys; i++ {
		v := set.Get(fmt.Sprintf("Extended_Function_%d_", i))
		switch f, err := linekey.Parse(expand(set, v.Value)); {
		case err != nil:
			s.Wrong = append(s.Wrong, fmt.Sprintf("%s (%s): %v", v.Name, v.Where(), err))
		case f != linekey.Function{}:
			s.Keys[i] = f
		}
	}
	s.buttons(set)
	s.Paging = paging.Of(set)
	for n := 1; n <= flatprofile.Lines; n++ {
		s.KeepMissed[n] = set.Yes(fmt.Sprintf("Log_Missed_Calls_for_EXT_%d", n))
		if !set.Yes(fmt.Sprintf("Voice_Mail_Enable_%d_", n)) {
			continue
		}
		box := set.Text(fmt.Sprintf("Mailbox_ID_%d_", n))
		if server := set.Text(fmt.Sprintf("Voice_Mail_Server_%d_", n)); server != "" && box != "" && !strings.Contains(box, "@") {
			box += "@" + server
		}
		s.Mailbox[n] = box // empty: the line's own
	}
	return s
}

// UnitKeys is how many keys a key expansion module has. The keys of the first one are 101 and so on.
const UnitKeys = 28

// buttons reads what the keys need besides their functions.
func (s *Setting) buttons(set *flatprofile.Set) {
	code := func(service, name string) string {
		if !set.Yes(service) {
			return ""
		}
		return set.Text(name)
	}
	s.Codes = Codes{PickUp: code("Call_Pick_Up_Serv", "Attendant_Console_Call_Pickup_Code"), PickUpGroup: code("Group_Call_Pick_Up_Serv", "Group_Call_Pickup_Code"),
		Park: code("Call_Park_Serv", "Call_Park_Code"), Retrieve: code("Call_Park_Serv", "Call_Unpark_Code")}
	if s.List = expand(set, set.Text("BLF_List_URI")); s.List == "" {
		return
	}
	if err := s.ListFunction.Set(set.Text("BLF_List_Feature_Options")); err != nil {
		s.ListFunction = linekey.Function{Lamp: true, Dials: true, PicksUp: true}
	}
	if set.Yes("Use_Line_Keys_For_BLF_List") {
		for key := 1; key <= flatprofile.Keys; key++ {
			if _, taken := s.Keys[key]; !taken && set.Text(fmt.Sprintf("User_ID_%d_", key)) == "" {
				s.ListKeys = append(s.ListKeys, key)
			}
		}
	}
	units, err := strconv.Atoi(set.Text("Number_of_Units"))
	for unit := 1; err == nil && unit <= min(units, 3); unit++ {
		for key := 1; key <= UnitKeys; key++ {
			s.ListKeys = append(s.ListKeys, 100*unit+key)
		}
	}
}

// expand puts the server and the user of a key's line for $PROXY and $USER.
func expand(set *flatprofile.Set, text string) string {
	if !strings.Contains(text, "$") {
		return text
	}
	n := 1
	for part := range strings.SplitSeq(text, ";") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(part), "vid="); ok {
			if i, err := strconv.Atoi(v); err == nil && i >= 1 && i <= flatprofile.Lines {
				n = i
			}
		}
	}
	proxy := set.Text(fmt.Sprintf("Proxy_%d_", n))
	if host, port, ok := strings.Cut(proxy, ":"); ok && !strings.Contains(port, ":") { // SRV and A records alike: the domain has no port
		proxy = host
	}
	return strings.NewReplacer("$PROXY", proxy, "$USER", set.Text(fmt.Sprintf("User_ID_%d_", n))).Replace(text)
}
