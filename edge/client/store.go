package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Kept is what a device must not forget between one process and the next.
type Kept struct {
	// Cursor is where to go on; "" is not known.
	Cursor string `json:"cursor,omitempty"`
	// Updates are not stored yet, oldest first.
	Updates []Update `json:"updates,omitempty"`
}

// Store keeps what a device must not forget. Its methods are called one at a time.
type Store interface {
	// Load returns what was saved last; zero if nothing was.
	Load() (Kept, error)
	Save(Kept) error
}

// FileStore keeps everything in a file, which is replaced at each change and synced.
func FileStore(path string) Store { return fileStore(path) }

type fileStore string

func (path fileStore) Load() (kept Kept, err error) {
	data, err := os.ReadFile(string(path))
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err != nil {
		return Kept{}, fmt.Errorf("client: store: %w", err)
	}
	return kept, nil
}

func (path fileStore) Save(kept Kept) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("client: store: %w", err)
		}
	}()
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(string(path)), filepath.Base(string(path))+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it has another name by then, if all went well
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), string(path))
}

// keepEvery is how often something is saved at most.
const keepEvery = 250 * time.Millisecond

// keep has the state of things saved soon.
func (c *Client) keep() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// keepSaved saves what changes until done is closed, and then once more.
func (c *Client) keepSaved(done <-chan struct{}) {
	save := func() {
		if err := c.cfg.Store.Save(Kept{Cursor: c.handled.next(), Updates: c.Pending()}); err != nil {
			c.cfg.OnError(err)
		}
	}
	for {
		select {
		case <-done:
			save()
			return
		case <-c.changed:
		}
		save()
		select {
		case <-time.After(keepEvery):
		case <-done:
		}
	}
}
