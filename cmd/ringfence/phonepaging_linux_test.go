package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/desk/feature"
	"ringfence/internal/media/codec"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// TestPhonePaging has gstreamer page a phone behind the phone's own firewall, and the phone page gstreamer.
func TestPhonePaging(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	gst, ip := testkit.Need(t, "/usr/bin/gst-launch-1.0", "gstreamer1.0-tools"), testkit.Need(t, "/sbin/ip", "iproute2")
	raw, far := filepath.Join(dir, "far.raw"), filepath.Join(dir, "page")
	// The far end pages once somebody makes the file, and keeps what it hears of the other group.
	script := `ip route add 239.0.0.0/8 dev eth0far
"$1" -q udpsrc address=239.9.9.10 port=34562 multicast-iface=eth0far caps='application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0' ! rtppcmudepay ! mulawdec ! audio/x-raw,format=S16LE ! filesink buffer-mode=unbuffered location="$2" &
while ! [ -e "$3" ]; do sleep 0.1; done
"$1" -q audiotestsrc wave=sine freq=880 is-live=true num-buffers=100 samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay min-ptime=20000000 max-ptime=20000000 ! udpsink host=239.9.9.9 port=34560 multicast-iface=eth0far
exec sleep 1000`
	router.Neighbour(t, "eth0", "02:00:00:00:09:60", []string{"10.9.0.1/24"}, "/bin/sh", "-c", script, "sh", gst, raw, far)
	router.Run(t, ip, "", "address", "add", "10.9.0.2/24", "dev", "eth0")
	router.Run(t, ip, "", "route", "add", "239.0.0.0/8", "dev", "eth0")
	_, sealed, _ := kamailio(t, dir, "MD5")
	line := "<Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>"
	groups := "<Group_Paging_Script>pggrp=239.9.9.9:34560;name=All;num=500;listen=yes;pggrp=239.9.9.10:34562;name=Others;num=501;</Group_Paging_Script>"
	refused := runDesk(t, dir, "refused", line+groups)
	if text := refused.do(6, "page", "501"); !strings.Contains(text, "line 1 of this phone is sealed") || !strings.Contains(refused.said.String(), "WARNING: there is no multicast paging") {
		t.Error(text, refused.said)
	}
	refused.stop()
	alice := runDesk(t, dir, "alice", line+groups+"<Multicast_Paging_In_The_Clear>Yes</Multicast_Paging_In_The_Clear><Peer_Firmware_Sharing>Yes</Peer_Firmware_Sharing>", "--signer", filepath.Join(dir, "ca.pem"), "--firewall", "--tone", "440", "--record", filepath.Join(dir, "alice.wav"))
	for _, want := range []string{"WARNING: pages are IN THE CLEAR", "multicast pages to 239.9.9.9, in the clear", "firmware is not shared: there is no firmware to give"} {
		if !strings.Contains(alice.said.String(), want) {
			t.Errorf("it does not say %q: %s", want, alice.said)
		}
	}
	if b, err := os.ReadFile("/proc/net/igmp"); err != nil || !strings.Contains(string(b), "090909EF") {
		t.Errorf("the phone is not in the group: %v\n%s", err, b)
	}
	if err := os.WriteFile(far, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	alice.until("the page is heard", func(s feature.State) bool {
		return len(s.Pages) == 1 && s.Pages[0].State == "heard" && strings.HasPrefix(s.Pages[0].From, "10.9.0.1:") && s.Pages[0].Codec == "PCMA"
	})
	alice.until("it is over", func(s feature.State) bool { return len(s.Pages) == 0 })
	router.Until(t, "it is kept", func() bool { return tones(t, filepath.Join(dir, "alice-page-1.wav"), 440, 880)[880] })

	alice.do(3, "page", "502")
	alice.do(4, "page", "off")
	if text := alice.do(0, "dial", "501"); !strings.Contains(text, "paging 501 IN THE CLEAR") { // the number of a group is dialled, as on a phone
		t.Error(text)
	}
	alice.until("it pages", func(s feature.State) bool { return len(s.Pages) == 1 && s.Pages[0].Out && s.Pages[0].Packets > 50 })
	alice.do(0, "page", "off")
	alice.until("it is over", func(s feature.State) bool { return len(s.Pages) == 0 })
	router.Until(t, "gstreamer hears it", func() bool {
		b, err := os.ReadFile(raw)
		if err != nil {
			return false
		}
		sound := codec.Sound{Rate: 8000}
		for ; len(b) >= 2; b = b[2:] {
			sound.Samples = append(sound.Samples, int16(binary.LittleEndian.Uint16(b)))
		}
		wav, err := sound.WAV()
		if err != nil || os.WriteFile(filepath.Join(dir, "far.wav"), wav, 0o600) != nil {
			return false
		}
		return tones(t, filepath.Join(dir, "far.wav"), 440, 880)[440]
	})
}
