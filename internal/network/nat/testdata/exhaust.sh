# Three hosts in networks of their own: phones inside, a translating one, and a service outside. $1 bindings are asked for, and the pool has the ports $2 to $3 of one address.
# It prints how many the service saw, and how many connections the kernel's table holds.
set -e
mount -t tmpfs none /run
ip netns add inside
ip netns add outside
ip link add name near type veth peer name phones
ip link set phones netns inside
ip link add name far type veth peer name service
ip link set service netns outside
ip link set lo up
ip addr add 10.0.0.1/24 dev near
ip link set near up
ip addr add 192.0.2.1/24 dev far
ip link set far up
ip netns exec inside ip addr add 10.0.0.2/24 dev phones
ip netns exec inside ip link set phones up
ip netns exec inside ip route add default via 10.0.0.1
ip netns exec outside ip addr add 192.0.2.2/24 dev service
ip netns exec outside ip link set service up
echo 1 >/proc/sys/net/ipv4/ip_forward
nft add table ip pool
nft add chain ip pool out '{ type nat hook postrouting priority 100; }'
nft add rule ip pool out oifname far udp dport 5000 masquerade to ":$2-$3"
ip netns exec outside /usr/bin/python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.0.2.2", 5000))
open("/run/ready", "w").close()
s.settimeout(2)
seen = set()
try:
    while True:
        seen.add(s.recvfrom(100)[1])
except socket.timeout:
    print(len(seen))
' &
until [ -e /run/ready ]; do :; done
ip netns exec inside /usr/bin/python3 -c '
import socket, sys
phones = []
for _ in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("10.0.0.2", 0))
    phones.append(s)
    try:
        s.sendto(b"x", ("192.0.2.2", 5000))
    except OSError:
        pass
' "$1"
echo "$(cat /proc/sys/net/netfilter/nf_conntrack_count)" >/run/count
wait
cat /run/count
