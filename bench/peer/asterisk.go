package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ringfence/bench/load"
	"ringfence/bench/proc"
)

// asteriskModules are what a call between two registered phones needs, in the order in which they are loaded.
const asteriskModules = `res_pjproject res_sorcery_config res_sorcery_memory res_sorcery_astdb res_pjsip res_pjsip_session res_pjsip_pubsub res_pjsip_sdp_rtp
res_pjsip_caller_id res_pjsip_registrar res_pjsip_endpoint_identifier_user chan_pjsip res_rtp_asterisk res_timing_timerfd bridge_simple
bridge_native_rtp codec_ulaw app_dial pbx_config`

// Asterisk starts asterisk as a back-to-back user agent without authentication, logging and call records. Debian 12 has no package of it;
// where it is installed all the same, it is found by its name.
func Asterisk(s Setup) (*Server, error) {
	if _, err := exec.LookPath("asterisk"); err != nil {
		return nil, errors.New("asterisk is not installed, and Debian 12 has no package of it")
	}
	addr, err := freeUDP()
	if err != nil {
		return nil, err
	}
	var users, modules strings.Builder
	for i := range s.Users {
		fmt.Fprintf(&users, "[u%[1]d](phone)\naors=u%[1]d\n[u%[1]d]\ntype=aor\nmax_contacts=1\nremove_existing=yes\n", i)
	}
	for m := range strings.FieldsSeq(asteriskModules) {
		fmt.Fprintf(&modules, "load=%s.so\n", m)
	}
	for name, text := range map[string]string{
		"asterisk.conf":   "[directories]\nastetcdir => " + s.Dir + "\nastvarlibdir => /var/lib/asterisk\nastdbdir => " + s.Dir + "\nastspooldir => " + s.Dir + "\nastrundir => " + s.Dir + "\nastlogdir => " + s.Dir + "\n",
		"modules.conf":    "[modules]\nautoload=no\n" + modules.String(),
		"logger.conf":     "[logfiles]\n",
		"cdr.conf":        "[general]\nenable=no\n",
		"rtp.conf":        "[general]\nrtpstart=10000\nrtpend=29999\n",
		"extensions.conf": "[bench]\nexten => _u.,1,Dial(PJSIP/${EXTEN})\n",
		"pjsip.conf": "[udp]\ntype=transport\nprotocol=udp\nbind=" + addr.String() + "\n" +
			"[phone](!)\ntype=endpoint\ncontext=bench\ndisallow=all\nallow=ulaw\ntransport=udp\ndirect_media=no\n" + users.String(),
	} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	p, err := proc.Start(s.Core, "asterisk", "-f", "-C", filepath.Join(s.Dir, "asterisk.conf"))
	if err != nil {
		return nil, err
	}
	srv := &Server{Proc: p, Name: "asterisk", Target: load.Target{Addr: addr, Domain: "ringfence.internal", Password: s.Password, Plain: true}}
	for range 200 {
		time.Sleep(50 * time.Millisecond)
		if !p.Alive() {
			break
		}
		phones, err := load.Fleet(&srv.Target, 0, 1)
		if err == nil {
			load.Hangup(phones)
			return srv, nil
		}
	}
	p.Stop()
	return nil, fmt.Errorf("asterisk did not start: %s", p.Tail())
}

func freeUDP() (netip.AddrPort, error) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort(), nil
}
