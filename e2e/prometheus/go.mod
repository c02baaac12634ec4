module reprise/e2e/prometheus

go 1.26
