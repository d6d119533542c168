"""One file, one writer thread: drivers, group commit, migrations, ownership, backup. Knows nothing of objects."""
