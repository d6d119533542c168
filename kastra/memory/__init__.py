"""What agents remember: threads of messages, working memory, and earlier messages found by words or by meaning. Start at `threads`."""
