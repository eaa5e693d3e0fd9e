//go:build !soak

package e2e

// sweptSessions is how many sessions [TestPermissionsEndWithinASecond] has.
const sweptSessions = 1000
