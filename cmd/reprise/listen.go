package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"
)

// bind opens the listener of a setting. Its error names both.
func bind(ctx context.Context, setting, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, bindError(setting, address, err)
	}
	return l, nil
}

// bindError says which setting to change.
func bindError(setting, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %s is in use by another process; set --%s to another address", setting, address, setting)
	}
	return fmt.Errorf("%s: %s: %w", setting, address, err)
}

// maxHeader bounds a request's header: a token may take 8 KiB of it.
const maxHeader = 16 << 10

// web is an HTTP/1.1 server on one listener.
type web struct {
	listener net.Listener
	server   *http.Server
}

// handshakeTime is how long a device may take to ask for its upgrade, and how long
// a connection stays on which nothing more is asked.
const handshakeTime = 10 * time.Second

// newWeb makes a server; secure nil is plain HTTP.
func newWeb(l net.Listener, handler http.Handler, secure *tls.Config, log *slog.Logger) *web {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		TLSConfig:         secure,
	}
	server.Protocols.SetHTTP1(true)
	return &web{listener: l, server: server}
}

// address is where w listens, with the port that it got.
func (w *web) address() string { return w.listener.Addr().String() }

// url is that of w, with scheme's secure form where w has TLS.
func (w *web) url(scheme string) string {
	if w.server.TLSConfig != nil {
		scheme += "s"
	}
	return scheme + "://" + w.address()
}

// run serves until ctx ends, and then gives requests a second to finish.
// Connections that have been taken over from the server are not its business.
func (w *web) run(ctx context.Context) error {
	ended := make(chan error, 1) // Serve's goroutine sends once
	go func() {
		if w.server.TLSConfig != nil {
			ended <- w.server.ServeTLS(w.listener, "", "")
			return
		}
		ended <- w.server.Serve(w.listener)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := w.server.Shutdown(grace); err != nil {
		_ = w.server.Close() // whoever is still there has had its second
	}
	<-ended
	return nil
}
