//go:build !relaypair

package relay

// NewEngine is the engine of choice for this system.
func NewEngine() Engine { return &Epoll{} }
