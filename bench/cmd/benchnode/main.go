// Command benchnode runs a node with made-up users and digest devices, to be measured by the benchmark. It is not part of the product.
//
// It writes one line of JSON when it is ready, and then obeys lines on its standard input: "gc", "profile FILE", "stop", "heap FILE".
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/sip"
	"ringfence/internal/state/store"
)

func main() {
	data := flag.String("data", "", "data directory, made if missing")
	users := flag.Int("users", 200, "users u0, u1, … with devices d0, d1, …")
	password := flag.String("password", "", "password of every device, made up for this run")
	each := flag.Bool("challenge-each", false, "challenge every REGISTER")
	plain := flag.Bool("plain", false, "SIP over UDP and RTP in the clear, by an exception for every device")
	verbose := flag.Bool("v", false, "log to standard error")
	flag.Parse()
	if err := run(*data, *users, *password, *each, *plain, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "benchnode:", err, ringfence.HintOf(err))
		os.Exit(1)
	}
}

func run(data string, users int, password string, each, plain, verbose bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer node.TuneGarbage()() // as the product does
	c := config.Default()
	c.SIP.TLS = netip.MustParseAddrPort("127.0.0.1:0")
	c.SIP.ChallengeEach = each
	if plain {
		c.SIP.Plain = netip.MustParseAddrPort("127.0.0.1:0")
	}
	c.API.HTTPS = netip.MustParseAddrPort("127.0.0.1:0")
	c.Media.Addr = netip.MustParseAddr("127.0.0.1")
	c.Media.First = 10000 // a port rests for a second after each call, which is longer than these calls
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	n, err := node.Open(ctx, node.Options{Config: c, Data: data, Version: "bench", Log: log})
	if err != nil {
		return err
	}
	defer n.Close()
	if err := populate(ctx, n, users, password, plain); err != nil {
		return err
	}
	leaf, err := leafOf(n.SIPAddr())
	if err != nil {
		return err
	}
	ready := map[string]any{"sip": n.SIPAddr().String(), "domain": c.Domain, "leaf": hex.EncodeToString(leaf), "anchor": string(n.Authority.RootPEM()), "plain": n.Bound("sip-plain-udp").String()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	go obey(bufio.NewScanner(os.Stdin))
	<-ctx.Done()
	return nil
}

// populate adds the users in one transaction.
func populate(ctx context.Context, n *node.Node, users int, password string, plain bool) error {
	both := []ringfence.Auth{ringfence.AuthDigestSHA256, ringfence.AuthDigestMD5}
	algs := map[ringfence.Auth]sip.DigestAlgorithm{ringfence.AuthDigestSHA256: sip.DigestSHA256, ringfence.AuthDigestMD5: sip.DigestMD5}
	err := n.Store.Tx(ctx, func(tx *store.Tx) error {
		for i := range users {
			user, device := fmt.Sprintf("u%d", i), fmt.Sprintf("d%d", i)
			u := store.User{ID: ringfence.UserID(user), Name: user, Numbers: []ringfence.Number{ringfence.Number(fmt.Sprint(100000 + i))}, TollClass: "internal"}
			if err := tx.CreateUser(ctx, u); err != nil {
				return err
			}
			d := store.Device{ID: ringfence.DeviceID(device), User: u.ID, Kind: "bench", Profile: store.DeviceProfile{Auth: both}, Created: time.Now()}
			if plain {
				d.Profile.Plain = &store.PlainException{Until: time.Now().Add(24 * time.Hour), Reason: "to be measured beside a peer that has no TLS"}
			}
			if err := tx.CreateDevice(ctx, d); err != nil {
				return err
			}
			for _, alg := range both {
				s := store.DigestSecret{Device: d.ID, Username: device, Realm: n.Config.Domain, Algorithm: alg, HA1: sip.HA1(algs[alg], device, n.Config.Domain, password)}
				if err := tx.PutDigestSecret(ctx, s); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.Roster.Reload(ctx)
}

// leafOf asks the listening node for its certificate, so that the generator can check that it talks to this node.
func leafOf(addr netip.AddrPort) ([]byte, error) {
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) // this process itself answers
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0].Raw, nil
}

func obey(lines *bufio.Scanner) {
	for lines.Scan() {
		verb, file, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "gc":
			debug.FreeOSMemory()
		case "profile":
			if f, err := os.Create(file); err == nil {
				_ = pprof.StartCPUProfile(f)
			}
		case "stop":
			pprof.StopCPUProfile()
		case "heap":
			if f, err := os.Create(file); err == nil {
				_ = pprof.Lookup("heap").WriteTo(f, 0)
				_ = f.Close()
			}
		}
		fmt.Println("ok")
	}
}
