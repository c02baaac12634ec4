package main

import (
	"context"
	"text/tabwriter"
)

// runCheck is reached only with a configuration without mistakes.
func runCheck(_ context.Context, c *call) error {
	if !c.cfg.print {
		c.printf("the configuration is in order; whether NATS, PubNub and the keys can be reached was not checked\n")
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, s := range usedBy("check") {
		if s.name == "print" {
			continue
		}
		row := s.name + "\t" + c.cfg.shown[s.name] + "\t" + string(c.cfg.origins[s.name]) + "\n"
		if _, err := w.Write([]byte(row)); err != nil {
			return err
		}
	}
	return w.Flush()
}
