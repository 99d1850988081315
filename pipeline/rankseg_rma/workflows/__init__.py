"""One function per command: read, call, write. A bad case is noted and the cohort goes on."""
