// Package store keeps what a runtime home must remember about its boxes, in
// one SQLite file. It is the only package that knows a database driver.
//
// Whether a box runs is not stored here: that is the lock its shim holds, and
// the file the shim writes beside it.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// ErrNotFound says that no box has the id or name.
var ErrNotFound = errors.New("no such box")

// ErrExists says that a box has the name already.
var ErrExists = errors.New("name is taken")

// ErrAmbiguous says that an id prefix fits several boxes.
var ErrAmbiguous = errors.New("several boxes fit")

// Box is a row: what a box was created with, and the image it is bound to.
type Box struct {
	ID      string
	Name    string // empty: none
	Created time.Time
	Options []byte // JSON, opaque to the store
	Image   string // digest, once the box has been started; empty before
}

// Store is an open database. It is safe for concurrent use, and any number of
// processes may have it open.
type Store struct {
	pool *sqlitex.Pool
}

// schema is applied in order; PRAGMA user_version counts what has been.
var schema = []string{
	`CREATE TABLE box (
		id      TEXT PRIMARY KEY,
		name    TEXT UNIQUE,
		created INTEGER NOT NULL, -- unix nanoseconds
		options TEXT NOT NULL,
		image   TEXT NOT NULL DEFAULT ''
	) STRICT, WITHOUT ROWID;`,
}

// busyTimeout is how long a writer waits for another process. Transactions
// here take milliseconds; ten seconds means a stuck disk.
const busyTimeout = 10 * time.Second

// Open opens the database at path, making and migrating it as needed.
func Open(path string) (*Store, error) {
	pool, err := sqlitex.NewPool(path, sqlitex.PoolOptions{
		PoolSize: 4,
		PrepareConn: func(c *sqlite.Conn) error {
			c.SetBusyTimeout(busyTimeout)
			// FULL: a commit is on stable storage before we say so.
			return sqlitex.ExecuteTransient(c, "PRAGMA synchronous = FULL", nil)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &Store{pool: pool}
	if err := s.migrate(path); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.pool.Close() }

func (s *Store) migrate(path string) error {
	return s.with(context.Background(), func(c *sqlite.Conn) (err error) {
		if v, err := version(c); err != nil || v == len(schema) {
			return err
		}
		end, err := sqlitex.ImmediateTransaction(c)
		if err != nil {
			return err
		}
		defer end(&err)
		v, err := version(c)
		if err != nil {
			return err
		}
		if v > len(schema) {
			return fmt.Errorf("%s has schema %d, this boxlite knows %d: use the newer boxlite", path, v, len(schema))
		}
		for _, script := range schema[v:] {
			if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
				return err
			}
		}
		return sqlitex.ExecuteTransient(c, fmt.Sprintf("PRAGMA user_version = %d", len(schema)), nil)
	})
}

func version(c *sqlite.Conn) (v int, err error) {
	err = sqlitex.ExecuteTransient(c, "PRAGMA user_version", &sqlitex.ExecOptions{
		ResultFunc: func(st *sqlite.Stmt) error { v = st.ColumnInt(0); return nil },
	})
	return v, err
}

// with runs f on a connection that nobody else uses meanwhile.
func (s *Store) with(ctx context.Context, f func(*sqlite.Conn) error) error {
	c, err := s.pool.Take(ctx)
	if err != nil {
		return err
	}
	defer s.pool.Put(c)
	return f(c)
}

// Add inserts a box. The error is [ErrExists] when its name is taken.
func (s *Store) Add(ctx context.Context, b Box) error {
	return s.with(ctx, func(c *sqlite.Conn) error {
		err := sqlitex.Execute(c,
			`INSERT INTO box (id, name, created, options, image) VALUES (?, NULLIF(?, ''), ?, ?, ?)`,
			&sqlitex.ExecOptions{Args: []any{b.ID, b.Name, b.Created.UnixNano(), string(b.Options), b.Image}})
		switch sqlite.ErrCode(err) {
		case sqlite.ResultConstraintUnique, sqlite.ResultConstraintPrimaryKey:
			return ErrExists
		}
		return err
	})
}

// SetImage binds a box to the image it was first started from.
func (s *Store) SetImage(ctx context.Context, id, digest string) error {
	return s.change(ctx, `UPDATE box SET image = ? WHERE id = ?`, digest, id)
}

// SetOptions replaces the options of a box.
func (s *Store) SetOptions(ctx context.Context, id string, options []byte) error {
	return s.change(ctx, `UPDATE box SET options = ? WHERE id = ?`, string(options), id)
}

// Remove deletes the row of a box.
func (s *Store) Remove(ctx context.Context, id string) error {
	return s.change(ctx, `DELETE FROM box WHERE id = ?`, id)
}

func (s *Store) change(ctx context.Context, query string, args ...any) error {
	return s.with(ctx, func(c *sqlite.Conn) error {
		if err := sqlitex.Execute(c, query, &sqlitex.ExecOptions{Args: args}); err != nil {
			return err
		}
		if c.Changes() == 0 {
			return ErrNotFound
		}
		return nil
	})
}

// Find returns the box with that id, else that name, else the one whose id
// begins with it. The error is [ErrNotFound] or [ErrAmbiguous].
func (s *Store) Find(ctx context.Context, key string) (Box, error) {
	if key == "" {
		return Box{}, ErrNotFound
	}
	// The range [key, key+U+10FFFF) is the prefix match that uses the index.
	boxes, err := s.query(ctx, `WHERE id = ?1 OR name = ?1 OR (id > ?1 AND id < ?1 || char(1114111))
		ORDER BY id = ?1 DESC, name IS ?1 DESC LIMIT 2`, key)
	switch {
	case err != nil:
		return Box{}, err
	case len(boxes) == 0:
		return Box{}, ErrNotFound
	case len(boxes) == 1, boxes[0].ID == key, boxes[0].Name == key:
		return boxes[0], nil
	}
	return Box{}, ErrAmbiguous
}

// Named returns the box of that name, whatever ids look like it. The error is
// [ErrNotFound].
func (s *Store) Named(ctx context.Context, name string) (Box, error) {
	boxes, err := s.query(ctx, `WHERE name = ?`, name)
	if err == nil && len(boxes) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Box{}, err
	}
	return boxes[0], nil
}

// Get returns the box with that id. The error is [ErrNotFound].
func (s *Store) Get(ctx context.Context, id string) (Box, error) {
	boxes, err := s.query(ctx, `WHERE id = ?`, id)
	if err == nil && len(boxes) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Box{}, err
	}
	return boxes[0], nil
}

// Boxes returns all boxes, oldest first.
func (s *Store) Boxes(ctx context.Context) ([]Box, error) {
	return s.query(ctx, `ORDER BY created, id`)
}

func (s *Store) query(ctx context.Context, tail string, args ...any) (boxes []Box, err error) {
	err = s.with(ctx, func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, `SELECT id, name, created, options, image FROM box `+tail, &sqlitex.ExecOptions{
			Args: args,
			ResultFunc: func(st *sqlite.Stmt) error {
				boxes = append(boxes, Box{
					ID:      st.ColumnText(0),
					Name:    st.ColumnText(1),
					Created: time.Unix(0, st.ColumnInt64(2)),
					Options: []byte(st.ColumnText(3)),
					Image:   st.ColumnText(4),
				})
				return nil
			},
		})
	})
	return boxes, err
}
