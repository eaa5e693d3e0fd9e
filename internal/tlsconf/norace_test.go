//go:build !race

package tlsconf

import "time"

// bombLimit bounds what one presented chain may cost: ten times what it takes on a machine with nothing else to do.
// maxSignatureChecks is what bounds it.
const bombLimit = 500 * time.Millisecond
