package signin

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ringfence"
)

const spendPatience = 15 * time.Second

// Keeper gives out the access token of a file and renews it in time. Any number of processes may have one for the same file.
type Keeper struct {
	Path   string
	Client *Client
	Log    *slog.Logger

	mu      sync.Mutex
	unsaved *Account // what could not be written
	spent   string   // the refresh token that the file has then
}

// Token returns an access token that is good now, and another one than the one that was refused. The fault is KindUnauthenticated if
// somebody has to sign in again.
func (k *Keeper) Token(ctx context.Context, refused string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unsaved == nil {
		a, err := Read(k.Path)
		if err != nil {
			return "", err
		}
		if a.young(time.Now()) && a.Access != refused {
			return a.Access, nil
		}
	}
	unlock, err := lock(ctx, k.Path)
	if err != nil {
		return "", err
	}
	defer unlock()
	return k.renew(ctx, refused)
}

// renew spends the refresh token, unless another process did meanwhile. The file is locked.
func (k *Keeper) renew(ctx context.Context, refused string) (string, error) {
	a, err := Read(k.Path)
	if err != nil {
		return "", err
	}
	if k.unsaved != nil && a.Refresh != k.spent { // somebody signed in anew
		k.unsaved = nil
	}
	if k.unsaved != nil {
		a = *k.unsaved
		if w, err := newWriter(k.Path); err == nil && w.commit(a) == nil {
			k.unsaved = nil
		}
	}
	now := time.Now()
	if a.young(now) && a.Access != refused {
		return a.Access, nil
	}
	t, err := k.spend(ctx, &a)
	if err != nil {
		if ringfence.KindOf(err) != ringfence.KindUnauthenticated && a.Access != refused && a.holds(now) {
			k.Log.Warn("the access token could not be renewed; the one in hand is still good", "until", a.Expires, "cause", err, "hint", ringfence.HintOf(err))
			return a.Access, nil
		}
		return "", err
	}
	return t, nil
}

func (k *Keeper) spend(ctx context.Context, a *Account) (string, error) {
	w, err := newWriter(k.Path)
	if err != nil {
		return "", err
	}
	// Once the token is under way, whoever loses patience would lose the answer and with it the sign-in.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spendPatience)
	defer cancel()
	old := a.Refresh
	t, err := k.Client.Refresh(ctx, *a)
	if err != nil {
		w.discard()
		return "", err
	}
	a.Take(t)
	if err := w.commit(*a); err != nil {
		if k.unsaved == nil {
			k.spent = old
		}
		k.unsaved = a
		k.Log.Error("the renewed sign-in is not on disk; it is lost if this process ends now", "file", k.Path, "cause", err)
		return a.Access, nil
	}
	k.unsaved = nil
	return a.Access, nil
}
