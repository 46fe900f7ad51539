package store

import "context"

// Setting returns the value of a setting. Settings whose name begins with "seal." belong to the store.
func (r repos) Setting(ctx context.Context, name string) (string, error) {
	return selectOne(ctx, r.r, "store.setting", "there is no setting "+name, func(row scanner) (v string, err error) { return v, row.Scan(&v) },
		`SELECT value FROM settings WHERE name=$1`, name)
}

// PutSetting adds or replaces a setting.
func (r repos) PutSetting(ctx context.Context, name, value string) error {
	_, err := r.exec(ctx, "store.setting.put", `INSERT INTO settings (name, value) VALUES ($1,$2) ON CONFLICT (name) DO UPDATE SET value=excluded.value`, name, value)
	return err
}

// DeleteSetting removes a setting.
func (r repos) DeleteSetting(ctx context.Context, name string) error {
	return r.execOne(ctx, "store.setting.delete", "there is no setting "+name, `DELETE FROM settings WHERE name=$1`, name)
}
