"""Signs in at a node with Authlib, checks the access token with the node's published keys, and registers with it over TLS.

Arguments: the node's https address, the SIP port for tokens, two activation codes, the trust anchor, an API token that may read.
"""
import re
import socket
import ssl
import sys
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, JsonWebToken

base, sip_port, first_code, second_code, anchor, reader = sys.argv[1:]
web = requests.Session()
web.verify, web.trust_env = anchor, False
meta = web.get(base + "/.well-known/oauth-authorization-server").json()
assert meta["issuer"] == base, meta
redirect = "http://127.0.0.1:39999/callback"


class Form(HTMLParser):
    """Reads the fields of the one form on a page."""

    def __init__(self, text):
        super().__init__()
        self.fields = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "input":
            self.fields[attrs["name"]] = attrs.get("value", "")


def browse(url, code):
    """Does what a browser and a person do: opens the page, types the activation code, and is led back to the program."""
    page = web.get(url)
    assert page.status_code == 200, page.text
    fields = Form(page.text).fields
    fields["activation"] = code
    res = web.post(meta["authorization_endpoint"], data=fields, allow_redirects=False)
    assert res.status_code == 303, (res.status_code, res.text)
    return res.headers["Location"]


def program():
    session = OAuth2Session("ringfence", redirect_uri=redirect, scope="sip", code_challenge_method="S256", token_endpoint_auth_method="none")
    session.verify, session.trust_env = anchor, False
    return session


# The authorization code with PKCE.
session, verifier = program(), generate_token(48)
url, state = session.create_authorization_url(meta["authorization_endpoint"], code_verifier=verifier)
back = browse(url, first_code)
assert parse_qs(urlsplit(back).query)["iss"] == [base]
token = session.fetch_token(meta["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier)
print("code: signed in")

# The token, as a resource server that knows nothing but the published keys sees it.
keys = JsonWebKey.import_key_set(web.get(meta["jwks_uri"]).json())
claims = JsonWebToken(["ES256"]).decode(token["access_token"], keys, claims_options={"iss": {"essential": True, "value": base}, "sub": {"essential": True, "value": "alice"}})
claims.validate()
assert claims.header["typ"] == "at+jwt", claims.header
print("token: of", claims["device"])

# The device code.
begun = web.post(meta["device_authorization_endpoint"], data={"client_id": "ringfence"}).json()
fields = Form(web.get(begun["verification_uri_complete"]).text).fields
assert fields["user_code"] == begun["user_code"], fields
fields["activation"] = second_code
done = web.post(begun["verification_uri"], data=fields)
assert done.status_code == 200, done.text
device = program()
other = device.fetch_token(meta["token_endpoint"], grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=begun["device_code"])
print("device: signed in")


def register(access):
    """Sends one REGISTER with the token, and returns the status and the header of the answer."""
    context = ssl.create_default_context(cafile=anchor)
    with socket.create_connection(("127.0.0.1", int(sip_port)), timeout=20) as raw, context.wrap_socket(raw, server_hostname="localhost") as conn:
        conn.settimeout(20)
        host, port = conn.getsockname()
        conn.sendall(
            (
                "REGISTER sip:localhost SIP/2.0\r\n"
                f"Via: SIP/2.0/TLS {host}:{port};branch=z9hG4bK{generate_token(12)};rport\r\nMax-Forwards: 70\r\n"
                f"From: <sip:alice@localhost>;tag={generate_token(8)}\r\nTo: <sip:alice@localhost>\r\nCall-ID: {generate_token(12)}\r\nCSeq: 1 REGISTER\r\n"
                f"Contact: <sip:alice@{host}:{port};transport=tls>\r\nAuthorization: Bearer {access}\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
            ).encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            piece = conn.recv(4096)
            assert piece, head
            head += piece
        return int(re.match(rb"SIP/2.0 (\d+)", head).group(1)), head.decode()


for access in (token["access_token"], other["access_token"]):
    status, head = register(access)
    assert status == 200, head
print("sip: registered")



def introspect(access, **headers):
    """Asks about a token as another service does, which has an API token and no more."""
    service = OAuth2Session("service", token_endpoint_auth_method="none")
    service.verify, service.trust_env = anchor, False
    return service.introspect_token(meta["introspection_endpoint"], token=access, token_type_hint="access_token", headers=headers or {"Authorization": "Bearer " + reader})


seen = introspect(token["access_token"]).json()
assert seen["active"] is True and seen["sub"] == "alice" and seen["device"] == "alice-one" and seen["exp"] == claims["exp"], seen
assert introspect(token["refresh_token"]).json() == {"active": False}
assert introspect(token["access_token"], Authorization="Bearer " + token["access_token"]).status_code == 401
print("introspection: active")

# A refresh token is good once.
renewed = session.refresh_token(meta["token_endpoint"], refresh_token=token["refresh_token"])
assert renewed["refresh_token"] != token["refresh_token"]
assert register(renewed["access_token"])[0] == 200
print("refresh: renewed")

# Revoked, nothing of it works any more.
assert session.revoke_token(meta["revocation_endpoint"], token=renewed["refresh_token"]).status_code == 200
status, head = register(renewed["access_token"])
assert status == 401 and 'error="invalid_token"' in head, head
assert introspect(renewed["access_token"]).json() == {"active": False}
assert register(other["access_token"])[0] == 200
print("revoke: ended")
