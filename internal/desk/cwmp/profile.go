package cwmp

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/lint"
)

// Paths of the data model.
const (
	pathInfo     = "Device.DeviceInfo."
	pathServer   = "Device.ManagementServer."
	pathSecurity = "Device.X_CISCO_SecuritySettings." // as the phone's handbook has it
	pathProfile  = "Device.X_RINGFENCE_Profile."      // every other parameter of the catalogue, by the name of its element
)

// Kept is what is kept from one start to the next.
type Kept struct {
	ACS              string            `json:"acs"` // that the phone spoke to last
	ParameterKey     string            `json:"parameter_key"`
	ProvisioningCode string            `json:"provisioning_code"`
	Reboot           bool              `json:"reboot"` // the ACS asked for the restart
	RebootKey        string            `json:"reboot_key"`
	Values           map[string]string `json:"values"` // parameters that the ACS set, by element; they hold passwords
	Notify           map[string]string `json:"notify,omitempty"`
	Told             map[string]string `json:"told,omitempty"` // digests of what the ACS knows, of what it wants to hear of
	Scheduled        []Appointment     `json:"scheduled,omitempty"`
	Order            *Order            `json:"order,omitempty"`
	Transfers        []Transfer        `json:"transfers,omitempty"`
	RetryWait        uint32            `json:"retry_wait,omitempty"` // seconds, and thousandths of a factor
	RetryMultiplier  uint32            `json:"retry_multiplier,omitempty"`
	PeriodicTime     string            `json:"periodic_inform_time,omitempty"`
}

// Profile is a phone's parameters as an ACS reads and writes them.
type Profile struct {
	identity Identity
	hardware string
	software string
	bell     string // ConnectionRequestURL
	keep     func(Kept) error

	mu   sync.Mutex
	set  *flatprofile.Set
	kept Kept
}

// NewProfile makes the data model of a phone. What the ACS set before is put into set. keep is told of each change.
func NewProfile(set *flatprofile.Set, identity Identity, hardware, software, bell string, kept Kept, keep func(Kept) error) *Profile {
	p := &Profile{set: set.Clone(), identity: identity, hardware: hardware, software: software, bell: bell, kept: kept, keep: keep}
	if p.kept.Values == nil {
		p.kept.Values = map[string]string{}
	}
	Restore(p.set, p.kept)
	return p
}

// Restore puts what an ACS set before into a set of parameters.
func Restore(set *flatprofile.Set, kept Kept) {
	for name, value := range kept.Values {
		if _, _, ok := set.Catalogue().Find(name); ok {
			set.Put(flatprofile.Value{Name: name, Value: value, From: "the ACS " + kept.ACS})
		}
	}
}

// Set returns the parameters in force.
func (p *Profile) Values() *flatprofile.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set.Clone()
}

// Kept returns what is kept.
func (p *Profile) Kept() Kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept
}

// Remember changes what is kept besides values.
func (p *Profile) Remember(change func(*Kept)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.kept
	change(&kept)
	if err := p.keep(kept); err != nil {
		return err
	}
	p.kept = kept
	return nil
}

// The names of what the phone waits by after a session that failed (TR-181).
const (
	retryWait       = pathServer + "CWMPRetryMinimumWaitInterval"
	retryMultiplier = pathServer + "CWMPRetryIntervalMultiplier"
	periodicTime    = pathServer + "PeriodicInformTime"
)

// Periodic returns how long it is to the next periodic inform: at a whole number of intervals from PeriodicInformTime, if an ACS set it, so that it can spread its phones.
func (k Kept) Periodic(interval time.Duration, now time.Time) time.Duration {
	at, err := time.Parse(time.RFC3339, k.PeriodicTime)
	if err != nil || at.Year() < 1970 || interval <= 0 { // an unknown time leaves it to the phone
		return interval
	}
	since := now.Sub(at) % interval
	if since < 0 {
		since += interval
	}
	return interval - since
}

// Retry returns what the phone waits by after a session that failed: seconds, and thousandths of a factor.
func (k Kept) Retry() (wait, multiplier uint32) {
	return cmp.Or(k.RetryWait, 5), cmp.Or(k.RetryMultiplier, 2000)
}

// moved are parameters with a place of their own in the data model.
func moved() map[string]string {
	return map[string]string{"ACS_URL": pathServer + "URL", "ACS_Username": pathServer + "Username", "ACS_Password": pathServer + "Password", "Periodic_Inform_Enable": pathServer + "PeriodicInformEnable",
		"Periodic_Inform_Interval": pathServer + "PeriodicInformInterval", "Connection_Request_Username": pathServer + "ConnectionRequestUsername", "Connection_Request_Password": pathServer + "ConnectionRequestPassword",
		"TLS_Cipher_List": pathSecurity + "TLSCipherList"}
}

// elements returns the names of all elements by their names in the data model. A dot, which would be a step, becomes a line.
func elements(c *flatprofile.Catalogue) map[string]string {
	out, own := map[string]string{}, moved()
	add := func(name string) {
		if at, ok := own[name]; ok {
			out[at] = name
		} else {
			out[pathProfile+strings.ReplaceAll(name, ".", "_")] = name
		}
	}
	for _, k := range c.All() {
		switch {
		case k.Now != "": // an old name of another
		case strings.Contains(k.Name, "_n_"):
			for n := range max(flatprofile.Lines, flatprofile.Keys) {
				add(strings.Replace(k.Name, "_n_", "_"+strconv.Itoa(n+1)+"_", 1))
			}
		default:
			add(k.Name)
		}
	}
	return out
}

// typeOf returns the type of a parameter's values.
func typeOf(k flatprofile.Parameter) Type {
	switch k.Type {
	case flatprofile.YesNo:
		return Boolean
	case flatprofile.Int, flatprofile.Port:
		return Unsigned
	}
	return String
}

// Parameters implements Phone.
func (p *Profile) Parameters() []Parameter {
	p.mu.Lock()
	defer p.mu.Unlock()
	read := func(name, value string, forced bool) Parameter {
		return Parameter{Value: Value{name, value, String}, Forced: forced}
	}
	code := read(pathInfo+"ProvisioningCode", p.kept.ProvisioningCode, true)
	code.Writable, code.Always = true, true
	software, bell, key := read(pathInfo+"SoftwareVersion", p.software, true), read(pathServer+"ConnectionRequestURL", p.bell, true), read(pathServer+"ParameterKey", p.kept.ParameterKey, true)
	software.Always, bell.Always, key.Quiet = true, true, true
	wait, factor := p.kept.Retry()
	out := []Parameter{read("Device.RootDataModelVersion", "2.11", true), read(pathInfo+"Manufacturer", p.identity.Manufacturer, false), read(pathInfo+"ManufacturerOUI", p.identity.OUI, false), read(pathInfo+"ModelName", p.identity.ProductClass, false),
		read(pathInfo+"ProductClass", p.identity.ProductClass, false), read(pathInfo+"SerialNumber", p.identity.Serial, false), read(pathInfo+"HardwareVersion", p.hardware, true), software, code, key, bell,
		{Value: Value{periodicTime, cmp.Or(p.kept.PeriodicTime, unknownTime), DateTime}, Writable: true}, {Value: Value{retryWait, strconv.FormatUint(uint64(wait), 10), Unsigned}, Writable: true}, {Value: Value{retryMultiplier, strconv.FormatUint(uint64(factor), 10), Unsigned}, Writable: true}}
	for name, element := range elements(p.set.Catalogue()) {
		k, _, _ := p.set.Catalogue().Find(element)
		v := Value{Name: name, Value: p.set.Text(element), Type: typeOf(k)}
		switch {
		case v.Type == Boolean:
			v.Value = strconv.FormatBool(p.set.Yes(element))
		case v.Type == Unsigned:
			if _, err := strconv.ParseUint(v.Value, 10, 32); err != nil { // as the profile has it
				v.Type = String
			}
		}
		out = append(out, Parameter{Value: v, Writable: true, Secret: k.Secret})
	}
	slices.SortFunc(out, func(a, b Parameter) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// text writes a value as the phone's file has it.
func text(v Value, k flatprofile.Parameter) string {
	if k.Type == flatprofile.YesNo {
		return map[string]string{"true": "Yes", "false": "No"}[v.Value]
	}
	return v.Value
}

// Check implements Phone: the phone would take the value from its file as well.
func (p *Profile) Check(v Value) error {
	least := map[string]uint64{retryWait: 1, retryMultiplier: 1000}[v.Name]
	if n, err := strconv.ParseUint(v.Value, 10, 32); least > 0 && (err != nil || n < least || n > 65535) {
		return errors.New("it is from " + strconv.FormatUint(least, 10) + " to 65535")
	}
	if _, err := time.Parse(time.RFC3339, v.Value); v.Name == periodicTime && err != nil {
		return errors.New("it is no time such as 2026-01-01T00:00:00Z")
	}
	c := flatprofile.Parameters()
	element, ok := elements(c)[v.Name]
	if !ok {
		return nil // of the data model alone
	}
	k, _, _ := c.Find(element)
	if element == "ACS_URL" {
		if _, err := ParseURL(v.Value); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	b.WriteString("<flat-profile><" + element + ">")
	if err := xml.EscapeText(&b, []byte(text(v, k))); err != nil {
		return err
	}
	b.WriteString("</" + element + "></flat-profile>")
	for _, f := range lint.File(b.Bytes(), c).Findings {
		if f.Severity == lint.Error && f.Parameter == element && f.Kind != "contradiction" { // what contradicts another parameter may be put right by the next change
			return errors.New(printable(f.Text))
		}
	}
	return nil
}

// Set implements Phone. Where the ACS is, and how often it is told, counts at once; the rest at the next start.
func (p *Profile) Set(changes []Value, key string) (later bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := elements(p.set.Catalogue())
	set, kept := p.set.Clone(), p.kept
	kept.Values = map[string]string{}
	for name, value := range p.kept.Values {
		kept.Values[name] = value
	}
	kept.ParameterKey = key
	told := map[string]string{}
	for name, d := range p.kept.Told {
		told[name] = d
	}
	kept.Told = told
	for _, v := range changes {
		if told[v.Name] != "" { // the ACS knows what it sets itself
			told[v.Name] = digest(v)
		}
		n, _ := strconv.ParseUint(v.Value, 10, 32)
		switch v.Name {
		case pathInfo + "ProvisioningCode":
			kept.ProvisioningCode = v.Value
			continue
		case periodicTime:
			kept.PeriodicTime = v.Value
			continue
		case retryWait:
			kept.RetryWait = uint32(n)
			continue
		case retryMultiplier:
			kept.RetryMultiplier = uint32(n)
			continue
		}
		element := names[v.Name]
		k, _, _ := set.Catalogue().Find(element)
		value := text(v, k)
		set.Put(flatprofile.Value{Name: element, Value: value, From: "the ACS " + kept.ACS})
		kept.Values[element] = value
		later = later || !strings.HasPrefix(v.Name, pathServer)
	}
	if err := p.keep(kept); err != nil {
		return false, err
	}
	p.set, p.kept = set, kept
	return later, nil
}
