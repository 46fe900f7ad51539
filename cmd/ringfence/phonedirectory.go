package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/directory"
)

const flowDirectory = "phone-directory"

func directoryFlow() ringfence.Flow {
	return ringfence.Flow{Name: flowDirectory, Purpose: "A phone searches the site's directory by LDAP, within TLS unless --in-the-clear.", Room: "desk/directory", Direction: ringfence.Dials, Transport: "tcp", Peers: "the directory", TLS: ringfence.TLSServer}
}

// directoryAnswer is what a search came to.
type directoryAnswer struct {
	Directory string              `json:"directory,omitempty"`
	Method    directory.Method    `json:"method"`
	Proof     directory.Proof     `json:"proof"`
	Contacts  []directory.Contact `json:"contacts"`
	More      bool                `json:"more"` // than --limit, or than the server gives
}

func newPhoneDirectoryCommand() *cobra.Command {
	return group(&cobra.Command{Use: "directory", Short: "The directory of a desk phone", Long: "directory is what a desk phone finds people with: the LDAP section of its profile.", Example: "  ringfence phone directory find lovelace --cfg cfg.xml"}, newDirectoryFindCommand())
}

func newDirectoryFindCommand() *cobra.Command {
	d := &deskPhone{}
	var who directory.Who
	var limit int
	var clear, asJSON bool
	cmd := &cobra.Command{
		Use: "find [NAME]", Short: "Look somebody up in the directory by LDAP, as the phone does",
		Long: "find searches the directory of a desk phone's profile (LDAP_Server, LDAP_Search_Base) for a name, with LDAP_Last_Name_Filter and LDAP_First_Name_Filter, and prints what LDAP_Display_Attrs shows, sorted by what\n" +
			"stands first there. It binds as LDAP_Auth_Method says: None, Simple or DIGEST-MD5. What is typed is a value: stars and brackets in it mean themselves. --item-3 and --item-4 search by what LDAP_Search_Item_3 and _4 name.\n" +
			"A number is dialled as LDAP_Number_Mapping changes it; --json has both. A server that gives few entries at a time is asked in pages.\n\n" +
			"The search is made within TLS: ldaps://, or ldap:// with LDAP_StartTLS_Enable. The server must prove its name to --ca. Where it has no StartTLS a desk phone goes on in the clear; this one does not. --in-the-clear\n" +
			"searches at ldap:// without StartTLS, if that is what the profile says.\n\nIt ends with 3 (not found) if nobody is found, with 5 if the directory does not let the phone in, with 6 (insecure) if it is not believed.",
		Example: "  ringfence phone directory find lovelace --cfg cfg.xml --ca ca.pem\n  ringfence phone directory find 'Ada Lovelace' --cfg cfg.xml --json | jq '.contacts[].fields'\n  ringfence phone directory find --last Love --first Ada --cfg cfg.xml\n  ringfence phone directory find --item-3 Analyst --cfg cfg.xml --limit 500",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			typed := strings.Join(args, " ")
			if (typed == "") == (who == directory.Who{}) {
				return invalid("there is nobody to look for, or twice", "give a NAME, or --last, --first, --item-3 and --item-4")
			}
			if limit < 1 || limit > directory.MaxLimit {
				return invalid(fmt.Sprintf("--limit %d: from 1 to %d", limit, directory.MaxLimit), "")
			}
			p, err := d.read(ctx, directoryFlow())
			if err != nil {
				return err
			}
			a, err := p.find(ctx, typed, who, limit, clear)
			if err != nil {
				return err
			}
			if a.Proof.InTheClear {
				fmt.Fprintln(cmd.ErrOrStderr(), "WARNING: the directory was searched IN THE CLEAR")
			}
			if err := show(cmd, asJSON, a, func(w io.Writer) { printDirectory(w, a) }); err != nil {
				return err
			}
			if len(a.Contacts) == 0 {
				return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "nobody in the directory has that name", Hint: "see LDAP_Search_Base and the filters: `ringfence phone explain` shows them"}
			}
			return nil
		},
	}
	d.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&who.Last, "last", "", "look for this last name")
	f.StringVar(&who.First, "first", "", "look for this first name")
	f.StringVar(&who.Items[0], "item-3", "", "look for this by LDAP_Search_Item_3")
	f.StringVar(&who.Items[1], "item-4", "", "look for this by LDAP_Search_Item_4")
	f.IntVar(&limit, "limit", 20, "show so many at most")
	f.BoolVar(&clear, "in-the-clear", false, "search at ldap:// without StartTLS, where the profile says so")
	return jsonFlag(cmd, &asJSON)
}

// find searches the directory of a profile.
func (p *profiles) find(ctx context.Context, typed string, who directory.Who, limit int, clear bool) (a directoryAnswer, err error) {
	s, err := directory.Of(p.set)
	if err != nil {
		return a, err
	}
	var filter string
	if typed != "" {
		filter, err = directory.Phrase(s.Last, s.First, typed)
	} else {
		filter, err = s.Filter(who)
	}
	if err != nil {
		return a, err
	}
	s.Server.Clear = clear
	s.Server.TLS = p.phone.TLS.Clone()
	s.Server.TLS.RootCAs = p.phone.Roots()
	s.Server.Lookup = p.lookup
	s.Server.Dial = func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
		return p.opener.Dial(ctx, flowDirectory, at)
	}
	a = directoryAnswer{Directory: s.Name, Method: s.Server.Method, Contacts: []directory.Contact{}}
	var found []directory.Entry
	if found, a.More, a.Proof, err = s.Server.Search(ctx, directory.Query{Base: s.Base, Filter: filter, Attributes: s.Attributes(), Limit: limit}); err != nil {
		return a, err
	}
	for _, e := range found {
		a.Contacts = append(a.Contacts, s.Contact(e))
	}
	directory.Sort(a.Contacts)
	return a, nil
}

func printDirectory(w io.Writer, a directoryAnswer) {
	var rows [][]string
	for _, c := range a.Contacts {
		for i, f := range c.Fields {
			who := ""
			if i == 0 {
				who = c.DN
			}
			value := f.Value
			if f.Phone && f.Dial == "" {
				value += " (not dialled)"
			} else if f.Phone && f.Dial != directory.Dialled(f.Value) {
				value += " (dialled as " + f.Dial + ")"
			}
			rows = append(rows, []string{f.Label, value, who})
		}
	}
	table(w, []string{"FIELD", "VALUE", "ENTRY"}, rows)
	if a.More {
		fmt.Fprintf(w, "there are more than these %d\n", len(a.Contacts))
	}
	sealed := a.Proof.TLS + ", " + a.Proof.Subject
	if a.Proof.InTheClear {
		sealed = "IN THE CLEAR"
	}
	fmt.Fprintf(w, "from %s (%s), bound by %s\n", a.Proof.Server, sealed, a.Method)
}
