"""For tests, ours and those of extension authors: virtual time, a control plane in memory."""
