//go:build race

package tlsconf

import "time"

// bombLimit bounds what one presented chain may cost; the race detector makes arithmetic ten times as slow.
const bombLimit = 2 * time.Second
