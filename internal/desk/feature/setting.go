package feature

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
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
	Keys           map[int]Function
	Wrong          []string       // of keys that cannot be understood
	Mailbox        map[int]string // by line: whose messages are watched; there only if they are
	KeepMissed     map[int]bool
	VoiceMail      string // its number
	Codes          Codes
	Paging         paging.Setting
	List           string   // whose lamps are shown: a list of the server's (BLF_List_URI)
	ListFunction   Function // of each of its keys
	ListKeys       []int    // the keys that it has, in order
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

// Function is what a line key does besides being a line.
type Function struct {
	Lamp    bool   `json:"lamp"`             // blf: it shows whether Target is in a call
	Dials   bool   `json:"dials"`            // sd
	PicksUp bool   `json:"picks_up"`         // cp: pressed while Target rings, it takes the call
	Parks   bool   `json:"parks"`            // prk: Target is a place where calls are parked; pressed in a call it parks it there, else it takes the one that is there
	Mailbox bool   `json:"mailbox"`          // mwi: it shows whether messages wait for Target
	Target  string `json:"target"`           // whose calls, place or mailbox it shows
	Number  string `json:"number,omitempty"` // what is dialled; empty: Target
	Line    int    `json:"line,omitempty"`   // on which line; 0: the first that is registered
	Name    string `json:"name,omitempty"`
}

// shows reports whether the key has a lamp.
func (f Function) shows() bool { return f.Lamp || f.Parks || f.Mailbox }

// dialled is what the key dials.
func (f Function) dialled() string { return cmp.Or(f.Number, f.Target) }

// String returns the functions as a profile writes them, such as blf+sd+cp.
func (f Function) String() string {
	var out []string
	for _, x := range []struct {
		on   bool
		name string
	}{{f.Mailbox, "mwi"}, {f.Lamp, "blf"}, {f.Dials, "sd"}, {f.PicksUp, "cp"}, {f.Parks, "prk"}} {
		if x.on {
			out = append(out, x.name)
		}
	}
	return strings.Join(out, "+")
}

// maxFunction bounds the text of a key.
const maxFunction = 1024

// set switches functions on by their names.
func (f *Function) set(names string) error {
	for what := range strings.SplitSeq(strings.ToLower(names), "+") {
		switch strings.TrimSpace(what) {
		case "blf":
			f.Lamp = true
		case "sd":
			f.Dials = true
		case "cp":
			f.PicksUp = true
		case "prk":
			f.Parks = true
		case "mwi":
			f.Mailbox = true
		default:
			return fmt.Errorf("this phone has no function %.40q for a key", what)
		}
	}
	switch {
	case f.PicksUp && !f.Lamp:
		return errors.New("only a key with a busy lamp (blf) can pick up (cp)")
	case f.Parks && (f.Lamp || f.Dials || f.Mailbox), f.Mailbox && f.Lamp:
		return fmt.Errorf("one key cannot be %s", f)
	}
	return nil
}

// ParseFunction reads what a key does, such as "fnc=blf+sd+cp;sub=102@pbx.example.com;nme=Bob". A key without one is none.
func ParseFunction(s string) (f Function, err error) {
	bad := func(format string, args ...any) (Function, error) {
		return Function{}, &ringfence.Fault{Op: "feature.key", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...), Hint: "write fnc=blf+sd+cp;sub=102@pbx.example.com;nme=Bob, fnc=sd;ext=103, fnc=prk;sub=701@pbx.example.com or fnc=mwi;sub=104@pbx.example.com"}
	}
	if len(s) > maxFunction {
		return bad("the function of a key has more than %d letters", maxFunction)
	}
	functions := false
	for part := range strings.SplitSeq(s, ";") {
		name, value, found := strings.Cut(part, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case name == "" && !found:
		case !found:
			return bad("%.40q says nothing", name)
		case name == "fnc":
			if err := f.set(value); err != nil {
				return bad("%v", err)
			}
			functions = true
		case name == "sub":
			f.Target = value
		case name == "ext":
			f.Number = value
		case name == "vid":
			if f.Line, err = strconv.Atoi(value); err != nil || f.Line < 1 || f.Line > flatprofile.Lines {
				return bad("%.20q is no line (vid=)", value)
			}
		case name == "nme":
			f.Name = value
		}
	}
	if f.Target == "" {
		f.Target, f.Number = f.Number, ""
	}
	wrong := func(s string) bool { return strings.ContainsAny(s, " \t\r\n<>\"\x00") || len(s) > 256 }
	switch {
	case !functions && f.Target == "":
		return Function{}, nil
	case f.Target == "" || wrong(f.Target) || wrong(f.Number):
		return bad("the key has no number (sub= or ext=)")
	case !functions:
		return bad("the key has a number and no function (fnc=)")
	}
	return f, nil
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
		Speed: map[int]Dial{}, Keys: map[int]Function{}, Mailbox: map[int]string{}, KeepMissed: map[int]bool{},
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
		switch f, err := ParseFunction(expand(set, v.Value)); {
		case err != nil:
			s.Wrong = append(s.Wrong, fmt.Sprintf("%s (%s): %v", v.Name, v.Where(), err))
		case f != Function{}:
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
	if err := s.ListFunction.set(set.Text("BLF_List_Feature_Options")); err != nil {
		s.ListFunction = Function{Lamp: true, Dials: true, PicksUp: true}
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
