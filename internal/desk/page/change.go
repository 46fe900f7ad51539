package page

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/desk/change"
	"ringfence/internal/desk/flatprofile"
)

// Changer changes parameters.
type Changer interface {
	// Change judges changes of an account, and makes them if nothing speaks against them. The report is of use without an error only.
	Change(account string, admin bool, r change.Request) (change.Report, error)
}

// Prefixes of the names of fields: a value, and a secret that is emptied.
const (
	fieldValue = "p."
	fieldClear = "c."
)

// yes is what a form's box says.
const yes = "yes"

// changeJSON takes changes of a program.
func (p *pages) changeJSON(w http.ResponseWriter, r *http.Request, s *session) {
	b, err := io.ReadAll(r.Body)
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		err = &ringfence.Fault{Op: "phone", Kind: ringfence.KindInvalid, Text: "the changes are too long"}
	}
	var request change.Request
	if err == nil {
		request, err = change.ParseRequest(b)
	}
	var report change.Report
	if err == nil {
		report, err = p.change(s, request)
	}
	switch {
	case err != nil:
		refuse(w, err)
	case report.Done || len(report.Changed) == 0 && len(report.Refused) == 0:
		answer(w, http.StatusOK, report)
	case len(report.Refused) > 0:
		answer(w, http.StatusUnprocessableEntity, report)
	default:
		answer(w, http.StatusConflict, report) // it has to be confirmed
	}
}

func (p *pages) change(s *session, r change.Request) (change.Report, error) {
	if p.Change == nil {
		return change.Report{}, &ringfence.Fault{Op: "phone", Kind: ringfence.KindUnsupported, Text: "this phone's parameters are changed where they came from"}
	}
	return p.Change.Change(s.user, s.user == Admin, r)
}

// changeForm takes the form of a tab: of its fields those that differ from what is in force.
func (p *pages) changeForm(w http.ResponseWriter, r *http.Request, s *session) {
	tab := r.PathValue("tab")
	show := func(status int, v view) {
		for _, t := range p.Tabs(s.user == Admin) {
			if t.Name == tab {
				v.Tab = t
				p.show(w, status, "parameters.html", p.view(s, t.Name, "/parameters/"+t.Name, v))
				return
			}
		}
		p.show(w, http.StatusNotFound, "error.html", p.view(s, "Not found", "", view{Error: "There is no such page."}))
	}
	if err := r.ParseForm(); err != nil {
		show(http.StatusBadRequest, view{Error: "The form is too long, or none."})
		return
	}
	request := change.Request{Confirm: r.PostForm.Get("confirm") == yes}
	entered := map[string]string{}
	for _, t := range p.Tabs(s.user == Admin) {
		for _, section := range t.Sections {
			for _, x := range section.Parameters {
				value, there := r.PostForm[fieldValue+x.Name]
				empty := r.PostForm.Get(fieldClear+x.Name) == yes
				switch {
				case t.Name != tab || !there || !x.Editable:
				case r.PostForm.Get("reset") == x.Name:
					request.Changes = append(request.Changes, change.Change{Name: x.Name, Reset: true})
				case r.PostForm.Get("reset") != "":
				case x.Secret && value[0] == "" && !empty, !x.Secret && strings.TrimSpace(value[0]) == x.Value: // it is left as it is
				default:
					request.Changes = append(request.Changes, change.Change{Name: x.Name, Value: value[0]})
					entered[x.Name] = value[0]
				}
			}
		}
	}
	report, err := p.change(s, request)
	switch {
	case err != nil:
		text := err.Error()
		if hint := ringfence.HintOf(err); hint != "" {
			text += " (" + hint + ")"
		}
		show(ringfence.KindOf(err).HTTP(), view{Error: text, Entered: entered})
	case report.Done:
		p.show(w, http.StatusOK, "error.html", p.view(s, "Changed", "", view{Notice: "Changed: " + strings.Join(report.Changed, ", ") + ". The phone starts again with it as soon as nobody speaks. Sign in again in a few seconds."}))
	case len(report.Refused) > 0:
		show(http.StatusUnprocessableEntity, view{Error: "Nothing was changed.", Report: report, Entered: entered})
	case len(report.Dangers) > 0:
		show(http.StatusConflict, view{Report: report, Entered: entered, Ask: true})
	default:
		show(http.StatusOK, view{Notice: "Nothing differs from what is in force."})
	}
}

// Shown is what a field of a form has: what was typed into it, or what is in force.
func (v view) Shown(p Parameter) string {
	if text, ok := v.Entered[p.Name]; ok {
		return text
	}
	if p.Secret {
		return ""
	}
	return p.Value
}

// Choices are what a field lets one choose from; none if anything can be typed.
func (v view) Choices(p Parameter) []string {
	var out []string
	switch p.Type {
	case flatprofile.YesNo:
		out = []string{"Yes", "No"}
	case flatprofile.OneOf:
		out = slices.Clone(p.Options)
	default:
		return nil
	}
	if now := v.Shown(p); !slices.Contains(out, now) { // as it is, wrong or empty
		out = append([]string{now}, out...)
	}
	return out
}
