package api

import (
	"time"

	"ringfence"
)

// Forward says where a user's calls go instead; an empty number means not forwarded.
type Forward struct {
	Always          string `json:"always" maxLength:"64" doc:"every call" example:"2001"`
	Busy            string `json:"busy" maxLength:"64" doc:"calls while the user is busy"`
	NoAnswer        string `json:"no_answer" maxLength:"64" doc:"calls that nobody answers in time"`
	Unreachable     string `json:"unreachable" maxLength:"64" doc:"calls while no phone is registered"`
	NoAnswerSeconds int    `json:"no_answer_seconds" minimum:"0" maximum:"600" doc:"how long it rings before no_answer applies; 0 is the default of the dial plan"`
}

// User is a person or a place that owns numbers.
type User struct {
	ID        ringfence.UserID   `json:"id" doc:"unique; also the user part of the address-of-record" example:"alice"`
	Name      string             `json:"name" doc:"display name" example:"Alice Adams"`
	Numbers   []ringfence.Number `json:"numbers" doc:"what can be dialled to reach the user, the main number first"`
	Voicemail bool               `json:"voicemail"`
	Forward   Forward            `json:"forward"`
	DND       bool               `json:"dnd" doc:"do not disturb"`
	TollClass string             `json:"toll_class" doc:"the dearest destinations the user may call" example:"internal"`
	PINSet    bool               `json:"pin_set" doc:"whether a PIN is set; the PIN itself is never shown"`
	Devices   int                `json:"devices" doc:"how many devices the user has"`
}

// NewUser is what is needed to add a user.
type NewUser struct {
	ID        ringfence.UserID   `json:"id" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" doc:"unique; lower-case letters, digits, dot, dash and underscore" example:"alice"`
	Name      string             `json:"name,omitempty" maxLength:"128" doc:"display name" example:"Alice Adams"`
	Numbers   []ringfence.Number `json:"numbers,omitempty" maxItems:"32" doc:"digits, perhaps with a leading +"`
	Voicemail bool               `json:"voicemail,omitempty"`
	Forward   *Forward           `json:"forward,omitempty"`
	DND       bool               `json:"dnd,omitempty"`
	TollClass string             `json:"toll_class,omitempty" enum:"internal,local,national,mobile,international,premium" doc:"internal if it is not given"`
	PIN       string             `json:"pin,omitempty" pattern:"^([0-9]{4,16})?$" doc:"4 to 16 digits; kept as a hash only"`
}

// UserChange changes what is given and leaves the rest.
type UserChange struct {
	Name            *string             `json:"name,omitempty" maxLength:"128"`
	Numbers         *[]ringfence.Number `json:"numbers,omitempty" maxItems:"32" doc:"replaces all numbers"`
	Voicemail       *bool               `json:"voicemail,omitempty"`
	ForwardAlways   *string             `json:"forward_always,omitempty" maxLength:"64"`
	ForwardBusy     *string             `json:"forward_busy,omitempty" maxLength:"64"`
	ForwardNoAnswer *string             `json:"forward_no_answer,omitempty" maxLength:"64"`
	ForwardUnreach  *string             `json:"forward_unreachable,omitempty" maxLength:"64"`
	NoAnswerSeconds *int                `json:"no_answer_seconds,omitempty" minimum:"0" maximum:"600"`
	DND             *bool               `json:"dnd,omitempty"`
	TollClass       *string             `json:"toll_class,omitempty" enum:"internal,local,national,mobile,international,premium"`
	PIN             *string             `json:"pin,omitempty" pattern:"^([0-9]{4,16})?$" doc:"4 to 16 digits, or empty to remove it"`
}

// Plain is a named exception: a device that may speak in the clear for a while.
type Plain struct {
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Device is one phone of a user.
type Device struct {
	ID           ringfence.DeviceID `json:"id" example:"alice-desk"`
	User         ringfence.UserID   `json:"user" example:"alice"`
	Kind         string             `json:"kind" doc:"model or application" example:"baresip"`
	Auth         []ringfence.Auth   `json:"auth" doc:"the ways it may prove itself, strongest first"`
	Security     string             `json:"security,omitempty" doc:"its security profile; without one it goes by the security mode of the cluster" example:"encrypted"`
	State        string             `json:"state" enum:"active,revoked"`
	Created      time.Time          `json:"created"`
	Registered   bool               `json:"registered" doc:"whether it can be called now"`
	Exception    *Plain             `json:"exception,omitempty" doc:"the exception in force, if there is one"`
	Certificates []Certificate      `json:"certificates,omitempty" doc:"only when one device is shown; newest first"`
}

// Certificate is the record of one issued certificate.
type Certificate struct {
	Serial    string    `json:"serial" doc:"hexadecimal"`
	Subject   string    `json:"subject"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	Reason    string    `json:"reason,omitempty"`
}

// NewDevice is what is needed to add a device.
type NewDevice struct {
	ID   ringfence.DeviceID `json:"id" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" doc:"unique; the common name of its certificate, or its digest username" example:"alice-desk"`
	User ringfence.UserID   `json:"user" minLength:"1" maxLength:"64" doc:"who owns it" example:"alice"`
	Kind string             `json:"kind,omitempty" maxLength:"128" doc:"model or application" example:"baresip"`
	Auth ringfence.Auth     `json:"auth,omitempty" enum:"certificate,token,digest-sha-256,digest-md5" doc:"how it proves itself: a certificate (the default), an access token of OAuth for programs in which somebody signs in, or for phones that can neither, a password; digest-md5 is weaker and for phones that know nothing else"`
	// Security is a name out of GET /security.
	Security string `json:"security,omitempty" maxLength:"64" doc:"its security profile; empty: none" example:"encrypted"`
	NoCode   bool   `json:"no_code,omitempty" doc:"make no activation code now, for a device that gets its certificate in another way, or a code later"`
}

// DeviceProfile gives a device a security profile.
type DeviceProfile struct {
	Security string `json:"security" maxLength:"64" doc:"the name of a phone security profile; empty: none" example:"encrypted"`
}

// Activation is a one-time code, shown once.
type Activation struct {
	Code    string    `json:"code" doc:"16 digits" example:"1234567890123456"`
	Expires time.Time `json:"expires"`
	URI     string    `json:"uri" doc:"what the QR code says" example:"ringfence://enrol?node=pbx.example.com:8443&code=1234567890123456"`
}

// SIPAccount is what a phone without a certificate is set up with. The password is shown once.
type SIPAccount struct {
	Username string `json:"username" doc:"the authentication name" example:"alice-desk"`
	Password string `json:"password"`
	AOR      string `json:"aor" example:"sip:alice@example.com"`
	Server   string `json:"server" example:"pbx.example.com:5061"`
	Anchor   string `json:"anchor" doc:"where the trust anchor can be fetched" example:"https://pbx.example.com:8443/anchor.pem"`
}

// DeviceAdded is a new device with what it needs once.
type DeviceAdded struct {
	Device     Device      `json:"device"`
	Activation *Activation `json:"activation,omitempty" doc:"for a device with a certificate"`
	Account    *SIPAccount `json:"account,omitempty" doc:"for a device with a password"`
}

// Why gives the reason of a revocation.
type Why struct {
	Reason string `json:"reason,omitempty" maxLength:"200" doc:"kept with the certificates" example:"phone was lost"`
}

// Issued is a certificate that was issued.
type Issued struct {
	Serial string    `json:"serial"`
	Until  time.Time `json:"until"`
	PEM    string    `json:"pem" doc:"the certificate and the authority that signed it"`
}

// RevokeSerial revokes one certificate.
type RevokeSerial struct {
	Serial string `json:"serial,omitempty" maxLength:"64" doc:"of one certificate, in hexadecimal"`
	Name   string `json:"name,omitempty" maxLength:"64" doc:"instead: every certificate of this name"`
	Reason string `json:"reason,omitempty" maxLength:"200"`
}

// Ended says what a revocation or removal has ended.
type Ended struct {
	Certificates int `json:"certificates" doc:"certificates revoked"`
	Connections  int `json:"connections" doc:"connections closed"`
	Calls        int `json:"calls" doc:"calls ended"`
}

// NewException is a named exception to be made.
type NewException struct {
	Until  time.Time `json:"until" doc:"when it ends by itself; at most 30 days from now"`
	Reason string    `json:"reason" minLength:"3" maxLength:"200" example:"the old door phone is replaced on Friday"`
}
