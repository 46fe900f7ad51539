package capf

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"

	"ringfence"
)

// Identity is what the certificate of a manufacturer says about a phone.
type Identity struct {
	Product string // "CP-8841-3PCC"; may be empty
	Serial  string // "88012BA01234"; may be empty
	MAC     string // twelve upper-case hexadecimal digits
}

// DeviceName returns the name of a phone with this MAC address: SEP001122334455.
func (i Identity) DeviceName() string { return "SEP" + i.MAC }

// maxAttributes bounds the attributes of a subject that are looked at.
const maxAttributes = 32

// Subject reads the subject of a manufacturer's certificate. Phones have been made with several forms: the product in OU; the serial number in L,
// or in serialNumber, there perhaps as "PID:product SN:serial"; the MAC address in S, which is the surname (2.5.4.4) for some and the state
// (2.5.4.8) for others, or in the common name, as it is or at the end of "CP-8841-SEP<MAC>", or in serialNumber. Two different MAC addresses
// are a contradiction. serialNumber counts for one only if none is elsewhere, because serial numbers may look like one.
func Subject(name pkix.Name) (Identity, error) {
	const op = "capf.subject"
	var id Identity
	var fallback string
	if len(name.Names) > maxAttributes {
		return Identity{}, fault(op, ringfence.KindDenied, "the subject of the certificate has too many parts", "", nil)
	}
	for _, a := range name.Names {
		v, ok := a.Value.(string)
		if !ok || len(v) > 256 || clean(v, 256) != v {
			continue
		}
		mac := ""
		switch attribute(a.Type) {
		case attrSurname, attrState:
			mac = macIn(v)
		case attrCommonName:
			mac = macIn(v)
			if head, _, ok := cutLast(v, "-SEP"); ok && id.Product == "" && mac != "" {
				id.Product = head
			}
		case attrUnit:
			id.Product = v
		case attrLocality:
			id.Serial = v
		case attrSerialNumber:
			product, serial := productAndSerial(v)
			if id.Product == "" {
				id.Product = product
			}
			if id.Serial == "" {
				id.Serial = serial
			}
			fallback = macIn(v)
		}
		if mac == "" {
			continue
		}
		if id.MAC != "" && id.MAC != mac {
			return Identity{}, fault(op, ringfence.KindDenied, fmt.Sprintf("the certificate names two phones, %s and %s", id.MAC, mac), "it is not one that a manufacturer puts into a phone", nil)
		}
		id.MAC = mac
	}
	if id.MAC == "" {
		id.MAC = fallback
		if id.Serial == fallback || macIn(id.Serial) == fallback && fallback != "" {
			id.Serial = ""
		}
	}
	if id.MAC == "" {
		return Identity{}, fault(op, ringfence.KindDenied, "the certificate of the manufacturer names no MAC address", "see its subject with openssl x509 -noout -subject; the MAC address should be in S or in CN", nil)
	}
	return id, nil
}

type attr int

const (
	attrOther attr = iota
	attrCommonName
	attrSurname
	attrSerialNumber
	attrLocality
	attrState
	attrUnit
)

// attribute names the attributes of X.520 that matter here.
func attribute(oid asn1.ObjectIdentifier) attr {
	if len(oid) != 4 || oid[0] != 2 || oid[1] != 5 || oid[2] != 4 {
		return attrOther
	}
	switch oid[3] {
	case 3:
		return attrCommonName
	case 4:
		return attrSurname
	case 5:
		return attrSerialNumber
	case 7:
		return attrLocality
	case 8:
		return attrState
	case 11:
		return attrUnit
	}
	return attrOther
}

// productAndSerial splits "PID:CP-8841 SN:FCH12345678"; anything else is a serial number.
func productAndSerial(v string) (product, serial string) {
	rest, ok := strings.CutPrefix(v, "PID:")
	if !ok {
		return "", v
	}
	product, serial, _ = strings.Cut(rest, " SN:")
	return strings.TrimSpace(product), strings.TrimSpace(serial)
}

// macIn returns the MAC address that a text is, or "": twelve hexadecimal digits, perhaps with colons or dashes, perhaps after SEP, perhaps after
// the product as in CP-8841-SEP001122334455.
func macIn(v string) string {
	if _, tail, ok := cutLast(v, "-SEP"); ok {
		v = tail
	} else {
		v = strings.TrimPrefix(v, "SEP")
	}
	if len(v) == 17 {
		sep := v[2]
		if sep != ':' && sep != '-' {
			return ""
		}
		parts := strings.Split(v, string(sep))
		if len(parts) != 6 {
			return ""
		}
		for _, p := range parts {
			if len(p) != 2 {
				return ""
			}
		}
		v = strings.Join(parts, "")
	}
	if len(v) != 12 || strings.Trim(v, "0123456789abcdefABCDEF") != "" {
		return ""
	}
	return strings.ToUpper(v)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// isDeviceName reports whether a text can be the name of a device: 1 to 64 letters, digits and . _ -, beginning with a letter or digit.
func isDeviceName(s string) bool {
	if s == "" || len(s) > maxName || strings.IndexByte("._-", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && strings.IndexByte("._-", c) < 0 {
			return false
		}
	}
	return true
}
