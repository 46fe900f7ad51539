package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"ringfence/internal/desk/flatprofile"
)

// ordered takes an order of the server; one that comes while another waits is the same.
func (x *desk) ordered(what string) {
	select {
	case x.orders <- what:
	default:
	}
}

// seconds reads a parameter in seconds; what is none is 0.
func (x *desk) seconds(name string) time.Duration {
	n, err := strconv.ParseUint(x.profiles.set.Text(name), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// resyncs fetches the profiles again when their time has come or the server orders it, and has the phone start again if they changed anything. A profile that cannot be had changes nothing.
func (x *desk) resyncs(ctx context.Context, cancel context.CancelFunc, out io.Writer) {
	failed := x.profiles.result.Failed() != nil
	for {
		wait := x.seconds("Resync_Periodic")
		if failed {
			wait = x.seconds("Resync_Error_Retry_Delay")
		}
		var due <-chan time.Time
		if wait > 0 && x.profiles.fetched {
			due = time.After(wait + rand.N(max(x.seconds("Resync_Random_Delay"), 1)))
		}
		what := "resync"
		select {
		case <-due:
		case what = <-x.orders:
			if what == changedHere {
				fmt.Fprintln(out, "parameters were changed on the web page")
			} else {
				fmt.Fprintf(out, "the server orders: %s\n", what)
			}
		case <-ctx.Done():
			return
		}
		if what == "resync" {
			if !x.profiles.fetched {
				fmt.Fprintln(out, "there is no rule to fetch a profile by")
				continue
			}
			p, err := x.flags.read(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = p.result.Failed()
				x.mu.Lock()
				x.outcomes = p.result.Outcomes
				x.mu.Unlock()
			}
			if failed = err != nil; failed {
				fmt.Fprintf(out, "WARNING: the resync failed, and the phone goes on as it was: %v\n", err)
				continue
			}
			if same := slices.EqualFunc(x.profiles.set.Changed(), p.set.Changed(), func(a, b flatprofile.Value) bool { return a.Name == b.Name && a.Value == b.Value && a.UA == b.UA }); same {
				fmt.Fprintln(out, "the profile is what it was")
				continue
			}
			fmt.Fprintln(out, "the profile changed")
		}
		x.quiet(ctx)
		if ctx.Err() == nil {
			fmt.Fprintln(out, "the phone starts again")
			x.restarting.Store(true)
			cancel()
		}
		return
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
