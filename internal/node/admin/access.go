package admin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
)

const (
	codeSetting = "admin.code"
	codeLife    = 24 * time.Hour
	tokenLife   = 90 * 24 * time.Hour
	// alphabet has no letters that look alike (Crockford's base 32).
	alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
)

// keptCode is what is kept of the administrator code. An empty hash means that it was used.
type keptCode struct {
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
}

// randomText returns n random characters of the alphabet, 5 bits each.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	for i := range b {
		b[i] = alphabet[b[i]&31]
	}
	return string(b)
}

// readCode undoes what people do to a code when they type it.
func readCode(s string) string {
	s = strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ', '\t':
			return -1
		case 'o':
			return '0'
		case 'i', 'l':
			return '1'
		}
		return r
	}, strings.ToLower(s))
	return s
}

// FirstCode makes the one-time administrator code if none was ever made; otherwise it returns an empty code.
func (s *Server) FirstCode(ctx context.Context) (api.AdminCode, error) {
	_, err := s.c.Store.Setting(ctx, codeSetting)
	if err == nil || ringfence.KindOf(err) != ringfence.KindNotFound {
		return api.AdminCode{}, err
	}
	return s.newCode(ctx)
}

// newCode makes an administrator code, which replaces the one there was. Only its hash is kept: it has 100 random bits.
func (s *Server) newCode(ctx context.Context) (api.AdminCode, error) {
	code := randomText(20)
	out := api.AdminCode{Expires: s.c.Now().Add(codeLife).UTC()}
	for i := 0; i < len(code); i += 5 {
		out.Code += code[i:i+5] + "-"
	}
	out.Code = strings.TrimSuffix(out.Code, "-")
	b, err := json.Marshal(keptCode{Hash: store.HashToken(code), Expires: out.Expires})
	if err != nil {
		return api.AdminCode{}, err
	}
	return out, s.c.Store.PutSetting(ctx, codeSetting, string(b))
}

// login trades the administrator code for a token; of several who try at once, one succeeds.
func (s *Server) login(ctx context.Context, in api.Login) (api.TokenAdded, error) {
	const op = "admin.login"
	wrong := fault(op, ringfence.KindUnauthenticated, "the code is wrong, was used, or has expired", "on the node's host, make a new one: ringfence token code")
	out, hash := newToken(in.Name, api.ScopeAdmin, s.c.Now().Add(tokenLife))
	err := s.c.Store.Tx(ctx, func(tx *store.Tx) error {
		text, err := tx.Setting(ctx, codeSetting)
		if err != nil {
			return wrong
		}
		var kept keptCode
		if err := json.Unmarshal([]byte(text), &kept); err != nil {
			return err
		}
		given := store.HashToken(readCode(in.Code))
		if kept.Hash == "" || subtle.ConstantTimeCompare([]byte(given), []byte(kept.Hash)) != 1 || !s.c.Now().Before(kept.Expires) {
			return wrong
		}
		b, err := json.Marshal(keptCode{Expires: kept.Expires})
		if err != nil {
			return err
		}
		return firstOf(tx.PutSetting(ctx, codeSetting, string(b)), tx.CreateToken(ctx, stored(out, hash)))
	})
	if err != nil {
		return api.TokenAdded{}, err
	}
	return out, nil
}

// newToken makes a token and the hash to keep of it.
func newToken(name, scope string, expires time.Time) (api.TokenAdded, string) {
	secret, id := make([]byte, 32), make([]byte, 4)
	rand.Read(secret)
	rand.Read(id)
	t := api.TokenAdded{Token: api.Token{ID: "t" + hex.EncodeToString(id), Name: name, Scopes: []string{scope}, Expires: expires.UTC().Truncate(time.Second)},
		Secret: "rf_" + base64.RawURLEncoding.EncodeToString(secret)}
	return t, store.HashToken(t.Secret)
}

func stored(t api.TokenAdded, hash string) store.Token {
	return store.Token{ID: t.ID, Hash: hash, Name: t.Name, Scopes: t.Scopes, Expires: t.Expires}
}

type (
	loginIn   struct{ Body api.Login }
	tokenIn   struct{ Body api.NewToken }
	tokenPath struct {
		ID string `path:"id" maxLength:"32" doc:"id of the token"`
	}
)

// routeLogin registers the one operation that needs no right.
func (s *Server) routeLogin() {
	o := op("login", http.MethodPost, "/login", "Trade the one-time administrator code for a token")
	o.Errors = append(o.Errors, http.StatusServiceUnavailable)
	huma.Register(s.api, o, func(ctx context.Context, in *loginIn) (*body[api.TokenAdded], error) {
		ctx = context.WithoutCancel(ctx)
		remote, _ := ctx.Value(remoteKey{}).(string)
		if !s.tries.allow(remote) {
			s.refused.Add(1)
			return nil, s.told(ctx, o.OperationID, fault("admin.login", ringfence.KindOverload, "too many tries", "wait a minute"))
		}
		out, err := s.login(ctx, in.Body)
		if err != nil {
			s.refused.Add(1)
			s.c.Log.Warn("a login was refused", "remote", remote, "name", clip(in.Body.Name), "cause", err)
		}
		return answer(out), s.told(ctx, o.OperationID, firstOf(err, s.audit(ctx, o.OperationID, in.Body.Name+" from "+remote, err)))
	})
}

func (s *Server) routesAccess() {
	s.routeLogin()
	look(s, op("token.list", http.MethodGet, "/tokens", "List the tokens, without their secrets"), func(ctx context.Context, _ *none) (*body[[]api.Token], error) {
		all, err := s.c.Store.Tokens(ctx)
		out := make([]api.Token, 0, len(all))
		for _, t := range all {
			out = append(out, api.Token{ID: t.ID, Name: t.Name, Scopes: t.Scopes, Expires: t.Expires})
		}
		return answer(out), err
	})
	act(s, op("token.add", http.MethodPost, "/tokens", "Make a token; its secret is shown once"), api.ScopeAdmin, func(in *tokenIn) string { return in.Body.Name },
		func(ctx context.Context, in *tokenIn) (*body[api.TokenAdded], error) {
			t, hash := newToken(in.Body.Name, in.Body.Scope, s.c.Now().Add(time.Duration(in.Body.Days)*24*time.Hour))
			return answer(t), s.c.Store.CreateToken(ctx, stored(t, hash))
		})
	act(s, op("token.remove", http.MethodDelete, "/tokens/{id}", "Remove a token; it stops working at once"), api.ScopeAdmin, func(in *tokenPath) string { return in.ID },
		func(ctx context.Context, in *tokenPath) (*none, error) { return nil, s.c.Store.DeleteToken(ctx, in.ID) })
	act(s, op("token.code", http.MethodPost, "/admin-code", "Make a new one-time administrator code; the old one stops working"), api.ScopeAdmin, func(*none) string { return "administrator code" },
		func(ctx context.Context, _ *none) (*body[api.AdminCode], error) {
			c, err := s.newCode(ctx)
			return answer(c), err
		})
}
