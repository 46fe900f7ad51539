package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/change"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/state/durable"
)

// changesName is the file of --state with what was changed at the phone itself.
const changesName = "changes.json"

// changedHere is what the phone starts again for, as for an order of the server.
const changedHere = "changed on the web page"

// changes reads what was changed at the phone.
func (d *deskPhone) changes() ([]change.Kept, error) {
	if d.state == "" {
		return nil, nil
	}
	b, err := readWhole(filepath.Join(d.state, changesName), change.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return change.Parse(b)
}

func (d *deskPhone) keepChanges(kept []change.Kept) error {
	b, err := json.MarshalIndent(kept, "", "  ")
	if err == nil {
		err = os.MkdirAll(d.state, 0o700)
	}
	if err == nil {
		err = durable.Replace(filepath.Join(d.state, changesName), b)
	}
	if err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the change cannot be kept", Err: err}
	}
	return nil
}

// restoreChanges puts what was changed at the phone into force. What the profile says otherwise since is forgotten.
func (d *deskPhone) restoreChanges(set *flatprofile.Set) error {
	kept, err := d.changes()
	if err != nil || len(kept) == 0 {
		return err
	}
	if left := change.Apply(set, kept); len(left) != len(kept) {
		return d.keepChanges(left)
	}
	return nil
}

// Change implements page.Changer: the change is kept, and the phone starts again with it as soon as nobody speaks, as after a resync.
func (x *desk) Change(account string, admin bool, r change.Request) (change.Report, error) {
	x.changing.Lock()
	defer x.changing.Unlock()
	set := x.inForce.Load()
	report, err := change.Judge(set, admin, r)
	if err != nil || len(report.Refused) > 0 || len(report.Changed) == 0 || len(report.Dangers) > 0 && !r.Confirm {
		return report, err
	}
	if x.flags.state == "" {
		return report, &ringfence.Fault{Op: "phone", Kind: ringfence.KindUnsupported, Text: "there is nowhere to keep a change", Hint: "start the phone with --state DIR"}
	}
	kept, err := x.flags.changes()
	if err != nil {
		return report, err
	}
	next, err := change.Add(set, kept, report.Changes, account, time.Now())
	if err != nil {
		return report, err
	}
	if slices.Equal(next, kept) { // it is as the profile says already
		report.Changed = []string{}
		return report, nil
	}
	if err := x.flags.keepChanges(next); err != nil {
		return report, err
	}
	fmt.Fprintf(x.out, "web page: %s changed %s\n", account, strings.Join(report.Changed, ", "))
	report.Done = true
	x.ordered(changedHere)
	return report, nil
}
