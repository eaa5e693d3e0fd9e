package e2e

import "time"

// patience is how long a test waits for what should happen at once. It is long because the machine may be busy; nothing waits it out
// when all is well.
const patience = time.Minute
