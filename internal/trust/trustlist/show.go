package trustlist

import (
	"encoding/hex"
	"fmt"
	"io"
	"text/tabwriter"

	"ringfence/internal/trust/signedfile"
)

// Show writes the list as a phone shows its own: the header and each record, element by element, with where it begins and how long it is. Parts of
// the JSON form have no such places.
func (l *List) Show(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s, version %s, signed at %s\n\n", l.Name, l.Version, l.Time.Format("2006-01-02 15:04:05 UTC"))
	if l.web != nil {
		return l.showJSON(t)
	}
	rows := func(elements []signedfile.Element, name func(byte) string, value func(signedfile.Element) string) {
		fmt.Fprintln(t, "BYTEPOS\tTAG\tLENGTH\tVALUE")
		for _, e := range elements {
			if e.Tag == signedfile.TagPadding {
				continue
			}
			fmt.Fprintf(t, "%d\t%s\t%d\t%s\n", e.Offset, name(e.Tag), len(e.Value), value(e))
		}
	}
	rows(l.Header, headerTag, func(e signedfile.Element) string {
		switch e.Tag {
		case 3:
			return fmt.Sprintf("%s, serial %x of %s", l.Signer.Name, l.Signer.Serial, l.Signer.Issuer)
		case 7:
			return fmt.Sprintf("RSA %d with %s", l.Bits, l.Digest)
		case 14:
			return e.Text()
		case 15:
			return l.Time.Format("2006-01-02 15:04:05 UTC")
		}
		return short(e.Value)
	})
	for i, r := range l.Records {
		fmt.Fprintf(t, "\nRecord %d: %s\n", i+1, r.Role)
		rows(r.Parts, recordTag, func(e signedfile.Element) string {
			switch e.Tag {
			case tagDNS, tagSubject, tagIssuer:
				return e.Text()
			case tagRole:
				return r.Role.String()
			case tagCertificate:
				return fmt.Sprintf("until %s", r.Cert.NotAfter.Format("2006-01-02"))
			}
			return short(e.Value)
		})
	}
	return t.Flush()
}

func (l *List) showJSON(t *tabwriter.Writer) error {
	fmt.Fprintln(t, "TAG\tVALUE")
	fmt.Fprintf(t, "SIGNER\t%s, serial %x of %s\n", l.Signer.Name, l.Signer.Serial, l.Signer.Issuer)
	fmt.Fprintf(t, "SIGNATURE INFO\tRSA %d with %s\n", l.Bits, l.Digest)
	fmt.Fprintf(t, "CERTIFICATE HASH\t%s\n", short(l.web.thumbprint[:]))
	fmt.Fprintf(t, "SIGNATURE\t%s\n", short(l.Signature))
	for i, r := range l.Records {
		fmt.Fprintf(t, "\nRecord %d: %s\nTAG\tVALUE\n", i+1, r.Role)
		fmt.Fprintf(t, "SUBJECT\t%s\nISSUER\t%s\nSERIAL\t%s\nROLE\t%s\nCERTIFICATE\tuntil %s\n", r.Subject, r.Issuer, short(r.Serial), r.Role, r.Cert.NotAfter.Format("2006-01-02"))
	}
	return t.Flush()
}

// short shows the beginning of a value in hexadecimal.
func short(b []byte) string {
	if len(b) > 16 {
		return hex.EncodeToString(b[:16]) + "…"
	}
	return hex.EncodeToString(b)
}

func headerTag(tag byte) string {
	switch tag {
	case 1:
		return "VERSION"
	case 2:
		return "HEADER LENGTH"
	case 3:
		return "SIGNER"
	case 7:
		return "SIGNATURE INFO"
	case 12:
		return "SIGNATURE"
	case 14:
		return "FILE NAME"
	case 15:
		return "TIME"
	case 28:
		return "SIGNER VERSION"
	}
	return fmt.Sprintf("TAG %d", tag)
}

func recordTag(tag byte) string {
	switch tag {
	case tagLength:
		return "RECORD LENGTH"
	case tagDNS:
		return "DNS NAME"
	case tagSubject:
		return "SUBJECT"
	case tagRole:
		return "ROLE"
	case tagIssuer:
		return "ISSUER"
	case tagSerial:
		return "SERIAL"
	case tagKey:
		return "PUBLIC KEY"
	case tagSignature:
		return "SIGNATURE"
	case tagCertificate:
		return "CERTIFICATE"
	case tagIP:
		return "IP ADDRESS"
	case tagHash:
		return "CERTIFICATE HASH"
	}
	return fmt.Sprintf("TAG %d", tag)
}
