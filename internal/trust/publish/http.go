package publish

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"ringfence"
	"ringfence/internal/state/store"
)

// Who says which device a request comes from: by its certificate, or by the name of the file that it asks for. It returns "" for one that is not known.
type Who func(r *http.Request, name string) (device ringfence.DeviceID, proved bool)

// Handler answers for /trustlist/: ITLFile.tlv, ITLSEP<MAC>.tlv, CTLFile.tlv, CTLSEP<MAC>.tlv and ITLFile.json. Lists are no secret: they are signed, and all phones hold them.
func (p *Publisher) Handler(who Who, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "a list can only be read", http.StatusMethodNotAllowed)
			return
		}
		kind, device, ok := fileName(strings.TrimPrefix(r.URL.Path, "/trustlist/"))
		list, _ := p.Published()
		if !ok || list.Version == 0 {
			http.NotFound(w, r)
			return
		}
		body, mime := list.ITL, "application/octet-stream"
		switch kind {
		case "ctl":
			body = list.CTL
		case "json":
			body, mime = list.JSON, "application/jose"
		}
		h := w.Header()
		h.Set("Content-Type", mime)
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		if _, err := w.Write(body); err != nil || r.Method == http.MethodHead {
			return
		}
		id, proved := who(r, device)
		if id == "" {
			return
		}
		held := store.ListHolder{Device: id, Kind: kind, Version: list.Version, Fetched: p.now(), Proved: proved}
		if err := p.c.Shelf.HoldList(context.WithoutCancel(r.Context()), held); err != nil && ringfence.KindOf(err) != ringfence.KindInvalid {
			log.Warn("who fetched a trust list could not be kept", "device", id, "err", err, "hint", ringfence.HintOf(err))
		}
	})
}

// fileName reads the name of a list as phones ask for it, and whose it is if the name says so.
func fileName(name string) (kind, device string, ok bool) {
	if name == "ITLFile.json" {
		return "json", "", true
	}
	base, ok := strings.CutSuffix(name, ".tlv")
	if !ok || len(base) < 4 || base[:3] != "ITL" && base[:3] != "CTL" {
		return "", "", false
	}
	kind, rest := strings.ToLower(base[:3]), base[3:]
	if rest == "File" {
		return kind, "", true
	}
	mac, ok := strings.CutPrefix(rest, "SEP")
	if !ok || len(mac) != 12 || strings.Trim(mac, "0123456789ABCDEF") != "" {
		return "", "", false
	}
	return kind, rest, true
}
