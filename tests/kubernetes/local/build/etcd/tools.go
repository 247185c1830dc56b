//go:build tools

// Package tools names the program that tests/kubernetes/local/binaries builds.
package tools

import _ "go.etcd.io/etcd/server/v3"
