package cipherlist

// The bits that words select suites by: key exchange, authentication, encryption, MAC, and classes of strength.
const (
	kRSA uint32 = 1 << iota
	kDHE
	kECDHE
	kPSK
	kRSAPSK
	kDHEPSK
	kECDHEPSK
	kSRP
	kGOST
)

const (
	aRSA uint32 = 1 << iota
	aDSS
	aNULL
	aECDSA
	aPSK
	aSRP
	aGOST
	everyAuth = 1<<iota - 1
)

const (
	eNULL uint32 = 1 << iota
	e3DES
	eRC4
	eRC2
	eIDEA
	eSEED
	eAES128
	eAES256
	eAES128GCM
	eAES256GCM
	eAES128CCM
	eAES256CCM
	eAES128CCM8
	eAES256CCM8
	eCAMELLIA128
	eCAMELLIA256
	eCHACHA20
	eARIA128GCM
	eARIA256GCM
	eGOST
	everyEnc = 1<<iota - 1

	eAESGCM   = eAES128GCM | eAES256GCM
	eAESCCM8  = eAES128CCM8 | eAES256CCM8
	eAESCCM   = eAES128CCM | eAES256CCM | eAESCCM8
	eAES      = eAES128 | eAES256 | eAESGCM | eAESCCM
	eCAMELLIA = eCAMELLIA128 | eCAMELLIA256
	eARIA     = eARIA128GCM | eARIA256GCM
)

const (
	mMD5 uint32 = 1 << iota
	mSHA1
	mSHA256
	mSHA384
	mAEAD
	mGOST
)

const (
	none uint32 = 1 << iota
	low
	medium
	high
	fips
	notDefault
	strengths = none | low | medium | high | fips
)

// The protocol that a suite came with.
const (
	ssl3 uint16 = iota + 1
	tls10
	tls12
)

// selector is what a word stands for. A zero field selects everything.
type selector struct {
	kx, auth, enc, mac uint32
	min                uint16
	class              uint32
	code               uint16 // of one suite
}

// words returns what the words stand for that are no names of suites. They are case-sensitive.
func words() map[string]selector {
	authenticated := everyAuth &^ aNULL
	return map[string]selector{
		"ALL":                 {enc: everyEnc &^ eNULL},
		"COMPLEMENTOFALL":     {enc: eNULL},
		"COMPLEMENTOFDEFAULT": {class: notDefault},

		"kRSA": {kx: kRSA}, "kEDH": {kx: kDHE}, "kDHE": {kx: kDHE}, "DH": {kx: kDHE}, "kEECDH": {kx: kECDHE}, "kECDHE": {kx: kECDHE}, "ECDH": {kx: kECDHE},
		"kPSK": {kx: kPSK}, "kRSAPSK": {kx: kRSAPSK}, "kECDHEPSK": {kx: kECDHEPSK}, "kDHEPSK": {kx: kDHEPSK}, "kSRP": {kx: kSRP}, "kGOST": {kx: kGOST}, "kGOST18": {kx: kGOST},

		"aRSA": {auth: aRSA}, "aDSS": {auth: aDSS}, "DSS": {auth: aDSS}, "aNULL": {auth: aNULL}, "aECDSA": {auth: aECDSA}, "ECDSA": {auth: aECDSA}, "aPSK": {auth: aPSK},
		"aSRP": {auth: aSRP}, "aGOST": {auth: aGOST}, "aGOST01": {auth: aGOST}, "aGOST12": {auth: aGOST},

		"EDH": {kx: kDHE, auth: authenticated}, "DHE": {kx: kDHE, auth: authenticated}, "EECDH": {kx: kECDHE, auth: authenticated}, "ECDHE": {kx: kECDHE, auth: authenticated},
		"NULL": {enc: eNULL}, "RSA": {kx: kRSA, auth: aRSA}, "ADH": {kx: kDHE, auth: aNULL}, "AECDH": {kx: kECDHE, auth: aNULL},
		"PSK": {kx: kPSK | kRSAPSK | kECDHEPSK | kDHEPSK}, "SRP": {kx: kSRP},

		"eNULL": {enc: eNULL}, "3DES": {enc: e3DES}, "RC4": {enc: eRC4}, "RC2": {enc: eRC2}, "IDEA": {enc: eIDEA}, "SEED": {enc: eSEED}, "GOST89": {enc: eGOST},
		"AES128": {enc: eAES128 | eAES128GCM | eAES128CCM | eAES128CCM8}, "AES256": {enc: eAES256 | eAES256GCM | eAES256CCM | eAES256CCM8}, "AES": {enc: eAES},
		"AESGCM": {enc: eAESGCM}, "AESCCM": {enc: eAESCCM}, "AESCCM8": {enc: eAESCCM8},
		"CAMELLIA128": {enc: eCAMELLIA128}, "CAMELLIA256": {enc: eCAMELLIA256}, "CAMELLIA": {enc: eCAMELLIA}, "CHACHA20": {enc: eCHACHA20},
		"ARIA": {enc: eARIA}, "ARIAGCM": {enc: eARIA}, "ARIA128": {enc: eARIA128GCM}, "ARIA256": {enc: eARIA256GCM},
		"CBC": {enc: e3DES | eRC2 | eIDEA | eSEED | eAES128 | eAES256 | eCAMELLIA | eGOST},

		"MD5": {mac: mMD5}, "SHA1": {mac: mSHA1}, "SHA": {mac: mSHA1}, "SHA256": {mac: mSHA256}, "SHA384": {mac: mSHA384}, "GOST94": {mac: mGOST}, "GOST89MAC": {mac: mGOST},

		"SSLv3": {min: ssl3}, "TLSv1": {min: tls10}, "TLSv1.0": {min: tls10}, "TLSv1.2": {min: tls12},

		"LOW": {class: low}, "MEDIUM": {class: medium}, "HIGH": {class: high}, "FIPS": {class: fips},

		"EDH-DSS-DES-CBC3-SHA": {kx: kDHE, auth: aDSS, enc: e3DES, mac: mSHA1, min: ssl3}, "EDH-RSA-DES-CBC3-SHA": {kx: kDHE, auth: aRSA, enc: e3DES, mac: mSHA1, min: ssl3},
	}
}

// text names a bit of a suite as people do.
func text(names []string, bit uint32) string {
	for i, n := range names {
		if bit == 1<<i {
			return n
		}
	}
	return ""
}

func kxName(b uint32) string {
	return text([]string{"RSA", "DHE", "ECDHE", "PSK", "RSA-PSK", "DHE-PSK", "ECDHE-PSK", "SRP", "GOST"}, b)
}

func authName(b uint32) string {
	return text([]string{"RSA", "DSS", "none", "ECDSA", "PSK", "SRP", "GOST"}, b)
}

func encName(b uint32) string {
	return text([]string{"none", "3DES-CBC", "RC4", "RC2", "IDEA-CBC", "SEED-CBC", "AES-128-CBC", "AES-256-CBC", "AES-128-GCM", "AES-256-GCM", "AES-128-CCM", "AES-256-CCM", "AES-128-CCM8",
		"AES-256-CCM8", "Camellia-128-CBC", "Camellia-256-CBC", "ChaCha20-Poly1305", "ARIA-128-GCM", "ARIA-256-GCM", "GOST"}, b)
}

func macName(b uint32) string {
	return text([]string{"MD5", "SHA-1", "SHA-256", "SHA-384", "AEAD", "GOST"}, b)
}
