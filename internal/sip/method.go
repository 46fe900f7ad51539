package sip

// Method is a request method. Methods that this package does not know are MethodOther; [Message.MethodText] has their text.
type Method uint8

// The known methods, by RFC: 3261, 3262 (PRACK), 3311 (UPDATE), 3428 (MESSAGE), 3515 (REFER), 3903 (PUBLISH),
// 6086 (INFO), 6665 (SUBSCRIBE, NOTIFY).
const (
	MethodOther Method = iota
	INVITE
	ACK
	BYE
	CANCEL
	REGISTER
	OPTIONS
	PRACK
	UPDATE
	REFER
	SUBSCRIBE
	NOTIFY
	INFO
	MESSAGE
	PUBLISH
)

// String returns the method's name, or "" for MethodOther.
func (m Method) String() string {
	switch m {
	case INVITE:
		return "INVITE"
	case ACK:
		return "ACK"
	case BYE:
		return "BYE"
	case CANCEL:
		return "CANCEL"
	case REGISTER:
		return "REGISTER"
	case OPTIONS:
		return "OPTIONS"
	case PRACK:
		return "PRACK"
	case UPDATE:
		return "UPDATE"
	case REFER:
		return "REFER"
	case SUBSCRIBE:
		return "SUBSCRIBE"
	case NOTIFY:
		return "NOTIFY"
	case INFO:
		return "INFO"
	case MESSAGE:
		return "MESSAGE"
	case PUBLISH:
		return "PUBLISH"
	}
	return ""
}

// LookupMethod returns the method for its text. Methods are case-sensitive (RFC 3261 section 7.1).
func LookupMethod(b []byte) Method {
	switch string(b) { // the compiler does not allocate for this conversion
	case "INVITE":
		return INVITE
	case "ACK":
		return ACK
	case "BYE":
		return BYE
	case "CANCEL":
		return CANCEL
	case "REGISTER":
		return REGISTER
	case "OPTIONS":
		return OPTIONS
	case "PRACK":
		return PRACK
	case "UPDATE":
		return UPDATE
	case "REFER":
		return REFER
	case "SUBSCRIBE":
		return SUBSCRIBE
	case "NOTIFY":
		return NOTIFY
	case "INFO":
		return INFO
	case "MESSAGE":
		return MESSAGE
	case "PUBLISH":
		return PUBLISH
	}
	return MethodOther
}
