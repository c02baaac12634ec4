package main

import (
	"context"
	"fmt"
	"os"

	"reprise/bridge/pubnubtest"
)

// runDev is everything in one process.
func runDev(ctx context.Context, c *call) error {
	return runNode(ctx, c, roles{bridge: true, edge: true, emulator: true})
}

// runEmulator is PubNub alone.
func runEmulator(ctx context.Context, c *call) error {
	parts := newStack()
	address, err := startEmulator(ctx, c, parts)
	if err != nil {
		return err
	}
	c.printf("PubNub emulator: %s, subscribe key %s, publish key %s, no TLS\n", address, emulatorKey, emulatorKey)
	select {
	case <-ctx.Done():
	case <-parts.failed:
	}
	return parts.stop()
}

// startEmulator starts PubNub and tells where.
func startEmulator(ctx context.Context, c *call, parts *stack) (string, error) {
	server, err := pubnubtest.New(pubnubtest.Config{
		Listen: c.cfg.emulatorListen, SubscribeKey: emulatorKey, PublishKey: emulatorKey,
	})
	if err != nil {
		return "", fmt.Errorf("emulator-listen: %w", err)
	}
	address, err := server.Listen()
	if err != nil {
		return "", bindError("emulator-listen", c.cfg.emulatorListen, err)
	}
	parts.push(ctx, "emulator", server.Run)
	c.log.Info("listening", "what", "emulator", "addr", address)
	return address, nil
}

// devWelcome tells a developer what there is and what to try.
func (n *node) devWelcome() {
	c := n.call
	edge := n.devices.url("ws") + "/ws"
	url, origin := "", ""
	if edge != lookup("url").def {
		url = " --url " + shellWord(edge)
	}
	if n.emulator != emulatorOrigin {
		origin = " --pubnub-origin " + shellWord(n.emulator)
	}
	access := "no authentication"
	if c.cfg.auth != "none" {
		access = "with a token (reprise token), which the page has not"
	}
	event := fmt.Sprintf(`{"type":"progress_update","content_id":"%s","position_seconds":100,"device_id":"tv","timestamp":1}`, exampleItem)
	c.printf(`Reprise is running (process %d).

  page      %s/   several devices of one user, to play with
  devices   %s   %s
  admin     %s/   the operator's page; /readyz, /metrics, /v1/stats
  PubNub    %s   emulator, both keys are demo, no TLS
  log       %s

Open the page. Or try it here, each line in a terminal of its own:

  %[8]s tail --user %[9]s --device %[10]s%[11]s
  %[8]s tail --user %[9]s --device %[12]s%[11]s
  %[8]s publish user.%[9]s.sync '%[13]s'%[14]s

Ctrl-C ends.
`, os.Getpid(), n.devices.url("http"), edge, access, n.admin.url("http"), n.emulator, c.cfg.dataDir,
		c.self, exampleUser, exampleTV, url, examplePhone, event, origin)
}
