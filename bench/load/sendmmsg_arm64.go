package load

const sysSendmmsg = 269
