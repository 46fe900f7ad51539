"""Signs people in at a node through an OpenID provider, as a browser, a person and a program do.

Arguments: what to do ("sign", "mallory", "lies" or "down"), the node's https address, the provider's, a file with both trust anchors.
"""
import sys
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session

task, base, provider, anchors = sys.argv[1:]
redirect = "http://127.0.0.1:39999/callback"


class Form(HTMLParser):
    """Reads the fields of the form on a page, its choices, and where its buttons lead."""

    def __init__(self, text):
        super().__init__()
        self.fields, self.choices, self.buttons = {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "input" and attrs.get("type") == "radio":
            self.choices.append(attrs["value"])
        elif tag == "input":
            self.fields[attrs["name"]] = attrs.get("value", "")
        elif tag == "button" and "formaction" in attrs:
            self.buttons.append(attrs["formaction"])


class Browser:
    """A browser with a cookie jar of its own."""

    def __init__(self):
        self.web = requests.Session()
        self.web.verify, self.web.trust_env = anchors, False

    def press(self, url):
        """Opens a page of the node and presses the button of the provider; returns where that leads."""
        page = self.web.get(url)
        assert page.status_code == 200, page.text
        form = Form(page.text)
        assert form.buttons == ["/oauth/provider"], page.text
        return self.web.post(urljoin(base, form.buttons[0]), data=form.fields, allow_redirects=False)

    def log_in(self, url, name):
        """Logs in at the provider; returns the address to which it leads back."""
        page = self.web.get(url)
        assert page.status_code == 200, page.text
        res = self.web.post(url, data={"name": name, "password": name[::-1]}, allow_redirects=False)
        assert res.status_code == 302, (res.status_code, res.text)
        return res.headers["Location"]

    def sign_in(self, url, name):
        """Does both, and returns the page of the node that follows."""
        away = self.press(url)
        assert away.status_code == 303 and away.headers["Location"].startswith(provider + "/authorize?"), (away.status_code, away.text)
        cookie = away.headers["Set-Cookie"]
        assert cookie.startswith("__Host-signin-") and "Secure" in cookie and "HttpOnly" in cookie and "SameSite=Lax" in cookie, cookie
        return self.web.get(self.log_in(away.headers["Location"], name))

    def choose(self, page, device):
        form = Form(page.text)
        return self.web.post(base + "/oauth/provider/grant", data={**form.fields, "device": device}, allow_redirects=False)


def program():
    session = OAuth2Session("ringfence", redirect_uri=redirect, scope="sip", code_challenge_method="S256", token_endpoint_auth_method="none")
    session.verify, session.trust_env = anchors, False
    return session


def authorization(session):
    verifier = generate_token(48)
    return (*session.create_authorization_url(base + "/oauth/authorize", code_verifier=verifier), verifier)


def by_program(name, device):
    """Signs a program in, and returns the answer of the token endpoint."""
    session = program()
    url, state, verifier = authorization(session)
    browser = Browser()
    page = browser.sign_in(url, name)
    assert page.status_code == 200 and Form(page.text).choices == ["alice-one", "alice-two"], page.text
    back = browser.choose(page, device)
    assert back.status_code == 303 and parse_qs(urlsplit(back.headers["Location"]).query)["iss"] == [base], (back.status_code, back.text)
    return session.fetch_token(base + "/oauth/token", authorization_response=back.headers["Location"], state=state, code_verifier=verifier)


if task == "down":
    page = Browser().press(authorization(program())[0])
    assert page.status_code == 503 and "cannot be reached" in unescape(page.text) and "activation" in Form(page.text).fields, (page.status_code, page.text)
    print("down: said so")
    sys.exit()

if task == "lies":
    page = Browser().press(authorization(program())[0])
    assert page.status_code == 403 and "the provider calls itself " + provider in unescape(page.text), (page.status_code, page.text)
    print("lies: said so")
    sys.exit()

if task == "mallory":
    # Somebody who gave the provider an address of somebody else's, which it has not verified.
    page = Browser().sign_in(authorization(program())[0], "mallory")
    assert page.status_code == 403 and "has not verified" in page.text, (page.status_code, page.text)
    print("mallory: refused")
    sys.exit()

token = by_program("alice", "alice-two")
assert token["sip"]["user"] == "alice", token
print("program: signed in")

# A device that shows a code.
begun = requests.post(base + "/oauth/device_authorization", data={"client_id": "ringfence"}, verify=anchors).json()
browser = Browser()
page = browser.sign_in(begun["verification_uri_complete"], "alice")
assert begun["user_code"] in page.text, page.text
assert "approved as alice-one" in browser.choose(page, "alice-one").text
device = program().fetch_token(base + "/oauth/token", grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=begun["device_code"])
assert device["access_token"] != token["access_token"]
print("device: signed in")

# The provider has a new key, and says nothing about it.
assert requests.post(provider + "/roll", verify=anchors).status_code == 204
assert by_program("alice", "alice-one")["access_token"]
print("key: rolled over")

# Somebody who finishes in one browser what another one began.
browser, other = Browser(), Browser()
away = browser.press(authorization(program())[0]).headers["Location"]
back = other.log_in(away, "alice")
stolen = other.web.get(back)
assert stolen.status_code == 403 and "not begun in this browser" in stolen.text, stolen.text
print("another browser: refused")

# Somebody who says no, and somebody whom the provider does not know.
page = Browser().sign_in(authorization(program())[0], "nobody")
assert page.status_code == 403 and "did not sign in there" in unescape(page.text), (page.status_code, page.text)
print("nobody: refused")
