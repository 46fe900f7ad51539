package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/desk/feature"
	"ringfence/internal/desk/paging"
	"ringfence/internal/service/phone"
)

// pages joins the paging groups of the profile, if it has any and says that pages may be in the clear.
func (x *desk) pages(ctx context.Context) {
	s := x.paging
	if len(s.Groups) == 0 || s.Refused != nil {
		return
	}
	say := func(format string, args ...any) { fmt.Fprintf(x.out, format+"\n", args...) }
	pager := paging.New(paging.Config{Setting: s, Opener: x.opener, Calls: x.features, Changed: x.features.Stir, Say: say, Heard: func(p paging.Page) (paging.Sink, func(paging.Page)) {
		rec := phone.NewRecorder(3600)
		ext := filepath.Ext(x.record)
		file := fmt.Sprintf("%s-page-%d%s", strings.TrimSuffix(x.record, ext), x.heardPages.Add(1), ext)
		return rec, func(p paging.Page) {
			say("the page of %s to %s is over: %d packets of %s", p.From, p.Group, p.Packets, p.Codec)
			if x.record == "" {
				return
			}
			wav, err := rec.WAV()
			if err == nil {
				err = os.WriteFile(file, wav, 0o600)
			}
			if err != nil {
				say("page: %v", err)
			}
		}
	}})
	x.features.SetPager(pager)
	if err := pager.Listen(ctx); err != nil {
		say("WARNING: %v", err)
	}
}

// pagingWarnings says what a profile's pages mean, or why there are none.
func pagingWarnings(s paging.Setting) []string {
	switch {
	case s.Refused != nil:
		return []string{fmt.Sprintf("there is no multicast paging: %s: %s", s.From, s.Reason)}
	case len(s.Groups) > 0:
		return []string{fmt.Sprintf("pages are IN THE CLEAR: whoever is on the network hears them, and can make this phone speak: %s", s.From)}
	}
	return nil
}

func (c *controller) pageVerbs(parent *cobra.Command) {
	parent.AddCommand(&cobra.Command{Use: "page NUMBER|off", Short: "Page a group of phones by multicast, or end it", Args: cobra.ExactArgs(1),
		Long: "page says what --tone or --play gives the phone to all phones of a group of Group_Paging_Script, until `page off`, for an hour at most. Pages are plain RTP to a multicast address: whoever is on the network hears them. So a\n" +
			"phone with a line that is sealed pages only if its profile says Multicast_Paging_In_The_Clear. A page does not leave the link.",
		Example: "  ringfence phone do page 500 --state desk\n  ringfence phone do page off --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "off" {
				return c.do(cmd, feature.Command{Do: feature.DoEndPage})
			}
			return c.do(cmd, feature.Command{Do: feature.DoPage, Number: args[0]})
		}})
}
