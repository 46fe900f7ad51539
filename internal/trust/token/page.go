package token

import (
	"bytes"
	"errors"
	"html/template"
	"net/http"

	"ringfence"
)

// view is what the page shows.
type view struct {
	Title    string
	Program  string // who asks
	Action   string // where the form goes; empty: no form
	Ask      *ask
	Pair     bool // the code of a device is asked for
	UserCode string
	Error    string
	Done     string
	// Somebody who proved at a provider who they are chooses a device.
	Who     string
	State   string
	Shown   string // the code of the device that waits
	Devices []string
}

// Style is named in the policy by what it is, so that nothing else can be put into the page.
const pageText = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} · Ringfence</title>
<style nonce="{{.Nonce}}">
:root { color-scheme: light dark; --ink: #16202a; --paper: #f3f5f7; --card: #fff; --line: #c5ced6; --seal: #0b6b4f; --warn: #a2231d }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #10161c; --card: #18212a; --line: #3a4754; --seal: #4cc79d; --warn: #ff8f86 } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { width: min(26rem, calc(100vw - 2rem)); background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 2rem }
h1 { margin: 0 0 .25rem; font-size: 1.4rem }
p { margin: .5rem 0 1rem }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600 }
input { width: 100%; padding: .6rem .75rem; font: 1.1rem/1.4 ui-monospace, monospace; letter-spacing: .06em; color: inherit; background: transparent; border: 1px solid var(--line); border-radius: .4rem }
input:focus-visible, button:focus-visible { outline: 3px solid var(--seal); outline-offset: 2px }
button { margin-top: 1.5rem; width: 100%; padding: .7rem; font: 600 1rem system-ui, sans-serif; color: var(--card); background: var(--seal); border: 0; border-radius: .4rem; cursor: pointer }
.second { margin-top: .75rem; color: var(--seal); background: transparent; border: 1px solid var(--seal) }
.choice { display: flex; gap: .6rem; align-items: center; font-weight: 400 }
.choice input { width: auto }
fieldset { margin: 1rem 0 0; padding: 0; border: 0 }
legend { padding: 0; font-weight: 600 }
small { display: block; margin-top: .25rem }
.error { color: var(--warn); font-weight: 600 }
.done { color: var(--seal); font-weight: 600 }
</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
{{with .Program}}<p>The program <strong>{{.}}</strong> asks to register and call for you.</p>{{end}}
{{with .Error}}<p class="error" role="alert">{{.}}</p>{{end}}
{{with .Done}}<p class="done" role="status">{{.}}</p>{{end}}
{{with .Who}}<p>You are <strong>{{.}}</strong> here.</p>{{end}}
{{with .Shown}}<p>Go on only if the device before you shows <strong>{{.}}</strong>. If somebody sent you here, close this page.</p>{{end}}
{{if .Devices}}<form method="post" action="{{.Action}}" autocomplete="off"><input type="hidden" name="state" value="{{.State}}">
<fieldset><legend>Which device is this?</legend>
{{range $i, $d := .Devices}}<label class="choice"><input type="radio" name="device" value="{{$d}}" required{{if eq $i 0}} checked{{end}}>{{$d}}</label>
{{end}}</fieldset>
<button>{{.Title}}</button>
</form>{{else if .Action}}<form method="post" action="{{.Action}}" autocomplete="off">
{{with .Ask}}<input type="hidden" name="client_id" value="{{.Client}}"><input type="hidden" name="redirect_uri" value="{{.Redirect}}">
<input type="hidden" name="response_type" value="code"><input type="hidden" name="code_challenge" value="{{.Challenge}}">
<input type="hidden" name="code_challenge_method" value="S256"><input type="hidden" name="state" value="{{.State}}"><input type="hidden" name="scope" value="{{.Scope}}">{{end}}
{{if .Pair}}<label for="user_code">Code that the device shows</label>
<input id="user_code" name="user_code" value="{{.UserCode}}" placeholder="BCDF-GHJK" required autocapitalize="characters" spellcheck="false">{{end}}
<label for="activation">Activation code</label>
<input id="activation" name="activation" inputmode="numeric" placeholder="1234 5678 9012 3456" required aria-describedby="hint"{{if not .UserCode}} autofocus{{end}}>
<small id="hint">16 digits, from your administrator. It works once.</small>
<button>{{.Title}}</button>
{{with .Outside}}<button class="second" formaction="{{$.OutsideAt}}" formnovalidate>Without a code: sign in with {{.}}</button>{{end}}
</form>{{end}}
</main>
</body>
</html>
`

// page writes the one page there is.
func (s *Server) page(w http.ResponseWriter, status int, v view) {
	t, err := template.New("page").Parse(pageText)
	nonce := randomText(16)
	var out bytes.Buffer
	if err == nil {
		outside := ""
		if s.c.Outside != nil {
			outside = s.c.Outside.Name()
		}
		err = t.Execute(&out, struct {
			view
			Nonce, Outside, OutsideAt string
		}{v, nonce, outside, pathOutside})
	}
	if err != nil {
		s.c.Log.Error("a page could not be made", "err", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // if the reader is gone, nobody is left to tell
}

// pageProblem words an error for a person.
func pageProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	switch ringfence.KindOf(err) {
	case ringfence.KindInternal:
		return &problem{"server_error", "The node failed; its log says why."}
	case ringfence.KindOverload, ringfence.KindUnavailable:
		return &problem{"temporarily_unavailable", textOf(err)}
	}
	return &problem{"access_denied", textOf(err)}
}
