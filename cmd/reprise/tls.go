package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/time/rate"
)

// soon is how long before its end a certificate is worth a warning.
const soon = 7 * 24 * time.Hour

// serverTLS is what a listener needs to speak TLS, without certificates.
func serverTLS() *tls.Config {
	// A WebSocket begins as an HTTP/1.1 upgrade (RFC 6455 section 4.1).
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// fileTLS serves the certificate in two files, and serves the new one when they
// change; nil, without an error, when certFile is "".
func fileTLS(setting, certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil
	}
	certificate, err := newReread(setting, log, func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err == nil && time.Until(pair.Leaf.NotAfter) < soon {
			log.Warn("a certificate ends soon, or has ended", "what", setting, "ends", pair.Leaf.NotAfter)
		}
		return &pair, err
	}, certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	config := serverTLS()
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate.get(), nil }
	return config, nil
}

// acmeTLS gets certificates for hosts by ACME (RFC 8555) and renews them. The
// authority proves who we are over the very listener, on port 443 (RFC 8737):
// it and the devices have to reach it there. They lie in a directory, so that a
// restart asks for none.
func acmeTLS(cfg *config, log *slog.Logger) (*tls.Config, error) {
	dir := cfg.tlsACMECache
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, errors.New("tls-acme-cache: missing, and this user has no cache directory")
		}
		dir = filepath.Join(cache, "reprise", "acme")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("tls-acme-cache: %w", err)
	}
	manager := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(dir),
		HostPolicy: autocert.HostWhitelist(cfg.tlsACMEHosts...),
		Client:     &acme.Client{DirectoryURL: cfg.tlsACMEDirectory, UserAgent: "reprise"},
	}
	config := serverTLS()
	complain := rate.Sometimes{Interval: time.Minute}
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate, err := manager.GetCertificate(hello)
		if err != nil && slices.Contains(cfg.tlsACMEHosts, hello.ServerName) {
			complain.Do(func() { log.Warn("there is no certificate", "host", hello.ServerName, "err", err) })
		}
		return certificate, err
	}
	config.NextProtos = append(config.NextProtos, acme.ALPNProto)
	return config, nil
}

// devicesTLS is what the settings say of the device listener; nil is plain.
func devicesTLS(cfg *config, log *slog.Logger) (*tls.Config, error) {
	if len(cfg.tlsACMEHosts) > 0 {
		return acmeTLS(cfg, log)
	}
	return fileTLS("tls-cert-file", cfg.tlsCertFile, cfg.tlsKeyFile, log)
}

// adminTLS is what the settings say of the admin listener; nil is plain.
func adminTLS(cfg *config, log *slog.Logger) (*tls.Config, error) {
	return fileTLS("admin-tls-cert-file", cfg.adminTLSCertFile, cfg.adminTLSKeyFile, log)
}
