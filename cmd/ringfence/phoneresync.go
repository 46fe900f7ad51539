package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/resync"
	"ringfence/internal/network/phoneports"
)

// ordered takes an order of the server; one that comes while another waits is the same.
func (x *desk) ordered(what string) {
	select {
	case x.orders <- what:
	default:
	}
}

// told takes what DHCP says otherwise.
func (x *desk) told(others, place bool) {
	if !others && !place {
		return // what was looked at and is not used by the phone
	}
	for {
		select {
		case x.network <- others:
			return
		default:
		}
		select {
		case before := <-x.network: // one that waits already; both count
			others = others || before
		default:
		}
	}
}

// differences names the parameters that two sets have otherwise. Where a profile comes from is none of them if DHCP says so.
func differences(before, after *flatprofile.Set) (out []string) {
	values := func(set *flatprofile.Set) map[string]string {
		all := map[string]string{}
		for _, v := range set.Changed() {
			if !strings.HasPrefix(v.From, "DHCP") {
				all[v.Name] = v.UA + "=" + v.Value
			}
		}
		return all
	}
	a, b := values(before), values(after)
	for name, value := range b {
		if old, had := a[name]; !had || old != value {
			out = append(out, name)
		}
	}
	for name := range a {
		if _, has := b[name]; !has {
			out = append(out, name)
		}
	}
	return out
}

// rewall changes the firewall of a phone that goes on.
func (x *desk) rewall(ctx context.Context, set *flatprofile.Set) error {
	view := phoneports.Look(set)
	x.managed.opened(&view)
	if x.walled {
		if err := x.flags.putWall(ctx, view); err != nil {
			return err
		}
	}
	x.inForce.Store(set)
	x.mu.Lock()
	x.view = view
	x.mu.Unlock()
	return nil
}

// again has the phone start again. With stays it stays in its network.
func (x *desk) again(cancel context.CancelFunc, stays bool) {
	x.restarting.Store(true)
	x.flags.stays.Store(stays)
	cancel()
}

// seconds reads a parameter in seconds; what is none is 0.
func (x *desk) seconds(name string) time.Duration {
	n, err := strconv.ParseUint(x.inForce.Load().Text(name), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// leastBetween is the time between two starts for what DHCP says.
const leastBetween = 30 * time.Second

// resyncs fetches the profiles again when their time has come or the server orders it, and has the phone start again if they changed anything. A profile that cannot be had changes nothing.
func (x *desk) resyncs(ctx context.Context, cancel context.CancelFunc, out io.Writer) {
	began, failures := time.Now(), 0
	if x.profiles.result.Failed() != nil {
		failures = 1
	}
	x.latest.Store(x.profiles)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		x.watchTriggers(ctx, out)
	}()
	defer func() { <-watching }()
	for {
		var due <-chan time.Time
		now := time.Now()
		if at, _ := resync.Next(x.inForce.Load(), now, failures, func(d time.Duration) time.Duration { return rand.N(max(d, 1)) }); !at.IsZero() && x.profiles.fetched {
			due = time.After(at.Sub(now))
		}
		what, stays, others := "resync", true, false
		select {
		case <-due:
		case what = <-x.orders:
			if what == changedHere {
				fmt.Fprintln(out, "parameters were changed on the web page")
			} else {
				fmt.Fprintf(out, "the server orders: %s\n", what)
				stays = what == "resync"
			}
		case why := <-x.triggered:
			fmt.Fprintf(out, "%s holds: the phone resyncs\n", why)
		case others = <-x.network:
			if others { // a server that changes its mind all the time does not keep the phone from its calls
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(began.Add(leastBetween))):
				}
			}
		case <-ctx.Done():
			return
		}
		if what == "resync" && !others {
			x.flags.askOptions(ctx)
			p, err := x.flags.read(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil && !p.fetched {
				fmt.Fprintln(out, "there is no rule to fetch a profile by")
				continue
			}
			if err == nil {
				err = p.result.Failed()
				x.mu.Lock()
				x.outcomes = p.result.Outcomes
				x.mu.Unlock()
			}
			if err == nil {
				failures = 0
				x.latest.Store(p)
			} else {
				failures++
				fmt.Fprintf(out, "WARNING: the resync failed, and the phone goes on as it was: %v\n", err)
				continue
			}
			switch changed := differences(x.inForce.Load(), p.set); {
			case len(changed) == 0:
				fmt.Fprintln(out, "the profile is what it was")
				continue
			case !slices.ContainsFunc(changed, func(name string) bool { return name != "Firewall" && name != "Firewall_Config" }):
				if err := x.rewall(ctx, p.set); err != nil {
					fmt.Fprintf(out, "WARNING: the firewall stays as it was: %v\n", err)
				} else {
					fmt.Fprintln(out, "the firewall changed, and the phone goes on")
				}
				continue
			}
			fmt.Fprintln(out, "the profile changed")
		}
		x.quiet(ctx)
		if ctx.Err() == nil {
			fmt.Fprintln(out, "the phone starts again")
			x.again(cancel, stays)
		}
		return
	}
}

// Looks at the conditions of a profile.
const (
	triggerLook  = 5 * time.Second
	triggerLeast = time.Minute // until one that holds again, or still, after a resync is told once more
)

// watchTriggers tells when a condition of the profile comes to hold (Resync_Trigger_1 and _2), until ctx ends.
func (x *desk) watchTriggers(ctx context.Context, out io.Writer) {
	if set := x.inForce.Load(); !x.profiles.fetched || set.Text("Resync_Trigger_1") == "" && set.Text("Resync_Trigger_2") == "" {
		return
	}
	tick := time.NewTicker(triggerLook)
	defer tick.Stop()
	lost, held, told, last, fetched := map[int]time.Time{}, "", false, time.Time{}, x.latest.Load()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		for i, q := range x.lines {
			switch n := x.plan.Lines[i].Number; {
			case q == nil || q.Registered():
				delete(lost, n)
			case lost[n].IsZero():
				lost[n] = now
			}
		}
		latest := x.latest.Load()
		which, err := latest.phone.Triggered(x.inForce.Load(), func(macro string) (string, bool) {
			n := map[string]int{"REGTMR1": 1, "REGTMR2": 2}[macro]
			if since := lost[n]; n > 0 && !since.IsZero() {
				return strconv.Itoa(int(now.Sub(since) / time.Second)), true
			}
			return "0", n > 0
		})
		if err != nil && !told {
			told = true
			fmt.Fprintf(out, "WARNING: %v\n", err)
		}
		if which != "" && (which != held || latest != fetched && now.Sub(last) >= triggerLeast) {
			last, fetched = now, latest
			select {
			case x.triggered <- which:
			default:
			}
		}
		held = which
	}
}

// quiet waits until nobody speaks, for Forced_Resync_Delay at most.
func (x *desk) quiet(ctx context.Context) {
	limit := time.NewTimer(max(x.seconds("Forced_Resync_Delay"), time.Second))
	defer limit.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for len(x.features.State().Calls) > 0 {
		select {
		case <-tick.C:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
