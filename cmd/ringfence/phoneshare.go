package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/share"
	"ringfence/internal/desk/upkeep"
	"ringfence/internal/node/sockets"
	"ringfence/internal/trust/chain"
	"ringfence/internal/trust/signedfile"
)

// keptFirmware is the file of --state that holds the firmware that was fetched last, with its signature.
const keptFirmware = "firmware.sgn"

// shares reports whether phones of the link share firmware: only if the profile says so, whatever a phone does that nobody told anything.
func shares(set *flatprofile.Set) bool {
	v := set.Get("Peer_Firmware_Sharing")
	return v.From != flatprofile.Default && set.Yes(v.Name) && set.Yes("Upgrade_Enable")
}

// sharing is how a phone shares firmware.
type sharing struct {
	opener *sockets.Opener
	local  netip.Addr
	say    func(format string, args ...any)
}

// newSharing prepares it. What happens is said on out, and to the server that the profile names for that.
func (p *profiles) newSharing(ctx context.Context, out io.Writer) (*sharing, error) {
	opener, err := sockets.New(share.Flows())
	if err != nil {
		return nil, err
	}
	local, err := opener.SourceFor(share.Group())
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // peers come side by side
	return &sharing{opener, local, func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		text := fmt.Sprintf(format, args...)
		fmt.Fprintf(out, "peer firmware sharing: %s\n", text)
		if server := p.set.Text("Peer_Firmware_Sharing_Log_Server"); server != "" {
			if host, _, _ := strings.Cut(server, ":"); p.set.Permit(host) == nil {
				p.syslog(ctx, server, fmt.Appendf(nil, "<133>%s %s firmware: %s", time.Now().Format(time.Stamp), local, text)) // local0, notice (RFC 3164)
			}
		}
	}}, nil
}

// give gives a file, whose signature was checked, to the phones of the link until ctx ends.
func (s *sharing) give(ctx context.Context, raw []byte) (over <-chan struct{}, err error) {
	header, ok := signedfile.Beginning(raw)
	if !ok {
		return nil, invalid("this is no signed file", "")
	}
	return share.Give(ctx, share.Config{Opener: s.opener, Local: s.local, What: sha256.Sum256(header), File: raw, Say: s.say})
}

// signers reads whose signatures count.
func signers(file string) ([]*x509.Certificate, error) {
	b, err := readWhole(file, chain.MaxFile)
	if err != nil {
		return nil, err
	}
	return chain.Read(b)
}

// firmware fetches the firmware: the beginning from the server, which says for certain what is wanted, and the rest from a phone of the link if it has it, else from the server.
func (p *profiles) firmware(ctx context.Context, s upkeep.Server, certs []*x509.Certificate, out io.Writer) (image upkeep.Image, from string, err error) {
	const server = "server"
	if !shares(p.set) {
		image, err = s.Firmware(ctx, certs)
		return image, server, err
	}
	wanted, err := s.Beginning(ctx)
	if err != nil {
		return image, server, err
	}
	if wanted.File != nil {
		image, err = wanted.Is(wanted.File, certs)
		return image, server, err
	}
	sh, err := p.newSharing(ctx, out)
	if err == nil {
		var peer netip.Addr
		_, peer, err = share.Take(ctx, share.Wanted{Opener: sh.opener, Local: sh.local, What: sha256.Sum256(wanted.Header), Size: wanted.Size, Say: sh.say, Check: func(b []byte) (bad error) { image, bad = wanted.Is(b, certs); return bad }})
		if err == nil {
			sh.say("%s gave the firmware", peer)
			return image, peer.String(), nil
		}
		sh.say("%v; it comes from the server", err)
	} else {
		fmt.Fprintf(out, "peer firmware sharing: %v; the firmware comes from the server\n", err)
	}
	image, err = s.Firmware(ctx, certs)
	return image, server, err
}

// giveKept gives what is kept to the phones of the link while the phone runs.
func (x *desk) giveKept(ctx context.Context, signer string) {
	if signer == "" || x.flags.state == "" || !shares(x.inForce.Load()) {
		return
	}
	err := func() error {
		certs, err := signers(signer)
		if err != nil {
			return err
		}
		raw, err := readWhole(filepath.Join(x.flags.state, keptFirmware), share.MaxSize)
		if errors.Is(err, fs.ErrNotExist) {
			return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "there is no firmware to give", Hint: "fetch it: ringfence phone firmware --state " + x.flags.state}
		}
		if err == nil {
			_, err = upkeep.Check(raw, certs)
		}
		if err != nil {
			return err
		}
		s, err := x.profiles.newSharing(ctx, x.out)
		if err != nil {
			return err
		}
		_, err = s.give(ctx, raw)
		return err
	}()
	if err != nil {
		fmt.Fprintf(x.out, "WARNING: firmware is not shared: %v\n", err)
		return
	}
	fmt.Fprintln(x.out, "peer firmware sharing: the phones of the link can have this phone's firmware")
}

// fetched is a firmware and where it came from.
type fetched struct {
	upkeep.Image
	From string `json:"from"` // server, or the address of a phone
}

func (f fetched) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %d bytes, signed by %s (%s)", f.Name, f.Size, f.Signer, f.Image.Digest)
	if !f.Time.IsZero() {
		fmt.Fprintf(w, " at %s", f.Time.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, ", from %s\nnothing was flashed\n", cmp.Or(map[string]string{"server": "the server"}[f.From], "the phone at "+f.From))
}
