// Package prometheus tests what the relay ships for Prometheus and Grafana, the
// alert rules and the dashboard below otel, with Prometheus itself: promtool, and
// a server that scrapes a live node. It is a module of its own because it needs
// Debian's package of it (apt.txt).
package prometheus
