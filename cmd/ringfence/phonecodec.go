package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/media/codec"
)

// codecFlag adds the flag that says which codecs a phone speaks.
func codecFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "codec", "", "speak these codecs and no others, best first: opus, g722, pcma, pcmu; without it pcmu,pcma,g722,opus")
}

// readCodecs reads the flag. Nothing is nothing: the phone's own.
func readCodecs(list string) (out []codec.Name, err error) {
	if list == "" {
		return nil, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		at := codec.Name(strings.ToUpper(strings.TrimSpace(name)))
		if at == "OPUS" {
			at = codec.Opus
		}
		if _, err := codec.New(at); err != nil {
			return nil, invalid(fmt.Sprintf("--codec: %.20q is no codec of this phone", name), "write opus, g722, pcma or pcmu, with commas between them")
		}
		out = append(out, at)
	}
	return out, nil
}
