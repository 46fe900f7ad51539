package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// door is a port that leads to another, while it is open.
type door struct {
	t      *testing.T
	to, at string
	ln     net.Listener
	mu     sync.Mutex
	conns  []net.Conn
}

func (d *door) open() {
	d.t.Helper()
	if d.at == "" {
		d.at = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", d.at)
	if err != nil {
		d.t.Fatal(err)
	}
	d.ln, d.at = ln, ln.Addr().String()
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", d.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			d.mu.Lock()
			d.conns = append(d.conns, in, out)
			d.mu.Unlock()
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
}

func (d *door) shut() {
	_ = d.ln.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

// TestPhoneSurvives has a line go to its second server when the first is gone, and come back; both are of another vendor, and must prove their names.
func TestPhoneSurvives(t *testing.T) {
	dir, one, two := t.TempDir(), filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	var anchors []byte
	sealed := map[string]string{}
	for _, at := range []string{one, two} {
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		_, sealed[at], _ = kamailio(t, at, "MD5")
		b, err := os.ReadFile(filepath.Join(at, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		anchors = append(anchors, b...)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), anchors, 0o600); err != nil {
		t.Fatal(err)
	}
	first := &door{t: t, to: "127.0.0.1:" + sealed[one]}
	first.open()
	defer first.shut()
	_, port, _ := net.SplitHostPort(first.at)
	line := "<Proxy_1_>localhost:" + port + "</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><Survivability_Proxy_Fallback_Intvl_1_>3</Survivability_Proxy_Fallback_Intvl_1_>"
	phone := runDesk(t, dir, "alice", line+"<Survivability_Proxy_1_>localhost:"+sealed[two]+"</Survivability_Proxy_1_>")
	server := func() string {
		var out bytes.Buffer
		var s deskStatus
		if execute(t.Context(), []string{"phone", "status", "--json", "--state", phone.state}, &out, io.Discard) != 0 || json.Unmarshal(out.Bytes(), &s) != nil || len(s.Lines) != 1 || s.Lines[0].State != "registered" || s.Lines[0].Proof.Verdict != "sealed" {
			return ""
		}
		return s.Lines[0].Server
	}
	at := func(what, want string) {
		t.Helper()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 400 {
			if server() == want {
				return
			}
			<-tick.C
		}
		t.Fatalf("%s: it is at %q, not %q", what, server(), want)
	}
	at("it begins", first.at)
	first.shut()
	at("the first is gone", "127.0.0.1:"+sealed[two])
	first.open()
	at("the first is back", first.at)

	// A second server that does not prove its name is none.
	first.shut()
	file := filepath.Join(dir, "wrong.xml")
	if err := os.WriteFile(file, []byte("<flat-profile>"+line+"<Survivability_Proxy_1_>127.0.0.1:"+sealed[two]+"</Survivability_Proxy_1_></flat-profile>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := execute(t.Context(), []string{"phone", "up", "--cfg", file, "--once", "--ca", filepath.Join(dir, "ca.pem")}, io.Discard, io.Discard); code == 0 {
		t.Error("a server without its name was taken")
	}
}
