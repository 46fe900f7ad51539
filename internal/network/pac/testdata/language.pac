/* What the language has that such files use. */
function hash(s) { var h = 0; for (var i = 0; i < s.length; ++i) { h = ((h << 5) - h + s.charCodeAt(i)) & 0xffff; } return h }
var calls = 0, table = {}, names = "alpha,beta,gamma".split(",");
for (var k in names) table[names[k]] = k;
var make = function (prefix) { return function (n) { calls++; return prefix + n; }; };
function Point(x) { this.x = x; }
Point.prototype.twice = function () { return this.x * 2 };
function FindProxyForURL(url, host) {
  calls = 0; // some keep what a file remembers, some do not
  var out = [], label, i = 0, p = make("p");
  while (true) { if (i++ > 3) break; if (i == 2) continue; out.push(p(i)); }
  do { i -= 1 } while (i > 0)
  try { undefinedFunction(); } catch (e) { out.push("caught") } finally { out.push(typeof undefinedFunction) }
  try { throw "mine" } catch (e) { out.push(e) }
  out.push(hash(host), hash(url) >>> 3, -7 % 3, 7 / 2, 0x1F, 010, 1e3, "5" * "4", "5" + 4, +"12", ~5, 5 ^ 3, 1 << 4, -1 >>> 28);
  out.push([1, 2, 3].join("-"), [3, 1, 2].sort().reverse().join(), [1, 2].concat([3], 4).slice(1, -1).toString());
  out.push(host.indexOf("."), host.lastIndexOf("."), host.charAt(2), host.slice(-3), host.substring(4, 1), host.substr(-4, 2), host.toUpperCase());
  out.push(host.replace(/[aeiou]/g, "_"), host.replace("a", "$&$&"), host.replace(/(\w+)\.(\w+)/, "$2-$1"), host.search(/o/), (host.match(/[a-z]+/g) || []).length);
  var m = /^([a-z]+)\.(.*)$/i.exec(host);
  out.push(m ? m[1] + "|" + m[2] + "|" + m.index : "none");
  out.push(parseInt("42px"), parseInt("0x1f"), parseInt("077", 8), isNaN(parseInt("x")), parseFloat("3.5e1x"), String(12), Number("0x10"), Boolean(""), (255).toString(16));
  out.push(null == undefined, null === undefined, "1" == 1, "1" === 1, NaN == NaN, [] == "", !![], typeof null, typeof [], typeof FindProxyForURL);
  out.push(new Point(21).twice(), new Point(1) instanceof Point, "x" in { x: 1 }, delete table.alpha, table.alpha, arguments.length, void 0);
  out.push(function () { return this.q }.call({ q: "called" }), Math.max.apply(null, [1, 5, 3]), Math.floor(-1.5), Math.min());
  out.push((1, 2), true ? "yes" : "no", calls, "a\tb\x41\u0042".length, 'it\'s', 1 / 0, 0.1 + 0.2, 1e21, 123456789012);
  for (var q = 0, r = 10; q < r; q++, r--) ;
  out.push(q, r);
  label = host.split(".").length > 2 && "deep" || "flat";
  switch (label) { case "deep": out.push("d"); case "other": out.push("o"); break; default: out.push("f") }
  return "PROXY " + hash(out.join("&")) + ".example:8080"
}
