package linekey

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

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

// Shows reports whether the key has a lamp.
func (f Function) Shows() bool { return f.Lamp || f.Parks || f.Mailbox }

// Dialled is what the key dials.
func (f Function) Dialled() string { return cmp.Or(f.Number, f.Target) }

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

// Set switches functions on by their names.
func (f *Function) Set(names string) error {
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

// Parse reads what a key does, such as "fnc=blf+sd+cp;sub=102@pbx.example.com;nme=Bob". A key without one is none.
func Parse(s string) (f Function, err error) {
	bad := func(format string, args ...any) (Function, error) {
		return Function{}, &ringfence.Fault{Op: "linekey", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...), Hint: "write fnc=blf+sd+cp;sub=102@pbx.example.com;nme=Bob, fnc=sd;ext=103, fnc=prk;sub=701@pbx.example.com or fnc=mwi;sub=104@pbx.example.com"}
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
			if err := f.Set(value); err != nil {
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
