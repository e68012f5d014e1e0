"""Values in, values out: every decision about a session's log, without any I/O."""
