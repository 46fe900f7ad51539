package cwmp

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

// Bounds of what an ACS can leave with a phone.
const (
	maxAppointments = 10
	maxDelay        = 30 * 24 * time.Hour
	configFile      = "3 Vendor Configuration File"
)

// Appointment is a session that the ACS asked for at a time (ScheduleInform).
type Appointment struct {
	At  time.Time `json:"at"`
	Key string    `json:"command_key"`
}

// Order is a file that the ACS asked the phone to take (Download).
type Order struct {
	URL      string    `json:"url"`
	User     string    `json:"user,omitempty"`
	Password string    `json:"password,omitempty"`
	Key      string    `json:"command_key"`
	At       time.Time `json:"at"` // not before
}

// Transfer is what became of such a file, until the ACS was told.
type Transfer struct {
	Key       string    `json:"command_key"`
	Code      Code      `json:"fault_code"` // 0: it was taken
	Text      string    `json:"fault,omitempty"`
	Started   time.Time `json:"started"`
	Completed time.Time `json:"completed"`
}

// digest is what is kept of a value that the ACS was told: enough to see that it changed.
func digest(v Value) string {
	sum := sha256.Sum256([]byte(v.Name + "\x00" + v.Value))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// Attributes implements Phone.
func (p *Profile) Attributes() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]string{}
	for name, notify := range p.kept.Notify {
		out[name] = notify
	}
	return out
}

// SetAttributes implements Phone.
func (p *Profile) SetAttributes(notify map[string]string) error {
	now := map[string]string{}
	for _, x := range p.Parameters() {
		now[x.Name] = digest(x.Value)
	}
	return p.Remember(func(k *Kept) {
		all, told := map[string]string{}, map[string]string{}
		for name, n := range k.Notify {
			all[name] = n
		}
		for name, d := range k.Told {
			told[name] = d
		}
		for name, n := range notify {
			delete(all, name)
			if n != "0" {
				all[name] = n
				if told[name] == "" { // what is changed from now on counts
					told[name] = now[name]
				}
			}
		}
		k.Notify, k.Told = all, told
	})
}

// Changed implements Phone.
func (p *Profile) Changed() (out []Parameter) {
	all := p.Parameters()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range all {
		if told, known := p.kept.Told[x.Name]; known && told != digest(x.Value) && (x.Always || p.kept.Notify[x.Name] != "") {
			out = append(out, x)
		}
	}
	return out
}

// Heard implements Phone.
func (p *Profile) Heard() error {
	told := map[string]string{}
	all := p.Parameters()
	return p.Remember(func(k *Kept) {
		for _, x := range all {
			if x.Always || k.Notify[x.Name] != "" {
				told[x.Name] = digest(x.Value)
			}
		}
		k.Told = told
	})
}

// Schedule implements Phone.
func (p *Profile) Schedule(a Appointment) error {
	p.mu.Lock()
	full := len(p.kept.Scheduled) >= maxAppointments
	p.mu.Unlock()
	if full {
		return bad("there are ten already")
	}
	return p.Remember(func(k *Kept) { k.Scheduled = append(slices.Clone(k.Scheduled), a) })
}

// Due implements Phone.
func (p *Profile) Due(now time.Time) (due []Appointment, next time.Time) {
	p.mu.Lock()
	for _, a := range p.kept.Scheduled {
		if !a.At.After(now) {
			due = append(due, a)
		} else if next.IsZero() || a.At.Before(next) {
			next = a.At
		}
	}
	p.mu.Unlock()
	if len(due) > 0 {
		_ = p.Remember(func(k *Kept) {
			k.Scheduled = slices.DeleteFunc(slices.Clone(k.Scheduled), func(a Appointment) bool { return !a.At.After(now) })
		})
	}
	return due, next
}

// Accept implements Phone.
func (p *Profile) Accept(o Order) error {
	p.mu.Lock()
	busy := p.kept.Order != nil
	p.mu.Unlock()
	if busy {
		return bad("there is one already")
	}
	return p.Remember(func(k *Kept) { k.Order = &o })
}

// Ordered implements Phone.
func (p *Profile) Ordered() (Order, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept.Order == nil {
		return Order{}, false
	}
	return *p.kept.Order, true
}

// Finish implements Phone.
func (p *Profile) Finish(t Transfer) error {
	return p.Remember(func(k *Kept) {
		k.Order = nil
		k.Transfers = append(slices.Clone(k.Transfers), t)
	})
}

// Transfers implements Phone.
func (p *Profile) Transfers() []Transfer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.kept.Transfers)
}

// Delivered implements Phone.
func (p *Profile) Delivered(n int) error {
	return p.Remember(func(k *Kept) { k.Transfers = slices.Clone(k.Transfers[min(n, len(k.Transfers)):]) })
}

// Take puts the parameters of a file that the ACS had the phone fetch beside those that it set. What the phone would not take from its own file is left out. They count from the next start on.
func (p *Profile) Take(f *flatprofile.File) (taken int, err error) {
	c := flatprofile.Parameters()
	names := map[string]string{}
	for at, element := range elements(c) {
		names[element] = at
	}
	values := map[string]string{}
	for _, e := range f.Elements {
		at, known := names[e.Name]
		if !known {
			continue
		}
		k, _, _ := c.Find(e.Name)
		v := Value{Name: at, Value: e.Value, Type: typeOf(k)}
		if k.Type == flatprofile.YesNo {
			v.Value = strconv.FormatBool(strings.EqualFold(e.Value, "Yes"))
		}
		if p.Check(v) == nil {
			values[e.Name] = e.Value
		}
	}
	if len(values) == 0 {
		return 0, &ringfence.Fault{Op: "cwmp.take", Kind: ringfence.KindInvalid, Text: "the file has no parameter that the phone takes"}
	}
	return len(values), p.Remember(func(k *Kept) {
		all := map[string]string{}
		for name, v := range k.Values {
			all[name] = v
		}
		for name, v := range values {
			all[name] = v
		}
		k.Values = all
	})
}

// schedule answers ScheduleInform (TR-069 section A.4.1.2).
func (s *server) schedule(e Envelope) (Code, string) {
	n, err := strconv.ParseUint(e.body.value("DelaySeconds"), 10, 32)
	delay := time.Duration(n) * time.Second
	if err != nil || n == 0 || delay > maxDelay {
		return Invalid, "DelaySeconds is from 1 to 2592000"
	}
	key := e.body.value("CommandKey")
	if len(key) > 32 {
		return Invalid, "CommandKey has 32 characters at most"
	}
	if err := s.phone.Schedule(Appointment{At: s.now().Add(delay), Key: key}); err != nil {
		return Resources, err.Error()
	}
	return 0, ""
}

// download answers Download (section A.3.2.8): a profile is taken, by HTTPS, once the session is over.
func (s *server) download(e Envelope, done *Done) (func(w *writer), Code, string) {
	kind, address := e.body.value("FileType"), e.body.value("URL")
	done.Names = []string{printable(kind)}
	if kind != configFile {
		return nil, Denied, "this phone takes " + configFile + ", and has no firmware to replace"
	}
	delay, err := strconv.ParseUint("0"+e.body.value("DelaySeconds"), 10, 32)
	size, bad := strconv.ParseUint("0"+e.body.value("FileSize"), 10, 32)
	o := Order{URL: address, User: e.body.value("Username"), Password: e.body.value("Password"), Key: e.body.value("CommandKey"), At: s.now().Add(time.Duration(delay) * time.Second)}
	switch {
	case err != nil || bad != nil || len(o.Key) > 32 || len(o.User) > 256 || len(o.Password) > 256 || time.Duration(delay)*time.Second > maxDelay:
		return nil, Invalid, ""
	case size > flatprofile.MaxSize:
		return nil, Resources, "a profile has 10 MiB at most"
	}
	if _, err := ParseURL(address); err != nil {
		return nil, UnsupportedProtocol, err.Error()
	}
	if err := s.phone.Accept(o); err != nil {
		return nil, Resources, err.Error()
	}
	return func(w *writer) {
		w.leaf("Status", "1")
		w.leaf("StartTime", unknownTime)
		w.leaf("CompleteTime", unknownTime)
	}, 0, ""
}

// unknownTime is a time that nobody knows (TR-106 section 3.2.1).
const unknownTime = "0001-01-01T00:00:00Z"

// transferComplete writes what the phone tells of a file (section A.3.3.2).
func transferComplete(cwmp, number string, t Transfer) []byte {
	stamp := func(at time.Time) string {
		if at.IsZero() {
			return unknownTime
		}
		return at.UTC().Format(time.RFC3339)
	}
	return envelope(cwmp, number, func(w *writer) {
		w.WriteString("<cwmp:TransferComplete>")
		w.leaf("CommandKey", t.Key)
		w.WriteString("<FaultStruct>")
		w.leaf("FaultCode", strconv.Itoa(int(t.Code)))
		w.leaf("FaultString", t.Text)
		w.WriteString("</FaultStruct>")
		w.leaf("StartTime", stamp(t.Started))
		w.leaf("CompleteTime", stamp(t.Completed))
		w.WriteString("</cwmp:TransferComplete>")
	})
}

// CodeOf is the fault code of a file that could not be had.
func CodeOf(err error) Code {
	switch ringfence.KindOf(err) {
	case ringfence.KindUnauthenticated, ringfence.KindDenied:
		return TransferAuthentication
	case ringfence.KindNotFound:
		return TransferAccess
	case ringfence.KindUnavailable, ringfence.KindTimeout, ringfence.KindInsecure:
		return TransferContact
	case ringfence.KindInvalid:
		return TransferCorrupted
	}
	return DownloadFailed
}
