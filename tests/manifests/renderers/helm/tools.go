//go:build tools

// Package tools names the program that scripts/ensure-renderers builds.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
