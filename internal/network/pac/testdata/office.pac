// A file as offices have them: lists, networks, shell patterns.
var bypass = ["*.corp.example", "intranet", "10.*", "(*.lab.example|*.dev.example)"];
var special = { "video.example.com": "PROXY video.proxy.example:8080", "api.example.com": "HTTPS api.proxy.example:443; DIRECT" };
function matches(host, list) {
  for (var i = 0; i < list.length; i++)
    if (shExpMatch(host, list[i])) return true;
  return false;
}
function FindProxyForURL(url, host) {
  host = host.toLowerCase();
  if (isPlainHostName(host) || matches(host, bypass)) return "DIRECT";
  if (host in special) return special[host];
  if (/^\d+\.\d+\.\d+\.\d+$/.test(host)) {
    if (isInNet(host, "192.168.0.0", "255.255.0.0") || isInNet(host, "172.16.0.0", "255.240.0.0")) { return "DIRECT" }
    return "PROXY ip.proxy.example:3128";
  }
  if (dnsDomainIs(host, ".example.org") && !localHostOrDomainIs(host, "www.example.org")) return "SOCKS5 socks.example:1080";
  if (url.substring(0, 6) == "https:") { return "PROXY secure.example:3128; PROXY second.example:3128" }
  else if (url.substr(0, 4) === "ftp:") return "PROXY ftp.example:21";
  switch (dnsDomainLevels(host)) {
    case 1: return "PROXY one.example:1";
    case 2:
    case 3: return "PROXY " + (host.length % 2 ? "odd" : "even") + ".example:2";
    default: return "PROXY many.example:" + (3000 + host.split(".").length);
  }
}
