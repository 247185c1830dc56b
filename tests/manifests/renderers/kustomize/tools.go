//go:build tools

// Package tools names the program that scripts/ensure-renderers builds.
package tools

import _ "sigs.k8s.io/kustomize/kustomize/v5"
