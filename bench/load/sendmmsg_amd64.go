package load

const sysSendmmsg = 307 // which the standard library does not name on amd64
