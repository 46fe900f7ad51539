package main

import (
	"strings"
	"testing"

	"ringfence"
)

// Nobody may read "SRTP" where nothing was sealed.
func TestProofSaysHowMediaWent(t *testing.T) {
	for _, tc := range []struct {
		proof ringfence.Proof
		want  string
	}{
		{ringfence.Proof{Verdict: ringfence.Sealed, Media: &ringfence.MediaProof{Suite: "AEAD_AES_256_GCM", DSCP: 46}}, "SRTP AEAD_AES_256_GCM, DSCP 46"},
		{ringfence.Proof{Verdict: ringfence.Exception, Reason: "plain RTP by the exception of device door-1", Media: &ringfence.MediaProof{DSCP: 46, PacketsIn: 9}}, "RTP in the clear, DSCP 46, 9 packets in"},
		{ringfence.Proof{Verdict: ringfence.Exception, Reason: "plain SIP by the exception of device door-1: knows plain RTP only", Media: &ringfence.MediaProof{DSCP: 46}}, "no keys agreed on, DSCP 46"},
		{ringfence.Proof{Verdict: ringfence.Sealed, Media: &ringfence.MediaProof{DSCP: 46}}, "no keys agreed on, DSCP 46"},
		{ringfence.Proof{Verdict: ringfence.Refused, Media: &ringfence.MediaProof{}}, "no keys agreed on"},
	} {
		var out strings.Builder
		printProof(&out, tc.proof)
		if !strings.Contains(out.String(), tc.want) || strings.Contains(out.String(), "SRTP ,") {
			t.Errorf("%s\ninstead of %q", out.String(), tc.want)
		}
	}
}
