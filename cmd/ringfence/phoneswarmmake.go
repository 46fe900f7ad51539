package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/admin/client"
	"ringfence/internal/service/phone"
	"ringfence/internal/service/swarm"
	"ringfence/internal/trust/enroll"
)

// madeUsers are users of a node that are made for a swarm, each with a device and a certificate.
type madeUsers struct {
	*app
	firstNumber uint64
	identities  string
	remove      bool

	host, dns string
	kept      string // the directory with their keys
	progress  func(swarm.Progress)
	admin     *client.Client
	sockets   *reachable
	media     netip.Addr
	added     []ringfence.UserID // by this run
	phones    []phone.Config
	numbers   []string
}

func (s *madeUsers) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint64Var(&s.firstNumber, "first-number", 800_000, "the number of the first user that is made; the others follow")
	f.StringVar(&s.identities, "identities", "", "keep the keys of the phones that are made in this directory, and their users on the node")
	f.BoolVar(&s.remove, "remove", false, "remove them at the end all the same")
}

// make finds those that are kept and makes those that are missing.
func (s *madeUsers) make(ctx context.Context, host, dns string, count int, progress func(swarm.Progress)) (err error) {
	s.host, s.dns, s.progress, s.kept = host, dns, progress, s.identities
	if s.sockets, err = newReachable(dns); err != nil {
		return err
	}
	if s.admin, err = s.administrator(); err != nil {
		return err
	}
	if s.kept == "" {
		if s.kept, err = os.MkdirTemp("", "ringfence-swarm-"); err != nil {
			return err
		}
	}
	return s.enrolAll(ctx, count)
}

// administrator is who may make users: whoever is logged in at the node that --node names, else whoever may use the socket of the one on this host.
func (s *madeUsers) administrator() (*client.Client, error) {
	elsewhere := &app{data: s.data}
	if s.host != "" {
		at, err := hostPort(s.host)
		if err != nil {
			return nil, err
		}
		all, err := readLogins()
		if err != nil {
			return nil, err
		}
		if _, ok := all[at]; ok {
			elsewhere.node = s.host
		}
	}
	return elsewhere.client()
}

// member is one phone of the swarm on its way.
type member struct {
	handset
	user   ringfence.UserID
	number string
}

func (s *madeUsers) member(i int) *member {
	m := &member{user: ringfence.UserID(fmt.Sprintf("swarm-%05d", i+1)), number: strconv.FormatUint(s.firstNumber+uint64(i), 10)}
	m.handset = handset{identity: filepath.Join(s.kept, string(m.user)), host: s.host, dns: s.dns}
	return m
}

// enrolAll finds the identities that are kept, and makes those that are missing: the first by its activation code, which also tells where phones register, the others by an
// administrator's right to have many keys certified at once. Each key is made here, and stays.
func (s *madeUsers) enrolAll(ctx context.Context, count int) error {
	var all, missing []*member
	for i := range count {
		m := s.member(i)
		all = append(all, m)
		if _, err := os.Stat(m.identity); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, m)
		} else if b, err := os.ReadFile(filepath.Join(m.identity, "number")); err == nil {
			m.number = strings.TrimSpace(string(b))
		}
	}
	if len(missing) > 0 {
		first := all[0]
		if missing[0] == first {
			if err := s.add(ctx, first, true); err != nil {
				return err
			}
			missing = missing[1:]
		}
		id, err := first.enrolled(ctx, s.sockets, io.Discard)
		if err != nil {
			return err
		}
		if err := first.keepNumber(); err != nil {
			return err
		}
		_, file, err := first.load()
		if err != nil {
			return err
		}
		done := count - len(missing)
		for some := range slices.Chunk(missing, maxCertified) {
			if err := s.certify(ctx, some, id.Identity, file); err != nil {
				return err
			}
			done += len(some)
			s.progress(swarm.Progress{Phase: "enrolling", Done: done, Total: count})
		}
	}
	for _, m := range all {
		m.code = "" // it was good once
		c, err := s.config(ctx, m)
		if err != nil {
			return err
		}
		s.phones, s.numbers = append(s.phones, c), append(s.numbers, m.number)
	}
	return nil
}

// maxCertified bounds what is asked for at once.
const maxCertified = 100

// certify adds some users with their devices, and has the keys of the phones certified.
func (s *madeUsers) certify(ctx context.Context, some []*member, like enroll.Identity, file identityFile) error {
	in, out := make([]api.NewCertificate, len(some)), make([]api.IssuedOrNot, 0, len(some))
	keys := make([]*ecdsa.PrivateKey, len(some))
	for i, m := range some {
		if err := s.add(ctx, m, false); err != nil {
			return err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return err
		}
		keys[i], in[i] = key, api.NewCertificate{Role: "device", Name: string(m.user), CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}
	}
	if err := s.admin.Do(ctx, http.MethodPost, "/certificates/batch", nil, in, &out); err != nil {
		return err
	}
	for i, m := range some {
		switch {
		case i >= len(out) || out[i].Issued == nil && out[i].Error == nil:
			return &ringfence.Fault{Kind: ringfence.KindInternal, Text: "the node has not said what became of the key of " + string(m.user)}
		case out[i].Error != nil:
			return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the key of " + string(m.user) + " was not certified: " + out[i].Error.Detail}
		}
		id := enroll.Identity{Device: ringfence.DeviceID(m.user), Key: keys[i], Anchors: like.Anchors, Bootstrap: like.Bootstrap}
		id.Bootstrap.User = m.user
		for block, rest := pem.Decode([]byte(out[i].Issued.PEM)); block != nil; block, rest = pem.Decode(rest) {
			id.Chain = append(id.Chain, block.Bytes)
		}
		if err := m.keep(id, file); err != nil {
			return err
		}
		if err := m.keepNumber(); err != nil {
			return err
		}
	}
	return nil
}

func (m *member) keepNumber() error {
	if err := os.WriteFile(filepath.Join(m.identity, "number"), []byte(m.number+"\n"), 0o600); err != nil {
		return invalid(err.Error(), "")
	}
	return nil
}

func (s *madeUsers) config(ctx context.Context, m *member) (c phone.Config, err error) {
	id, err := m.enrolled(ctx, s.sockets, io.Discard)
	if err != nil {
		return c, err
	}
	servers, err := s.sockets.servers(id.Host, id.Bootstrap.SIP.Port, id.ByName)
	if err != nil {
		return c, err
	}
	if !s.media.IsValid() { // as all others
		if s.media, err = s.sockets.media(ctx, servers); err != nil {
			return c, err
		}
	}
	return phone.Config{Servers: oneFamily{servers, s.media}, ServerName: id.Bootstrap.SIP.Host, MediaAddr: s.media,
		TLS:  &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS12},
		User: string(id.Bootstrap.User), Domain: id.Bootstrap.Domain}, nil
}

// add adds a user with a device, and if that is asked for, a code for its phone to enrol with.
func (s *madeUsers) add(ctx context.Context, m *member, code bool) error {
	if err := s.admin.Do(ctx, http.MethodPost, "/users", nil, api.NewUser{ID: m.user, Name: "Swarm " + m.number, Numbers: []ringfence.Number{ringfence.Number(m.number)}}, nil); err != nil {
		if ringfence.KindOf(err) == ringfence.KindConflict {
			return &ringfence.Fault{Kind: ringfence.KindConflict, Text: fmt.Sprintf("the user %s or the number %s is there already", m.user, m.number),
				Hint: "an earlier swarm was kept or cut off: name its directory with --identities, or `ringfence user remove` it, or take another --first-number"}
		}
		return err
	}
	s.added = append(s.added, m.user)
	var added api.DeviceAdded
	if err := s.admin.Do(ctx, http.MethodPost, "/devices", nil, api.NewDevice{ID: ringfence.DeviceID(m.user), User: m.user, Kind: "swarm", NoCode: !code}, &added); err != nil {
		return err
	}
	if added.Activation == nil {
		return nil
	}
	m.code = added.Activation.Code
	if m.host == "" {
		if u, err := url.Parse(added.Activation.URI); err == nil {
			m.host = u.Query().Get("node")
		}
	}
	return nil
}

// clean removes the users if they are not to be kept, those of earlier runs as well if --remove says so, and then the identities.
func (s *madeUsers) clean(ctx context.Context) error {
	if s.admin == nil {
		return nil
	}
	defer s.admin.Close()
	if s.identities != "" && !s.remove {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	all := s.added
	if s.remove && s.identities != "" {
		dirs, err := filepath.Glob(filepath.Join(s.kept, "swarm-*"))
		if err != nil {
			return err
		}
		all = nil
		for _, d := range dirs {
			all = append(all, ringfence.UserID(filepath.Base(d)))
		}
	}
	for i, user := range all {
		if err := s.admin.Do(ctx, http.MethodDelete, "/users/"+string(user), nil, nil, nil); err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			return err
		}
		if err := os.RemoveAll(filepath.Join(s.kept, string(user))); err != nil {
			return invalid(err.Error(), "")
		}
		s.progress(swarm.Progress{Phase: "removing", Done: i + 1, Total: len(all)})
	}
	if s.identities == "" {
		return os.RemoveAll(s.kept)
	}
	return nil
}
