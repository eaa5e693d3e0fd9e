// Package archtest has the rules of this repository that a compiler does not check, as tests: which package may
// import which, that every package says what it is, and a few habits whose breach has cost other proxies dearly
// (global loggers and registries, sleeps in tests, exits in the middle of the program).
//
// It has no code for others and nothing imports it. A rule that stands in the way is changed here, with its
// reason, in the commit that needs it.
package archtest
