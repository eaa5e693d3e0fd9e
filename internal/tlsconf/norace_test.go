//go:build !race

package tlsconf

import "time"

// bombLimit bounds what one presented chain may cost.
const bombLimit = 50 * time.Millisecond
