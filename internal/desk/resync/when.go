package resync

import (
	"strconv"
	"strings"
	"time"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/profilerule"
)

// maxRetries is how many delays a list of them has at most.
const maxRetries = 32

// seconds reads a number of seconds; what is none is not ok.
func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31)
	return time.Duration(n) * time.Second, err == nil
}

// Next says when a profile is fetched again, after so many fetches in a row that failed, and by which parameter; a zero time is never. random returns a time from 0 up to one.
//
// After a failure the delays of Resync_Error_Retry_Delay are taken one after the other, and the last of them from then on. Otherwise it is the time of day of Resync_At__HHmm_, in the zone of now, or if that is none the interval of Resync_Periodic.
func Next(set *flatprofile.Set, now time.Time, failed int, random func(time.Duration) time.Duration) (at time.Time, parameter string) {
	longest := func(name string) time.Duration {
		d, _ := seconds(set.Text(name))
		return random(d)
	}
	if failed > 0 {
		var delays []time.Duration
		for part := range strings.SplitSeq(set.Text("Resync_Error_Retry_Delay"), ",") {
			if d, ok := seconds(part); ok && len(delays) < maxRetries {
				delays = append(delays, d)
			}
		}
		if len(delays) > 0 {
			if d := delays[min(failed, len(delays))-1]; d > 0 {
				return now.Add(d), "Resync_Error_Retry_Delay"
			}
		}
		// The phone does not try again for the failure, but at the next time that it would anyway.
	}
	if clock, err := time.Parse("1504", strings.TrimSpace(set.Text("Resync_At__HHmm_"))); err == nil {
		day := 0
		for at = now; !at.After(now); day++ {
			at = time.Date(now.Year(), now.Month(), now.Day()+day, clock.Hour(), clock.Minute(), 0, 0, now.Location())
		}
		return at.Add(longest("Resync_At_Random_Delay")), "Resync_At__HHmm_"
	}
	if d, ok := seconds(set.Text("Resync_Periodic")); ok && d > 0 {
		return now.Add(d + longest("Resync_Random_Delay")), "Resync_Periodic"
	}
	return time.Time{}, ""
}

// Triggered returns the first of Resync_Trigger_1 and _2 whose condition holds; more knows macros that the phone itself does not, such as how long a line has not been registered. A condition that cannot be read holds never, and is an error.
func (p *Phone) Triggered(set *flatprofile.Set, more func(name string) (string, bool)) (parameter string, err error) {
	c := p.at(set)
	for _, name := range []string{"Resync_Trigger_1", "Resync_Trigger_2"} {
		text := strings.TrimSpace(set.Text(name))
		if text == "" {
			continue
		}
		holds, wrong := profilerule.ParseCondition(text)
		var yes bool
		if wrong == nil {
			yes, wrong = holds(func(macro string) (string, bool) {
				if v, ok := more(macro); ok {
					return v, true
				}
				return c.value(macro)
			})
		}
		switch {
		case wrong != nil && err == nil:
			err = bad("%s (%s) holds never: %v", name, set.Get(name).Where(), wrong)
		case yes:
			return name, nil
		}
	}
	return "", err
}
