package store

// writerVariable names the data directory that a process started by a test writes to.
const writerVariable = "PGMTLS_STORE_TEST_WRITER"

func write(dir string) {}
