//go:build !linux || relaypair

package relay

// NewEngine is the engine of choice for this system. The tag relaypair makes it the choice on Linux too: the bench builds
// a second program with it, to measure one engine against the other.
func NewEngine() Engine { return Goroutines{} }
