"""An OpenID provider made of Authlib's server side. It has two people, whose password is their name backwards.

Arguments: a certificate with its key, the client secret or "", a file that will hold the address to which browsers may be sent back.
It prints its port. A POST to /roll makes a new signing key and forgets the old one.
"""
import ssl
import sys

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector, current_token
from authlib.jose import JsonWebKey
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.models import ClientMixin
from authlib.oauth2.rfc6750 import BearerTokenValidator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

certificate, key_file, secret, redirect_file = sys.argv[1:]
people = {
    "alice": {"sub": "u-1", "email": "alice@example.org", "email_verified": True, "preferred_username": "alice"},
    "mallory": {"sub": "u-2", "email": "alice@example.org", "email_verified": False, "preferred_username": "alice"},
}
app = Flask(__name__)
app.config["SECRET_KEY"] = "of this process"
codes, tokens, nonces, keys = {}, {}, set(), []


def roll():
    keys[:] = [JsonWebKey.generate_key("RSA", 2048, {"use": "sig", "alg": "RS256"}, is_private=True)]
    keys[0].tokens["kid"] = keys[0].thumbprint()


class Client(ClientMixin):
    def get_client_id(self):
        return "node"

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return scope

    def check_redirect_uri(self, redirect_uri):
        with open(redirect_file, encoding="ascii") as f:
            return redirect_uri == f.read()

    def has_client_secret(self):
        return bool(secret)

    def check_client_secret(self, client_secret):
        return client_secret == secret

    def check_endpoint_auth_method(self, method, endpoint):
        return method == ("client_secret_basic" if secret else "none")

    def check_token_endpoint_auth_method(self, method):
        return self.check_endpoint_auth_method(method, "token")

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return grant_type == "authorization_code"


class Person:
    def __init__(self, name):
        self.name = name

    def get_user_id(self):
        return people[self.name]["sub"]


class Code:
    """An authorization code with everything that the grant asks about it."""

    def __init__(self, code, req):
        self.code, self.user, self.redirect_uri, self.scope = code, req.user, req.redirect_uri, req.scope
        self.nonce, self.code_challenge, self.code_challenge_method = req.data.get("nonce"), req.data.get("code_challenge"), req.data.get("code_challenge_method")

    def get_redirect_uri(self):
        return self.redirect_uri

    def get_scope(self):
        return self.scope

    def get_nonce(self):
        return self.nonce

    def get_auth_time(self):
        return None


class Grant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "none"]

    def save_authorization_code(self, code, request):
        codes[code] = Code(code, request)
        nonces.add(codes[code].nonce)

    def query_authorization_code(self, code, client):
        return codes.get(code)

    def delete_authorization_code(self, authorization_code):
        del codes[authorization_code.code]

    def authenticate_user(self, authorization_code):
        return authorization_code.user


def info(user, scope):
    claims = {"sub": people[user.name]["sub"]}
    if "email" in scope:
        claims.update({n: v for n, v in people[user.name].items() if n.startswith("email")})
    if "profile" in scope:
        claims["preferred_username"] = people[user.name]["preferred_username"]
    return UserInfo(claims)


class OpenID(OpenIDCode):
    def exists_nonce(self, nonce, request):
        return nonce in nonces

    def get_jwt_config(self, grant):
        return {"key": keys[0], "alg": "RS256", "iss": issuer, "exp": 300}

    def generate_user_info(self, user, scope):
        # As the specification has it where there is an access token: claims of the scopes come from userinfo.
        return UserInfo({"sub": people[user.name]["sub"]}) if "profile" in scope else info(user, scope)


class Validator(BearerTokenValidator):
    def authenticate_token(self, token_string):
        return tokens.get(token_string)


class Token:
    def __init__(self, user, scope):
        self.user, self.scope = user, scope

    def is_expired(self):
        return False

    def is_revoked(self):
        return False

    def get_scope(self):
        return self.scope


def save_token(token, req):
    tokens[token["access_token"]] = Token(req.user, token["scope"])


server = AuthorizationServer(app, lambda client_id: Client() if client_id == "node" else None, save_token)
server.register_grant(Grant, [CodeChallenge(required=True), OpenID(require_nonce=True)])
protect = ResourceProtector()
protect.register_token_validator(Validator())


@app.get("/.well-known/openid-configuration")
def about():
    return jsonify(
        issuer=issuer,
        authorization_endpoint=issuer + "/authorize",
        token_endpoint=issuer + "/token",
        userinfo_endpoint=issuer + "/userinfo",
        jwks_uri=issuer + "/keys",
        response_types_supported=["code"],
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=["RS256"],
        token_endpoint_auth_methods_supported=["client_secret_basic", "none"],
        code_challenge_methods_supported=["S256"],
    )


@app.get("/keys")
def public():
    return jsonify(keys=[k.as_dict(is_private=False) for k in keys])


@app.route("/authorize", methods=["GET", "POST"])
def authorize():
    if request.method == "GET":
        server.get_consent_grant(end_user=None)
        return '<form method="post"><input name="name"><input name="password" type="password"></form>'
    name = request.form["name"]
    known = name in people and request.form["password"] == name[::-1]
    return server.create_authorization_response(grant_user=Person(name) if known else None)


@app.post("/token")
def token():
    return server.create_token_response()


@app.get("/userinfo")
@protect()
def userinfo():
    return jsonify(info(current_token.user, current_token.scope))


@app.post("/roll")
def new_key():
    roll()
    return "", 204


roll()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key_file)
listener = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
issuer = f"https://localhost:{listener.server_port}"
print(listener.server_port, flush=True)
listener.serve_forever()
