package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/sound"
	"ringfence/internal/service/phone"
)

// soundFlags adds the flags that give a phone the sound devices of this host.
func soundFlags(cmd *cobra.Command, h *handset) {
	f := cmd.Flags()
	f.BoolVar(&h.sound, "sound", false, "speak and hear by the microphone and the loudspeaker of this host; with --tone or --play only hear")
	f.StringVar(&h.microphone, "microphone", "", "this microphone, as ringfence phone sound names it, instead of the default one")
	f.StringVar(&h.loudspeaker, "loudspeaker", "", "this loudspeaker, as ringfence phone sound names it, instead of the default one")
}

// soundServer says where the sound server of this user is, as its clients find it.
func soundServer() (env []string) {
	for _, name := range []string{"PULSE_SERVER", "PULSE_COOKIE", "PULSE_CLIENTCONFIG", "PULSE_RUNTIME_PATH", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME", "DBUS_SESSION_BUS_ADDRESS"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// openSound finds the devices that the flags ask for, and says so now rather than in a call if they are not there. The end of ctx gives them up.
func (h *handset) openSound(ctx context.Context, out io.Writer) error {
	h.devices = nil
	if !h.sound && h.microphone == "" && h.loudspeaker == "" {
		return nil
	}
	found, err := sound.List(ctx, soundServer())
	if err != nil {
		return err
	}
	deaf := h.tone > 0 || h.play != ""
	if h.microphone != "" && deaf {
		return invalid("--microphone excludes --tone and --play", "choose one")
	}
	for _, want := range []struct {
		flag, name string
		hears      bool
	}{{"--microphone", h.microphone, true}, {"--loudspeaker", h.loudspeaker, false}} {
		fits := func(d sound.Device) bool {
			return (d.Kind != sound.Loudspeaker) == want.hears && (want.name == "" || d.Name == want.name)
		}
		if !slices.ContainsFunc(found, fits) && !(want.hears && deaf) {
			return &ringfence.Fault{Op: "phone.sound", Kind: ringfence.KindNotFound, Text: fmt.Sprintf("%s: there is no such device %s", want.flag, want.name), Hint: "`ringfence phone sound` lists those that are there"}
		}
	}
	h.devices = sound.New(ctx, sound.Config{Microphone: h.microphone, Loudspeaker: h.loudspeaker, Deaf: deaf, Env: soundServer(), Say: func(err error) {
		fmt.Fprintln(out, "no sound:", err)
	}})
	return nil
}

// both lets two sinks hear.
type both struct{ a, b phone.Sink }

// Write implements phone.Sink.
func (b both) Write(frame []int16, rate int) {
	b.a.Write(frame, rate)
	b.b.Write(frame, rate)
}

func newPhoneSoundCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use: "sound", Short: "List the microphones and loudspeakers of this host", Args: cobra.NoArgs,
		Long: "sound lists the devices of the sound server of this user (PipeWire or PulseAudio), by the names that --microphone and --loudspeaker of call, answer, listen and up take. A monitor hears\n" +
			"what a loudspeaker plays. pactl, parec and pacat do the work (Debian: pulseaudio-utils). It fails if there is no sound server.",
		Example: "  ringfence phone sound\n  ringfence phone sound --json\n  ringfence phone call 102 --sound\n  ringfence phone listen --microphone alsa_input.usb-headset.mono-fallback --loudspeaker alsa_output.usb-headset.analog-stereo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := sound.List(cmd.Context(), soundServer())
			if err != nil {
				return err
			}
			if found == nil {
				found = []sound.Device{}
			}
			return show(cmd, asJSON, found, func(w io.Writer) {
				var rows [][]string
				for _, d := range found {
					rows = append(rows, []string{string(d.Kind), yes(d.Default), yes(d.Muted), d.Name, d.Description})
				}
				table(w, []string{"KIND", "DEFAULT", "MUTED", "NAME", "DESCRIPTION"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}
