#!/usr/bin/env bash
# Installs the Debian packages that tests use. Each line of the list: a file that must be there, its package, the folder whose
# tests need it (the line counts only if the folder exists), and what for. When all files are there, nothing is asked of the
# network. A test of the house compares the list with what the tests ask for.
set -euo pipefail
cd "$(dirname "$0")/.."

needs() {
	local file package folder why
	while read -r file package folder why; do
		[ -e "$folder" ] && echo "$file $package"
	done <<'LIST'
/usr/bin/gcc gcc internal the race detector needs a C compiler
/usr/include/stdlib.h libc6-dev internal and the headers of the C library
/usr/lib/postgresql/15/bin/initdb postgresql-15 internal/state/store its tests run on SQLite and on PostgreSQL
/usr/sbin/nats-server nats-server internal/state/bus the same tests on the embedded server and on an outside one
/usr/lib/postgresql/15/bin/initdb postgresql-15 internal/node a node whose database is on the network
/usr/lib/postgresql/15/bin/initdb postgresql-15 test/interop two nodes on one database
/usr/sbin/nats-server nats-server test/interop that tell each other what changes
/usr/sbin/dnsmasq dnsmasq-base internal/sip/locate a DNS server with NAPTR, SRV and address records
/usr/sbin/dnsmasq dnsmasq-base internal/node a proxy with two servers in DNS
/usr/bin/certbot certbot internal/trust/acme an ACME client made by somebody else,
/usr/bin/dehydrated dehydrated internal/trust/acme another one, of shell and openssl,
/usr/bin/curl curl internal/trust/acme and what it speaks HTTP with
/usr/bin/openssl openssl internal/trust/acme certificates as another implementation sees them
/usr/bin/opusenc opus-tools internal/media/codec the reference implementation of Opus
/usr/bin/openssl openssl internal/trust/cipherlist cipher lists as OpenSSL reads them
/usr/bin/openssl openssl internal/trust/capf a phone's TLS, keys and signatures, and its view of a certificate
/usr/bin/curl curl internal/trust/est an EST client made of two programs,
/usr/bin/openssl openssl internal/trust/est and what it makes requests and reads certificates with
/usr/bin/openssl openssl internal/trust/pkcs7 certificates as another implementation sees them
/usr/bin/openssl openssl internal/trust/signedfile signatures and encryption as another implementation sees them
/usr/bin/openssl openssl internal/trust/trustlist certificates of the worked example, and signatures of lists in both forms
/usr/bin/openssl openssl internal/trust/tvs certificates, their names, and TLS as another implementation sees them
/usr/bin/openssl openssl cmd/ringfence certificates as another implementation sees them
/usr/sbin/nft nftables internal/network/phonewall the kernel as a site's firewall
/usr/sbin/nft nftables internal/network/audit the kernel's own view of the rules that change,
/usr/bin/patch patch internal/network/audit and the tool that takes a diff
/usr/bin/pulseaudio pulseaudio internal/testkit a sound server,
/usr/bin/pacat pulseaudio-utils internal/testkit and what speaks to it
/usr/sbin/dnsmasq dnsmasq-base internal/desk/dhcp a server of DHCP,
/usr/sbin/kea-dhcp4 kea-dhcp4-server internal/desk/dhcp another one,
/usr/sbin/kea-dhcp6 kea-dhcp6-server internal/desk/dhcp and its half for IPv6
/usr/sbin/hostapd hostapd internal/desk/dot1x a switch that asks who is there,
/usr/sbin/wpa_supplicant wpasupplicant internal/desk/dot1x what a phone and a computer answer with,
/usr/bin/nsenter util-linux internal/desk/dot1x a plug that is pulled,
/usr/bin/tshark tshark internal/desk/dot1x and what that looks like on the wire
/usr/sbin/slapd slapd internal/testkit/openldap a directory,
/usr/sbin/slapadd slapd internal/testkit/openldap what fills it,
/usr/lib/x86_64-linux-gnu/sasl2/libdigestmd5.so libsasl2-modules internal/testkit/openldap and its DIGEST-MD5
/usr/bin/openssl openssl internal/desk/resync certificates, and files encrypted, by another implementation,
/usr/bin/python3 python3 internal/desk/resync a web server of somebody else,
/usr/bin/curl curl internal/desk/resync what it thinks of clients without a certificate,
/bin/gzip gzip internal/desk/resync and packed files
/usr/sbin/squid squid-openssl internal/desk/webproxy web proxies that want each way to sign in,
/usr/bin/openssl openssl internal/desk/webproxy and a password in the form that one of them wants
/usr/sbin/krb5kdc krb5-kdc internal/desk/webproxy a realm of Kerberos,
/usr/sbin/kdb5_util krb5-kdc internal/desk/webproxy its database,
/usr/sbin/kadmin.local krb5-admin-server internal/desk/webproxy and who fills it
/usr/bin/python3 python3 internal/desk/feature a reader of mail,
/usr/bin/xmllint libxml2-utils internal/desk/flatprofile what is XML as another implementation sees it
/usr/bin/python3 python3 internal/network/names a library that reads proxy auto-configuration files,
/usr/lib/python3/dist-packages/pacparser/__init__.py python3-pacparser internal/network/names as browsers do
/usr/sbin/squid squid-openssl internal/network/names a web proxy,
/usr/sbin/dnsmasq dnsmasq-base internal/network/names a resolver,
/usr/sbin/unbound-checkconf unbound internal/network/names and others, each of which reads its file
/usr/bin/named-checkconf bind9-utils internal/network/names and
/usr/sbin/named bind9 internal/network/names answers by it
/usr/bin/xmllint libxml2-utils internal/network/sheet a reader of XML
/usr/bin/python3 python3 internal/network/pac a library that reads proxy auto-configuration files,
/usr/lib/python3/dist-packages/pacparser/__init__.py python3-pacparser internal/network/pac as browsers do
/usr/sbin/squid squid-openssl internal/network/proxy a web proxy that wants each scheme,
/usr/bin/openssl openssl internal/network/proxy the passwords that it knows,
/usr/sbin/krb5kdc krb5-kdc internal/network/proxy a realm of Kerberos,
/usr/sbin/kdb5_util krb5-kdc internal/network/proxy its database,
/usr/sbin/kadmin.local krb5-admin-server internal/network/proxy and who fills it
/usr/bin/unshare util-linux internal/network/marks a network of its own,
/usr/sbin/nft nftables internal/network/marks whose kernel takes the marks
/usr/bin/openssl openssl internal/network/feed signatures as another implementation sees them
/usr/bin/openssl openssl internal/network/posture servers of known settings
/usr/bin/sslscan sslscan internal/network/posture and another that asks them,
/usr/bin/testssl testssl.sh internal/network/posture and a third
/usr/bin/unshare util-linux internal/network/nat networks of its own,
/sbin/ip iproute2 internal/network/nat their links,
/usr/sbin/nft nftables internal/network/nat a kernel that translates addresses,
/usr/bin/python3 python3 internal/network/nat and phones of few lines
/usr/sbin/kamailio kamailio cmd/ringfence a SIP server of another vendor,
/usr/lib/x86_64-linux-gnu/kamailio/modules/tls.so kamailio-tls-modules cmd/ringfence and its TLS
/usr/lib/x86_64-linux-gnu/kamailio/modules/presence.so kamailio-presence-modules cmd/ringfence and what tells of calls and messages
/usr/bin/gst-launch-1.0 gstreamer1.0-tools cmd/ringfence who pages and is paged,
/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstaudiotestsrc.so gstreamer1.0-plugins-base cmd/ringfence with tones
/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstudp.so gstreamer1.0-plugins-good cmd/ringfence by multicast
/usr/bin/softhsm2-util softhsm2 cmd/ringfence a PKCS #11 token of software,
/usr/bin/pkcs11-tool opensc cmd/ringfence and what speaks to it
/usr/bin/curl curl cmd/ringfence what the scripts speak HTTP with
/usr/bin/python3 python3 cmd/ringfence a CTI client of few lines
/usr/bin/unshare util-linux cmd/ringfence a network of its own,
/usr/sbin/nft nftables cmd/ringfence on which rules are put into force
/usr/sbin/squid squid-openssl cmd/ringfence and a web proxy there
/usr/sbin/chronyd chrony internal/network/ready/probe a time server
/sbin/ip iproute2 cmd/ringfence a network of its own,
/usr/bin/openssl openssl test/interop TLS as another implementation sees it
/sbin/ip iproute2 test/faults a network of its own,
/usr/sbin/nft nftables test/faults in which packets are dropped
/sbin/ip iproute2 internal/testkit/router a network of its own
/usr/bin/unshare util-linux internal/testkit/router and of its neighbours
/sbin/ip iproute2 internal/network/firewall/nft a network of its own,
/usr/sbin/nft nftables internal/network/firewall/nft whose rules are read back, and packets sent through
/sbin/ip iproute2 internal/network/firewall/iptables the same
/usr/sbin/iptables-legacy iptables internal/network/firewall/iptables with both kinds of iptables,
/usr/sbin/ipset ipset internal/network/firewall/iptables and sets of addresses
/sbin/ip iproute2 internal/network/firewall/ufw the same
/usr/sbin/iptables-legacy iptables internal/network/firewall/ufw with iptables
/usr/sbin/ufw ufw internal/network/firewall/ufw under ufw
/sbin/ip iproute2 internal/network/firewall/firewalld the same
/usr/sbin/nft nftables internal/network/firewall/firewalld with nftables
/usr/sbin/firewalld firewalld internal/network/firewall/firewalld under firewalld
/usr/bin/dbus-daemon dbus-daemon internal/network/firewall/firewalld and its bus
/usr/sbin/firewalld firewalld cmd/ringfence the same under firewalld
/usr/bin/dbus-daemon dbus-daemon cmd/ringfence and its bus,
/usr/bin/dbus-daemon dbus-daemon internal/testkit/router a bus,
/usr/sbin/firewalld firewalld internal/testkit/router and firewalld on it
/usr/sbin/dnsmasq dnsmasq-base cmd/ringfence a network with DHCP,
/usr/sbin/hostapd hostapd cmd/ringfence one that asks who is there,
/usr/sbin/freeradius freeradius cmd/ringfence its authentication server,
/usr/sbin/wpa_supplicant wpasupplicant cmd/ringfence and what a phone answers with
/usr/sbin/ocserv ocserv cmd/ringfence a gateway of tunnels,
/usr/sbin/openconnect openconnect cmd/ringfence and what opens one
/usr/sbin/ufw ufw cmd/ringfence the same under ufw
/usr/sbin/iptables-legacy iptables cmd/ringfence whose rules are proved while they are in force,
/usr/sbin/ipset ipset cmd/ringfence with their sets
/usr/bin/systemd-analyze systemd cmd/ringfence what units of services mean
/sbin/ip iproute2 internal/network/ready/probe a site, a router and a cloud on networks of their own,
/usr/sbin/nft nftables internal/network/ready/probe with filters, kinds of NAT and a SIP gateway,
/usr/sbin/ocserv ocserv internal/network/ready/probe a VPN gateway as phones use it,
/usr/bin/ocpasswd ocserv internal/network/ready/probe its users,
/usr/sbin/openconnect openconnect internal/network/ready/probe and its client,
/usr/bin/nmap nmap internal/network/ready/probe what looks at ports from outside,
/usr/sbin/hping3 hping3 internal/network/ready/probe and another, from ports of choice,
/usr/bin/irtt irtt internal/network/ready/probe another that measures a stream of packets,
/usr/sbin/squid squid-openssl internal/network/ready/probe a web proxy,
/usr/lib/squid/security_file_certgen squid-openssl internal/network/ready/probe which takes TLS apart
/usr/bin/openssl openssl internal/network/ready/probe with an authority of its own,
/usr/bin/turnserver coturn internal/network/ready/probe another that finds out kinds of NAT,
/usr/bin/turnutils_natdiscovery coturn internal/network/ready/probe and asks for them
/usr/bin/mitmdump mitmproxy internal/network/ready/probe another that does without being named,
/usr/sbin/dnsmasq dnsmasq-base internal/network/ready/probe a server for DHCP and DNS,
/usr/sbin/unbound unbound internal/network/ready/probe and a resolver that forwards
/usr/sbin/dnsmasq dnsmasq-base internal/network/ready/dns a name server,
/usr/bin/dig bind9-dnsutils internal/network/ready/dns and what it says by somebody else
/usr/bin/testssl testssl.sh test/interop every TLS port is examined
/usr/bin/gnutls-cli gnutls-bin test/interop TLS as a third implementation sees it,
/usr/bin/certtool gnutls-bin test/interop certificates and revocation lists too,
/usr/bin/ocsptool gnutls-bin test/interop and OCSP
/usr/bin/baresip baresip-core test/interop a phone: calls, hold, transfer, digits
/usr/bin/linphonec linphone-cli test/interop another phone
/usr/bin/sipp sip-tester test/interop load and scenarios
/usr/bin/sipsak sipsak test/interop single requests
/usr/bin/python3 python3 test/interop an OAuth client,
/usr/lib/python3/dist-packages/authlib/__init__.py python3-authlib test/interop made by somebody else
/usr/lib/python3/dist-packages/flask/__init__.py python3-flask test/interop with which it is an OpenID provider as well
/usr/lib/python3/dist-packages/requests/__init__.py python3-requests test/interop and what it speaks HTTP with
/usr/bin/svmap sipvicious test/interop an attacker's scan finds nothing
/usr/sbin/kamailio kamailio test/interop a SIP proxy as a peer
/usr/lib/x86_64-linux-gnu/kamailio/modules/tls.so kamailio-tls-modules test/interop and its TLS
/usr/bin/tshark tshark test/interop no plain SIP or RTP on the wire
/usr/bin/dumpcap wireshark-common test/interop and its capture
LIST
	return 0
}

missing=()
while read -r file package; do
	[ -e "$file" ] || missing+=("$package")
done < <(needs)
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "These packages are needed and only root may install them: ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing ${missing[*]}"
install() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# The list of packages may be missing or old, so one failure is answered with a fresh list.
if ! install; then
	"${as_root[@]}" apt-get update >"$log" 2>&1 || true
	if ! install; then
		echo "apt-get could not install ${missing[*]}:" >&2
		# Addresses of mirrors are nobody's business in a public log.
		sed -E 's#[a-z+]+://[^ ]+#<mirror>#g' "$log" | grep -E '^(E|W):' >&2 || true
		exit 1
	fi
fi

while read -r file package; do
	if [ ! -e "$file" ]; then
		echo "$package is installed and $file is still missing" >&2
		exit 1
	fi
done < <(needs)
