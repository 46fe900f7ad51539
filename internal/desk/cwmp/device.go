package cwmp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Type is the type of a value (TR-106 section 3.1).
type Type string

// The types that a phone has.
const (
	String   Type = "xsd:string"
	Boolean  Type = "xsd:boolean"
	Unsigned Type = "xsd:unsignedInt"
	DateTime Type = "xsd:dateTime"
)

// Value is a parameter with its value.
type Value struct {
	Name  string
	Value string
	Type  Type
}

// Parameter is a parameter of the phone's data model.
type Parameter struct {
	Value
	Writable bool
	Secret   bool // reads as empty (TR-106 section 3.2)
	Forced   bool // is in every Inform (TR-181, "Inform Parameters")
	Always   bool // the ACS hears of each change, whether it asked to or not (TR-181, "forced active notification")
	Quiet    bool // the ACS hears of no change ("active notification denied")
}

// Code is a fault code of a device (TR-069 section A.5.1).
type Code int

// The fault codes that a phone uses.
const (
	NotSupported  Code = 9000
	Denied        Code = 9001
	Internal      Code = 9002
	Invalid       Code = 9003
	Resources     Code = 9004
	InvalidName   Code = 9005
	InvalidType   Code = 9006
	InvalidValue  Code = 9007
	NotWritable   Code = 9008
	NotNotifiable Code = 9009

	DownloadFailed         Code = 9010
	TransferAuthentication Code = 9012
	UnsupportedProtocol    Code = 9013
	TransferContact        Code = 9015
	TransferAccess         Code = 9016
	TransferCorrupted      Code = 9018
)

func (c Code) text() string {
	return map[Code]string{NotSupported: "Method not supported", Denied: "Request denied", Internal: "Internal error", Invalid: "Invalid arguments", Resources: "Resources exceeded", InvalidName: "Invalid parameter name", InvalidType: "Invalid parameter type",
		InvalidValue: "Invalid parameter value", NotWritable: "Attempt to set a non-writable parameter", NotNotifiable: "Notification request rejected", DownloadFailed: "Download failure",
		TransferAuthentication: "File transfer server authentication failure", UnsupportedProtocol: "Unsupported protocol for file transfer", TransferContact: "File transfer failure: unable to contact file server",
		TransferAccess: "File transfer failure: unable to access file", TransferCorrupted: "File transfer failure: file corrupted"}[c]
}

// Refusal is why one parameter cannot be set.
type Refusal struct {
	Name string
	Code Code
	Text string
}

// Phone is what an ACS reads and writes.
type Phone interface {
	// Parameters returns the data model, sorted by name.
	Parameters() []Parameter
	// Check says whether a value may be set. Name and type were looked at.
	Check(v Value) error
	// Set makes all changes, or none. later tells that they are in force only after a restart.
	Set(changes []Value, key string) (later bool, err error)

	// Attributes returns which changes the ACS wants to hear of: "1" with the next session, "2" at once.
	Attributes() map[string]string
	// SetAttributes changes that; "0" is none.
	SetAttributes(notify map[string]string) error
	// Changed returns what the ACS wants to hear of and changed since it was told, by others than itself.
	Changed() []Parameter
	// Heard notes that the ACS was told of everything.
	Heard() error

	// Schedule notes a session that the ACS wants at a time; Due returns those whose time has come, and takes them off, and when the next one is.
	Schedule(a Appointment) error
	Due(now time.Time) (due []Appointment, next time.Time)

	// Accept takes an order for a file, one at a time, which Ordered returns until Finish; what became of it is among Transfers until it is Delivered.
	Accept(o Order) error
	Ordered() (Order, bool)
	Finish(t Transfer) error
	Transfers() []Transfer
	Delivered(n int) error
}

const (
	maxNames = 2000 // that one request may ask for or set
	noWrite  = "it cannot be written"
)

// Done is one thing that an ACS did in a session.
type Done struct {
	Method string   `json:"method"`
	Names  []string `json:"parameters,omitempty"`
	Fault  string   `json:"fault,omitempty"`
}

// server answers what an ACS asks.
type server struct {
	phone  Phone
	cwmp   string
	now    func() time.Time
	reboot string // the command key of a Reboot; ok if asked
	asked  bool
}

// methods are the remote procedures of a phone.
func methods() []string {
	return []string{"GetRPCMethods", "SetParameterValues", "GetParameterValues", "GetParameterNames", "SetParameterAttributes", "GetParameterAttributes", "AddObject", "DeleteObject", "Reboot", "Download", "ScheduleInform"}
}

// answer carries out a request, and returns the envelope of the answer.
func (s *server) answer(e Envelope) ([]byte, Done) {
	done := Done{Method: e.Method}
	var body func(w *writer)
	var code Code
	var refused []Refusal
	why := ""
	switch e.Method {
	case "GetRPCMethods":
		body = func(w *writer) {
			w.list("MethodList", "xsd:string", len(methods()))
			for _, m := range methods() {
				w.leaf("string", m)
			}
			w.WriteString("</MethodList>")
		}
	case "GetParameterValues":
		body, code, why = s.values(e, &done)
	case "GetParameterNames":
		body, code, why = s.names(e, &done)
	case "SetParameterValues":
		body, code, refused = s.set(e, &done)
	case "GetParameterAttributes":
		body, code, why = s.attributes(e, &done)
	case "SetParameterAttributes":
		code, why = s.setAttributes(e, &done)
		body = func(*writer) {}
	case "AddObject", "DeleteObject":
		done.Names = []string{printable(e.body.value("ObjectName"))}
		code, why = InvalidName, "no object of a phone is made or removed"
	case "Reboot":
		s.reboot, s.asked = e.body.value("CommandKey"), true
		body = func(*writer) {}
	case "Download":
		body, code, why = s.download(e, &done)
	case "ScheduleInform":
		code, why = s.schedule(e)
		body = func(*writer) {}
	default:
		code = NotSupported
	}
	if code != 0 {
		done.Fault = fmt.Sprintf("%d %s", code, code.text())
		for _, r := range refused {
			done.Fault += fmt.Sprintf("; %s: %d %s", r.Name, r.Code, r.Text)
		}
		if why != "" {
			done.Fault += ": " + why
		}
		return envelope(s.cwmp, e.ID, func(w *writer) { refuse(w, code, why, refused) }), done
	}
	return envelope(s.cwmp, e.ID, func(w *writer) {
		w.WriteString("<cwmp:" + e.Method + "Response>")
		body(w)
		w.WriteString("</cwmp:" + e.Method + "Response>")
	}), done
}

// refuse writes a fault (TR-069 section 3.5).
func refuse(w *writer, code Code, why string, refused []Refusal) {
	from := "Server"
	if code == Invalid || code >= InvalidName && code <= NotNotifiable || code == NotSupported || code == Denied || code == UnsupportedProtocol {
		from = "Client"
	}
	w.WriteString("<soap-env:Fault>")
	w.leaf("faultcode", from)
	w.leaf("faultstring", "CWMP fault")
	w.WriteString("<detail><cwmp:Fault>")
	w.leaf("FaultCode", strconv.Itoa(int(code)))
	text := code.text()
	if why != "" {
		text += ": " + why
	}
	w.leaf("FaultString", text)
	for _, r := range refused {
		w.WriteString("<SetParameterValuesFault>")
		w.leaf("ParameterName", r.Name)
		w.leaf("FaultCode", strconv.Itoa(int(r.Code)))
		w.leaf("FaultString", r.Code.text()+": "+r.Text)
		w.WriteString("</SetParameterValuesFault>")
	}
	w.WriteString("</cwmp:Fault></detail></soap-env:Fault>")
}

// below returns the parameters of a name, or of a path that ends in a dot; "" is everything.
func below(all []Parameter, path string) (out []Parameter) {
	for _, p := range all {
		if p.Name == path || path == "" || strings.HasSuffix(path, ".") && strings.HasPrefix(p.Name, path) {
			out = append(out, p)
		}
	}
	return out
}

// chosen returns the parameters that a list of names asks for.
func (s *server) chosen(list *node, done *Done) (out []Parameter, code Code, why string) {
	if len(list.children) > maxNames {
		return nil, Resources, ""
	}
	all := s.phone.Parameters()
	for _, n := range list.children {
		if len(done.Names) < 16 {
			done.Names = append(done.Names, printable(n.text))
		}
		found := below(all, n.text)
		if len(found) == 0 {
			return nil, InvalidName, printable(n.text)
		}
		if out = append(out, found...); len(out) > 4*maxNames {
			return nil, Resources, ""
		}
	}
	return out, 0, ""
}

func (s *server) values(e Envelope, done *Done) (func(w *writer), Code, string) {
	found, code, why := s.chosen(e.body.child("ParameterNames"), done)
	return func(w *writer) {
		w.list("ParameterList", "cwmp:ParameterValueStruct", len(found))
		for _, p := range found {
			w.value(p.shown())
		}
		w.WriteString("</ParameterList>")
	}, code, why
}

// shown is the value as it may be read.
func (p Parameter) shown() Value {
	if p.Secret {
		return Value{p.Name, "", p.Type}
	}
	return p.Value
}

// names answers which parameters and objects there are below a path: all of them, or one step down.
func (s *server) names(e Envelope, done *Done) (func(w *writer), Code, string) {
	path, next := e.body.value("ParameterPath"), e.body.value("NextLevel")
	done.Names = []string{printable(path)}
	step := next == "1" || next == "true"
	if step && path != "" && !strings.HasSuffix(path, ".") { // TR-069 section A.3.2.3
		return nil, Invalid, "with NextLevel a path ends in a dot"
	}
	all := s.phone.Parameters()
	found := below(all, path)
	if len(found) == 0 {
		return nil, InvalidName, printable(path)
	}
	type row struct {
		name     string
		writable bool
	}
	var rows []row
	seen := map[string]bool{}
	add := func(name string, writable bool) {
		if !seen[name] {
			seen[name] = true
			rows = append(rows, row{name, writable})
		}
	}
	if !step && strings.HasSuffix(path, ".") {
		add(path, false)
	}
	for _, p := range found {
		rest := strings.TrimPrefix(p.Name, path)
		if step {
			if object, _, below := strings.Cut(rest, "."); below {
				add(path+object+".", false)
			} else {
				add(p.Name, p.Writable)
			}
			continue
		}
		for i := range rest {
			if rest[i] == '.' {
				add(path+rest[:i+1], false)
			}
		}
		add(p.Name, p.Writable)
	}
	return func(w *writer) {
		w.list("ParameterList", "cwmp:ParameterInfoStruct", len(rows))
		for _, r := range rows {
			w.WriteString("<ParameterInfoStruct>")
			w.leaf("Name", r.name)
			w.leaf("Writable", map[bool]string{true: "1", false: "0"}[r.writable])
			w.WriteString("</ParameterInfoStruct>")
		}
		w.WriteString("</ParameterList>")
	}, 0, ""
}

// set makes all changes or none (TR-069 section A.3.2.1).
func (s *server) set(e Envelope, done *Done) (func(w *writer), Code, []Refusal) {
	list := e.body.child("ParameterList")
	if len(list.children) > maxNames {
		return nil, Resources, nil
	}
	known := map[string]Parameter{}
	for _, p := range s.phone.Parameters() {
		known[p.Name] = p
	}
	var changes []Value
	var refused []Refusal
	seen := map[string]bool{}
	for _, n := range list.children {
		v := Value{Name: n.value("Name"), Value: n.value("Value")}
		if len(done.Names) < 64 {
			done.Names = append(done.Names, printable(v.Name))
		}
		p, ok := known[v.Name]
		switch {
		case seen[v.Name]:
			return nil, Invalid, nil
		case !ok:
			refused = append(refused, Refusal{printable(v.Name), InvalidName, "there is none"})
		case !p.Writable:
			refused = append(refused, Refusal{v.Name, NotWritable, noWrite})
		case !typed(n.child("Value"), p.Type):
			refused = append(refused, Refusal{v.Name, InvalidType, "it is " + string(p.Type)})
		default:
			v.Type = p.Type
			if v.Value, ok = canonical(v.Value, p.Type); !ok {
				refused = append(refused, Refusal{v.Name, InvalidValue, "it is no " + string(p.Type)})
			} else if err := s.phone.Check(v); err != nil {
				refused = append(refused, Refusal{v.Name, InvalidValue, err.Error()})
			}
			changes = append(changes, v)
		}
		seen[v.Name] = true
	}
	if len(refused) > 0 {
		return nil, Invalid, refused[:min(len(refused), 64)]
	}
	later, err := s.phone.Set(changes, e.body.value("ParameterKey"))
	if err != nil {
		return nil, Internal, nil
	}
	return func(w *writer) { w.leaf("Status", map[bool]string{true: "1", false: "0"}[later]) }, 0, nil
}

// typed reports whether the type that an ACS says is that of the parameter. One that says none is taken at its word.
func typed(v *node, want Type) bool {
	for _, a := range v.attr {
		if a.Name.Local == "type" {
			_, name, _ := strings.Cut(string(want), ":")
			said := a.Value[strings.LastIndexByte(a.Value, ':')+1:]
			return said == name || want == String && (said == "string" || said == "base64Binary") || want == Unsigned && said == "int"
		}
	}
	return true
}

// canonical writes a value in the one form that the phone keeps.
func canonical(v string, t Type) (string, bool) {
	switch t {
	case Boolean:
		switch v {
		case "1", "true":
			return "true", true
		case "0", "false":
			return "false", true
		}
		return "", false
	case Unsigned:
		n, err := strconv.ParseUint(v, 10, 32)
		return strconv.FormatUint(n, 10), err == nil
	case String:
		return v, !strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' })
	}
	return v, true
}

func (s *server) attributes(e Envelope, done *Done) (func(w *writer), Code, string) {
	found, code, why := s.chosen(e.body.child("ParameterNames"), done)
	all := s.phone.Attributes()
	return func(w *writer) {
		w.list("ParameterList", "cwmp:ParameterAttributeStruct", len(found))
		for _, p := range found {
			w.WriteString("<ParameterAttributeStruct>")
			w.leaf("Name", p.Name)
			notify := cmp.Or(all[p.Name], "0")
			if p.Always {
				notify = "2"
			}
			w.leaf("Notification", notify)
			w.list("AccessList", "xsd:string", 0)
			w.WriteString("</AccessList></ParameterAttributeStruct>")
		}
		w.WriteString("</ParameterList>")
	}, code, why
}

// setAttributes takes which changes the ACS wants to hear of, all or none; access lists stay empty. What is always told, or never, is passed over within an object, and refused by its own name.
func (s *server) setAttributes(e Envelope, done *Done) (Code, string) {
	list := e.body.child("ParameterList")
	if len(list.children) > maxNames {
		return Resources, ""
	}
	all := s.phone.Parameters()
	set := map[string]string{}
	for _, n := range list.children {
		name, notify := n.value("Name"), n.value("Notification")
		if len(done.Names) < 64 {
			done.Names = append(done.Names, printable(name))
		}
		found := below(all, name)
		if len(found) == 0 {
			return InvalidName, printable(name)
		}
		if change := n.value("NotificationChange"); change != "1" && change != "true" {
			continue
		}
		if !slices.Contains([]string{"0", "1", "2"}, notify) {
			return NotNotifiable, ""
		}
		for _, p := range found {
			switch fixed := p.Always && notify != "2" || p.Quiet && notify == "2"; {
			case fixed && p.Name == name:
				return NotNotifiable, printable(name)
			case !fixed && !p.Always:
				set[p.Name] = notify
			}
		}
	}
	if err := s.phone.SetAttributes(set); err != nil {
		return Internal, ""
	}
	return 0, ""
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 256)]
}
