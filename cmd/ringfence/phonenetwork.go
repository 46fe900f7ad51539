package main

import (
	"bytes"
	"os"
	"strconv"

	"ringfence"
)

// ownNetwork refuses what would change the host's own network: a phone that may change one has a network namespace of its own.
func ownNetwork(what, flag string) error {
	own, err := os.Readlink("/proc/self/ns/net")
	if err == nil {
		var first string
		if first, err = os.Readlink("/proc/1/ns/net"); err == nil && first == own {
			return &ringfence.Fault{Kind: ringfence.KindDenied, Text: what + " on the host's own network", Hint: "run the phone in a network namespace: ip netns exec PHONE ringfence phone up " + flag + " …"}
		}
		if err != nil && elsewhere(own) {
			err = nil
		}
	}
	if err != nil {
		return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "it cannot be found out whether the network is the phone's own", Err: err, Hint: "run it as root, in a network namespace; without " + flag + " nothing is changed"}
	}
	return nil
}

// elsewhere reports whether whoever started this process, or started that one, has another network: the first process of a host may be hidden.
func elsewhere(own string) bool {
	for pid, n := os.Getppid(), 0; pid > 1 && n < 64; n++ {
		if theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net"); err == nil && theirs != own {
			return true
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name in brackets may hold anything
		if err != nil || len(fields) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(string(fields[1])); err != nil {
			return false
		}
	}
	return false
}
