package sound

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/engine"
)

// Bounds of what a sound server says of its devices.
const (
	maxList    = 1 << 20 // octets
	maxDevices = 256
	patience   = 10 * time.Second
)

// Kind is what a device does.
type Kind string

// The kinds of devices. A monitor is a microphone that hears what a loudspeaker plays.
const (
	Microphone  Kind = "microphone"
	Loudspeaker Kind = "loudspeaker"
	Monitor     Kind = "monitor"
)

// Device is a sound device as its server names it.
type Device struct {
	Name        string `json:"name"`
	Kind        Kind   `json:"kind"`
	Description string `json:"description"`
	Default     bool   `json:"default"`
	Muted       bool   `json:"muted"`
	State       string `json:"state"`
}

const hint = "apt-get install pulseaudio-utils, and see whether a sound server (PipeWire, PulseAudio) runs for this user: `pactl info`"

// List returns the devices of the sound server: microphones, loudspeakers and monitors, each in the server's order. env is where the server is: those of PULSE_SERVER,
// XDG_RUNTIME_DIR and HOME that are set. A server that is not there is a KindUnavailable fault.
func List(ctx context.Context, env []string) ([]Device, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var devices []Device
	info, err := ask(ctx, env, "info")
	if err != nil {
		return nil, err
	}
	var defaults struct {
		Sink   string `json:"default_sink_name"`
		Source string `json:"default_source_name"`
	}
	if err := json.Unmarshal(info, &defaults); err != nil {
		return nil, unreadable(err)
	}
	for _, what := range []string{"sources", "sinks"} {
		b, err := ask(ctx, env, "list", what)
		if err != nil {
			return nil, err
		}
		found, err := ParseDevices(b, what == "sinks")
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			d.Default = d.Kind == Loudspeaker && d.Name == defaults.Sink || d.Kind != Loudspeaker && d.Name == defaults.Source
			devices = append(devices, d)
		}
	}
	return devices, nil
}

// ask has pactl ask the server.
func ask(ctx context.Context, env []string, args ...string) ([]byte, error) {
	var out limited
	if err := engine.Run(ctx, engine.Program{Path: "pactl", Args: append([]string{"--format=json"}, args...), Env: env, Out: &out, Hint: hint}); err != nil {
		return nil, &ringfence.Fault{Op: "sound", Kind: ringfence.KindUnavailable, Text: "no sound server answers", Err: err, Hint: hint}
	}
	return out.Bytes(), nil
}

// limited keeps what is written, up to a limit.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > maxList {
		return 0, errors.New("too much")
	}
	return l.Buffer.Write(b)
}

func unreadable(err error) error {
	return &ringfence.Fault{Op: "sound", Kind: ringfence.KindInvalid, Text: "what pactl says of the devices cannot be read", Err: err, Hint: "this needs pactl 16 or newer: `pactl --version`"}
}

// ParseDevices reads what `pactl --format=json list sinks` prints, or sources. Names and descriptions come from the drivers, so nothing in them may do anything to a terminal.
func ParseDevices(b []byte, sinks bool) ([]Device, error) {
	if len(b) > maxList {
		return nil, unreadable(errors.New("it is too long"))
	}
	var rows []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		State       string `json:"state"`
		Mute        bool   `json:"mute"`
		MonitorOf   string `json:"monitor_source"` // in the list of sources: the sink that it monitors
	}
	if err := json.Unmarshal(b, &rows); err != nil {
		return nil, unreadable(err)
	}
	if len(rows) > maxDevices {
		return nil, unreadable(errors.New("there are too many devices"))
	}
	out := make([]Device, 0, len(rows))
	for _, r := range rows {
		d := Device{Name: engine.Printable(r.Name), Kind: Microphone, Description: engine.Printable(r.Description), Muted: r.Mute, State: strings.ToLower(engine.Printable(r.State))}
		switch {
		case d.Name == "" || d.Name != r.Name: // it could not be named to the server
			continue
		case sinks:
			d.Kind = Loudspeaker
		case r.MonitorOf != "":
			d.Kind = Monitor
		}
		out = append(out, d)
	}
	return out, nil
}
