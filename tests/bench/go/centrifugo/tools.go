//go:build tools

// Names the program that go.mod and go.sum pin, so that `go mod tidy` keeps it. It is built by its path and must not
// be changed or wrapped: what the benchmark compares with is what its makers release.
package tools

import _ "github.com/centrifugal/centrifugo/v5"
