package feature

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
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
	ForwardAllowed map[Kind]bool
}

// Dial is a number with a name.
type Dial struct {
	Name   string `json:"name,omitempty"`
	Number string `json:"number"`
}

// Function is what a line key does besides being a line: a busy lamp, a speed dial, or both.
type Function struct {
	Lamp   bool   `json:"lamp"`
	Dials  bool   `json:"dials"`
	Target string `json:"target"` // whose calls the lamp shows, or what is dialled
	Name   string `json:"name,omitempty"`
}

// maxFunction bounds the text of a key.
const maxFunction = 1024

// ParseFunction reads what a key does, such as "fnc=blf+sd+cp;sub=102@pbx.example.com;nme=Bob". A key without one is none.
func ParseFunction(s string) (f Function, err error) {
	bad := func(format string, args ...any) (Function, error) {
		return Function{}, &ringfence.Fault{Op: "feature.key", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...), Hint: "write fnc=blf+sd;sub=102@pbx.example.com;nme=Bob, or fnc=sd;ext=103"}
	}
	if len(s) > maxFunction {
		return bad("the function of a key has more than %d letters", maxFunction)
	}
	var ext string
	for part := range strings.SplitSeq(s, ";") {
		name, value, found := strings.Cut(part, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case name == "" && !found:
		case !found:
			return bad("%.40q says nothing", name)
		case name == "fnc":
			for what := range strings.SplitSeq(strings.ToLower(value), "+") {
				switch strings.TrimSpace(what) {
				case "blf":
					f.Lamp = true
				case "sd":
					f.Dials = true
				case "cp": // it picks calls up as well, which takes a code of the server
				default:
					return bad("this phone has no function %.40q for a key", what)
				}
			}
		case name == "sub":
			f.Target = value
		case name == "ext":
			ext = value
		case name == "nme":
			f.Name = value
		}
	}
	if f.Target == "" {
		f.Target = ext
	}
	switch {
	case !f.Lamp && !f.Dials && f.Target == "":
		return Function{}, nil
	case f.Target == "" || strings.ContainsAny(f.Target, " \t\r\n<>\"\x00") || len(f.Target) > 256:
		return bad("the key has no number (sub= or ext=)")
	case !f.Lamp && !f.Dials:
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
		switch f, err := ParseFunction(v.Value); {
		case err != nil:
			s.Wrong = append(s.Wrong, fmt.Sprintf("%s (%s): %v", v.Name, v.Where(), err))
		case f != Function{}:
			s.Keys[i] = f
		}
	}
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
