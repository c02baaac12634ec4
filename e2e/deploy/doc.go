// Package deploy checks what the relay ships for running it, below
// cmd/reprise/deploy, each with a tool and none by eye: the systemd unit by
// systemd, the completion by the shells (apt.txt), the manifests by Kubernetes' own
// types, the settings in them by the program, the Dockerfile by BuildKit's parser and
// by running its steps in a bare directory. It is a module of its own because of what
// that takes.
package deploy
