//go:build soak

package control

// killedChanges is how many changes [TestKillsLoseNothingThatWasAcknowledged] makes.
const killedChanges = 2000
