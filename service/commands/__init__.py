"""The subcommands of `pointsman`, a file each."""
