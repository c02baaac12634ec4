package main

import (
	"context"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// runToken signs a token.
func runToken(_ context.Context, c *call) error {
	signed, err := signToken(c.cfg, time.Now())
	if err != nil {
		return err
	}
	c.printf("%s\n", signed)
	return nil
}

// signToken makes the token that the settings describe.
func signToken(cfg *config, now time.Time) (string, error) {
	made := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   cfg.user,
			Issuer:    cfg.authIssuer,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(cfg.expiresIn)),
		},
		Device: cfg.device,
	}
	if cfg.authAudience != "" {
		made.Audience = jwt.ClaimStrings{cfg.authAudience}
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, made).SignedString([]byte(cfg.authHMACSecret.reveal()))
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return signed, nil
}
